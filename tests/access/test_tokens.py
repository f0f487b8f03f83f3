"""Tokens: who is let in, who is not and why; no clock but the argument; nothing secret in what is raised."""

import base64
import json
import traceback

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver import config
from gameserver.access import (
    DEVELOPMENT_SECRET,
    TOKEN_BYTES_MAX,
    Claims,
    Role,
    check_secret,
    issue_token,
    verify_token,
)
from gameserver.errors import ConfigError, GameServerError, RequestInvalid, TokenExpired, TokenInvalid

SECRET = "a secret of more than thirty-two bytes"
OTHER = "another secret of more than thirty-two bytes"
NOW = 1_000_000.0


def signed(claims: dict, key: str = SECRET, **more) -> str:
    return jwt.encode({"sub": "alice", "exp": NOW + 60} | claims, key, **more)


def unsigned(header: dict, claims: dict) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    return ".".join((*parts, ""))


def test_what_is_issued_is_verified():
    token = issue_token(SECRET, "alice", Role.ADMIN, name="Alice L.", now=NOW, ttl_seconds=60)
    assert verify_token(token, [SECRET], now=NOW) == Claims("alice", "Alice L.", Role.ADMIN, NOW + 60)


def test_name_and_role_have_defaults():
    assert verify_token(signed({}), [SECRET], now=NOW) == Claims("alice", "alice", Role.PLAYER, NOW + 60)


def test_keys_are_rotated_by_listing_the_old_one_too():
    old = issue_token(OTHER, "alice", now=NOW, ttl_seconds=60)
    assert verify_token(old, [SECRET, OTHER], now=NOW).user_id == "alice"
    with pytest.raises(TokenInvalid, match="not signed by"):
        verify_token(old, [SECRET], now=NOW)


def test_expiry_is_judged_by_our_time_with_a_little_leeway():
    token = issue_token(SECRET, "alice", now=NOW, ttl_seconds=60)
    verify_token(token, [SECRET], now=NOW + 64)
    with pytest.raises(TokenExpired) as refused:
        verify_token(token, [SECRET], now=NOW + 65)
    assert refused.value.close_code == 4003
    with pytest.raises(TokenExpired):
        verify_token(token, [SECRET], now=NOW + 61, leeway_seconds=0)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_from_the_future_waits(claim):
    token = signed({claim: NOW + 20})
    verify_token(token, [SECRET], now=NOW + 16)
    with pytest.raises(TokenInvalid, match="not valid yet"):
        verify_token(token, [SECRET], now=NOW)


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "well-formed"),
        ("a.b.c", "well-formed"),
        ("é", "ASCII"),
        ("x" * (TOKEN_BYTES_MAX + 1), "at most"),
        (unsigned({"alg": "none"}, {"sub": "alice", "exp": NOW + 60}), "token"),
        (unsigned({"alg": "None"}, {"sub": "alice", "exp": NOW + 60}), "token"),
        (unsigned({"alg": "HS256"}, {"sub": "alice", "exp": NOW + 60}), "token"),
        (signed({}, "s" * 64, algorithm="HS512"), "HS256"),
        (signed({}) + "x", "token"),
        (signed({}, OTHER), "not signed by"),
        (jwt.encode({"exp": NOW + 60}, SECRET), "no sub"),
        (jwt.encode({"sub": "alice"}, SECRET), "no exp"),
        (jwt.encode({"sub": "alice", "exp": None}, SECRET), "no exp"),
        (signed({"exp": "soon"}), "exp must be"),
        (signed({"exp": True}), "exp must be"),
        (signed({"exp": float("nan")}), "exp must be"),
        (signed({"exp": 1e300}), "exp must be"),
        (signed({"nbf": []}), "nbf must be"),
        (signed({"sub": 7}), "token"),
        (signed({"sub": "*spectators"}), "user id"),
        (signed({"sub": ""}), "user id"),
        (signed({"name": "a\x00"}), "name"),
        (signed({"name": 7}), "name"),
        (signed({"role": "god"}), "role"),
        (signed({"role": ["admin"]}), "role"),
        (signed({}, headers={"crit": ["b64"], "b64": False}), "token"),
    ],
)
def test_bad_tokens_are_refused_with_a_reason_that_holds_no_token(token, says):
    with pytest.raises(TokenInvalid, match=says) as refused:
        verify_token(token, [SECRET], now=NOW)
    told = "".join(traceback.format_exception_only(refused.value))
    for part in [token, *token.split(".")]:
        assert len(part) < 8 or part not in told
    assert SECRET not in told
    cause = refused.value.__context__
    assert cause is None or not isinstance(cause, jwt.PyJWTError)


@given(st.one_of(st.text(max_size=50), st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,9}")))
def test_any_text_is_refused_in_the_same_way(text):
    with pytest.raises(TokenInvalid):
        verify_token(text, [SECRET], now=NOW)


@given(st.data())
def test_a_token_with_one_character_changed_is_refused_or_says_the_same(data):
    """The last character of base64 may hold unused bits, so a change there can decode to the same signature."""
    token = issue_token(SECRET, "alice", "admin", now=NOW, ttl_seconds=60)
    place = data.draw(st.integers(0, len(token) - 1))
    changed = token[:place] + data.draw(st.sampled_from("AZaz09-_.=é")) + token[place + 1 :]
    try:
        claims = verify_token(changed, [SECRET], now=NOW)
    except TokenInvalid:
        return
    assert claims == verify_token(token, [SECRET], now=NOW)


@pytest.mark.parametrize("algorithms", [["none"], [], ["HS256", "RS256"]])
def test_only_hmac_algorithms_can_be_asked_for(algorithms):
    with pytest.raises(ConfigError, match="algorithms"):
        verify_token(signed({}), [SECRET], now=NOW, algorithms=algorithms)


def test_other_hmac_algorithms_work_when_asked_for():
    token = issue_token("s" * 64, "alice", now=NOW, ttl_seconds=60, algorithm="HS512")
    assert verify_token(token, ["s" * 64], now=NOW, algorithms=["HS512"]).user_id == "alice"


def test_no_keys_is_a_configuration_error():
    with pytest.raises(ConfigError):
        verify_token(signed({}), [], now=NOW)


@pytest.mark.parametrize(
    ("user", "more"), [("a b", {}), ("alice", {"role": "god"}), ("alice", {"name": ""}), ("*spectators", {})]
)
def test_a_token_that_would_not_verify_is_not_issued(user, more):
    with pytest.raises(RequestInvalid):
        issue_token(SECRET, user, now=NOW, ttl_seconds=60, **more)


def test_production_wants_a_secret_of_its_own():
    assert check_secret(None, production=False) == DEVELOPMENT_SECRET
    assert check_secret(DEVELOPMENT_SECRET, production=False) == DEVELOPMENT_SECRET
    assert check_secret(SECRET, production=True) == SECRET
    for secret in (None, "", DEVELOPMENT_SECRET, "x" * 31):
        with pytest.raises(ConfigError):
            check_secret(secret, production=True)
    with pytest.raises(GameServerError) as refused:
        check_secret("short but still secret", production=False)
    assert "short but" not in refused.value.message


def test_settings_and_tokens_agree_on_the_development_secret():
    assert config.DEVELOPMENT_SECRET == DEVELOPMENT_SECRET

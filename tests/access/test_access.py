"""Roles and permissions, user ids and names, rate limits and buckets."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver.access import (
    ROLE_PERMISSIONS,
    Permission,
    RateLimit,
    Role,
    TokenBucket,
    check_permission,
    check_user_id,
    check_user_name,
    guest_claims,
    is_allowed,
)
from gameserver.errors import ConfigError, PermissionDenied, RequestInvalid


def test_every_role_is_in_the_table_and_has_all_the_one_before_has():
    assert list(ROLE_PERMISSIONS) == list(Role)
    granted = list(ROLE_PERMISSIONS.values())
    for lower, higher in itertools.pairwise(granted):
        assert lower < higher
    assert granted[-1] == frozenset(Permission)


def test_a_denied_permission_is_named():
    assert is_allowed(Role.MODERATOR, Permission.PLAYER_KICK)
    with pytest.raises(PermissionDenied, match=r"guest may not .*server:manage"):
        check_permission(Role.GUEST, Permission.SERVER_MANAGE)


@pytest.mark.parametrize(
    "user_id",
    ["a", "alice", "A-1_2.3~4+5", "bob@example.org", "auth0|65ab", "1" * 64, "3f2b8c1e-8a4d-4f0e-9d8e-0c6f6f1f2a3b"],
)
def test_user_ids_that_will_do(user_id):
    assert check_user_id(user_id) == user_id


@pytest.mark.parametrize(
    "user_id",
    ["", "x" * 65, "*spectators", "a:b", "a b", "a/b", "$where", ".hidden", "a\n", "a\x00", "é", "{a}", 7, None, b"a"],
)
def test_user_ids_that_will_not(user_id):
    with pytest.raises(RequestInvalid, match="user id"):
        check_user_id(user_id)


@pytest.mark.parametrize(("name", "shown"), [("  Zoë ", "Zoë"), ("李 雷", "李 雷"), ("🦊", "🦊")])
def test_names_are_trimmed(name, shown):
    assert check_user_name(name) == shown


@pytest.mark.parametrize("name", ["", "   ", "x" * 65, "a\x00b", "a\nb", "a\u202eb", "\ud800", None, 5])
def test_names_that_cannot_be_shown_are_refused(name):
    with pytest.raises(RequestInvalid, match="name"):
        check_user_name(name)


def test_a_guest_gets_the_id_it_is_given_and_the_guest_role():
    claims = guest_claims("9f86d081", now=100.0, ttl_seconds=60.0)
    assert (claims.user_id, claims.name, claims.role, claims.expires_at) == (
        "guest-9f86d081",
        "Guest 9f86",
        Role.GUEST,
        160.0,
    )
    assert guest_claims("1", now=0, ttl_seconds=1, name="Zoë").name == "Zoë"
    with pytest.raises(RequestInvalid):
        guest_claims("not an id", now=0, ttl_seconds=1)


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("10/s", 10, 1),
        ("100/m", 100, 60),
        ("5/10s", 5, 10),
        (" 3 / 2 h ", 3, 7200),
        ("1/250ms", 1, 0.25),
        ("9/d", 9, 86400),
    ],
)
def test_rates_are_parsed(text, count, seconds):
    rate = RateLimit.parse(text)
    assert (rate.count, rate.seconds) == (count, seconds)
    assert rate.per_second == count / seconds


@pytest.mark.parametrize("text", ["", "10", "10/", "/s", "0/s", "-1/s", "1.5/s", "10/0s", "10/y", "ten/s", "10/s/s"])
def test_what_is_no_rate_is_named(text):
    with pytest.raises(ConfigError, match="is not a rate"):
        RateLimit.parse(text)


def test_a_bucket_lets_a_burst_through_then_the_rate():
    bucket = RateLimit.parse("10/s").bucket(now=50.0)
    assert [bucket.take(50.0) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.seconds_until(50.0) == pytest.approx(0.1)
    assert not bucket.take(50.05)
    assert bucket.take(50.11)
    assert bucket.seconds_until(50.11, cost=11) == float("inf")


def test_a_bucket_cannot_be_made_without_rate_or_burst():
    for rate, burst in ((0, 1), (1, 0), (-1, 5)):
        with pytest.raises(ConfigError):
            TokenBucket(rate, burst)


@given(st.lists(st.floats(-2, 2), max_size=50))
def test_a_clock_that_jumps_about_never_gives_more_than_the_rate(steps):
    """However time moves, what is let through is at most the burst and the rate over the furthest time reached."""
    bucket = TokenBucket(5.0, 3.0, now=0.0)
    now = furthest = 0.0
    taken = 0
    for step in steps:
        now += step
        furthest = max(furthest, now)
        taken += bucket.take(now)
        assert taken <= 3 + 5 * furthest + 1e-6

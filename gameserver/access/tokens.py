"""Tokens (JWT, HMAC): issued for development and tests, verified on every hello.

`now` is an argument, so PyJWT's own clock is switched off and the times are checked here. Neither a token nor a secret
is ever part of an exception: those end up in logs and replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import jwt

from gameserver.access.identity import Claims, check_user_id, check_user_name
from gameserver.access.roles import Role
from gameserver.errors import ConfigError, RequestInvalid, TokenExpired, TokenInvalid

DEVELOPMENT_SECRET: Final = "development-only-secret-never-use-it-in-production"  # noqa: S105 - public on purpose
"""The secret of a server nobody has configured: known to everyone, refused in production."""

SECRET_BYTES_MIN: Final = 32
TOKEN_BYTES_MAX: Final = 8_192
LEEWAY_SECONDS: Final = 5.0
"""How far the clock of whoever issued a token may be off."""

DEFAULT_ALGORITHM: Final = "HS256"
# Only HMAC: a list that mixed in public-key algorithms would let a public key pass for an HMAC secret.
ALGORITHMS: Final = frozenset({"HS256", "HS384", "HS512"})

# Every check that PyJWT would make with its own clock or that this server has no use for is off; ours follow.
_OPTIONS: Final[Any] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "require": ["exp", "sub"],
}


def issue_token(
    secret: str,
    user: str,
    role: Role | str = Role.PLAYER,
    *,
    name: str | None = None,
    now: float,
    ttl_seconds: float,
    algorithm: str = DEFAULT_ALGORITHM,
) -> str:
    """A signed token for this user. Raises RequestInvalid for an id, name or role that would not verify."""
    if role not in frozenset(Role):
        raise RequestInvalid(f"the role must be one of {', '.join(Role)}")
    claims: dict[str, Any] = {
        "sub": check_user_id(user),
        "role": str(role),
        "iat": int(now),
        "exp": int(now + ttl_seconds),
    }
    if name is not None:
        claims["name"] = check_user_name(name)
    return jwt.encode(claims, secret, algorithm=_algorithms([algorithm])[0])


def verify_token(
    token: str,
    keys: Sequence[str],
    *,
    now: float,
    leeway_seconds: float = LEEWAY_SECONDS,
    algorithms: Sequence[str] = (DEFAULT_ALGORITHM,),
) -> Claims:
    """The claims of a token that one of the keys has signed and that is valid at `now` (unix seconds).

    Several keys let secrets be rotated: put the new one first, drop the old one when its last token has expired.
    Raises TokenExpired, or TokenInvalid with the reason.
    """
    if not token.isascii() or len(token) > TOKEN_BYTES_MAX:
        raise TokenInvalid(f"a token is ASCII text of at most {TOKEN_BYTES_MAX} bytes")
    payload = _verified_payload(token, keys, _algorithms(algorithms))
    expires_at = _time(payload, "exp")
    if expires_at is None:
        raise TokenInvalid("the token has no expiry")
    if now >= expires_at + leeway_seconds:
        raise TokenExpired
    for claim in ("nbf", "iat"):
        starts_at = _time(payload, claim)
        if starts_at is not None and now < starts_at - leeway_seconds:
            raise TokenInvalid("the token is not valid yet")
    try:
        user_id = check_user_id(payload["sub"])
        name = check_user_name(payload.get("name", user_id))
        role = Role(payload.get("role", Role.PLAYER))
    except RequestInvalid as refused:
        raise TokenInvalid(f"the token names no valid user: {refused.message}") from None
    except ValueError:
        raise TokenInvalid(f"the token's role must be one of {', '.join(Role)}") from None
    return Claims(user_id, name, role, expires_at)


def check_secret(secret: str | None, *, production: bool) -> str:
    """The secret to sign and verify with. Raises ConfigError where it is missing, the default or short in production.

    Outside production a missing one becomes the development secret; a short one is refused everywhere.
    """
    if not secret:
        if production:
            raise ConfigError("production needs a secret for tokens: set auth.secret (GAMESERVER__AUTH__SECRET)")
        return DEVELOPMENT_SECRET
    if production and secret == DEVELOPMENT_SECRET:
        raise ConfigError("the development secret is public: set auth.secret (GAMESERVER__AUTH__SECRET) to your own")
    if len(secret.encode()) < SECRET_BYTES_MIN:
        raise ConfigError(f"auth.secret must have at least {SECRET_BYTES_MIN} bytes")
    return secret


def _verified_payload(token: str, keys: Sequence[str], algorithms: list[str]) -> dict[str, Any]:
    if not keys:
        raise ConfigError("there is no key to verify tokens with")
    reason = "the token was not signed by this server's secret"
    for key in keys:
        try:
            return jwt.decode(token, key, algorithms=algorithms, options=_OPTIONS)
        except jwt.InvalidSignatureError:
            continue  # perhaps the next key
        except jwt.MissingRequiredClaimError as missing:
            reason = f"the token has no {missing.claim}"
        except jwt.InvalidAlgorithmError:
            reason = f"the token must be signed with {' or '.join(algorithms)}"
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            reason = "the token is not a well-formed JWT"
        break
    # Raised out here, so that PyJWT's exception, whose text may quote the token, is not even its context.
    raise TokenInvalid(reason)


def _algorithms(algorithms: Sequence[str]) -> list[str]:
    if not algorithms or not ALGORITHMS.issuperset(algorithms):
        raise ConfigError(f"token algorithms must be among {', '.join(sorted(ALGORITHMS))}")
    return list(algorithms)


def _time(payload: dict[str, Any], claim: str) -> float | None:
    value = payload.get(claim)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < 1e12:  # also refuses NaN
        raise TokenInvalid(f"the token's {claim} must be a time in unix seconds")
    return float(value)

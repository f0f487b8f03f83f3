"""Who may do what: token claims, roles and permissions, rate limits. Pure: time and random ids are arguments."""

from gameserver.access.identity import (
    Claims,
    check_user_id,
    check_user_name,
    guest_claims,
)
from gameserver.access.rates import RateLimit, TokenBucket
from gameserver.access.roles import ROLE_PERMISSIONS, Permission, Role, check_permission, is_allowed
from gameserver.access.tokens import (
    DEVELOPMENT_SECRET,
    SECRET_BYTES_MIN,
    TOKEN_BYTES_MAX,
    check_secret,
    issue_token,
    verify_token,
)

__all__ = [
    "DEVELOPMENT_SECRET",
    "ROLE_PERMISSIONS",
    "SECRET_BYTES_MIN",
    "TOKEN_BYTES_MAX",
    "Claims",
    "Permission",
    "RateLimit",
    "Role",
    "TokenBucket",
    "check_permission",
    "check_secret",
    "check_user_id",
    "check_user_name",
    "guest_claims",
    "is_allowed",
    "issue_token",
    "verify_token",
]

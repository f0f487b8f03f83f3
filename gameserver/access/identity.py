"""Who someone is: user ids, names and claims."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from gameserver.access.roles import Role
from gameserver.errors import RequestInvalid

USER_ID_CHARS_MAX: Final = 64
USER_NAME_CHARS_MAX: Final = 64

# Ids become parts of keys, audiences and log lines, so: no spaces, quotes, colons, slashes, `$`, `*`, `{}` or control
# characters; what UUIDs, e-mail addresses and the ids of identity providers ("auth0|65ab") need is in.
_USER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@|+~-]{0,63}")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says about its bearer."""

    user_id: str
    name: str
    role: Role
    expires_at: float
    """Unix seconds."""


def check_user_id(user_id: object) -> str:
    """The id, if it is one: 1 to 64 of `A-Z a-z 0-9 _ . @ | + ~ -`, a letter or digit first. Else RequestInvalid."""
    if not isinstance(user_id, str) or _USER_ID.fullmatch(user_id) is None:
        raise RequestInvalid(
            f"a user id has 1 to {USER_ID_CHARS_MAX} characters of A-Z a-z 0-9 _ . @ | + ~ - and begins with a letter "
            "or a digit"
        )
    return user_id


def check_user_name(name: object) -> str:
    """The name shown to others, trimmed: 1 to 64 characters, none of them control or formatting ones."""
    text = name.strip() if isinstance(name, str) else ""
    if not 1 <= len(text) <= USER_NAME_CHARS_MAX or any(unicodedata.category(c)[0] == "C" for c in text):
        raise RequestInvalid(f"a name has 1 to {USER_NAME_CHARS_MAX} printable characters")
    return text


def guest_claims(random_id: str, *, now: float, ttl_seconds: float, name: str | None = None) -> Claims:
    """A guest's identity: `random_id` must be unguessable and new (say `secrets.token_hex(8)`)."""
    user_id = check_user_id(f"guest-{random_id}")
    return Claims(user_id, check_user_name(name or f"Guest {random_id[:4]}"), Role.GUEST, now + ttl_seconds)

"""Roles and what each may do: one enum of permissions, one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gameserver.errors import PermissionDenied


class Role(StrEnum):
    """What a user is on this server; each has all that the one before has."""

    GUEST = "guest"
    PLAYER = "player"
    MODERATOR = "moderator"
    ADMIN = "admin"


class Permission(StrEnum):
    """What can be allowed, named `<thing>:<deed>`."""

    MATCH_LIST = "match:list"
    MATCH_JOIN = "match:join"
    MATCH_SPECTATE = "match:spectate"
    MATCH_CREATE = "match:create"
    PROFILE_READ = "profile:read"
    PROFILE_WRITE = "profile:write"
    PLAYER_KICK = "player:kick"
    MATCH_END = "match:end"
    MATCH_INSPECT = "match:inspect"
    """See all of a match's state, hidden fields too."""
    PLAYER_READ = "player:read"
    """Read other users' profiles in full."""
    SERVER_INSPECT = "server:inspect"
    SERVER_MANAGE = "server:manage"
    """Drain and the like."""


_GUEST: Final = frozenset(
    {
        Permission.MATCH_LIST,
        Permission.MATCH_JOIN,
        Permission.MATCH_SPECTATE,
        Permission.MATCH_CREATE,
        Permission.PROFILE_READ,
    }
)
_PLAYER: Final = _GUEST | {Permission.PROFILE_WRITE}
_MODERATOR: Final = _PLAYER | {
    Permission.PLAYER_KICK,
    Permission.MATCH_END,
    Permission.MATCH_INSPECT,
    Permission.PLAYER_READ,
}

ROLE_PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = MappingProxyType(
    {
        Role.GUEST: _GUEST,
        Role.PLAYER: _PLAYER,
        Role.MODERATOR: _MODERATOR,
        Role.ADMIN: frozenset(Permission),
    }
)
"""Each role's permissions. There is nothing else that decides what a role may do."""


def is_allowed(role: Role, permission: Permission) -> bool:
    """Whether the role may."""
    return permission in ROLE_PERMISSIONS[role]


def check_permission(role: Role, permission: Permission) -> None:
    """Raise PermissionDenied, naming what was missing, if the role may not."""
    if not is_allowed(role, permission):
        raise PermissionDenied(f"the role {role} may not do this (it needs {permission})")

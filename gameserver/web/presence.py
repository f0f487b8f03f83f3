"""Who is online, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gameserver.access import Permission
from gameserver.errors import RequestInvalid, StoreUnavailable
from gameserver.web.routes import Call, Parameter, Route

if TYPE_CHECKING:
    from gameserver.storage import PresenceStore

LIMIT_MAX = 1000


class OnlineUsers(msgspec.Struct):
    """How many are online, over all nodes, and who (some of them, if they are many)."""

    count: int
    users: list[str]


class UserPresence(msgspec.Struct):
    """Is this user online, and in which matches?"""

    user: str
    online: bool
    matches: list[str]


class PresenceRoutes:
    """The presence part of the table of routes."""

    def __init__(self, store: PresenceStore) -> None:
        self._store = store

    def routes(self) -> tuple[Route, ...]:
        """For `HttpApi`."""
        parameters = (
            Parameter("match", "Only those in this match.", {"type": "string"}),
            Parameter(
                "limit", "Names at most.", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": 100}
            ),
        )
        return (
            Route(
                "GET", "/v1/presence", "listPresence", "Who is online, or in a match, on any node.", self._list,
                reply=OnlineUsers, permission=Permission.MATCH_LIST, parameters=parameters,
                errors=(RequestInvalid, StoreUnavailable), tag="users",
            ),
            Route(
                "GET", "/v1/users/{user}/presence", "getPresence", "Is a user online, and where.", self._get,
                reply=UserPresence, permission=Permission.MATCH_LIST, errors=(StoreUnavailable,), tag="users",
            ),
        )  # fmt: skip

    async def _list(self, call: Call) -> OnlineUsers:
        query = call.request.query
        if unknown := set(query) - {"match", "limit"}:
            raise RequestInvalid(f"There is no parameter {sorted(unknown)[0]!r}; there is: match, limit.")
        text = query.get("limit", "100")
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIMIT_MAX:
            raise RequestInvalid(f"limit: expected a number from 1 to {LIMIT_MAX}")
        count, users = await self._store.online(match_id=query.get("match", ""), limit=int(text[:9]))
        return OnlineUsers(count, users)

    async def _get(self, call: Call) -> UserPresence:
        user = call.request.match_info["user"]
        matches = await self._store.matches_of(user)
        return UserPresence(user, matches is not None, matches or [])

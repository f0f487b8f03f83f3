"""What users may ask of the server outside of a match: the same operations over HTTP and over the WebSocket."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import structlog
from msgspec import Meta

from gameserver.access import Claims, Permission, check_permission, guest_claims, issue_token
from gameserver.cluster import User
from gameserver.errors import GameServerError, NotFound, PermissionDenied, RequestInvalid
from gameserver.lobby import list_matches, parse_listing_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gameserver.cluster import Host
    from gameserver.config import Settings
    from gameserver.storage import DocumentStore

log = structlog.get_logger("gameserver.web")

T = TypeVar("T")
SEEN_CONCURRENT = 8
SEEN_WAITING_MAX = 1_000  # "last seen" is worth less than memory: beyond this it is skipped
SEEN_SECONDS = 60.0  # a player who reconnects within this is not noted again


class MatchInfo(msgspec.Struct, kw_only=True, omit_defaults=False):
    """A running match as listings show it."""

    match: str
    game: str
    players: int
    players_connected: int
    players_max: int
    spectators: int
    spectators_max: int
    open: bool
    summary: dict[str, Any]
    epoch: int
    version: int
    time_seconds: float
    created_at: float
    ended: str | None = None


class MatchList(msgspec.Struct):
    """One page of a listing; `next_cursor` is null on the last one."""

    matches: list[MatchInfo]
    next_cursor: str | None = None


class CreateMatch(msgspec.Struct, forbid_unknown_fields=True):
    """Which game, and its options."""

    game: Annotated[str, Meta(min_length=1, max_length=128)]
    options: dict[str, Any] = {}


class JoinTicket(msgspec.Struct):
    """Where to go: open the WebSocket at `ws` and join the match there. The seat is kept for some seconds."""

    match: str
    game: str
    ws: str


class GuestRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The name to be shown to others."""

    name: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class GuestToken(msgspec.Struct):
    """A token of one's own, for development."""

    token: str
    user: str
    name: str
    expires_at: float


class Profile(msgspec.Struct):
    """One's own profile; the fields are up to the game."""

    user: str
    name: str
    role: str
    profile: dict[str, Any]


class ProfileChange(msgspec.Struct, forbid_unknown_fields=True):
    """Fields to set; null removes one, what is not named stays."""

    profile: dict[str, Any]


class Operations:
    """Called with claims that were verified; checks permissions and parameters itself."""

    def __init__(self, host: Host, documents: DocumentStore | None, settings: Settings) -> None:
        self._host = host
        self._documents = documents
        self._settings = settings
        self._seen: dict[str, float] = {}
        self._seen_tasks: set[asyncio.Task[None]] = set()
        self._seen_slots = asyncio.Semaphore(SEEN_CONCURRENT)
        if host.crossing is not None:
            host.crossing.questions.answers["list"] = self.answer_list
        self._methods: dict[str, Callable[[Claims, dict[str, Any]], Awaitable[Any]]] = {
            "matches": self._call_matches,
            "match": self._call_match,
            "create_match": self._call_create,
            "profile": lambda claims, _: self.profile(claims),
            "update_profile": self._call_update_profile,
        }

    # --- matches ------------------------------------------------------------------------------------------------------
    async def list_matches(self, params: Mapping[str, str]) -> MatchList:
        """A page of the running matches, of all nodes that answer in time."""
        query = parse_listing_query(params)
        found = [hosted.info() for hosted in self._host]
        if self._host.crossing is not None:
            for infos in await self._host.crossing.placement.ask_others("list", {"query": dict(params)}):
                found += infos
        page = list_matches(found, query)
        return MatchList([msgspec.convert(info, MatchInfo) for info in page.matches], page.next_cursor)

    async def answer_list(self, body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What another node is told that makes a page: the first matches here, and one to see that more follow."""
        query = parse_listing_query(body["query"])
        query = replace(query, limit=query.limit + 1)
        return list(list_matches((hosted.info() for hosted in self._host), query).matches)

    async def match(self, match_id: str) -> MatchInfo:
        """One running match, wherever it runs."""
        return msgspec.convert(await self._host.info(match_id), MatchInfo)

    async def create_match(self, claims: Claims, wanted: CreateMatch) -> MatchInfo:
        """A new match, for others to join."""
        check_permission(claims.role, Permission.MATCH_CREATE)
        return msgspec.convert(await self._place("create", claims, wanted), MatchInfo)

    async def find_match(self, claims: Claims, wanted: CreateMatch, ws: str) -> JoinTicket:
        """A match with a seat for this user, made if there is none."""
        check_permission(claims.role, Permission.MATCH_JOIN)
        placed = await self._place("find", claims, wanted)
        return JoinTicket(placed["match"], placed["game"], ws)

    async def _place(self, what: str, claims: Claims, wanted: CreateMatch) -> dict[str, Any]:
        user = User(claims.user_id, claims.name, str(claims.role))
        return await self._host.place(what, wanted.game, wanted.options, user)

    # --- users --------------------------------------------------------------------------------------------------------
    def guest(self, wanted: GuestRequest) -> GuestToken:
        """A new guest with a token; in development mode only."""
        if self._settings.server.mode != "development":
            raise PermissionDenied("Guest tokens are given in development mode only: your login service issues tokens.")
        auth = self._settings.auth
        now = time.time()
        claims = guest_claims(secrets.token_hex(8), now=now, ttl_seconds=auth.guest_ttl_seconds, name=wanted.name)
        token = issue_token(
            auth.secret.get_secret_value(),
            claims.user_id,
            claims.role,
            name=claims.name,
            now=now,
            ttl_seconds=auth.guest_ttl_seconds,
            algorithm=auth.algorithm,
        )
        return GuestToken(token, claims.user_id, claims.name, claims.expires_at)

    async def profile(self, claims: Claims) -> Profile:
        """One's own profile; empty before anything was stored."""
        check_permission(claims.role, Permission.PROFILE_READ)
        player = await self._store().get_player(claims.user_id)
        return self._profile(claims, (player or {}).get("profile", {}))

    async def update_profile(self, claims: Claims, change: ProfileChange) -> Profile:
        """Merge fields into one's own profile."""
        check_permission(claims.role, Permission.PROFILE_WRITE)
        store = self._store()
        try:
            profile = await store.update_profile(claims.user_id, change.profile)
        except NotFound:  # never connected before
            await store.upsert_player(claims.user_id, {"name": claims.name})
            profile = await store.update_profile(claims.user_id, change.profile)
        return self._profile(claims, profile)

    def seen(self, user_id: str, name: str) -> None:
        """Note the player as seen, in the background: nobody waits for it, and a store that is away costs nothing."""
        now = time.monotonic()
        if self._documents is None or len(self._seen_tasks) >= SEEN_WAITING_MAX:
            return
        if now - self._seen.get(user_id, -SEEN_SECONDS) < SEEN_SECONDS:
            return
        if len(self._seen) >= 10 * SEEN_WAITING_MAX:
            self._seen = {user: at for user, at in self._seen.items() if now - at < SEEN_SECONDS}
        self._seen[user_id] = now
        task = asyncio.get_running_loop().create_task(self._note_seen(user_id, name))
        self._seen_tasks.add(task)
        task.add_done_callback(self._seen_tasks.discard)

    async def _note_seen(self, user_id: str, name: str) -> None:
        try:
            async with self._seen_slots:
                await self._store().upsert_player(user_id, {"name": name})
        except GameServerError as error:
            self._seen.pop(user_id, None)
            log.debug("player_not_noted", user=user_id, error=error.message)

    async def close(self) -> None:
        """Drop what is still being noted."""
        tasks = list(self._seen_tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _store(self) -> DocumentStore:
        if self._documents is None:
            raise NotFound("This server has no document store.")
        return self._documents

    def _profile(self, claims: Claims, profile: dict[str, Any]) -> Profile:
        return Profile(claims.user_id, claims.name, str(claims.role), profile)

    # --- the same over the WebSocket ----------------------------------------------------------------------------------
    async def call(self, claims: Claims, method: str, params: dict[str, Any]) -> Any:
        """A REQUEST message: `method` with its params."""
        operation = self._methods.get(method)
        if operation is None:
            raise NotFound(f"There is no request {method[:80]!r}; there is: {', '.join(self._methods)}.")
        return await operation(claims, params)

    async def _call_matches(self, claims: Claims, params: dict[str, Any]) -> Any:
        check_permission(claims.role, Permission.MATCH_LIST)
        return await self.list_matches({str(name): _as_text(value) for name, value in params.items()})

    async def _call_match(self, claims: Claims, params: dict[str, Any]) -> Any:
        check_permission(claims.role, Permission.MATCH_LIST)
        match_id = params.get("match")
        if not isinstance(match_id, str) or len(params) != 1:
            raise RequestInvalid("expected one parameter: match")
        return await self.match(match_id)

    async def _call_create(self, claims: Claims, params: dict[str, Any]) -> Any:
        return await self.create_match(claims, convert(params, CreateMatch))

    async def _call_update_profile(self, claims: Claims, params: dict[str, Any]) -> Any:
        return await self.update_profile(claims, convert(params, ProfileChange))


def convert(value: Any, kind: type[T]) -> T:
    """Parameters as their class; raises RequestInvalid that names the field."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RequestInvalid(str(error)) from None


def _as_text(value: Any) -> str:
    """A filter as it would stand in a query string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise RequestInvalid("filters are texts, numbers or booleans")

"""The host: how users find their way into matches, those of this node and those that it carries players to.

Games are found by name, matches by id. Concurrent joiners of a game land in the same match while it has seats: finding,
making and taking the seat happen in one turn of the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from msgspec.structs import replace

from gameserver.cluster.hosted import HostedMatch
from gameserver.cluster.matches import LocalMatches, options_key
from gameserver.cluster.owner import FULL_VERSION
from gameserver.errors import (
    JoinRefused,
    MatchEnded,
    MatchFull,
    MatchMoved,
    MatchNotFound,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from gameserver.cluster.member import Member
    from gameserver.cluster.receiver import Receiver
    from gameserver.match import User
    from gameserver.protocol import Resume

log = structlog.get_logger("gameserver.cluster")

RESERVATION_SECONDS = 10.0  # how long a seat that was promised is kept for the join that follows
JOIN_ATTEMPTS_MAX = 20  # matches that may refuse one user before a new one is made for them
KNOWN_SECONDS = 1.0  # how long the answer to whoever made a match waits for the store


class Host(LocalMatches):
    """Lets users into matches, wherever those run."""

    # --- joining ------------------------------------------------------------------------------------------------------
    async def join(
        self,
        kind: str,
        name: str,
        user: User,
        receiver: Receiver,
        request: int,
        *,
        options: dict[str, Any] | None = None,
        spectate: bool = False,
        resume: Resume | None = None,
    ) -> Member:
        """A seat for this user: in the match `name`, in a match of the game `name`, or in a new one of it."""
        self._refuse_when_draining()
        if kind == "match":
            return await self._join_match(name, user, receiver, request, spectate=spectate, resume=resume)
        placed = await self._placed_elsewhere(kind, name, options or {}, user)
        if placed is not None:
            return await self._join_match(placed["match"], user, receiver, request, spectate=spectate, resume=None)
        if kind == "create":
            return await self._join_new(name, options, user, receiver, request, spectate=spectate)
        return await self._join_or_create(name, options or {}, user, receiver, request, spectate=spectate)

    async def _join_match(
        self, match_id: str, user: User, receiver: Receiver, request: int, *, spectate: bool, resume: Resume | None
    ) -> Member:
        """In a match that runs here, or is brought here, or is carried here for the node that runs it."""
        crossing = self.crossing
        if crossing is None or match_id not in crossing.edges.remotes:
            hosted = await self._here(match_id)
            if hosted is None and crossing is None:
                raise MatchNotFound
            if hosted is not None:
                resume = await self.placed_here(hosted, resume)
                return hosted.join(user, receiver, request, spectate=spectate, resume=resume)
        assert crossing is not None  # noqa: S101 - without one the match was here, or nowhere
        return await crossing.join(match_id, user, receiver, request, spectate=spectate, resume=resume)

    async def placed_here(self, hosted: HostedMatch, resume: Resume | None) -> Resume | None:
        """What a client comes back with to this match, when it is certain that it is here where the match runs.

        A client that has seen a later epoch proves that another node had it, and may have it still: the store is asked.
        If it says that the match is this node's, what was seen of it elsewhere is lost, and the whole state is the
        answer. Raises `MatchMoved`.
        """
        if resume is None or not hosted.is_behind(resume):
            return resume
        if self.is_owner is not None and not await self.is_owner(self._node, hosted.match_id, hosted.match.epoch):
            if self.doubted is not None:
                self.doubted(hosted.match_id)
            raise MatchMoved
        if hosted.closed:
            raise MatchMoved
        return replace(resume, epoch=hosted.match.epoch, version=FULL_VERSION)

    async def reach(self, match_id: str) -> HostedMatch:
        """The match of that id, brought here if nobody runs it; raises `MatchNotFound`."""
        return await self._here(match_id) or self.get(match_id)

    async def _here(self, match_id: str) -> HostedMatch | None:
        """The match of that id, brought here if nobody runs it; None if another node does, or will in a moment."""
        hosted = self._matches.get(match_id)
        if match_id in self.quarantined:
            return self.get(match_id)
        if (hosted is None or hosted.leaving) and self.bring is not None:
            await self.bring(match_id)
            hosted = self._matches.get(match_id)
        return hosted

    async def _join_new(
        self,
        game_name: str,
        options: dict[str, Any] | None,
        user: User,
        receiver: Receiver,
        request: int,
        *,
        spectate: bool,
    ) -> Member:
        """In a match of one's own; when the answer leaves, others may be told its id."""
        hosted = self.create_match(game_name, options)
        hosted.reserve(user.id, RESERVATION_SECONDS)
        await self._known_to_all(hosted)
        return hosted.join(user, receiver, request, spectate=spectate)

    async def _join_or_create(
        self, game_name: str, options: dict[str, Any], user: User, receiver: Receiver, request: int, *, spectate: bool
    ) -> Member:
        refused: set[str] = set()
        while len(refused) < JOIN_ATTEMPTS_MAX:
            hosted = self._with_room(game_name, options, user, refused)
            if hosted is None:
                break
            try:
                return hosted.join(user, receiver, request, spectate=spectate)
            except (MatchFull, MatchEnded, MatchMoved, JoinRefused):
                refused.add(hosted.match_id)
        return await self._join_new(game_name, options, user, receiver, request, spectate=spectate)

    def _with_room(
        self, game_name: str, options: dict[str, Any], user: User, refused: Collection[str]
    ) -> HostedMatch | None:
        candidates = self._open.get((game_name, options_key(options)))
        if not candidates:
            return None
        for match_id, hosted in list(candidates.items()):
            if match_id in refused:
                continue
            if hosted.has_room(user.id):
                return hosted
            candidates.pop(match_id, None)  # comes back when a seat is freed
        return None

    # --- placing ------------------------------------------------------------------------------------------------------
    async def _placed_elsewhere(
        self, kind: str, game_name: str, options: dict[str, Any], user: User
    ) -> dict[str, Any] | None:
        """Another node's match for this user; None: one of this node's will do."""
        if self.crossing is None:
            return None
        placement, owns = self.crossing.placement, self.crossing.owns
        if kind == "create":
            return None if owns else await placement.create(game_name, options, user)
        if owns:
            self.registry.get(game_name)
            if self._runs(game_name, options_key(options)):
                return None
        return await placement.find(game_name, options, user)

    def _runs(self, game_name: str, key: str) -> bool:
        """Is there any match of this game with these options here, whether it has room or not?"""
        if (game_name, key) in self._open:
            return True
        return any(hosted.game == game_name and hosted.options_key == key for hosted in self._matches.values())

    async def place(self, kind: str, game_name: str, options: dict[str, Any], user: User) -> dict[str, Any]:
        """A new match (`create`), or one with a seat for this user (`find`), here or elsewhere. Its info."""
        self._refuse_when_draining()
        placed = await self._placed_elsewhere(kind, game_name, options, user)
        if placed is not None:
            return placed
        found = None if kind == "create" else self.offer(game_name, options, user)
        return found or await self.make(game_name, options, user)

    async def make(self, game_name: str, options: dict[str, Any], user: User) -> dict[str, Any]:
        """A new match here, with a seat that is kept for the user for a moment. Its info."""
        hosted = self.create_match(game_name, options)
        hosted.reserve(user.id, RESERVATION_SECONDS)
        await self._known_to_all(hosted)
        return hosted.info()

    def offer(self, game_name: str, options: dict[str, Any], user: User) -> dict[str, Any] | None:
        """A match here that has a seat for the user, which is kept for a moment. Its info, if there is one.

        Whoever asks next is offered the same match while it has seats: finding and reserving are one step.
        """
        hosted = None if self.draining else self._with_room(game_name, options, user, ())
        if hosted is None:
            return None
        hosted.reserve(user.id, RESERVATION_SECONDS)
        return hosted.info()

    async def info(self, match_id: str) -> dict[str, Any]:
        """What a listing shows of a match, wherever it runs; raises `MatchNotFound`."""
        if match_id in self._matches or self.crossing is None:
            return self.get(match_id).info()
        return await self.crossing.info(match_id)

    async def _known_to_all(self, hosted: HostedMatch) -> None:
        """Return when other nodes can find the match, or after a moment: whoever is told of it may ask any node."""
        if self._journal is None:
            return
        try:
            async with asyncio.timeout(KNOWN_SECONDS):
                await self._journal.settle(hosted.match_id, 0)
        except (StoreUnavailable, TimeoutError):
            log.debug("match_not_known_yet", match=hosted.match_id)

"""Presence: this node tells the store who is connected to it, and in which matches.

What changed is written within seconds, in one batch; that the rest is still so is said before it would expire. A node
that dies is forgotten with what it wrote.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gameserver.errors import GameServerError
from gameserver.storage import Present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set

    from gameserver.cluster.ports import Clock
    from gameserver.storage import PresenceStore

log = structlog.get_logger("gameserver.cluster")

CHANGES_SECONDS = 2.0
REFRESHES = 3  # within the time that what was written lasts


class Presence:
    """Keeps the store up to date.

    `changes` answers whose presence may have changed since it was asked last: user → matches, None for one who is not
    connected any more.
    """

    def __init__(
        self,
        store: PresenceStore,
        node: str,
        changes: Callable[[], Mapping[str, Set[str] | None]],
        clock: Clock,
        *,
        ttl_seconds: float = 60.0,
        changes_seconds: float = CHANGES_SECONDS,
    ) -> None:
        self._store = store
        self._node = node
        self._changes = changes
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._changes_seconds = min(changes_seconds, ttl_seconds / REFRESHES)
        self._here: dict[str, tuple[str, ...]] = {}
        """Who is here, by user: the matches. As it was told, if the store answered."""
        self._told = False
        """The store has all of this, as far as is known."""
        self._refreshed_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.create_task(self._run(), name="presence")

    async def stop(self) -> None:
        """Take back what this node has told; if the store does not answer, it expires."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        try:
            async with asyncio.timeout(0.5):
                await self._store.tell_all(self._node, (), self._ttl_seconds)
        except (GameServerError, TimeoutError) as error:
            log.debug("presence_left", error=str(error))

    async def _run(self) -> None:
        while True:
            try:
                await self.tell()
                self._failing = False
            except GameServerError as error:
                if not self._failing:
                    self._failing = True
                    log.warning("presence_not_written", error=error.message, retry="until the store answers")
            except Exception as failure:
                log.error("presence_failed", exc_info=failure)
            await asyncio.sleep(self._changes_seconds)

    async def tell(self) -> None:
        """Write what is new, or that all is as it was if it is time for that."""
        here, gone = self._take_changes()
        at = self._clock.now()
        is_time = at - self._refreshed_at >= self._ttl_seconds / REFRESHES
        told, self._told = self._told, False  # nobody knows what the store has until it answers
        if told and (here or gone or is_time):
            told = await self._store.tell(self._node, here, gone, self._ttl_seconds)
        elif told:
            at = self._refreshed_at
        if not told:
            await self._store.tell_all(self._node, _entries(self._here), self._ttl_seconds)
        self._told, self._refreshed_at = True, at

    def _take_changes(self) -> tuple[list[Present], list[Present]]:
        """Bring `_here` up to date; what came, what went."""
        came: list[Present] = []
        went: list[Present] = []
        for user, match_ids in self._changes().items():
            before = set(_entries({user: self._here[user]})) if user in self._here else set()
            if match_ids is None:
                self._here.pop(user, None)
                went += before
                continue
            self._here[user] = tuple(match_ids)
            now = set(_entries({user: self._here[user]}))
            came += now - before
            went += before - now
        return came, went


def _entries(here: Mapping[str, Iterable[str]]) -> list[Present]:
    """One for the user, and one for each match."""
    return [Present(user, match_id) for user, match_ids in here.items() for match_id in ("", *match_ids)]

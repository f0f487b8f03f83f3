"""Presence: this node tells the store who is connected to it, and in which matches.

What changed is written within seconds, in one batch; everything is written again before it would expire. A node that
dies is forgotten with what it wrote.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gameserver.errors import GameServerError
from gameserver.storage import Present

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set

    from gameserver.cluster.ports import Clock
    from gameserver.storage import PresenceStore

log = structlog.get_logger("gameserver.cluster")

CHANGES_SECONDS = 2.0
REFRESHES = 3  # within the time that an entry lasts


class Presence:
    """Keeps the store up to date. `look` answers who is here: user → matches."""

    def __init__(
        self,
        store: PresenceStore,
        node: str,
        look: Callable[[], Mapping[str, Set[str]]],
        clock: Clock,
        *,
        ttl_seconds: float = 60.0,
        changes_seconds: float = CHANGES_SECONDS,
    ) -> None:
        self._store = store
        self._node = node
        self._look = look
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._changes_seconds = min(changes_seconds, ttl_seconds / REFRESHES)
        self._written: set[Present] = set()
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
                await self._store.write(self._node, (), self._written, self._ttl_seconds)
        except (GameServerError, TimeoutError) as error:
            log.debug("presence_left", error=str(error))

    async def _run(self) -> None:
        while True:
            try:
                await self.tell()
                self._failing = False
            except GameServerError as error:
                self._refreshed_at = float("-inf")  # nobody knows what the store has now
                if not self._failing:
                    self._failing = True
                    log.warning("presence_not_written", error=error.message, retry="until the store answers")
            except Exception as failure:
                log.error("presence_failed", exc_info=failure)
            await asyncio.sleep(self._changes_seconds)

    async def tell(self) -> None:
        """Write what is new, or everything if it is time for that."""
        now = {Present(user, match_id) for user, match_ids in self._look().items() for match_id in ("", *match_ids)}
        at = self._clock.now()
        everything = at - self._refreshed_at >= self._ttl_seconds / REFRESHES
        here = now if everything else now - self._written
        gone = self._written - now
        if here or gone:
            self._written |= here  # also if the outcome is unknown: it is taken back when it ends
            await self._store.write(self._node, here, gone, self._ttl_seconds)
        self._written = now
        if everything:
            self._refreshed_at = at

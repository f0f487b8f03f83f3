"""Matches that nobody runs are brought here when somebody asks for them: they slept, or were just let go of.

Also those whose time has come: a match that sleeps says when it wants to be woken, and every node looks for such ones.
Whoever claims first runs it; the others hear that they were too late.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import structlog

from gameserver.errors import GameServerError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gameserver.cluster.handover import Handover
    from gameserver.cluster.host import Host
    from gameserver.cluster.ports import Clock
    from gameserver.storage import JournalStore

log = structlog.get_logger("gameserver.cluster")

POLL_SECONDS = 1.0
DUE_MAX = 100  # matches woken at a time


class Arrivals:
    """Brings matches that have no owner when they are asked for or due; claiming them is the takeover's."""

    def __init__(
        self,
        store: JournalStore,
        host: Host,
        handover: Handover,
        clock: Clock,
        claim: Callable[[str], Awaitable[bool]],
        *,
        poll_seconds: float = POLL_SECONDS,
        order: Random | None = None,
    ) -> None:
        """`claim`: see `Takeover.claim`. `order` decides what is looked at first, and when."""
        self._store = store
        self._host = host
        self._handover = handover
        self._clock = clock
        self._claim = claim
        self._poll_seconds = poll_seconds
        self._elsewhere: set[str] = set()  # due, and not for this node to wake
        self._order = order or Random()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """Begin to look for matches that want to be woken."""
        self._task = asyncio.create_task(self._run(), name="sleeping matches")

    async def stop(self) -> None:
        """Look for none any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)

    async def bring(self, match_id: str) -> bool:
        """Run this match here if nobody else does. Whether it is here now.

        Raises `MatchNotFound`, `MatchQuarantined`, `StoreUnavailable`.
        """
        await self._handover.finished(match_id)
        if match_id in self._host:
            return True
        if self._host.draining:
            return False
        brought = await self._claim(match_id)
        if brought:
            log.info("match_brought", match=match_id)
        return brought

    # --- those whose time has come ------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            # Nodes that started together do not look together.
            await asyncio.sleep(self._poll_seconds * self._order.uniform(0.75, 1.25))
            if self._host.draining:
                continue
            try:
                await self.wake_due()
                self._failing = False
            except StoreUnavailable as error:
                if not self._failing:
                    self._failing = True
                    log.warning("sleeping_matches_unknown", error=error.message, retry="until the store answers")
            except Exception as failure:
                log.error("waking_failed", exc_info=failure)

    async def wake_due(self) -> int:
        """Wake the matches that want to be woken by now; how many came here."""
        now_ms = int(self._clock.wall() * 1000)
        due = await self._store.due(now_ms, limit=DUE_MAX + len(self._elsewhere))
        self._elsewhere.intersection_update(due)
        wanted = [match_id for match_id in due if match_id not in self._elsewhere and match_id not in self._host]
        self._order.shuffle(wanted)  # several nodes share them, rather than race for each
        woken = 0
        for match_id in wanted:
            try:
                brought = await self.bring(match_id)
            except StoreUnavailable:
                raise
            except GameServerError as error:
                brought = False
                log.error("match_not_woken", match=match_id, error=error.message)
            woken += brought
            if not brought:
                self._elsewhere.add(match_id)
        return woken

"""Draining: a node hands all of its matches over, those that are being played first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from gameserver.cluster.handover import Handover
    from gameserver.cluster.host import Host
    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.ports import Clock

log = structlog.get_logger("gameserver.cluster")

CONCURRENT = 16


@dataclass(slots=True)
class DrainState:
    """How far it is."""

    draining: bool = False
    done: bool = False
    handed_over: int = 0
    left: int = 0
    """Matches that are still here."""
    seconds: float = 0.0


class Drain:
    """Empties a node: until everything is gone or its time is over. Asked again it tries again."""

    def __init__(self, host: Host, handover: Handover, clock: Clock) -> None:
        self._host = host
        self._handover = handover
        self._clock = clock
        self._handed_over = 0
        self._seconds = 0.0
        self._running: asyncio.Task[None] | None = None

    @property
    def state(self) -> DrainState:
        """How far it is."""
        done = self._running is not None and self._running.done()
        return DrainState(self._host.draining, done, self._handed_over, len(self._host), self._seconds)

    async def run(self, seconds: float) -> DrainState:
        """No new matches and players from now on; those that are here leave, within so many seconds."""
        self._host.draining = True
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(seconds), name="drain")
        # Not longer, whatever hangs; half a handover is never cut off.
        await asyncio.wait([self._running], timeout=seconds)
        return self.state

    async def _run(self, seconds: float) -> None:
        started = self._clock.now()
        slots = asyncio.Semaphore(CONCURRENT)
        matches = sorted(self._host, key=lambda hosted: -hosted.connected)

        async def hand_over(hosted: HostedMatch) -> None:
            async with slots:
                left = started + seconds - self._clock.now()
                if left > 0 and await self._handover.hand_over(hosted, left):
                    self._handed_over += 1

        await asyncio.gather(*map(hand_over, matches))
        self._seconds = self._clock.now() - started
        log.info("drained", handed_over=self._handed_over, left=len(self._host), seconds=round(self._seconds, 2))

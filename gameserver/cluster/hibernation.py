"""Hibernation: a match with nobody connected and nothing due soon goes to the store and out of memory.

A join brings it back on whatever node is asked, and so does the time that it left as its next (`Arrivals`); its time
has gone on meanwhile, so a timer fires as if the match had been awake. One whose end by emptiness is near just ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from gameserver.cluster.handover import Handover
    from gameserver.cluster.host import Host
    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.ports import Clock
    from gameserver.match import Game

log = structlog.get_logger("gameserver.cluster")

POLL_SECONDS = 1.0
SOON_SECONDS = 30.0  # what is due within this is waited for awake
HANDOVER_SECONDS = 5.0
AT_ONCE_MAX = 16
PART_MATCHES = 500  # looked at in one go: ten thousand would stop the others for as long as a tick


class Hibernator:
    """Puts matches of this node to sleep."""

    def __init__(
        self,
        host: Host,
        handover: Handover,
        clock: Clock,
        *,
        poll_seconds: float = POLL_SECONDS,
        soon_seconds: float = SOON_SECONDS,
    ) -> None:
        self._host = host
        self._handover = handover
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._soon_seconds = soon_seconds
        self._idle_since: dict[str, float] = {}
        self._looks = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for matches that nobody needs."""
        self._task = asyncio.create_task(self._run(), name="hibernation")

    async def stop(self) -> None:
        """Put none to sleep any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            if self._host.draining:
                return
            try:
                await self.look()
            except Exception as failure:
                log.error("hibernation_failed", exc_info=failure)

    async def look(self) -> int:
        """Put to sleep what may sleep now; how many. Of many matches only a part is looked at each time."""
        now = self._clock.now()
        tired: list[HostedMatch] = []
        for hosted in self._next_part():
            seconds = seconds_awake(hosted.game_class)
            if seconds is None or hosted.journal is None or not hosted.idle:
                self._idle_since.pop(hosted.match_id, None)
                continue
            since = self._idle_since.setdefault(hosted.match_id, now)
            if now - since >= seconds and len(tired) < AT_ONCE_MAX and self._nothing_soon(hosted, now):
                tired.append(hosted)
        asleep = await asyncio.gather(*map(self._sleep, tired))
        return sum(asleep)

    def _next_part(self) -> list[HostedMatch]:
        parts = 1 + len(self._host) // PART_MATCHES
        self._looks += 1
        if self._looks % parts == 0:  # once around: forget what has left
            self._idle_since = {one: since for one, since in self._idle_since.items() if one in self._host}
        return list(self._host)[self._looks % parts :: parts]

    def _nothing_soon(self, hosted: HostedMatch, now: float) -> bool:
        due = hosted.match.next_due()
        return due is None or due - now > self._soon_seconds

    async def _sleep(self, hosted: HostedMatch) -> bool:
        due = hosted.match.next_due()
        due_ms = None if due is None else int((self._clock.wall() + due - self._clock.now()) * 1000)
        asleep = await self._handover.hand_over(hosted, HANDOVER_SECONDS, asleep=True, due_ms=due_ms)
        self._idle_since.pop(hosted.match_id, None)
        if asleep:
            log.info("match_asleep", match=hosted.match_id, game=hosted.game, due_ms=due_ms)
        return asleep


def seconds_awake(game: type[Game]) -> float | None:
    """How long a match of this game stays awake with nobody connected; None: it does not sleep."""
    hibernates = game.tick_hz == 0 if game.hibernates is None else game.hibernates
    return game.hibernate_seconds if hibernates else None

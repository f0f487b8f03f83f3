"""Matches that nobody runs are brought here when somebody asks for them: they slept, or were just let go of.

Also those whose time has come: a match that sleeps says when it wants to be woken, and every node looks for such ones.
Whoever claims first runs it; the others hear that they were too late.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import structlog

from gameserver.errors import ClaimLost, GameServerError, MatchQuarantined, StoreUnavailable

if TYPE_CHECKING:
    from gameserver.cluster.handover import Handover
    from gameserver.cluster.host import Host
    from gameserver.cluster.ports import Clock
    from gameserver.storage import JournalStore, OwnedMatch, Token

log = structlog.get_logger("gameserver.cluster")

DUE_MAX = 100  # matches woken at a time


@dataclass(frozen=True, slots=True)
class ArrivalPolicy:
    """How often to look for sleepers, and when a match is not tried again."""

    poll_seconds: float = 1.0
    attempts_max: int = 5
    suspects_max: int = 3


class Arrivals:
    """Claims and runs matches that have no owner."""

    def __init__(
        self, store: JournalStore, host: Host, handover: Handover, clock: Clock, node: str, policy: ArrivalPolicy
    ) -> None:
        self._store = store
        self._host = host
        self._handover = handover
        self._clock = clock
        self._node = node
        self._policy = policy
        self._under_way: dict[str, asyncio.Task[bool]] = {}
        self._unable: set[str] = set()
        self._order = Random()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """Begin to look for matches that want to be woken."""
        self._task = asyncio.create_task(self._run(), name="sleeping matches")

    async def stop(self) -> None:
        """Bring nothing here any more."""
        tasks = [task for task in (self._task, *self._under_way.values()) if task is not None]
        if self._task is not None:
            self._task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    async def bring(self, match_id: str) -> bool:
        """Run this match here if nobody else does. Whether it is here now.

        Raises `MatchQuarantined`, `StoreUnavailable`, or what else keeps it from being run.
        """
        await self._handover.finished(match_id)
        if match_id in self._host:
            return True
        task = self._under_way.get(match_id)
        if task is None:
            task = self._under_way[match_id] = asyncio.create_task(self._bring(match_id), name=f"bring {match_id}")
            task.add_done_callback(lambda _: self._under_way.pop(match_id, None))
        return await asyncio.shield(task)

    async def _bring(self, match_id: str) -> bool:
        [found] = await self._store.find([match_id])
        return found is not None and await self._take(found)

    async def _take(self, found: OwnedMatch) -> bool:
        match_id = found.match_id
        if found.game not in self._host.registry:
            self._unable.add(match_id)
            return False
        if found.node != "" or self._host.draining:
            return False
        if found.attempts >= self._policy.attempts_max or found.suspects >= self._policy.suspects_max:
            reason = f"Tried {found.attempts} times since its last snapshot, and suspect {found.suspects} times."
            await self._store.quarantine(match_id, reason, expect_epoch=found.epoch)
            raise MatchQuarantined
        try:
            claimed = await self._store.claim(match_id, self._node, expect_epoch=found.epoch)
        except ClaimLost:
            return False
        try:
            hosted = self._host.run_recovered(await self._store.recover(match_id), claimed.token)
        except GameServerError:
            await self._let_go(claimed.token)
            raise
        if hosted is None and match_id in self._host.quarantined:
            await self._let_go(claimed.token)
        log.info("match_woken" if found.asleep else "match_brought", match=match_id, game=found.game)
        return hosted is not None

    async def _let_go(self, token: Token) -> None:
        """What cannot be run here may well run elsewhere; how often it is tried is counted in the store."""
        self._unable.add(token.match_id)
        try:
            await self._store.release(token)
        except GameServerError as error:
            log.warning("match_not_released", match=token.match_id, error=error.message)

    # --- those whose time has come ------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            # Nodes that started together do not look together.
            await asyncio.sleep(self._policy.poll_seconds * self._order.uniform(0.75, 1.25))
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
        due = await self._store.due(now_ms, limit=DUE_MAX + len(self._unable))
        self._unable.intersection_update(due)
        wanted = [match_id for match_id in due if match_id not in self._unable and match_id not in self._host]
        if not wanted:
            return 0
        self._order.shuffle(wanted)  # several nodes share them, rather than race for each
        woken = 0
        for match_id in wanted:
            try:
                woken += await self.bring(match_id)
            except StoreUnavailable:
                raise
            except GameServerError as error:
                self._unable.add(match_id)
                log.error("match_not_woken", match=match_id, error=error.message)
        return woken

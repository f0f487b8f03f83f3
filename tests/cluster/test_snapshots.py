"""When matches are saved: never all at once, never later than was promised."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

from gameserver.cluster.ports import LoopClock
from gameserver.cluster.snapshots import POLL_SECONDS, SnapshotPolicy, Snapshotter

INTERVAL_SECONDS = 10.0


class Noting(Snapshotter):
    """Saves nothing, and notes when it would have begun to."""

    turn = 0
    begun: Counter[int]
    """In which turn of the loop, how many."""

    async def _save(self, hosted: Any) -> bool:
        self.begun[self.turn] += 1
        return True

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


class Clock(LoopClock):
    """Says what it is told to say."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 100.0
        self.now = lambda: self.time


def changed(count: int, clock: Clock) -> list[Any]:
    """Matches without a journal that something happens in all the time."""
    now = clock.now()
    common = {"unsaved_since": now, "flushed_at": now + 60, "closed": False, "journaled": False}
    return [SimpleNamespace(match_id=f"match-{number}", **common) for number in range(count)]


def snapshotter() -> tuple[Noting, Clock]:
    clock = Clock()
    writer: Any = None  # nothing is written here
    return Noting(writer, clock, SnapshotPolicy(INTERVAL_SECONDS)), clock


async def test_matches_that_are_due_together_are_begun_a_few_at_a_time() -> None:
    """Other things happen in between; and all are begun by about when the next ones are looked for."""
    noting, clock = snapshotter()
    noting.begun = Counter()
    counting = asyncio.create_task(noting.count_turns())
    began = asyncio.get_running_loop().time()
    await noting._save_in_turn(changed(200, clock))
    took = asyncio.get_running_loop().time() - began
    counting.cancel()
    assert noting.begun.total() == 200
    assert max(noting.begun.values()) <= 4
    assert took >= POLL_SECONDS * 0.9


async def test_matches_that_began_together_are_saved_at_different_moments() -> None:
    """Each at the same one of its interval, and none later than it ends."""
    noting, clock = snapshotter()
    matches, first_due = changed(200, clock), dict[str, int]()
    for step in range(101):
        clock.time = 100.0 + INTERVAL_SECONDS * step / 100
        for match in matches:
            if noting._is_due(match):
                first_due.setdefault(match.match_id, step)
    assert len(first_due) == 200
    assert min(first_due.values()) >= 75
    for quarter in range(75, 100, 5):
        assert sum(quarter <= step < quarter + 5 for step in first_due.values()) >= 20

"""When matches are saved: never all at once, never later than was promised."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from gameserver.cluster.ports import LoopClock
from gameserver.cluster.snapshots import POLL_SECONDS, PROVEN_SECONDS, SnapshotPolicy, Snapshotter

INTERVAL_SECONDS = 10.0
Kind = TypeVar("Kind", bound=Snapshotter)


class Noting(Snapshotter):
    """Saves nothing, and notes when it would have begun to."""

    turn = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.begun = Counter[int]()  # in which turn of the loop, how many

    async def _save(self, hosted: Any) -> bool:
        self.begun[self.turn] += 1
        return True

    def save_and_change(self, match: Any) -> None:
        """It is saved now, and something happens in it at once."""
        match.unsaved_since = None
        self._saved(match, 1)
        match.unsaved_since = self._clock.now()
        self.changed(match)

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


class Slow(Snapshotter):
    """Saves nothing, and takes its time for that."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def _save(self, hosted: Any) -> bool:
        self.begun.append(hosted.match_id)
        await asyncio.sleep(0.05)
        self.ended.append(hosted.match_id)
        return True


class Clock(LoopClock):
    """Says what it is told to say."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 100.0
        self.now = lambda: self.time


def changed(count: int, clock: Clock) -> list[Any]:
    """Matches without a journal that something happens in all the time."""
    now = clock.now()
    common = {"unsaved_since": now, "flushed_at": now + 60, "closed": False, "journaled": False, "saved_version": 0}
    return [SimpleNamespace(match_id=f"match-{number}", **common) for number in range(count)]


def snapshotter(kind: type[Kind]) -> tuple[Kind, Clock]:
    clock = Clock()
    writer: Any = None  # nothing is written here
    return kind(writer, clock, SnapshotPolicy(INTERVAL_SECONDS)), clock


async def test_matches_that_are_due_together_are_begun_a_few_at_a_time() -> None:
    """Other things happen in between; and all are begun by about when the next ones are looked for."""
    noting, clock = snapshotter(Noting)
    counting = asyncio.create_task(noting.count_turns())
    matches = changed(200, clock)
    clock.time += INTERVAL_SECONDS
    began = asyncio.get_running_loop().time()
    await noting._save_in_turn(matches)
    took = asyncio.get_running_loop().time() - began
    counting.cancel()
    assert noting.begun.total() == 200
    assert max(noting.begun.values()) <= 4
    assert took >= POLL_SECONDS * 0.9


async def test_a_match_that_went_away_before_its_turn_is_not_saved() -> None:
    noting, clock = snapshotter(Noting)
    matches = changed(100, clock)
    clock.time += INTERVAL_SECONDS
    saving = asyncio.create_task(noting._save_in_turn(matches))
    await asyncio.sleep(0.01)
    matches[-1].closed = True
    await saving
    assert noting.begun.total() == 99


async def test_who_stops_it_waits_for_what_has_begun_and_nothing_more_begins() -> None:
    slow, clock = snapshotter(Slow)
    for match in changed(200, clock):
        match.unsaved_since -= INTERVAL_SECONDS
        slow.changed(match)
    slow.start()
    while not slow.begun:
        await asyncio.sleep(0.01)
    assert len(slow.begun) < 200
    await slow.stop(10.0)
    begun = list(slow.begun)
    assert slow.ended == begun
    await asyncio.sleep(POLL_SECONDS * 1.5)
    assert slow.begun == begun


@pytest.mark.parametrize("taken_over", [False, True])
async def test_matches_that_began_together_are_saved_at_different_moments(taken_over: bool) -> None:
    """The first time within their interval, and each of them after all of it from then on."""
    noting, clock = snapshotter(Noting)
    matches, began = changed(200, clock), clock.time
    if taken_over:
        for match in matches:
            noting.taken_over(match)
        clock.time = began = began + PROVEN_SECONDS
        assert all(noting._is_due(match) for match in matches), "that they are unharmed is noted at once"
        for match in matches:
            noting.save_and_change(match)
    saved: dict[str, list[float]] = {match.match_id: [] for match in matches}
    for step in range(301):
        clock.time = began + INTERVAL_SECONDS * step / 100
        for match in matches:
            if noting._is_due(match):
                saved[match.match_id].append(clock.time - began)
                noting.save_and_change(match)
    for tenth in range(1, 30):
        at_once = sum(tenth <= at < tenth + 1 for moments in saved.values() for at in moments)
        assert at_once <= 36, "of three intervals no tenth has much more than its share of 200"
    for moments in saved.values():
        gaps = [later - earlier for earlier, later in itertools.pairwise([0.0, *moments])]
        assert gaps[0] <= INTERVAL_SECONDS + 0.11
        assert all(gap == pytest.approx(INTERVAL_SECONDS, abs=0.11) for gap in gaps[1:])

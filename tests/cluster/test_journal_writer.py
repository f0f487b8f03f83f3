"""Whom a write to the journal keeps waiting, and whom not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from gameserver.cluster import LoopClock
from gameserver.cluster.journal import JournalPolicy, JournalWriter
from gameserver.storage import SnapshotMeta, encode_snapshot
from tests.simulation.memory_journal import MemoryJournal, MemoryServer

META = SnapshotMeta("arena", 1, 0, 1)
SNAPSHOT = encode_snapshot({})


class Parked:
    """A way to the store on which each answer waits until it is let through."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Event] = []
        self.open = True

    async def request(self) -> None:
        """It gets there."""

    async def reply(self) -> None:
        if not self.open:
            self.answers.append(asyncio.Event())
            await self.answers[-1].wait()

    async def under_way(self) -> int:
        """How many answers wait, a moment from now."""
        await asyncio.sleep(0.01)
        return sum(not answer.is_set() for answer in self.answers)


class Journaled:
    """A match, as far as the writer needs one."""

    connected = 0

    def __init__(self, match_id: str) -> None:
        self.match_id = match_id

    def fenced(self) -> None:
        raise AssertionError("it is ours")

    def overdue(self, version: int) -> None:
        """It may take as long as it likes."""

    def stand_still(self) -> None:
        """See `overdue`."""

    def go_on(self) -> None:
        """See `overdue`."""


class Desk:
    """A writer of four matches, a to d, and the way to its store."""

    def __init__(self) -> None:
        self.server = MemoryServer(asyncio.get_running_loop().time)
        self.way = Parked()
        self.store = MemoryJournal(self.server, self.way)
        self.writer = JournalWriter(self.store, LoopClock(), JournalPolicy(interval_seconds=0.0))
        self.versions = dict.fromkeys("abcd", 0)

    async def begin(self) -> None:
        for match_id in self.versions:
            token = await self.store.create(match_id, "n1", meta=META, snapshot=SNAPSHOT)
            self.writer.adopt(Journaled(match_id), token, 0)
        self.way.open = False
        self.writer.start()

    def commit(self, match_id: str) -> None:
        version = self.versions[match_id] = self.versions[match_id] + 1
        self.writer.commit(match_id, version, msgspec.msgpack.encode([version]), urgent=True)

    def durable(self) -> str:
        """The matches that have all they committed, and have committed something."""
        return "".join(
            match_id for match_id, version in self.versions.items()
            if version and self.writer.is_durable(match_id, version)
        )  # fmt: skip


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    await desk.begin()
    yield desk
    desk.way.open = True
    for answer in desk.way.answers:
        answer.set()
    assert await desk.writer.stop(1.0)


async def test_another_match_does_not_wait_for_the_answer(desk: Desk) -> None:
    """Two writes are under way at a time; all that comes after goes together with the next one."""
    desk.commit("a")
    assert await desk.way.under_way() == 1
    desk.commit("b")
    assert await desk.way.under_way() == 2
    desk.commit("c")
    desk.commit("d")
    assert await desk.way.under_way() == 2
    desk.way.answers[1].set()
    assert await desk.way.under_way() == 2
    assert desk.durable() == "b"
    desk.way.answers[2].set()
    assert await desk.way.under_way() == 1
    assert desk.durable() == "bcd"


async def test_a_match_has_one_write_under_way(desk: Desk) -> None:
    """What it commits meanwhile goes with its next one, in order."""
    for _ in range(3):
        desk.commit("a")
        assert await desk.way.under_way() == 1
    desk.way.answers[0].set()
    assert await desk.way.under_way() == 1
    desk.way.answers[1].set()
    assert await desk.way.under_way() == 0
    assert desk.durable() == "a"
    assert [entry.version for entry in (await MemoryJournal(desk.server).recover("a")).entries] == [1, 3]


async def test_nobody_waits_for_another_match_to_be_saved(desk: Desk) -> None:
    """The match itself does: a snapshot and the journal behind it are written one after the other."""
    saving = asyncio.create_task(desk.writer.save("a", 0, META, SNAPSHOT))
    assert await desk.way.under_way() == 1
    desk.commit("a")
    desk.commit("b")
    assert await desk.way.under_way() == 2
    desk.way.answers[1].set()
    assert await desk.way.under_way() == 1
    assert desk.durable() == "b"
    desk.way.answers[0].set()
    assert await saving
    assert await desk.way.under_way() == 1
    desk.way.answers[2].set()
    assert await desk.way.under_way() == 0
    assert desk.durable() == "ab"


async def test_nobody_waits_for_another_match_to_be_made(desk: Desk) -> None:
    desk.writer.create(Journaled("e"), "n1", META, SNAPSHOT)
    assert await desk.way.under_way() == 1
    desk.commit("a")
    assert await desk.way.under_way() == 2
    desk.way.answers[1].set()
    await desk.way.under_way()
    assert desk.durable() == "a"
    assert desk.writer.token("e") is None

"""Whom a write to the journal keeps waiting, and whom not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import pytest

from gameserver.cluster import LoopClock
from gameserver.cluster.journal import GROUPS_MAX, RETRY_SECONDS, JournalPolicy, JournalWriter
from gameserver.errors import StoreUnavailable
from gameserver.storage import SnapshotMeta, Token, encode_snapshot
from tests.simulation.memory_journal import MemoryJournal, MemoryServer

pytestmark = pytest.mark.looptime  # time passes only while there is nothing to do: no machine is too slow

META = SnapshotMeta("arena", 1, 0, 1)
SNAPSHOT = encode_snapshot({})


class Answer(asyncio.Event):
    """Set: it is let through, or known to be lost."""

    lost = False


class Parked:
    """A way to the store on which each answer waits until it is let through."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.open = True
        self.reaches = True

    async def request(self) -> None:
        if not self.reaches:
            raise StoreUnavailable("it does not get there")

    async def reply(self) -> None:
        if not self.open:
            answer = Answer()
            self.answers.append(answer)
            await answer.wait()
            if answer.lost:
                raise StoreUnavailable("the answer does not get here")

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
        self.tokens: dict[str, Token] = {}

    async def begin(self) -> None:
        for match_id in self.versions:
            token = self.tokens[match_id] = await self.store.create(match_id, "n1", meta=META, snapshot=SNAPSHOT)
            self.writer.adopt(Journaled(match_id), token, 0)
        self.way.open = False
        self.writer.start()

    def commit(self, match_id: str) -> None:
        version = self.versions[match_id] = self.versions[match_id] + 1
        self.writer.commit(match_id, version, msgspec.msgpack.encode([version]), urgent=True)

    def let_through(self) -> None:
        """All answers, from now on at once."""
        self.way.open = True
        for answer in self.way.answers:
            answer.set()

    async def stored(self, match_id: str) -> list[int]:
        """The versions that the journal's entries lead to."""
        return [entry.version for entry in (await MemoryJournal(self.server).recover(match_id)).entries]

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
    desk.let_through()
    assert await desk.writer.stop(1.0)


async def test_so_many_groups_are_under_way_at_a_time(desk: Desk) -> None:
    """All that comes after goes together with the next one."""
    for under_way in range(1, GROUPS_MAX + 1):
        desk.commit("a")
        assert await desk.way.under_way() == under_way
    desk.commit("b")
    desk.commit("c")
    assert await desk.way.under_way() == GROUPS_MAX
    assert desk.durable() == ""
    desk.way.answers[0].set()
    assert await desk.way.under_way() == GROUPS_MAX
    desk.let_through()
    assert await desk.way.under_way() == 0
    assert desk.durable() == "abc"
    assert desk.writer.rounds == GROUPS_MAX + 1


async def test_what_a_match_commits_meanwhile_is_stored_in_order(desk: Desk) -> None:
    for _ in range(GROUPS_MAX + 3):
        desk.commit("a")
        await desk.way.under_way()
    desk.let_through()
    await desk.way.under_way()
    assert desk.durable() == "a"
    assert await desk.stored("a") == [*range(1, GROUPS_MAX + 1), GROUPS_MAX + 3]


async def test_nothing_counts_as_stored_before_what_it_follows(desk: Desk) -> None:
    """The first group's answer is lost, the second's is not: both are sent again, and counted in their order."""
    told: list[int] = []
    for version in (1, 2):
        desk.commit("a")
        desk.writer.when_durable("a", version, partial(told.append, version))
        await desk.way.under_way()
    first, second = desk.way.answers
    second.set()
    assert await desk.way.under_way() == 1
    assert told == []
    first.lost = True
    first.set()
    await desk.way.under_way()
    assert (told, desk.durable(), desk.writer.down_seconds > 0) == ([], "", True)
    await asyncio.sleep(RETRY_SECONDS[0])
    assert await desk.way.under_way() == 2
    desk.let_through()
    await desk.way.under_way()
    assert (told, desk.durable(), desk.writer.down_seconds) == ([1, 2], "a", 0.0)
    assert await desk.stored("a") == [1, 2]


async def test_what_never_arrived_is_sent_again_before_what_follows_it(desk: Desk) -> None:
    desk.way.reaches = False
    desk.commit("a")
    await asyncio.sleep(0.01)
    desk.commit("a")
    desk.commit("b")
    desk.way.reaches = True
    assert await desk.way.under_way() == 0, "nothing goes out before it"
    await asyncio.sleep(RETRY_SECONDS[0])
    desk.let_through()
    await desk.way.under_way()
    assert desk.durable() == "ab"
    assert await desk.stored("a") == [1, 2]


async def test_a_refused_match_is_looked_into_once_and_written_anew(desk: Desk) -> None:
    """All that was under way is refused with the first of it; under the next token it is written in its order."""
    refused: list[str] = []
    desk.writer.on_refused = refused.append
    desk.server.wipe()
    for _ in range(2):
        desk.commit("a")
        await desk.way.under_way()
    desk.let_through()
    await desk.way.under_way()
    assert refused == ["a"]
    desk.commit("a")
    assert await desk.way.under_way() == 0
    token = await MemoryJournal(desk.server).reassert(desk.tokens["a"], meta=META, snapshot=SNAPSHOT)
    desk.writer.reasserted(token, 0)
    await desk.way.under_way()
    assert desk.durable() == "a"
    assert await desk.stored("a") == [3]


async def test_nobody_waits_for_a_match_to_be_saved(desk: Desk) -> None:
    """Not even the match: its snapshot changes nothing that is later."""
    saving = asyncio.create_task(desk.writer.save("a", 0, META, SNAPSHOT))
    assert await desk.way.under_way() == 1
    desk.commit("a")
    desk.commit("b")
    assert await desk.way.under_way() == 2
    desk.way.answers[1].set()
    assert await desk.way.under_way() == 1
    assert desk.durable() == "ab"
    desk.way.answers[0].set()
    assert await saving
    assert await desk.stored("a") == [1]


async def test_a_small_match_is_saved_each_64_kib_of_journal(desk: Desk) -> None:
    """However small its snapshot is: what must be read back after a crash is bounded, and so is what saving costs."""
    desk.let_through()
    for version, kibibytes, wanted in ((1, 63, False), (2, 2, True)):
        desk.writer.commit("a", version, bytes(kibibytes * 1024), urgent=True)
        assert await desk.writer.settle("a", version)
        assert desk.writer.wants_snapshot("a") is wanted
    assert await desk.writer.save("a", 2, META, SNAPSHOT)
    assert not desk.writer.wants_snapshot("a")


async def test_nobody_waits_for_another_match_to_be_made(desk: Desk) -> None:
    desk.writer.create(Journaled("e"), "n1", META, SNAPSHOT)
    assert await desk.way.under_way() == 1
    desk.commit("a")
    assert await desk.way.under_way() == 2
    desk.way.answers[1].set()
    await desk.way.under_way()
    assert desk.durable() == "a"
    assert desk.writer.token("e") is None

"""What the store refused is looked into, whatever is being looked into already."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from gameserver.cluster import LoopClock
from gameserver.cluster.journal import JournalPolicy, JournalWriter
from gameserver.cluster.reassert import Copy, Holding, Reassertion
from gameserver.match import decode_records
from gameserver.metrics import Metrics
from gameserver.storage import Append, SnapshotMeta, StoreUnavailable, Token, encode_snapshot
from tests.simulation.memory_journal import MemoryJournal, MemoryServer

META = SnapshotMeta("arena", 1, 5, 1)


class Slow:
    """A way to the store on which answers wait until they are let through."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def request(self) -> None:
        """It gets there."""

    async def reply(self) -> None:
        await self.open.wait()


class Lossy:
    """A way to the store on which one answer is lost."""

    def __init__(self, lost: int) -> None:
        self.until_lost = lost

    async def request(self) -> None:
        """It gets there."""

    async def reply(self) -> None:
        self.until_lost -= 1
        if self.until_lost == 0:
            raise StoreUnavailable


class OneMatch:
    def __init__(self, token: Token) -> None:
        self.token = token
        self.stored = 5
        self.given: list[Token] = []

    def holdings(self) -> Mapping[str, Holding]:
        return {"m1": Holding(self.token, self.stored)}

    def copy(self, match_id: str) -> Copy | None:
        return Copy(META, encode_snapshot({}))

    def reasserted(self, token: Token, version: int) -> None:
        self.token = token
        self.given.append(token)

    def fenced(self, match_id: str) -> None:
        raise AssertionError("it is ours")


async def test_what_is_refused_while_its_match_is_looked_at_is_looked_at_again() -> None:
    server = MemoryServer(asyncio.get_running_loop().time)
    token = await MemoryJournal(server).create("m1", "a", meta=META, snapshot=encode_snapshot({}))
    way = Slow()
    host = OneMatch(token)
    reassertion = Reassertion(MemoryJournal(server, way), lambda: True, host, Metrics())
    reassertion.look_at_all()
    looking = asyncio.create_task(reassertion.look())
    await asyncio.sleep(0)
    reassertion.refused("m1")  # the store has said already that all is well with it
    way.open.set()
    await looking
    assert [given.epoch for given in host.given] == [2]


async def test_what_the_store_got_while_it_was_asked_is_not_missing() -> None:
    """Its answer is older than what the match has written since."""
    server = MemoryServer(asyncio.get_running_loop().time)
    token = await MemoryJournal(server).create("m1", "a", meta=META, snapshot=encode_snapshot({}))
    way = Slow()
    host = OneMatch(token)
    reassertion = Reassertion(MemoryJournal(server, way), lambda: True, host, Metrics())
    reassertion.look_at_all()
    looking = asyncio.create_task(reassertion.look())
    await asyncio.sleep(0)
    await MemoryJournal(server).append([Append(token, 5, 6, b"more")])
    host.stored = 6
    way.open.set()
    await looking
    assert not host.given


async def test_a_match_is_not_lost_with_the_answer_to_its_being_put_back() -> None:
    """The store has the next epoch already, and it is ours."""
    server = MemoryServer(asyncio.get_running_loop().time)
    token = await MemoryJournal(server).create("m1", "a", meta=META, snapshot=encode_snapshot({}))
    host = OneMatch(token)
    asked_and_put_back = 2
    reassertion = Reassertion(MemoryJournal(server, Lossy(asked_and_put_back)), lambda: True, host, Metrics())
    server.wipe()
    reassertion.refused("m1")
    with pytest.raises(StoreUnavailable):
        await reassertion.look()
    assert server.get("m1") is not None
    await reassertion.look()
    assert [given.node for given in host.given] == ["a"]


class Journaled:
    """A match, as far as the writer needs one."""

    match_id = "m1"
    connected = 0

    def fenced(self) -> None:
        raise AssertionError("it is ours")

    def overdue(self, version: int) -> None:
        """It may take as long as it likes."""

    def stand_still(self) -> None:
        """See `overdue`."""

    def go_on(self) -> None:
        """See `overdue`."""


async def test_what_is_under_way_while_its_match_is_put_back_is_written_after_that() -> None:
    """It was committed after the copy that was put back, and refused, because the store knew the old token no more."""
    server = MemoryServer(asyncio.get_running_loop().time)
    store, way = MemoryJournal(server), Slow()
    token = await store.create("m1", "a", meta=META, snapshot=encode_snapshot({}))
    match = Journaled()
    writer = JournalWriter(MemoryJournal(server, way), LoopClock(), JournalPolicy(interval_seconds=0.0))
    writer.start()
    writer.adopt(match, token, 5)
    writer.commit("m1", 6, msgspec.msgpack.encode([6]), urgent=True)
    await asyncio.sleep(0.01)  # it is under way
    server.wipe()
    back = await store.reassert(token, meta=META, snapshot=encode_snapshot({}))
    writer.reasserted(back, 5)
    writer.commit("m1", 7, msgspec.msgpack.encode([7]), urgent=True)
    way.open.set()
    await writer.settle("m1", 7)
    recovered = await store.recover("m1")
    assert [record[0] for entry in recovered.entries for record in decode_records(entry.payload)] == [6, 7]
    assert await writer.stop(1.0)

"""Matches that nobody needs sleep in the store, and come back as if they had not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gameserver import Game, List, Player, Priority, action
from gameserver.client import Client
from gameserver.cluster import User
from gameserver.config import Settings
from tests.cluster.fleet import FleetNode
from tests.cluster.kit import FakeReceiver
from tests.cluster.test_drain import Node, eventually, token
from tests.examples.server import free_port
from tests.simulation.memory_journal import MemoryServer


class Postcards(Game):
    """Turn by turn, over days."""

    empty_seconds = None
    hibernate_seconds = 0.05
    seat_hold_seconds = 1_000_000
    cards: List[str]
    fired_at: float = 0.0

    @action(priority=Priority.HIGH)
    def write(self, player: Player, text: str) -> int:
        self.cards.append(text)
        return len(self.cards)

    @action(priority=Priority.HIGH)
    def remind(self, player: Player, seconds: float) -> None:
        self.after(seconds, self.reminded)

    def reminded(self) -> None:
        self.fired_at = self.now
        self.cards.append("reminder")


class Ticking(Game):
    """Ticks, and says that it may sleep."""

    tick_hz = 20
    empty_seconds = None
    hibernates = True
    hibernate_seconds = 0.05
    seat_hold_seconds = 1_000_000
    ticks: int = 0

    def on_tick(self, dt: float) -> None:
        self.ticks += 1


class Restless(Ticking):
    """Ticks, and says nothing."""

    hibernates = None


class Fleeting(Postcards):
    """Ends when nobody is in it."""

    empty_seconds = 0.3
    seat_hold_seconds = 0


GAMES: list[type[Game]] = [Postcards, Ticking, Restless, Fleeting]


class SleepyNode(FleetNode):
    def __init__(self, name: str, store: MemoryServer) -> None:
        super().__init__(name, store, GAMES)

    async def enter(self, name: str, kind: str = "create") -> tuple[Any, FakeReceiver]:
        receiver = FakeReceiver()
        member = await self.host.join(kind, name, User("anne", "Anne"), receiver, 1)
        await asyncio.sleep(0.02)
        return member, receiver

    async def look(self) -> int:
        """Twice, with the time between that a match stays awake."""
        await self.hibernator.look()
        await asyncio.sleep(0.07)
        return await self.hibernator.look()


@pytest.fixture
def store() -> MemoryServer:
    return MemoryServer(time.monotonic)


@pytest.fixture
async def nodes(store: MemoryServer) -> AsyncIterator[tuple[SleepyNode, SleepyNode]]:
    a, b = SleepyNode("a", store), SleepyNode("b", store)
    for node in (a, b):
        await node.begin()
    yield a, b
    for node in (a, b):
        await node.end()


async def test_a_match_sleeps_and_a_join_on_any_node_wakes_it(
    nodes: tuple[SleepyNode, SleepyNode], store: MemoryServer
) -> None:
    a, b = nodes
    member, _ = await a.enter("postcards")
    match_id = member.hosted.match_id
    member.receive(1, "write", ["hello"], quiet=False)
    assert await a.look() == 0  # somebody is connected
    member.lost()
    assert await a.look() == 1
    assert len(a.host) == 0
    assert store.matches[match_id].state == "asleep"
    assert await b.journal.owned() == []
    b.clock.shift = 3600.0
    woken, _ = await b.enter(match_id, "match")
    match = woken.hosted.match
    assert list(match.game.cards) == ["hello"]
    assert 3600 <= match.clock_us / 1_000_000 < 3610  # match time has gone on
    assert store.matches[match_id].state == "live"


async def test_a_due_timer_wakes_it_at_its_time(nodes: tuple[SleepyNode, SleepyNode]) -> None:
    a, b = nodes
    member, _ = await a.enter("postcards")
    match_id = member.hosted.match_id
    member.receive(1, "remind", [600.0], quiet=False)
    member.lost()
    assert await a.look() == 1
    [found] = await a.journal.find([match_id])
    assert found is not None
    assert found.due_ms is not None
    assert abs(found.due_ms / 1000 - (time.time() + 600)) < 2
    assert await b.arrivals.wake_due() == 0
    b.clock.shift = 601.0
    assert await b.arrivals.wake_due() == 1
    match = b.host.get(match_id).match
    await eventually(lambda: list(match.game.cards) == ["reminder"])
    assert 599 < match.game.fired_at < 602
    assert await a.arrivals.wake_due() == 0


async def test_something_due_soon_keeps_it_awake(nodes: tuple[SleepyNode, SleepyNode]) -> None:
    a, _ = nodes
    member, _ = await a.enter("postcards")
    member.receive(1, "remind", [10.0], quiet=False)
    member.lost()
    assert await a.look() == 0


async def test_games_with_ticks_sleep_only_if_they_say_so(nodes: tuple[SleepyNode, SleepyNode]) -> None:
    a, b = nodes
    sleepy, _ = await a.enter("ticking")
    restless, _ = await a.enter("restless")
    await asyncio.sleep(0.2)
    sleepy.lost()
    restless.lost()
    assert await a.look() == 1
    assert [hosted.game for hosted in a.host] == ["restless"]
    b.clock.shift = 100.0
    woken, _ = await b.enter(sleepy.hosted.match_id, "match")
    before = woken.hosted.match.game.ticks
    await asyncio.sleep(0.3)
    assert 3 <= woken.hosted.match.game.ticks - before <= 15  # no storm of 2,000 missed ticks


async def test_an_empty_match_ends_rather_than_sleeps(nodes: tuple[SleepyNode, SleepyNode]) -> None:
    a, _ = nodes
    member, _ = await a.enter("fleeting")
    member.lost()
    assert await a.look() == 0
    await eventually(lambda: len(a.host) == 0)
    assert await a.journal.due(int(time.time() * 1000) + 10_000_000) == []


async def test_without_the_store_it_stays_awake(nodes: tuple[SleepyNode, SleepyNode]) -> None:
    a, _ = nodes
    member, _ = await a.enter("postcards")
    member.lost()
    await asyncio.sleep(0.05)
    await a.hibernator.look()
    a.link.cut = True
    await asyncio.sleep(0.07)
    looking = asyncio.create_task(a.hibernator.look())
    await eventually(lambda: member.hosted.leaving)
    a.link.cut = False
    assert await looking == 1  # it was asked again
    member, _ = await a.enter(member.hosted.match_id, "match")
    member.receive(1, "write", ["again"], quiet=False)
    assert list(member.hosted.match.game.cards) == ["again"]


async def test_a_promised_seat_keeps_it_awake(nodes: tuple[SleepyNode, SleepyNode]) -> None:
    a, _ = nodes
    made = await a.host.make("postcards", {}, User("anne"))
    hosted = a.host.get(made["match"])
    assert await a.look() == 0
    hosted.reserve("anne", 0.0)
    await asyncio.sleep(0.01)
    assert await a.look() == 1


GAME = '''
from gameserver import Game, List, Player, Priority, action

class Ledger(Game):
    name = "ledger"
    empty_seconds = None
    hibernate_seconds = 1
    seat_hold_seconds = 1000000
    rows: List[str]

    @action(priority=Priority.HIGH)
    def write(self, player: Player, text: str) -> int:
        self.rows.append(text)
        return len(self.rows)

    @action(priority=Priority.HIGH)
    def remind(self, player: Player, seconds: float) -> None:
        self.after(seconds, self.reminded)

    def reminded(self) -> None:
        self.rows.append("reminder")
'''


@pytest.mark.slow
async def test_real_nodes_put_a_match_to_sleep_and_wake_it(
    store_settings: Settings, redis_url: str, tmp_path: Path
) -> None:
    """It sleeps on one node, wakes on the other for a join; sleeps again and wakes for its timer."""
    port = free_port()
    first, second = (Node(name, store_settings, tmp_path, port) for name in ("first", "second"))
    for node in (first, second):
        (tmp_path / node.name / "ledger.py").write_text(GAME)

    def running(node: Node) -> int:
        return int(node.ask("/healthz")[1]["matches"])

    try:
        await first.start()
        await second.start()
        async with Client(first.direct, token=token("anne")) as client:
            room = await client.create("ledger")
            assert await room.action("write", text="hello") == 1
        assert running(first) == 1
        await eventually(lambda: running(first) == 0)
        async with Client(second.direct, token=token("anne")) as client:
            again = await client.join(room.match_id)
            assert list(again.state.rows) == ["hello"]
            assert await again.action("write", text="hello again") == 2
            epoch = again.position[0]
            await again.action("remind", seconds=33.0)
        assert running(second) == 1
        await eventually(lambda: running(second) == 0)
        with redis.Redis.from_url(redis_url) as store:  # rather than wait for it
            [due] = list(store.scan_iter("gs:*:due"))
            store.zadd(due, {room.match_id: 1})
        await eventually(lambda: running(first) + running(second) == 1)
        async with Client(first.direct if running(first) else second.direct, token=token("anne")) as client:
            room = await client.join(room.match_id)
            assert list(room.state.rows) == ["hello", "hello again"]
            assert room.position[0] > epoch > 1
    finally:
        for node in (first, second):
            await node.end()

"""The bus over Redis, by the contract, and what it does when the server does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from gameserver.config import RedisSettings
from gameserver.errors import StoreUnavailable
from gameserver.storage import Bus, RedisBus, redis_bus
from gameserver.storage.redis_calls import RedisCalls
from gameserver.storage.redis_client import make_redis
from tests.proxy import Proxy
from tests.storage.bus_contract import BusContract
from tests.web.kit import eventually


class RedisWorld:
    """Each bus goes through a proxy of its own, which can be shut."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.buses: list[RedisBus] = []
        self.proxies: dict[int, Proxy] = {}

    async def bus(self) -> RedisBus:
        proxy = await Proxy(self.url).__aenter__()
        bus = RedisBus(proxy.url("redis"), RedisSettings())
        self.buses.append(bus)
        self.proxies[id(bus)] = proxy
        return bus

    def proxy(self, bus: Bus) -> Proxy:
        return self.proxies[id(bus)]

    async def cut(self, bus: Bus) -> None:
        self.proxy(bus).refuse = True
        self.proxy(bus).reset()

    async def mend(self, bus: Bus) -> None:
        self.proxy(bus).refuse = False

    async def close(self) -> None:
        for bus in self.buses:
            await bus.close()
        for proxy in self.proxies.values():
            await proxy.__aexit__(None, None, None)


class TestRedisBus(BusContract):
    @pytest.fixture
    async def world(self, redis_url: str) -> AsyncIterator[RedisWorld]:
        world = RedisWorld(redis_url)
        yield world
        await world.close()

    async def test_what_comes_in_one_turn_goes_in_one_round_trip(self, world: RedisWorld) -> None:
        one = await world.bus()
        one.publish("a", b"first")
        await eventually(lambda: one.counts.rounds == 1)
        for _ in range(500):
            one.publish("a", b"x")
        await eventually(lambda: one.counts.published == 501)
        assert one.counts.rounds == 2

    async def test_a_full_queue_drops_and_counts(self, world: RedisWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redis_bus, "QUEUE_MESSAGES_MAX", 10)
        one = await world.bus()
        assert [one.publish("a", b"x") for _ in range(12)] == [True] * 10 + [False] * 2
        assert one.counts.dropped == 2
        await eventually(lambda: one.counts.published == 10)

    async def test_what_was_being_sent_when_the_line_was_cut_is_dropped(self, world: RedisWorld) -> None:
        """The bus never sends twice and never holds up what comes after."""
        one, two = await world.bus(), await world.bus()
        got: list[bytes] = []
        await two.subscribe("a", got.append).ready()
        one.publish("a", b"before")
        await eventually(lambda: got)
        await world.cut(one)
        one.publish("a", b"lost")
        await eventually(lambda: one.counts.dropped == 1)
        await world.mend(one)
        await eventually(lambda: one.publish("a", b"after") and b"after" in got)
        assert b"lost" not in got

    async def test_what_was_said_while_nobody_could_be_reached_is_not_said_later(self, world: RedisWorld) -> None:
        """Connecting takes long: who said it may have changed their mind. That it may be lost is told."""
        one, two = await world.bus(), await world.bus()
        got: list[bytes] = []
        gaps: list[int] = []
        one.on_gap(lambda: gaps.append(1))
        await asyncio.gather(one.subscribe("b", lambda _: None).ready(), two.subscribe("a", got.append).ready())
        accepted = world.proxy(one).accepted
        world.proxy(one).stall()
        world.proxy(one).reset()
        await eventually(lambda: world.proxy(one).accepted >= accepted + 2)
        one.publish("a", b"old")
        world.proxy(one).resume()
        await eventually(lambda: gaps)
        await eventually(lambda: one.publish("a", b"new") and b"new" in got)
        assert b"old" not in got

    async def test_a_server_that_is_silent_is_left(self, world: RedisWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        """The line is open and nothing comes: that would be noticed by nobody without pings."""
        monkeypatch.setattr(redis_bus, "PING_SECONDS", 0.05)
        monkeypatch.setattr(redis_bus, "SILENT_SECONDS_MAX", 0.2)
        one = await world.bus()
        gaps: list[int] = []
        one.on_gap(lambda: gaps.append(1))
        await one.subscribe("a", lambda _: None).ready()
        await asyncio.sleep(0.3)
        assert one.connected
        assert not gaps
        world.proxy(one).stall()
        await eventually(lambda: not one.connected)
        world.proxy(one).resume()
        await eventually(lambda: gaps and one.connected)


def test_lines_that_were_reset_are_replaced_on_the_loop_of_production(redis_url: str) -> None:
    """uvloop raises another kind of error than asyncio when something is written to one of them."""

    async def play() -> None:
        async with Proxy(redis_url) as proxy:
            bus, redis = RedisBus(proxy.url("redis"), RedisSettings()), make_redis(proxy.url("redis"), RedisSettings())
            calls = RedisCalls(redis)
            got: list[bytes] = []
            await bus.subscribe("a", got.append).ready()
            bus.publish("a", b"before")
            await calls.run([("PING",)])
            await eventually(lambda: got)
            proxy.reset()
            await asyncio.sleep(0.05)  # both know now that their lines are gone, and are told when they write
            with pytest.raises(StoreUnavailable):
                await calls.run([("PING",)])
            await eventually(lambda: bus.publish("a", b"after") and b"after" in got)
            assert await calls.run([("PING",)])
            await bus.close()
            await calls.close()

    uvloop.run(play())

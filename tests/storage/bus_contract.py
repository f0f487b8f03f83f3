"""What every bus must keep; a test class inherits from this and gives it a `world`."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from gameserver.storage import Bus
from tests.web.kit import eventually


class BusWorld(Protocol):
    """Buses that are connected to each other, and a way to cut one off."""

    async def bus(self) -> Bus: ...

    async def cut(self, bus: Bus) -> None:
        """The bus loses its connections, and finds back by itself when `mend` was called."""

    async def mend(self, bus: Bus) -> None: ...


class BusContract:
    """Inherit, and provide the fixture `world`."""

    async def test_what_is_published_arrives_in_order(self, world: BusWorld) -> None:
        one, two = await world.bus(), await world.bus()
        got: list[bytes] = []
        await two.subscribe("a", got.append).ready()
        for number in range(2000):
            assert one.publish("a", b"%d" % number)
        await eventually(lambda: len(got) == 2000)
        assert got == [b"%d" % number for number in range(2000)]
        assert one.counts.published == 2000
        assert two.counts.received == 2000

    async def test_order_holds_across_channels(self, world: BusWorld) -> None:
        """What concerns one node and what concerns a whole match comes as it was sent."""
        one, two = await world.bus(), await world.bus()
        got: list[bytes] = []
        await asyncio.gather(two.subscribe("a", got.append).ready(), two.subscribe("b", got.append).ready())
        for number in range(100):
            one.publish("ab"[number % 2], b"%d" % number)
        await eventually(lambda: len(got) == 100)
        assert got == [b"%d" % number for number in range(100)]

    async def test_several_handlers_and_none(self, world: BusWorld) -> None:
        one, two = await world.bus(), await world.bus()
        first: list[bytes] = []
        second: list[bytes] = []
        mine: list[bytes] = []
        early = two.subscribe("a", first.append)
        await early.ready()
        await two.subscribe("a", second.append).ready()
        await one.subscribe("a", mine.append).ready()
        one.publish("nobody", b"0")
        one.publish("a", b"1")
        await eventually(lambda: second == [b"1"] and mine == [b"1"])
        early.close()
        one.publish("a", b"2")
        await eventually(lambda: second == [b"1", b"2"])
        assert first == [b"1"]

    async def test_a_channel_may_be_left_and_entered_again(self, world: BusWorld) -> None:
        one, two = await world.bus(), await world.bus()
        got: list[bytes] = []
        for number in range(20):
            subscription = two.subscribe("a", got.append)
            await subscription.ready()
            one.publish("a", b"%d" % number)
            await eventually(lambda number=number: got[-1:] == [b"%d" % number])
            subscription.close()

    async def test_a_handler_that_raises_is_its_own_problem(self, world: BusWorld) -> None:
        one, two = await world.bus(), await world.bus()
        got: list[bytes] = []

        def fail(payload: bytes) -> None:
            raise ValueError("a handler that is wrong")

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        await two.subscribe("a", fail).ready()
        await two.subscribe("a", got.append).ready()
        one.publish("a", b"1")
        one.publish("a", b"2")
        await eventually(lambda: got == [b"1", b"2"])

    async def test_who_was_cut_off_is_told_and_hears_again(self, world: BusWorld) -> None:
        one, two = await world.bus(), await world.bus()
        got: list[bytes] = []
        gaps: list[int] = []
        two.on_gap(lambda: gaps.append(len(got)))
        await asyncio.gather(two.subscribe("a", got.append).ready(), two.subscribe("b", got.append).ready())
        one.publish("a", b"before")
        await eventually(lambda: got == [b"before"])
        assert two.connected
        await world.cut(two)
        await eventually(lambda: not two.connected)
        one.publish("a", b"lost")
        await asyncio.sleep(0.05)
        await world.mend(two)
        await eventually(lambda: gaps)
        assert two.connected
        await eventually(lambda: one.publish("b", b"after") and b"after" in got)
        assert got[0] == b"before"

    async def test_large_and_binary(self, world: BusWorld) -> None:
        one, two = await world.bus(), await world.bus()
        got: list[bytes] = []
        await two.subscribe("a", got.append).ready()
        payload: Any = bytes(range(256)) * 4096
        one.publish("a", payload)
        await eventually(lambda: got == [payload])

    async def test_closing_sends_what_waits(self, world: BusWorld) -> None:
        one, two = await world.bus(), await world.bus()
        got: list[bytes] = []
        await two.subscribe("a", got.append).ready()
        for number in range(100):
            one.publish("a", b"%d" % number)
        await one.close()
        await eventually(lambda: len(got) == 100)

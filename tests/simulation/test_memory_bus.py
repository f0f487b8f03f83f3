"""The in-memory bus keeps the contract that the one on Redis keeps."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.memory_bus import MemoryBus, MemoryWire
from tests.storage.bus_contract import BusContract


class MemoryWorld:
    def __init__(self) -> None:
        self.wire = MemoryWire(lambda *_: 0.001)

    async def bus(self) -> MemoryBus:
        return MemoryBus(self.wire)

    async def cut(self, bus: MemoryBus) -> None:
        bus.cut()

    async def mend(self, bus: MemoryBus) -> None:
        bus.mend()


class TestMemoryBus(BusContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


async def test_fate_may_lose_and_reorder() -> None:
    delays = iter([0.02, None, 0.0])
    wire = MemoryWire(lambda *_: next(delays), reorder=True)
    one, two = MemoryBus(wire), MemoryBus(wire)
    wire.buses.remove(one)
    got: list[bytes] = []
    two.subscribe("a", got.append)
    for payload in (b"1", b"2", b"3"):
        one.publish("a", payload)
    await asyncio.sleep(0.05)
    assert got == [b"3", b"1"]

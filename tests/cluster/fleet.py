"""Nodes of one process on a store in memory: hosts with a journal, a handover and arrivals, but without sockets."""

from __future__ import annotations

import asyncio
import time

from gameserver.cluster import ClusterNode, GameRegistry, LoopClock, NoEffects, Surroundings
from gameserver.config import Settings
from gameserver.errors import StoreUnavailable
from gameserver.match import Game
from gameserver.metrics import Metrics
from tests.simulation.memory_bus import MemoryBus, MemoryWire
from tests.simulation.memory_journal import MemoryJournal, MemoryServer


class Switch:
    """A way to the store that can be cut, or long."""

    def __init__(self) -> None:
        self.cut = False
        self.seconds = 0.0

    async def request(self) -> None:
        await asyncio.sleep(self.seconds)
        if self.cut:
            raise StoreUnavailable("cut")

    async def reply(self) -> None:
        if self.cut:
            raise StoreUnavailable("cut")


class ShiftedClock(LoopClock):
    """The loop's clock, with a time of day that tests move."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = 0.0
        self.wall = lambda: time.time() + self.shift


class Renewals(MemoryJournal):
    """The way of the lease's own client."""

    async def close(self) -> None:
        """Nothing to close."""


class FleetNode(ClusterNode):
    """One node: all parts of a real one, of which only the writer and the lease run by themselves."""

    def __init__(
        self, name: str, store: MemoryServer, games: list[type[Game]], wire: MemoryWire | None = None
    ) -> None:
        self.clock = ShiftedClock()
        self.link = Switch()
        self.journal = MemoryJournal(store, self.link)
        self.bus = MemoryBus(wire or MemoryWire(), name)
        around = Surroundings(
            journal=self.journal,
            open_renewals=lambda: Renewals(store),
            bus=self.bus,
            records=NoEffects(),
            documents=None,
            clock=self.clock,
            threaded=False,
        )
        settings = Settings(match={"journal_interval_ms": 10, "gate_timeout_seconds": 0.3})
        super().__init__(name, GameRegistry(games), settings, around, Metrics())

    async def begin(self) -> None:
        """Be one of the nodes."""
        self.writer.start()
        await self.membership.start()

    async def end(self) -> None:
        """Be none any more, and look after nothing."""
        await self.arrivals.stop()
        await self.writer.stop(0.1)
        for hosted in list(self.host):
            hosted.freeze()
        await self.membership.stop()
        await self.bus.close()

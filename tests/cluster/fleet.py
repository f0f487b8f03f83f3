"""Nodes of one process on a store in memory: hosts with a journal, a handover and arrivals, but without sockets."""

from __future__ import annotations

import time
from typing import Any

from gameserver.cluster import (
    ArrivalPolicy,
    Arrivals,
    Fanout,
    FanoutLimits,
    GameRegistry,
    Handover,
    Host,
    HostLimits,
    JournalPolicy,
    JournalWriter,
    LoopClock,
    Meters,
    NoEffects,
    OpenGate,
    Services,
)
from gameserver.errors import StoreUnavailable
from gameserver.match import Game
from gameserver.metrics import Metrics
from tests.simulation.memory_journal import MemoryJournal, MemoryServer


class Switch:
    """A way to the store that can be cut."""

    def __init__(self) -> None:
        self.cut = False

    async def request(self) -> None:
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


class FleetNode:
    """One node."""

    def __init__(self, name: str, store: MemoryServer, games: list[type[Game]], effects: Any = None) -> None:
        self.clock = ShiftedClock()
        self.link = Switch()
        self.journal = MemoryJournal(store, self.link)
        policy = JournalPolicy(interval_seconds=0.01, gate_timeout_seconds=0.3)
        self.writer = JournalWriter(self.journal, self.clock, policy)
        self.host = Host(GameRegistry(games), HostLimits(matches_max=100))
        services = Services(
            clock=self.clock,
            fanout=Fanout(FanoutLimits()),
            gate=OpenGate(),
            effects=effects or NoEffects(),
            meters=Meters(Metrics()),
            keeper=self.host,
        )
        self.host.attach(services, None, None, self.writer, name)
        self.handover = Handover(self.writer, self.clock)
        self.arrivals = Arrivals(
            self.journal, self.host, self.handover, self.clock, name, ArrivalPolicy(poll_seconds=0.05)
        )
        self.host.bring = self.arrivals.bring
        self.writer.start()

    async def stop(self) -> None:
        await self.arrivals.stop()
        await self.writer.stop(0.1)
        for hosted in list(self.host):
            hosted.freeze()

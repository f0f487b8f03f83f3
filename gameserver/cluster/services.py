"""What all matches of a node share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from gameserver.cluster.fanout import Fanout
from gameserver.cluster.gate import OpenGate
from gameserver.cluster.ports import new_id, random_seed
from gameserver.cluster.recent import RecentLimits
from gameserver.cluster.wakes import Wakes

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.cluster.gate import Gate
    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.meters import Meters
    from gameserver.cluster.ports import Clock, EffectSink


class Keeper(Protocol):
    """What a match tells the host that runs it."""

    def unsaved(self, hosted: HostedMatch) -> None:
        """It has changed since its last snapshot."""

    def lagging(self) -> None:
        """A connection lags: look after it until it has drained."""

    def seat_freed(self, hosted: HostedMatch) -> None:
        """Someone left: it may have room."""

    def ended(self, hosted: HostedMatch, reason: str) -> None:
        """It is over: put it away."""

    def listens(self, hosted: HostedMatch) -> None:
        """It listens to other topics than before."""

    def moved(self, hosted: HostedMatch) -> None:
        """It was let go of, for another node or to sleep."""

    def fenced(self, hosted: HostedMatch) -> None:
        """Another node owns it now."""

    def broken(self, hosted: HostedMatch, reason: str) -> None:
        """It cannot be run here any more."""


def _always() -> bool:
    """There is nobody else."""
    return True


class Services:
    """The clock, the way out, the lease, and where to report."""

    __slots__ = (
        "clock", "effects", "fanout", "gate", "keeper", "meters", "new_match_id", "new_seed", "new_session_id", "perf",
        "recent", "valid", "wakes", "window",
    )  # fmt: skip

    def __init__(
        self,
        *,
        clock: Clock,
        fanout: Fanout,
        effects: EffectSink,
        meters: Meters,
        keeper: Keeper,
        valid: Callable[[], bool] = _always,
        gate: Gate | None = None,
        window: int = 64,
        recent: RecentLimits | None = None,
        perf: Callable[[], float] = time.perf_counter,
        new_match_id: Callable[[], str] = new_id,
        new_session_id: Callable[[], str] = new_id,
        new_seed: Callable[[], int] = random_seed,
    ) -> None:
        """`gate`: of matches that no store knows."""
        self.clock = clock
        self.wakes = Wakes(clock, perf)
        self.fanout = fanout
        self.effects = effects
        self.meters = meters
        self.keeper = keeper
        self.valid = valid
        """May this node write to sockets as the owner of its matches, at this very moment?"""
        self.gate = gate or OpenGate()
        self.window = window
        self.recent = recent or RecentLimits()
        self.perf = perf
        self.new_match_id = new_match_id
        self.new_session_id = new_session_id
        self.new_seed = new_seed

"""What all matches of a node share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gameserver.cluster.gate import OpenGate
from gameserver.cluster.ports import new_id, random_seed
from gameserver.cluster.recent import RecentLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.cluster.fanout import Fanout
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


@dataclass(slots=True)
class Services:
    """The clock, the way out, the lease, and where to report."""

    clock: Clock
    fanout: Fanout
    effects: EffectSink
    meters: Meters
    keeper: Keeper
    valid: Callable[[], bool] = field(default=_always)
    """May this node write to sockets as the owner of its matches, at this very moment?"""
    gate: Gate = field(default_factory=OpenGate)
    """Of matches that no store knows."""
    window: int = 64
    recent: RecentLimits = field(default_factory=RecentLimits)
    perf: Callable[[], float] = field(default=time.perf_counter)
    new_match_id: Callable[[], str] = field(default=new_id)
    new_session_id: Callable[[], str] = field(default=new_id)
    new_seed: Callable[[], int] = field(default=random_seed)

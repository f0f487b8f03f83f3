"""What the host needs from the outside: a clock, somewhere to put effects and match records."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: ids are read out aloud
ID_LENGTH = 12  # 60 bits: ids are never reused, and guessing one is hopeless


class Clock(Protocol):
    """Time and timers; the simulation has its own."""

    def now(self) -> float:
        """Monotonic seconds."""

    def wall(self) -> float:
        """Unix seconds."""

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call once at `when` (monotonic seconds)."""

    def call_soon(self, callback: Callable[[], None]) -> asyncio.Handle:
        """Call once in this iteration of the event loop, after what is already due."""


class LoopClock:
    """The clock of the running event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self.now = self._loop.time
        self.wall = time.time

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call once at `when` (monotonic seconds)."""
        return self._loop.call_at(when, callback)

    def call_soon(self, callback: Callable[[], None]) -> asyncio.Handle:
        """Call once in this iteration of the event loop, after what is already due."""
        return self._loop.call_soon(callback)


def new_id() -> str:
    """A fresh id of a match or a session; never used before."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


def random_seed() -> int:
    """A fresh seed for a match's random numbers."""
    return secrets.randbits(63)


class EffectSink(Protocol):
    """Carries out what matches ask of the world, after the gate, never on the tick."""

    def carry_out(
        self, match_id: str, version: int, effects: Sequence[Any], settled: Callable[[int, int], None]
    ) -> int:
        """Take the effects over, in order; must not raise and must not wait. How many there was room for.

        `settled(version, index)` is called for each that was carried out for good; until then the match keeps it.
        """

"""`self.random`: the standard library's `random.Random` on top of a generator whose whole state is one integer."""

from __future__ import annotations

from random import Random
from typing import Any, Final

MASK: Final = 2**64 - 1
_TO_FLOAT: Final = 2.0**-53


class Dice(Random):
    """splitmix64: seeded, and small enough to be saved before every transaction and written with every snapshot.

    `random` and `getrandbits` are what all other methods draw from. No method keeps a value back for the next call.
    """

    def __init__(self, state: int = 0) -> None:
        self.state = state & MASK
        super().__init__(state)

    def _next(self) -> int:
        self.state = state = (self.state + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        return state ^ (state >> 31)

    def random(self) -> float:
        """The next number in [0, 1)."""
        return (self._next() >> 11) * _TO_FLOAT

    def getrandbits(self, k: int, /) -> int:
        """An integer of `k` random bits."""
        if k < 0:
            raise ValueError("the number of bits must not be negative")
        bits = 0
        for shift in range(0, k, 64):
            bits |= self._next() << shift
        return bits & ((1 << k) - 1)

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        """Like `normalvariate`: the standard library's version keeps every other value for later."""
        return self.normalvariate(mu, sigma)

    def seed(self, a: Any = 0, version: int = 2) -> None:
        """Start again from an integer. Anything else, and the system's entropy, would not be reproducible."""
        if not isinstance(a, int):
            raise TypeError("seed() takes an int here: the match's random numbers must be reproducible")
        self.state = a & MASK

    def getstate(self) -> Any:
        """The state: one integer."""
        return self.state

    def setstate(self, state: Any) -> None:
        """Go back to a state of `getstate`."""
        self.seed(state)

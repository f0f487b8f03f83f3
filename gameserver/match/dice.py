"""`self.random`: the standard library's `random.Random` on top of a generator whose whole state is one integer."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from gameserver.match.splitmix import Splitmix

_MASK: Final = 2**64 - 1
_TO_FLOAT: Final = 2.0**-53


class Dice(Random):
    """splitmix64: seeded, and small enough to be saved before every transaction and written with every snapshot.

    `random` and `getrandbits` are what all other methods draw from. No method keeps a value back for the next call.
    """

    def __init__(self, state: int = 0) -> None:
        self.source = Splitmix(state)
        """What holds the state."""
        super().__init__(state)

    @property
    def state(self) -> int:
        """All that decides what comes next."""
        return self.source.state

    @state.setter
    def state(self, state: int) -> None:
        self.source.state = state

    def random(self) -> float:
        """The next number in [0, 1)."""
        return (self.source.draw() >> 11) * _TO_FLOAT

    def getrandbits(self, k: int, /) -> int:
        """An integer of `k` random bits."""
        if k < 0:
            raise ValueError("the number of bits must not be negative")
        bits = 0
        for shift in range(0, k, 64):
            bits |= self.source.draw() << shift
        return bits & ((1 << k) - 1)

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        """Like `normalvariate`: the standard library's version keeps every other value for later."""
        return self.normalvariate(mu, sigma)

    def seed(self, a: Any = 0, version: int = 2) -> None:
        """Start again from an integer. Anything else, and the system's entropy, would not be reproducible."""
        if not isinstance(a, int):
            raise TypeError("seed() takes an int here: the match's random numbers must be reproducible")
        self.source.state = a & _MASK

    def getstate(self) -> Any:
        """The state: one integer."""
        return self.state

    def setstate(self, state: Any) -> None:
        """Go back to a state of `getstate`."""
        self.seed(state)

"""splitmix64: a generator of random numbers whose whole state is one integer (Steele, Lea and Flood, 2014)."""

from __future__ import annotations

from typing import Final

MASK: Final = 2**64 - 1
_STEP: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB


class Splitmix:
    """64 random bits at a time."""

    __slots__ = ("state",)

    def __init__(self, state: int) -> None:
        self.state = state & MASK
        """All there is to save and to put back."""

    def draw(self) -> int:
        """The next ones."""
        self.state = bits = (self.state + _STEP) & MASK
        bits = ((bits ^ (bits >> 30)) * _MIX_1) & MASK
        bits = ((bits ^ (bits >> 27)) * _MIX_2) & MASK
        return bits ^ (bits >> 31)

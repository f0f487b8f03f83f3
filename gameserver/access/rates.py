"""Rate limits: how they are written, and the bucket that holds someone to one. Time is always an argument."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gameserver.errors import ConfigError

_RATE = re.compile(r"^\s*(\d+)\s*/\s*(\d*)\s*(ms|s|m|h|d)\s*$")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many in so many seconds; also how many may come at once."""

    count: int
    seconds: float

    @property
    def per_second(self) -> float:
        """The steady rate."""
        return self.count / self.seconds

    @classmethod
    def parse(cls, text: str) -> RateLimit:
        """`"10/s"`, `"100/m"`, `"5/10s"`: a count, a slash, a unit (ms s m h d) that may have a number before it."""
        found = _RATE.match(text)
        count = int(found[1]) if found else 0
        seconds = int(found[2] or 1) * _UNIT_SECONDS[found[3]] if found else 0.0
        if count < 1 or seconds <= 0:
            raise ConfigError(f'{text!r} is not a rate: expected a count and a unit, like "10/s", "100/m" or "5/10s"')
        return cls(count, seconds)

    def bucket(self, now: float) -> TokenBucket:
        """A full bucket of this rate."""
        return TokenBucket(self.per_second, self.count, now)


class TokenBucket:
    """Lets `rate` per second through on average and at most `burst` at once.

    A clock that goes back gives nothing and takes nothing: the level only ever rises with time that passed.
    """

    __slots__ = ("_burst", "_level", "_rate", "_updated_at")

    def __init__(self, rate: float, burst: float, now: float = 0.0) -> None:
        if rate <= 0 or burst <= 0:
            raise ConfigError(f"a rate limit needs a rate and a burst above zero, not {rate} and {burst}")
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._updated_at = now

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Take `cost` out if there is that much; False, and nothing taken, if not."""
        elapsed = now - self._updated_at
        if elapsed > 0:
            self._level = min(self._burst, self._level + elapsed * self._rate)
            self._updated_at = now
        if cost > self._level:
            return False
        self._level -= cost
        return True

    def seconds_until(self, now: float, cost: float = 1.0) -> float:
        """When to try again: seconds until `cost` will be there (infinite if it exceeds the burst)."""
        if cost > self._burst:
            return float("inf")
        level = self._level + max(0.0, now - self._updated_at) * self._rate
        return max(0.0, (cost - level) / self._rate)

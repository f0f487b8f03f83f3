"""When to try again after a connection was lost: growing, jittered pauses, for a limited time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gameserver.errors import MatchNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.errors import GameServerError

STABLE_SECONDS = 5.0  # a connection that lasted for so long was a good one: pauses begin small again
NOT_FOUND_SECONDS = 5.0  # for so long a match that is not there may be on its way to another server


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """How a client comes back. `give_up_seconds`: after so long without a connection it says that it is lost."""

    delay_seconds_min: float = 0.5
    delay_seconds_max: float = 10.0
    give_up_seconds: float = 120.0

    def __post_init__(self) -> None:
        if not 0 < self.delay_seconds_min <= self.delay_seconds_max or self.give_up_seconds <= 0:
            raise ValueError(f"{self}: pauses must be positive, the smallest no longer than the longest")


class Backoff:
    """The pauses between attempts: doubling up to the longest, each drawn from a fifth of it to all of it.

    Drawn, because a server that stops loses all its clients in one moment and must not get them back in one.
    """

    def __init__(self, policy: ReconnectPolicy, random: Callable[[], float], now: float) -> None:
        self._policy = policy
        self._random = random
        self._since = now
        self._attempts = 0

    def next(self, now: float) -> float | None:
        """How long to wait before the next attempt; None: it is time to give up."""
        if now - self._since >= self._policy.give_up_seconds:
            return None
        delay = min(self._policy.delay_seconds_max, self._policy.delay_seconds_min * 2.0 ** min(self._attempts, 32))
        self._attempts += 1
        return delay * (0.2 + 0.8 * self._random())

    def lost_again(self, now: float, lasted_seconds: float) -> None:
        """A connection was made and lost again: the time to give up counts anew, the pauses only after a good one."""
        self._since = now
        if lasted_seconds >= STABLE_SECONDS:
            self._attempts = 0


def may_join_again(error: GameServerError, away_seconds: float) -> bool:
    """Is it worth to ask again for the match that answered a rejoin with this?"""
    if isinstance(error, MatchNotFound):
        return away_seconds < NOT_FOUND_SECONDS
    return error.retryable

"""When and where to try again after a connection was lost: growing, jittered pauses, for a limited time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gameserver.errors import MatchNotFound, ServerDraining

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gameserver.errors import GameServerError

STABLE_SECONDS = 5.0  # a connection that lasted for so long was a good one: pauses begin small again
NOT_FOUND_SECONDS = 5.0  # for so long a match that is not there may be on its way to another server


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """How a client comes back. `give_up_seconds`: after so long without a connection it says that it is lost."""

    delay_seconds_min: float = 0.5
    delay_seconds_max: float = 5.0
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
        self._doublings = 0
        self._short = 0  # connections in a row that did not last

    def next(self, now: float) -> float | None:
        """How long to wait before the next attempt; None: it is time to give up."""
        if now - self._since >= self._policy.give_up_seconds:
            return None
        delay = min(self._policy.delay_seconds_max, self._policy.delay_seconds_min * 2.0 ** min(self._doublings, 32))
        self._doublings += 1
        return delay * (0.2 + 0.8 * self._random())

    def lost_again(self, now: float, *, good: bool) -> None:
        """A connection was made and lost again: the time to give up counts anew, and what the attempts before it added.

        Only connections that were no good one after the other make the pauses grow further.
        """
        self._since = now
        self._short = 0 if good else self._short + 1
        self._doublings = self._short


class Route:
    """Where to go: each address once, without a pause in between; then a pause, and all of them again.

    In an order that is drawn, so that the clients of a server that is gone are spread over those that are left.
    """

    def __init__(self, addresses: int, policy: ReconnectPolicy, random: Callable[[], float], now: float) -> None:
        self._addresses = addresses
        self._random = random
        self._backoff = Backoff(policy, random, now)
        self._untried: list[int] = []

    def next(self, now: float) -> tuple[float, int] | None:
        """How long to wait and which address to try then; None: it is time to give up."""
        if self._untried:
            return 0.0, self._untried.pop()
        pause = self._backoff.next(now)
        if pause is None:
            return None
        self._untried = self._drawn(range(self._addresses))
        return pause, self._untried.pop()

    def lost(self, now: float, at: int | None, lasted_seconds: float, error: GameServerError) -> None:
        """The connection to this address (None: another one) was lost: after a good one the others are tried at once.

        It was good if it lasted, and when the server said that it goes.
        """
        good = lasted_seconds >= STABLE_SECONDS or isinstance(error, ServerDraining)
        self._backoff.lost_again(now, good=good)
        self._untried = self._drawn(index for index in range(self._addresses) if index != at) if good else []

    def _drawn(self, indices: Iterable[int]) -> list[int]:
        return sorted(indices, key=lambda _: self._random())


def may_join_again(error: GameServerError, away_seconds: float) -> bool:
    """Is it worth to ask again for the match that answered a rejoin with this?"""
    if isinstance(error, MatchNotFound):
        return away_seconds < NOT_FOUND_SECONDS
    return error.retryable

"""The bus between nodes: what one publishes reaches those who subscribe at that moment, or is lost.

Guarantees, and what is not one:

- Per channel, and over all channels of one publisher and one subscriber, what arrives comes in the order of publishing.
- It arrives at most once. It may be lost: while a subscriber is disconnected, or when a publisher's queue is full. Who
  cares numbers its messages and asks for what is missing.
- What is published while there is no connection is dropped, not kept: nothing arrives that is older than a way is long.
- After a node was cut off and is back, `on_gap` is called once all its subscriptions stand again, and once it can
  publish again: what it said and what it was told may be lost.
- `publish` never waits and never raises; what is dropped is counted. Handlers are called in the event loop, one at a
  time, and must not raise; one that does is logged, and the others get theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Handler = Callable[[bytes], None]


@dataclass(slots=True)
class BusCounts:
    """What went over the bus since it was opened."""

    published: int = 0
    published_bytes: int = 0
    dropped: int = 0
    """Not sent: the queue was full, or the connection was lost with them."""
    received: int = 0
    gaps: int = 0
    rounds: int = 0
    """Round trips of the publisher: each takes all that was published meanwhile."""


class Subscription(Protocol):
    """One handler on one channel."""

    async def ready(self) -> None:
        """Return when the subscription stands: what is published from now on arrives (unless it is lost)."""

    def close(self) -> None:
        """No calls after this one."""


class Bus(Protocol):
    """See the guarantees at the top of the file."""

    counts: BusCounts

    def publish(self, channel: str, payload: bytes) -> bool:
        """Send to whoever listens; False: it was dropped at once."""

    def subscribe(self, channel: str, handler: Handler) -> Subscription:
        """Call the handler with each payload on this channel; several handlers may share one."""

    def on_gap(self, callback: Callable[[], None]) -> None:
        """Call back after messages may have been lost on the way here."""

    @property
    def connected(self) -> bool:
        """Whether messages can arrive right now."""

    async def close(self) -> None:
        """Send what waits, as far as that goes at once, and let go of everything."""

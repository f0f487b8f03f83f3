"""What one flush of a match gives out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gameserver.match.values import Ack, Effect, EventBatch
    from gameserver.state import Patch


class MatchOutput:
    """One flush. `patch` and `events` may leave at once, the rest waits for the gate, never before its patch."""

    __slots__ = (
        "acks", "applied", "committed", "effects", "ended", "epoch", "events", "gated_events", "high", "journal",
        "patch", "time_ms", "version",
    )  # fmt: skip

    def __init__(
        self,
        version: int,
        epoch: int,
        time_ms: int,
        patch: Patch,
        applied: list[int],
        events: list[EventBatch],
        gated_events: list[EventBatch],
        acks: list[Ack],
        effects: list[Effect],
    ) -> None:
        self.version = version
        self.epoch = epoch
        self.time_ms = time_ms
        self.patch = patch
        self.applied = applied
        """Flat pairs: player slot, the last seq applied for it. For prediction; not an acknowledgement."""
        self.events = events
        self.gated_events = gated_events
        self.acks = acks
        self.effects = effects
        self.ended: str | None = None
        self.high = False
        """Something in it is HIGH, or somebody has a new seat: journal it at once."""
        self.committed = True
        """False: nothing new happened; it only repeats stored acknowledgements and carries the version that was
        current."""
        self.journal: bytes | None = None
        """The record of this flush (see `gameserver.match.journal`), if the match is journaled."""

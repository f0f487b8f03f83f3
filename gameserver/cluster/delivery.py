"""From one flush of a match to frames: every segment is encoded and framed once, however many receive it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gameserver.match import Priority
from gameserver.protocol import (
    EMPTY_ARRAY,
    encode_ack,
    encode_event_list,
    encode_events,
    encode_frame,
    encode_part,
    ws_frame,
)

if TYPE_CHECKING:
    from gameserver.match import MatchOutput


@dataclass(slots=True)
class Segments:
    """The frames of one flush. A connection gets its private parts, then the shared frame that commits the version."""

    channel: int
    output: MatchOutput
    events: list[Any] = field(default_factory=list)  # for everyone, in order
    low_count: int = 0  # how many of them are LOW
    for_everyone: bool = False  # is there anything in the shared frame that all must have?
    private: dict[str, list[bytes]] = field(default_factory=dict)  # viewer → PART frames
    private_low: dict[str, list[bytes]] = field(default_factory=dict)  # … that hold nothing but LOW events
    applied_slots: frozenset[int] = frozenset()
    _shared: bytes | None = None
    _shared_without_low: bytes | None = None

    def shared(self) -> bytes:
        """The frame that everyone gets."""
        if self._shared is None:
            self._shared = self._frame(self.events)
        return self._shared

    def shared_without_low(self) -> bytes:
        """The same for connections that have begun to lag: LOW events are the first to go."""
        if not self.low_count:
            return self.shared()
        if self._shared_without_low is None:
            kept = [
                event
                for batch in self.output.events
                if batch.receivers is None and batch.priority != Priority.LOW
                for event in batch.events
            ]
            self._shared_without_low = self._frame(kept)
        return self._shared_without_low

    def _frame(self, events: list[Any]) -> bytes:
        out = self.output
        return ws_frame(
            encode_frame(
                self.channel,
                out.epoch,
                out.version,
                out.time_ms,
                out.applied,
                out.patch.everyone,
                encode_event_list(events),
            )
        )


@dataclass(slots=True)
class Gated:
    """What waits for the gate: HIGH events by viewer, acknowledgements by session."""

    everyone: bytes | None = None
    private: dict[str, list[bytes]] = field(default_factory=dict)
    acks: dict[str, list[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.everyone is not None or bool(self.private) or bool(self.acks)


def build_segments(channel: int, output: MatchOutput) -> Segments:
    """Sort a flush by audience and frame what only some may see."""
    segments = Segments(channel, output)
    if output.applied:
        segments.applied_slots = frozenset(output.applied[::2])
    directed: dict[frozenset[str], list[Any]] = {}
    directed_low: dict[frozenset[str], list[Any]] = {}
    for batch in output.events:
        low = batch.priority == Priority.LOW
        if batch.receivers is None:
            segments.events.extend(batch.events)
            segments.low_count += len(batch.events) if low else 0
        else:
            (directed_low if low else directed).setdefault(batch.receivers, []).extend(batch.events)
    segments.for_everyone = bool(segments.events) or output.patch.everyone != EMPTY_ARRAY
    for part in output.patch.parts:
        # Events of the same audience ride along: patch and events of one audience are one segment.
        events = directed.pop(part.receivers, None)
        _add(segments.private, part.receivers, _part(segments, part.ops, events))
    for receivers, events in directed.items():
        _add(segments.private, receivers, _part(segments, EMPTY_ARRAY, events))
    for receivers, events in directed_low.items():
        _add(segments.private_low, receivers, _part(segments, EMPTY_ARRAY, events))
    return segments


def build_gated(channel: int, output: MatchOutput) -> Gated:
    """Frame what the gate lets out."""
    gated = Gated()
    for batch in output.gated_events:
        payload = encode_events(channel, output.epoch, output.version, encode_event_list(batch.events))
        frame = ws_frame(payload)
        if batch.receivers is None:
            gated.everyone = frame if gated.everyone is None else gated.everyone + frame
        else:
            _add(gated.private, batch.receivers, frame)
    for ack in output.acks:
        payload = encode_ack(channel, ack.seq, ack.version, ack.result, error=ack.error)
        gated.acks.setdefault(ack.session_id, []).append(ws_frame(payload))
    return gated


def _part(segments: Segments, ops: bytes, events: list[Any] | None) -> bytes:
    out = segments.output
    encoded = EMPTY_ARRAY if events is None else encode_event_list(events)
    return ws_frame(encode_part(segments.channel, out.epoch, out.version, ops, encoded))


def _add(frames: dict[str, list[bytes]], receivers: frozenset[str], frame: bytes) -> None:
    for viewer in receivers:
        frames.setdefault(viewer, []).append(frame)

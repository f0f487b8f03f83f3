"""From one flush of a match to frames: every segment is encoded and framed once, however many receive it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameserver.match import Priority
from gameserver.protocol import (
    EMPTY_ARRAY,
    encode_ack,
    encode_event_list,
    encode_events,
    encode_part,
)
from gameserver.protocol.encode import encode_frame
from gameserver.protocol.websocket import ws_frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gameserver.match import EventBatch, MatchOutput


class Segments:
    """The frames of one flush. A connection gets its private parts, then the shared frame that commits the version."""

    __slots__ = (
        "_applied", "_applied_slots", "_batches", "_epoch", "_ops", "_shared", "_shared_without_low", "_time_ms",
        "channel", "events", "events_count", "for_everyone", "low_count", "private", "private_bytes", "private_low",
        "version",
    )  # fmt: skip

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.version = 0
        self.events: list[Any] = []  # for everyone, in order
        self.events_count = 0
        self.low_count = 0  # how many of them are LOW
        self.for_everyone = False  # is there anything in the shared frame that all must have?
        self.private: dict[str, list[bytes]] = {}  # viewer → PART frames
        self.private_low: dict[str, list[bytes]] = {}  # … that hold nothing but LOW events
        self.private_bytes = 0  # of all of them, each counted once
        self._epoch = self._time_ms = 0
        self._ops = EMPTY_ARRAY
        self._batches: list[EventBatch] = []
        self._applied: list[int] = []
        self._applied_slots: frozenset[int] | None = None
        self._shared: bytes | None = None
        self._shared_without_low: bytes | None = None

    @property
    def applied_slots(self) -> frozenset[int]:
        """Whose actions were applied: they get the shared frame even if nothing came of that."""
        if self._applied_slots is None:
            self._applied_slots = frozenset(self._applied[::2])
        return self._applied_slots

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
                for batch in self._batches
                if batch.receivers is None and batch.priority != Priority.LOW
                for event in batch.events
            ]
            self._shared_without_low = self._frame(kept)
        return self._shared_without_low

    def frames_for(self, viewer: str, slot: int, low: bool) -> list[bytes]:
        """Private first, shared last: it commits the version. Nothing at all where there is nothing for this viewer."""
        private = self.private.get(viewer)
        private_low = self.private_low.get(viewer) if low else None
        if private is None and private_low is None:
            if not self.for_everyone and slot not in self.applied_slots:
                return []
            frames = []
        else:
            frames = [*(private or ()), *(private_low or ())]
        frames.append(self.shared() if low else self.shared_without_low())
        return frames

    def settle(self) -> None:
        """Everyone has it: keep the frames, let go of what they were made of."""
        self._shared_without_low = self.shared()
        self._ops = EMPTY_ARRAY
        self.events = self._batches = []

    def _frame(self, events: list[Any]) -> bytes:
        encoded = encode_event_list(events) if events else EMPTY_ARRAY
        return ws_frame(
            encode_frame(self.channel, self._epoch, self.version, self._time_ms, self._applied, self._ops, encoded)
        )


class CarriedSegments(Segments):
    """The frames of a flush that another node made."""

    __slots__ = ()

    def __init__(
        self,
        channel: int,
        shared: bytes,
        without_low: bytes | None,
        *,
        for_everyone: bool,
        applied_slots: frozenset[int],
        events_count: int,
        low_count: int,
        private: dict[str, list[bytes]],
        private_low: dict[str, list[bytes]],
    ) -> None:
        super().__init__(channel)
        self.low_count = low_count
        self.for_everyone = for_everyone
        self.private, self.private_low = private, private_low
        self._applied_slots = applied_slots
        self._shared = shared
        self._shared_without_low = shared if without_low is None else without_low
        self.events_count = events_count


class Gated:
    """What waits for the gate: HIGH events by viewer, acknowledgements by session."""

    __slots__ = ("acks", "everyone", "private")

    def __init__(self, everyone: bytes | None = None) -> None:
        self.everyone = everyone
        self.private: dict[str, bytes] = {}
        """For viewers who see more than everyone does: all they see, in one message. A client that comes back names
        the last message it has, so there must not be half of a version's events."""
        self.acks: dict[str, list[bytes]] = {}

    def __bool__(self) -> bool:
        return self.has_events() or bool(self.acks)

    def has_events(self) -> bool:
        """Is it more than acknowledgements?"""
        return self.everyone is not None or bool(self.private)


def build_segments(channel: int, output: MatchOutput) -> Segments:
    """Sort a flush by audience and frame what only some may see."""
    segments = Segments(channel)
    patch = output.patch
    segments.version, segments._epoch, segments._time_ms = output.version, output.epoch, output.time_ms
    segments._applied, segments._ops, segments._batches = output.applied, patch.everyone, output.events
    segments.for_everyone = segments._ops != EMPTY_ARRAY
    if segments._batches or patch.parts:
        _sort(segments, output)
    return segments


def _sort(segments: Segments, output: MatchOutput) -> None:
    directed: dict[frozenset[str], list[Any]] = {}
    directed_low: dict[frozenset[str], list[Any]] = {}
    for batch in output.events:
        low = batch.priority == Priority.LOW
        if batch.receivers is None:
            segments.events.extend(batch.events)
            segments.low_count += len(batch.events) if low else 0
        else:
            (directed_low if low else directed).setdefault(batch.receivers, []).extend(batch.events)
    segments.events_count = len(segments.events)
    segments.for_everyone = segments.for_everyone or bool(segments.events)
    for part in output.patch.parts:
        # Events of the same audience ride along: patch and events of one audience are one segment.
        events = directed.pop(part.receivers, None)
        _add(segments.private, part.receivers, _part(segments, part.ops, events))
    for receivers, events in directed.items():
        _add(segments.private, receivers, _part(segments, EMPTY_ARRAY, events))
    for receivers, events in directed_low.items():
        _add(segments.private_low, receivers, _part(segments, EMPTY_ARRAY, events))


def build_gated(channel: int, output: MatchOutput) -> Gated:
    """Frame what the gate lets out."""
    gated = Gated()
    if output.gated_events:
        _build_events(gated, channel, output)
    add_acks(gated, channel, output)
    return gated


def add_acks(gated: Gated, channel: int, output: MatchOutput) -> None:
    """Frame the acknowledgements."""
    for ack in output.acks:
        payload = encode_ack(channel, ack.seq, ack.version, ack.result, error=ack.error)
        gated.acks.setdefault(ack.session_id, []).append(ws_frame(payload))


def _build_events(gated: Gated, channel: int, output: MatchOutput) -> None:
    seen: dict[str, list[int]] = {}  # viewer → the batches that not everyone sees
    shared = [number for number, batch in enumerate(output.gated_events) if batch.receivers is None]
    for number, batch in enumerate(output.gated_events):
        for viewer in batch.receivers or ():
            seen.setdefault(viewer, []).append(number)
    if shared:
        gated.everyone = _events_frame(channel, output, shared)
    built: dict[tuple[int, ...], bytes] = {}
    for viewer, numbers in seen.items():
        key = tuple(numbers)
        frame = built.get(key)
        if frame is None:
            frame = built[key] = _events_frame(channel, output, sorted([*shared, *numbers]))
        gated.private[viewer] = frame


def _events_frame(channel: int, output: MatchOutput, numbers: list[int]) -> bytes:
    events = [event for number in numbers for event in output.gated_events[number].events]
    return ws_frame(encode_events(channel, output.epoch, output.version, encode_event_list(events)))


def build_missed_events(
    channel: int, epoch: int, kept: Iterable[tuple[int, EventBatch]], viewer: str, after: int, until: int
) -> list[bytes]:
    """HIGH events of the versions `after` < version ≤ `until` that this viewer may see, a frame for each version."""
    versions: dict[int, list[Any]] = {}
    for version, batch in kept:
        if after < version <= until and (batch.receivers is None or viewer in batch.receivers):
            versions.setdefault(version, []).extend(batch.events)
    return [
        ws_frame(encode_events(channel, epoch, version, encode_event_list(events)))
        for version, events in versions.items()
    ]


def _part(segments: Segments, ops: bytes, events: list[Any] | None) -> bytes:
    encoded = EMPTY_ARRAY if events is None else encode_event_list(events)
    frame = ws_frame(encode_part(segments.channel, segments._epoch, segments.version, ops, encoded))
    segments.private_bytes += len(frame)
    return frame


def _add(frames: dict[str, list[bytes]], receivers: frozenset[str], frame: bytes) -> None:
    for viewer in receivers:
        frames.setdefault(viewer, []).append(frame)

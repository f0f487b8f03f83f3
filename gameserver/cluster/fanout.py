"""Who gets which frames of a flush: one write per connection, and a full state instead for those that lag.

A connection that does not keep up is not buffered for. Past half of `send_buffer_bytes_max` it gets no LOW events;
past all of it nothing but acknowledgements and HIGH events are kept for it, and once it has drained one full state
stands for all that it missed, with the number of events that are lost to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gameserver.cluster.delivery import Gated, Segments, build_gated, build_segments
from gameserver.cluster.member import Flow, Member
from gameserver.errors import SlowConsumer, close_code_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gameserver.match import MatchOutput

_LIVE, _BEHIND, _GONE = Flow.LIVE, Flow.BEHIND, Flow.GONE


@dataclass(frozen=True, slots=True)
class FanoutLimits:
    """When a connection counts as slow, and how long it may."""

    send_buffer_bytes_max: int = 262_144
    slow_consumer_seconds_max: float = 10.0


class FanoutCounts:
    """What was sent and what was not, since these were last read (the metrics read and reset them)."""

    __slots__ = (
        "aborted", "bytes", "events_dropped", "frames", "frames_dropped", "low_events_dropped", "slow_consumers",
        "states", "writes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.frames = self.bytes = self.writes = 0
        self.frames_dropped = self.events_dropped = self.low_events_dropped = 0
        self.states = self.slow_consumers = self.aborted = 0


class Fanout:
    """Writes the flushes of matches to their members. Holds no state but counters and who lags."""

    __slots__ = ("_low_max", "_max", "behind", "counts", "limits")

    def __init__(self, limits: FanoutLimits) -> None:
        self.limits = limits
        self.counts = FanoutCounts()
        self.behind: set[Member] = set()
        self._max = limits.send_buffer_bytes_max
        self._low_max = self._max // 2

    def deliver(
        self,
        members: tuple[Member, ...],
        channel: int,
        output: MatchOutput,
        gated: bool,
        now: float,
        riding: Gated | None,
    ) -> Segments:
        """Write a flush to everyone who is live; with `gated`, what waited for the gate goes out in the same writes.

        `riding`: acknowledgements of flushes before, in the same writes too. Answers what was built for it.
        """
        segments = build_segments(channel, output)
        let_out = riding
        if gated and (output.gated_events or output.acks):
            let_out = build_gated(channel, output)
            if riding is not None:
                for session_id, acks in riding.acks.items():
                    let_out.acks[session_id] = acks + let_out.acks.get(session_id, [])
        self.deliver_built(members, segments, let_out, now)
        return segments

    def deliver_built(
        self, members: tuple[Member, ...], segments: Segments, gated: Gated | None, now: float
    ) -> None:
        """The same with what was built already."""
        if segments.private or segments.private_low or not segments.for_everyone:
            self._deliver_mixed(members, segments, gated, now)
        elif gated is None:
            self._deliver_shared(members, segments, None, now)
        elif gated.has_events():
            self._deliver_mixed(members, segments, gated, now)
        else:
            self._deliver_shared(members, segments, gated.acks, now)

    def release(self, members: tuple[Member, ...], channel: int, output: MatchOutput) -> None:
        """Write what waited for the gate, after its patch has gone out."""
        self.release_built(members, build_gated(channel, output))

    def release_built(self, members: tuple[Member, ...], gated: Gated) -> None:
        """The same with what was built already."""
        for member in members:
            frames = gated_frames(gated, member)
            if frames:
                self.write_gated(member, frames)

    def _deliver_shared(
        self, members: tuple[Member, ...], segments: Segments, acks: dict[str, list[bytes]] | None, now: float
    ) -> None:
        """The path nearly every tick takes: one frame, the same for all, and acknowledgements behind it for some."""
        frame = segments.shared()
        low_max, written = self._low_max, 0
        for member in members:
            late = acks.get(member.session_id) if acks else None
            if late is not None or member.flow is not _LIVE:
                self._deliver_one(member, segments, late, now)
            elif member.receiver.try_write(frame, low_max):
                written += 1
            else:
                self._lagging(member, segments, late, now)
        counts = self.counts
        counts.frames += written
        counts.writes += written
        counts.bytes += written * len(frame)

    def _deliver_mixed(
        self, members: tuple[Member, ...], segments: Segments, gated: Gated | None, now: float
    ) -> None:
        for member in members:
            self._deliver_one(member, segments, gated_frames(gated, member) if gated is not None else None, now)

    def _deliver_one(self, member: Member, segments: Segments, late: list[bytes] | None, now: float) -> None:
        """What this member gets of it, and behind that what the gate let out."""
        if member.flow is not _LIVE:
            self._skip(member, segments, late, now)
        elif member.receiver.buffered_bytes() > self._low_max:
            self._lagging(member, segments, late, now)
        else:
            self._write_all(member, segments.frames_for(member.viewer, member.slot, True), late)

    def _lagging(self, member: Member, segments: Segments, late: list[bytes] | None, now: float) -> None:
        """Its buffer is filling: LOW events go first, then everything that a full state can stand for."""
        if member.receiver.buffered_bytes() > self._max:
            member.flow = _BEHIND
            member.behind_since = now
            self.behind.add(member)
            self.counts.slow_consumers += 1
            self._skip(member, segments, late, now)
            return
        dropped = segments.low_count + len(segments.private_low.get(member.viewer, ()))
        member.events_lost += dropped
        self.counts.low_events_dropped += dropped
        self._write_all(member, segments.frames_for(member.viewer, member.slot, False), late)

    def _skip(self, member: Member, segments: Segments, late: list[bytes] | None, now: float) -> None:
        """Nothing of this flush, but what may never be dropped is kept for after the full state."""
        if member.flow is _BEHIND:
            lost = segments.events_count
            member.events_lost += lost
            self.counts.low_events_dropped += segments.low_count
            self.counts.events_dropped += lost - segments.low_count
            self.counts.frames_dropped += 1
        if late is not None:
            member.hold(late)
        if member.held_bytes > self._max:
            self._abort(member, "it does not read what may not be dropped")

    def write_gated(self, member: Member, frames: list[bytes]) -> None:
        """What may not be dropped: now, or after the state that the member waits for."""
        if member.flow is _LIVE:
            self._write(member, frames)
        elif member.flow is not _GONE:
            member.hold(frames)
            if member.held_bytes > self._max:
                self._abort(member, "it does not read what may not be dropped")

    def _write_all(self, member: Member, frames: list[bytes], late: list[bytes] | None) -> None:
        if late is not None:
            frames.extend(late)
        self._write(member, frames)

    def _write(self, member: Member, frames: list[bytes]) -> None:
        if not frames:
            return
        member.receiver.write(frames)
        counts = self.counts
        counts.writes += 1
        counts.frames += len(frames)
        for frame in frames:
            counts.bytes += len(frame)

    def send_state(self, member: Member, frame: bytes) -> None:
        """A full state (or the joined message with it), then what was held: the member is live from here on."""
        frames = [frame, *member.take_held()]
        if member.flow is _BEHIND:
            self.counts.states += 1
            self.behind.discard(member)
        member.flow = _LIVE
        member.events_lost = 0
        self._write(member, frames)

    def send_tail(self, member: Member, frames: Sequence[bytes]) -> None:
        """What a member that came back has missed, then what was held: it is live from here on."""
        member.flow = _LIVE
        self._write(member, [*frames, *member.take_held()])

    def take_counts(self) -> FanoutCounts:
        """What was counted since the last time."""
        counts, self.counts = self.counts, FanoutCounts()
        return counts

    def gone(self, member: Member) -> None:
        """The member is on no connection any more."""
        member.flow = _GONE
        self.behind.discard(member)
        member.take_held()

    def drained(self, now: float) -> list[Member]:
        """The members that lagged and can take a full state now; those that lag for too long are aborted."""
        ready = []
        for member in list(self.behind):
            if member.receiver.buffered_bytes() <= self._low_max:
                ready.append(member)
            elif now - member.behind_since > self.limits.slow_consumer_seconds_max:
                self._abort(member, f"it lagged for more than {self.limits.slow_consumer_seconds_max:g} seconds")
        return ready

    def _abort(self, member: Member, reason: str) -> None:
        self.counts.aborted += 1
        self.behind.discard(member)
        member.take_held()
        member.receiver.abort(close_code_of(SlowConsumer), reason)


def gated_frames(gated: Gated, member: Member) -> list[bytes]:
    """What a member gets of it."""
    events = gated.private.get(member.viewer, gated.everyone)
    frames = [] if events is None else [events]
    frames.extend(gated.acks.get(member.session_id, ()))
    return frames

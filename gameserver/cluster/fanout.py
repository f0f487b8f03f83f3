"""Who gets which frames of a flush: one write per connection, and a full state instead for those that lag.

A connection that does not keep up is not buffered for. Past half of `send_buffer_bytes_max` it gets no LOW events;
past all of it nothing but acknowledgements and HIGH events are kept for it, and once it has drained one full state
stands for all that it missed, with the number of events that are lost to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gameserver.cluster.delivery import build_gated, build_segments
from gameserver.cluster.member import Flow, Member
from gameserver.errors import SlowConsumer, close_code_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gameserver.cluster.delivery import Gated, Segments
    from gameserver.match import MatchOutput


@dataclass(frozen=True, slots=True)
class FanoutLimits:
    """When a connection counts as slow, and how long it may."""

    send_buffer_bytes_max: int = 262_144
    slow_consumer_seconds_max: float = 10.0


@dataclass(slots=True)
class FanoutCounts:
    """What was sent and what was not, since these were last read (the metrics read and reset them)."""

    frames: int = 0
    bytes: int = 0
    writes: int = 0
    frames_dropped: int = 0
    events_dropped: int = 0
    low_events_dropped: int = 0
    states: int = 0
    slow_consumers: int = 0
    aborted: int = 0


class Fanout:
    """Writes the flushes of matches to their members. Holds no state but counters and who lags."""

    def __init__(self, limits: FanoutLimits) -> None:
        self.limits = limits
        self.counts = FanoutCounts()
        self.behind: set[Member] = set()
        self._low_max = limits.send_buffer_bytes_max // 2

    def deliver(
        self,
        members: Iterable[Member],
        channel: int,
        output: MatchOutput,
        *,
        gated: bool,
        now: float,
        riding: Gated | None = None,
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

    def deliver_built(self, members: Iterable[Member], segments: Segments, gated: Gated | None, now: float) -> None:
        """The same with what was built already."""
        to_some = segments.private or segments.private_low or not segments.for_everyone
        if to_some or (gated is not None and gated.has_events):
            self._deliver_mixed(members, segments, gated, now)
        else:
            self._deliver_shared(members, segments, {} if gated is None else gated.acks, now)

    def release(self, members: Iterable[Member], channel: int, output: MatchOutput) -> None:
        """Write what waited for the gate, after its patch has gone out."""
        self.release_built(members, build_gated(channel, output))

    def release_built(self, members: Iterable[Member], gated: Gated) -> None:
        """The same with what was built already."""
        for member in members:
            frames = gated_frames(gated, member)
            if frames:
                self.write_gated(member, frames)

    def _deliver_shared(
        self, members: Iterable[Member], segments: Segments, acks: Mapping[str, list[bytes]], now: float
    ) -> None:
        """The path nearly every tick takes: one frame, the same for all, and acknowledgements behind it for some."""
        frame = segments.shared()
        low_max, live = self._low_max, Flow.LIVE
        written = 0
        for member in members:
            late = acks.get(member.session_id, ()) if acks else ()
            receiver = member.receiver
            if member.flow is not live:
                self._skip(member, segments, late, now)
            elif late:
                if receiver.buffered_bytes() > low_max:
                    self._lagging(member, segments, late, now)
                else:
                    self._write(member, [frame, *late])
            elif receiver.try_write(frame, low_max):
                written += 1
            else:
                self._lagging(member, segments, late, now)
        self.counts.frames += written
        self.counts.writes += written
        self.counts.bytes += written * len(frame)

    def _deliver_mixed(self, members: Iterable[Member], segments: Segments, gated: Gated | None, now: float) -> None:
        for member in members:
            late = gated_frames(gated, member) if gated else ()
            if member.flow is not Flow.LIVE:
                self._skip(member, segments, late, now)
            elif member.receiver.buffered_bytes() > self._low_max:
                self._lagging(member, segments, late, now)
            else:
                frames = segments.frames_for(member.viewer, member.slot, low=True)
                frames.extend(late)
                self._write(member, frames)

    def _lagging(self, member: Member, segments: Segments, late: Iterable[bytes], now: float) -> None:
        """Its buffer is filling: LOW events go first, then everything that a full state can stand for."""
        if member.receiver.buffered_bytes() > self.limits.send_buffer_bytes_max:
            member.flow = Flow.BEHIND
            member.behind_since = now
            self.behind.add(member)
            self.counts.slow_consumers += 1
            self._skip(member, segments, late, now)
            return
        dropped = segments.low_count + len(segments.private_low.get(member.viewer, ()))
        member.events_lost += dropped
        self.counts.low_events_dropped += dropped
        frames = segments.frames_for(member.viewer, member.slot, low=False)
        frames.extend(late)
        self._write(member, frames)

    def _skip(self, member: Member, segments: Segments, late: Iterable[bytes], now: float) -> None:
        """Nothing of this flush, but what may never be dropped is kept for after the full state."""
        if member.flow is Flow.BEHIND:
            lost = segments.events_count
            member.events_lost += lost
            self.counts.low_events_dropped += segments.low_count
            self.counts.events_dropped += lost - segments.low_count
            self.counts.frames_dropped += 1
        member.hold(tuple(late))
        if member.held_bytes > self.limits.send_buffer_bytes_max:
            self._abort(member, "it does not read what may not be dropped")

    def write_gated(self, member: Member, frames: list[bytes]) -> None:
        """What may not be dropped: now, or after the state that the member waits for."""
        if member.flow is Flow.LIVE:
            self._write(member, frames)
        elif member.flow is not Flow.GONE:
            member.hold(frames)
            if member.held_bytes > self.limits.send_buffer_bytes_max:
                self._abort(member, "it does not read what may not be dropped")

    def _write(self, member: Member, frames: list[bytes]) -> None:
        if frames:
            member.receiver.write(frames)
            self.counts.writes += 1
            self.counts.frames += len(frames)
            self.counts.bytes += sum(map(len, frames))

    def send_state(self, member: Member, frame: bytes) -> None:
        """A full state (or the joined message with it), then what was held: the member is live from here on."""
        frames = [frame, *member.take_held()]
        if member.flow is Flow.BEHIND:
            self.counts.states += 1
            self.behind.discard(member)
        member.flow = Flow.LIVE
        member.events_lost = 0
        self._write(member, frames)

    def send_tail(self, member: Member, frames: Sequence[bytes]) -> None:
        """What a member that came back has missed, then what was held: it is live from here on."""
        member.flow = Flow.LIVE
        self._write(member, [*frames, *member.take_held()])

    def take_counts(self) -> FanoutCounts:
        """What was counted since the last time."""
        counts, self.counts = self.counts, FanoutCounts()
        return counts

    def gone(self, member: Member) -> None:
        """The member is on no connection any more."""
        member.flow = Flow.GONE
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

"""What is kept of the recent past: without a gap, within its limits, and the same bytes that were sent."""

from __future__ import annotations

from gameserver.cluster.delivery import Segments, build_segments
from gameserver.cluster.recent import RecentFrames, RecentLimits
from gameserver.match import EventBatch, MatchOutput, Priority
from gameserver.state import Part, Patch


def sent(version: int, *, private: str | None = None, size: int = 10) -> Segments:
    """A version for everyone, with a part for one viewer if asked for."""
    ops = b"\xc4" + bytes([size]) + bytes(size)
    parts = [Part(frozenset([private]), b"\x91\x01")] if private else []
    batch = EventBatch(None, [["low", version]], Priority.LOW)
    return build_segments(1, MatchOutput(version, 1, 0, Patch(ops, parts), [], [batch], [], [], []))


def kept(limits: RecentLimits, versions: range, start: int = 0) -> RecentFrames:
    recent = RecentFrames(limits, start)
    for version in versions:
        recent.add(sent(version, private="ann" if version % 2 else None))
    return recent


def test_a_tail_is_the_very_frames_that_were_sent() -> None:
    recent = RecentFrames(RecentLimits(), 4)
    segments = [sent(5, private="ann"), sent(6), sent(7, private="bob")]
    frames = [one.frames_for("ann", 0, True) for one in segments]
    for one in segments:
        recent.add(one)
    assert recent.oldest == 5
    tail = recent.tail(4, "ann", 0)
    assert tail == [*frames[0], *frames[1], *frames[2]]
    assert tail[1] is segments[0].shared()
    assert recent.tail(6, "ann", 0) == frames[2]
    assert recent.tail(7, "ann", 0) == []


def test_it_is_bounded_by_versions_and_by_bytes() -> None:
    recent = kept(RecentLimits(frames_max=3), range(1, 11))
    assert (len(recent), recent.oldest, recent.version) == (3, 8, 10)
    recent = kept(RecentLimits(bytes_max=120), range(1, 11))
    assert 0 < recent.kept_bytes <= 120
    assert recent.oldest == 11 - len(recent)
    recent.add(sent(11, size=200))  # more than fits: nothing is kept, and nothing is wrong
    assert (len(recent), recent.oldest, recent.version, recent.kept_bytes) == (0, 12, 11, 0)
    assert len(kept(RecentLimits(frames_max=0), range(1, 5))) == 0


def test_there_is_no_tail_across_a_gap() -> None:
    recent = kept(RecentLimits(), range(1, 4))
    recent.add(sent(6))
    assert (recent.oldest, recent.version, len(recent)) == (6, 6, 1)
    recent.forget(9)
    assert (recent.oldest, recent.version, recent.kept_bytes) == (10, 9, 0)
    recent.add(sent(10))
    assert (recent.oldest, len(recent)) == (10, 1)

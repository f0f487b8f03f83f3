"""What a match has sent lately, as the very bytes that were sent: for those who lost their socket and come back.

Per version the frame that everyone got and the parts by viewer: references to what the fan-out built anyway, nothing
per player. Bounded by versions and by bytes; who was away for longer gets a full state.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gameserver.cluster.delivery import Segments


@dataclass(frozen=True, slots=True)
class RecentLimits:
    """How much of the recent past one match keeps."""

    frames_max: int = 128
    bytes_max: int = 262_144


class RecentFrames:
    """The last versions of one match, without a gap."""

    __slots__ = ("_bytes_max", "_frames_max", "_sent", "kept_bytes", "version")

    def __init__(self, limits: RecentLimits, version: int) -> None:
        self.version = version
        """The last version that was sent, kept or not."""
        self._frames_max, self._bytes_max = limits.frames_max, limits.bytes_max
        self._sent: deque[bytes | tuple[Segments, int]] = deque()
        """What nearly every tick makes, one frame for all, is only that; with more than that to it, and its size."""
        self.kept_bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def oldest(self) -> int:
        """The oldest version that is kept; the one after the last if none is."""
        return self.version + 1 - len(self._sent)

    def add(self, segments: Segments) -> None:
        """Keep what was sent of one version."""
        version = segments.version
        if version != self.version + 1:
            self.forget(version - 1)  # what came between was sent to nobody, or failed: no tail across it
        sent = self._sent
        shared = segments.shared()
        if segments.for_everyone and not segments.private and not segments.private_low:
            sent.append(shared)
            self.kept_bytes += len(shared)
        else:
            size = len(shared) + segments.private_bytes
            segments.settle()
            sent.append((segments, size))
            self.kept_bytes += size
        self.version = version
        while len(sent) > self._frames_max or self.kept_bytes > self._bytes_max:
            gone = sent.popleft()
            self.kept_bytes -= len(gone) if isinstance(gone, bytes) else gone[1]
            if not sent:
                break

    def forget(self, version: int) -> None:
        """Keep nothing up to this version: there is nobody who could ask for it."""
        self._sent.clear()
        self.kept_bytes = 0
        self.version = version

    def tail(self, version: int, viewer: str, slot: int) -> list[bytes]:
        """The frames of all versions after this one, as the viewer would have got them."""
        start = len(self._sent) - (self.version - version)
        frames: list[bytes] = []
        for index in range(start, len(self._sent)):
            sent = self._sent[index]
            if isinstance(sent, bytes):
                frames.append(sent)
            else:
                frames.extend(sent[0].frames_for(viewer, slot, True))
        return frames

"""What the host writes frames to: one connection, here or behind another node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Receiver:
    """One connection, as the host sees it. A base class, so that writing to it is one C call where it is compiled.

    None of its methods may raise.
    """

    __slots__ = ()

    def write(self, frames: Sequence[bytes]) -> None:
        """Send prebuilt WebSocket frames with one transport write."""
        raise NotImplementedError

    def try_write(self, frame: bytes, buffered_bytes_max: int) -> bool:
        """Send one prebuilt frame, unless more than so many bytes wait already. False: it lags, nothing was sent."""
        if self.buffered_bytes() > buffered_bytes_max:
            return False
        self.write((frame,))
        return True

    def buffered_bytes(self) -> int:
        """How much of what was written still waits in this process for the peer to read."""
        raise NotImplementedError

    def detached(self, channel: int) -> None:
        """The host took this channel away (its match ended, the seat was taken over)."""
        raise NotImplementedError

    def abort(self, close_code: int, reason: str) -> None:
        """End the connection without waiting for the peer."""
        raise NotImplementedError


class RemoteReceiver(Receiver):
    """Base of receivers whose sockets are on another node: the match's fan-out serves those by edge, not one by one."""

    __slots__ = ("address",)

    def __init__(self, address: str) -> None:
        self.address = address
        """Where that node can be reached directly; empty: not known."""

"""The way out: frames to a transport, or around it to its socket.

Compiled, and with a transport of uvloop that is a plain socket, a frame goes to the kernel by one call of send(2) if
nothing waits to be sent before it. uvloop would keep it until the end of the loop's turn, and then do the same. What
else can happen is left to the transport: what the kernel does not take at once is handed on to it, and so is all that
follows until its buffer is empty again; what is wrong with a socket it finds out by itself, when it tries the same.

Two things make that safe (ADR 17). Nobody else writes to the transport (see `send_directly`). And a transport tells its
protocol that the connection is lost before it closes its socket (see `lost`): until then the socket's number cannot be
somebody else's. It is not asked before each frame whether it is closing: no cache holds it.
"""

from __future__ import annotations

import asyncio
from socket import MSG_DONTWAIT, MSG_NOSIGNAL
from typing import TYPE_CHECKING, Any

try:
    from uvloop.loop import TCPTransport, UnixTransport  # type: ignore[attr-defined] # its stub leaves them out
except ImportError:  # not on every platform
    PLAIN: tuple[Any, ...] = ()
else:
    PLAIN = (TCPTransport, UnixTransport)

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPILED = not __file__.endswith(".py")
NONE = -1


class Sender:
    """Writes to a transport."""

    __slots__ = ("_socket", "_waiting", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._socket = NONE
        self._waiting = True  # what is in the transport's buffer, perhaps

    def send_directly(self) -> None:
        """From now on nobody else writes to the transport: its socket may be written to, where that can be had."""
        if COMPILED and isinstance(self.transport, PLAIN):
            self._socket = self.transport.get_extra_info("socket").fileno()

    def lost(self) -> None:
        """The transport is about to close its socket."""
        self._socket = NONE

    def write(self, frame: bytes) -> None:
        """Send one frame; nothing happens once the connection is lost."""
        if self._socket != NONE and not (self._waiting and self.transport.get_write_buffer_size()):
            self._waiting = False
            sent = send_now(self._socket, frame)
            if sent == len(frame):
                return
            self._waiting = True
            if sent > 0:
                frame = frame[sent:]
        if not self.transport.is_closing():
            self.transport.write(frame)

    def write_all(self, frames: Sequence[bytes]) -> None:
        """Send frames, together."""
        if len(frames) == 1:
            self.write(frames[0])
        elif self._socket != NONE:
            self.write(b"".join(frames))
        elif not self.transport.is_closing():
            self.transport.writelines(frames)


def send_now(socket: int, data: bytes) -> int:
    """How many of these bytes the kernel takes at once; less than one if it takes none. (`send` is in the .pxd.)"""
    return send(socket, data, len(data), MSG_DONTWAIT | MSG_NOSIGNAL)  # type: ignore[name-defined,no-any-return] # noqa: F821

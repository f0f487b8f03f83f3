"""A WebSocket whose frames are read and written here: what stands between a transport and a connection.

The link tells its listener what arrives within the transport's own callback: nothing is queued on the way. How it gets
hold of the transport is told in `receiving`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gameserver.cluster.receiver import Receiver
from gameserver.protocol import close_frame
from gameserver.web.frames import (
    BINARY,
    CLOSE,
    MASKED,
    PING,
    SMALL_HEAD_BYTES,
    SMALL_MAX,
    TEXT,
    WHOLE_BINARY,
    FrameError,
    FrameReader,
    read_close,
    unmasked,
)
from gameserver.web.sending import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger("gameserver.web")


class Link(Sender):
    """The WebSocket under a connection."""

    __slots__ = ()

    def buffered_bytes(self) -> int:
        """Bytes that wait for the peer. Below the transport's high-water mark nobody needs the exact number: 0."""
        raise NotImplementedError

    async def close(self, close_code: int, reason: bytes) -> None:
        """The closing handshake; waits for the peer."""
        raise NotImplementedError


class Listener(Receiver):
    """A connection, as its link sees it. None of these wait.

    (That it is what the host writes to has no meaning here: a class in C has one base.)
    """

    __slots__ = ("heard_at",)

    def __init__(self, heard_at: float) -> None:
        self.heard_at = heard_at
        """When bytes arrived last, on the loop's clock; what follows is in them."""

    def feed(self, data: bytes) -> None:
        """A binary message."""
        raise NotImplementedError

    def feed_text(self) -> None:
        """A text message."""
        raise NotImplementedError

    def feed_ping(self, payload: bytes) -> None:
        """A ping."""
        raise NotImplementedError

    def peer_closed(self, close_code: int) -> None:
        """The peer begins to close: answer."""
        raise NotImplementedError

    def unreadable(self, close_code: int) -> None:
        """What arrives is no WebSocket, or too large, and nothing after it is read: close for this reason."""
        raise NotImplementedError

    def gone(self) -> None:
        """The transport is closed."""
        raise NotImplementedError


class DirectLink(Link):
    """What the transport calls with bytes: an `asyncio.Protocol` in all but the base, which no class in C can have."""

    __slots__ = (
        "_close_received", "_close_sent", "_deaf", "_limit", "_listener", "_lost", "_now", "_reader",
        "_writing_paused", "independent",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, message_bytes_limit: int, now: Callable[[], float]) -> None:
        super().__init__(transport)
        self._writing_paused = False
        self.independent = False
        """aiohttp has let go of the transport."""
        self._now = now
        self._limit = message_bytes_limit
        self._listener: Listener | None = None
        self._reader: FrameReader | None = None  # only while something is not whole yet
        self._deaf = False
        self._close_sent = self._close_received = False
        self._lost: asyncio.Future[None] | None = None

    def listen(self, listener: Listener) -> None:
        """Before the first bytes: where messages go."""
        self._listener = listener

    # --- what the transport calls ------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        """Bytes: none, one or many messages."""
        listener = self._listener
        if listener is None or self._deaf:
            return
        listener.heard_at = self._now()
        at, end = 0, len(data)
        if self._reader is None:
            # Small messages, each whole, as nearly always: what the reader does with them, in as few steps as can be.
            head = data
            while end - at >= SMALL_HEAD_BYTES and head[at] == WHOLE_BINARY and MASKED <= head[at + 1] <= SMALL_MAX:
                start = at + SMALL_HEAD_BYTES
                stop = start + head[at + 1] - MASKED
                if stop > end:
                    break
                payload = unmasked(data, start, stop)
                try:
                    listener.feed(payload)
                except Exception as failure:
                    log.error("message_not_taken", exc_info=failure)
                at = stop
        if at < end:
            self._read(listener, data[at:])

    def _read(self, listener: Listener, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            reader = FrameReader(self._limit)
        try:
            for opcode, payload in reader.read(data):
                self._tell(listener, opcode, payload)
                if self._deaf:
                    break
        except FrameError as error:
            self._deaf = True
            listener.unreadable(error.close_code)
        self._reader = None if reader.at_rest or self._deaf else reader

    def _tell(self, listener: Listener, opcode: int, payload: bytes) -> None:
        try:
            if opcode == BINARY:
                listener.feed(payload)
            elif opcode == PING:
                listener.feed_ping(payload)
            elif opcode == TEXT:
                listener.feed_text()
            elif opcode == CLOSE:
                self._peer_closed(listener, read_close(payload))
        except FrameError:
            raise
        except Exception as failure:
            log.error("message_not_taken", exc_info=failure)

    def eof_received(self) -> None:
        """The transport closes by itself."""

    # --- out ---------------------------------------------------------------------------------------------------------
    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writing_paused = False

    def buffered_bytes(self) -> int:
        """See `Link`."""
        return self.transport.get_write_buffer_size() if self._writing_paused else 0

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        self.lost()
        listener = self._listener
        if listener is None:
            return
        self._listener = self._reader = None  # they refer to each other
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        listener.gone()

    # --- what aiohttp's handler calls until it has let go ------------------------------------------------------------
    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes that came with the request, or just after it; whether that was all, and what is left of them."""
        self.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """It lost the transport before it could let go of it."""
        if not self.independent:
            self.connection_lost(None)

    def _peer_closed(self, listener: Listener, close_code: int) -> None:
        self._close_received = self._deaf = True
        if self._close_sent:
            self.transport.close()
        else:
            listener.peer_closed(close_code)

    # --- what the connection calls -----------------------------------------------------------------------------------
    async def close(self, close_code: int, reason: bytes) -> None:
        """Say why, and wait for the peer to say that it has read all until there. It may never do so."""
        if self._listener is None:
            return
        self._lost = asyncio.get_running_loop().create_future()
        self.write(close_frame(close_code, reason))
        self._close_sent = True
        if self._close_received:
            self.transport.close()
        await self._lost

"""The way in below aiohttp's public API: bytes reach a connection inside the transport's own callback.

aiohttp shakes hands, and then it goes: a `DirectLink` takes the transport over and reads frames itself (`frames`). So a
message costs no queue, no future and no task's turn, and a connection keeps no request, no handler, no parser and no
parked task in memory. This module is the one place that does so. It leans on what is not public in aiohttp:
`WebSocketResponse._post_start` (where the handshake is over), a `RequestHandler` that hands on what came with the
request and tidies up when it is told that its connection is lost, and `websocket_mask` (in `frames`).

`find_problem` tries all this out on the aiohttp that is installed; where it finds one, the server goes through
`WebSocketResponse.receive()` (see `socket`).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from aiohttp import web

from gameserver.protocol import close_frame
from gameserver.web.frames import (
    BINARY,
    CLOSE,
    GOING_AWAY,
    MASKED,
    PING,
    SMALL_HEAD_BYTES,
    SMALL_MAX,
    TEXT,
    WHOLE_BINARY,
    FrameError,
    FrameReader,
    read_close,
    websocket_mask,
)

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger("gameserver.web")

PROBE_SECONDS: Final = 2.0
PROBE_CLOSE_SECONDS: Final = 0.1


class Listener(Protocol):
    """A connection, as its link sees it. None of these wait."""

    heard_at: float
    """When bytes arrived last, on the loop's clock; what follows is in them."""

    def feed(self, data: bytes) -> None:
        """A binary message."""

    def feed_text(self) -> None:
        """A text message."""

    def feed_ping(self, payload: bytes) -> None:
        """A ping."""

    def peer_closed(self, close_code: int) -> None:
        """The peer begins to close: answer."""

    def unreadable(self, close_code: int) -> None:
        """What arrives is no WebSocket, or too large, and nothing after it is read: close for this reason."""

    def gone(self) -> None:
        """The transport is closed."""


class DirectLink(asyncio.Protocol):
    """What the transport calls with bytes. Nothing is queued."""

    __slots__ = (
        "_close_received", "_close_sent", "_deaf", "_limit", "_listener", "_lost", "_now", "_reader", "_transport",
        "independent", "writing_paused",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, message_bytes_limit: int, now: Callable[[], float]) -> None:
        self.writing_paused = False
        self.independent = False
        """aiohttp has let go of the transport."""
        self._now = now
        self._transport = transport
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
            while end - at >= SMALL_HEAD_BYTES and data[at] == WHOLE_BINARY and MASKED <= data[at + 1] <= SMALL_MAX:
                start = at + SMALL_HEAD_BYTES
                stop = start + data[at + 1] - MASKED
                if stop > end:
                    break
                payload = bytearray(data[start:stop])
                websocket_mask(data[at + 2 : start], payload)
                try:
                    listener.feed(bytes(payload))
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

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self.writing_paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
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
            self._transport.close()
        else:
            listener.peer_closed(close_code)

    # --- what the connection calls -----------------------------------------------------------------------------------
    async def close(self, close_code: int, reason: bytes) -> None:
        """Say why, and wait for the peer to say that it has read all until there. It may never do so."""
        if self._listener is None:
            return
        self._lost = asyncio.get_running_loop().create_future()
        if not self._transport.is_closing():
            self._transport.write(close_frame(close_code, reason))
        self._close_sent = True
        if self._close_received:
            self._transport.close()
        await self._lost


class DirectSocket(web.WebSocketResponse):
    """aiohttp's handshake, after which a `DirectLink` takes over."""

    def __init__(
        self,
        opened: Callable[[asyncio.Transport, DirectLink], Listener],
        *,
        message_bytes_limit: int,
        now: Callable[[], float],
        **options: Any,
    ) -> None:
        super().__init__(max_msg_size=message_bytes_limit, compress=False, **options)
        self._opened = opened
        self._now = now
        self._message_bytes_limit = message_bytes_limit
        self._link: DirectLink | None = None

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        self._ws_protocol, self._writer = protocol, writer
        transport = request.transport
        if transport is None:  # it was gone before it was here
            return
        link = self._link = DirectLink(transport, self._message_bytes_limit, self._now)
        link.listen(self._opened(transport, link))
        request.protocol.set_parser(link)  # type: ignore[arg-type] # what came with the request is read
        request.protocol.keep_alive(False)

    def let_go(self, request: web.BaseRequest) -> None:
        """The handshake is done: for aiohttp the connection is over."""
        link, transport, handler = self._link, request.transport, request.protocol
        if link is None or transport is None:
            return
        transport.set_protocol(link)
        link.independent = True
        handler.transport = None
        handler.connection_lost(None)

    async def write_eof(self, data: bytes = b"") -> None:
        """The response ends with its headers; nobody closes the WebSocket for it."""


# --- the self-test ----------------------------------------------------------------------------------------------------
HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: probe\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
MASK: Final = b"\1\2\3\4"
# Control frames may stand between fragments.
SENT: Final = (
    (0x82, b"whole"), (0x02, b"in "), (0x89, b"!"), (0x80, b"parts"), (0x81, b"text"), (0x88, b"\x03\xe9")
)  # fmt: skip
TOLD: Final = [b"whole", ("ping", b"!"), b"in parts", "text", 1001, "gone"]


class _Probe:
    """A listener that notes what it is told."""

    def __init__(self, link: DirectLink) -> None:
        self.link = link
        self.heard_at = 0.0
        self.told: list[Any] = []
        self.closing: asyncio.Task[None] | None = None

    def feed(self, data: bytes) -> None:
        self.told.append(data)

    def feed_text(self) -> None:
        self.told.append("text")

    def feed_ping(self, payload: bytes) -> None:
        self.told.append(("ping", payload))

    def peer_closed(self, close_code: int) -> None:
        self.told.append(close_code)
        self.closing = asyncio.create_task(self.link.close(close_code, b""))

    def unreadable(self, close_code: int) -> None:
        self.told.append(("unreadable", close_code))

    def gone(self) -> None:
        self.told.append("gone")


async def find_problem() -> str | None:
    """Why messages cannot be taken directly with the aiohttp that is installed; None: they can."""
    problems: list[str] = []
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await _try_out(problems)
    except Exception as failure:  # noqa: BLE001 - private parts of another library may fail in any way
        problems.append(f"{type(failure).__name__}: {failure}")
    return "; ".join(problems) or None


async def _try_out(problems: list[str]) -> None:
    """One connection over a pair of sockets: handshake, messages, a ping between fragments, close."""
    probes: list[_Probe] = []
    let_go = asyncio.Event()

    def opened(_transport: asyncio.Transport, link: DirectLink) -> _Probe:
        probes.append(_Probe(link))
        return probes[0]

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        probe = DirectSocket(
            opened, message_bytes_limit=1_024, now=asyncio.get_running_loop().time, timeout=PROBE_CLOSE_SECONDS
        )
        try:
            await probe.prepare(request)
            probe.let_go(request)
        except Exception as failure:  # noqa: BLE001 - see above; aiohttp would log it with a traceback
            problems.append(f"{type(failure).__name__}: {failure}")
        let_go.set()
        return probe

    server = web.Server(serve)
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(server, theirs)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    try:
        writer.write(HANDSHAKE + _masked(*SENT[0]))
        await reader.readuntil(b"\r\n\r\n")
        await let_go.wait()
        writer.writelines(_masked(first, payload) for first, payload in SENT[1:])
        closed = await reader.read()
        if server.connections:
            problems.append("aiohttp has not forgotten the connection")
    finally:
        writer.close()
        await server.shutdown(PROBE_CLOSE_SECONDS)
    told = probes[0].told if probes else []
    if closed != close_frame(GOING_AWAY, b"") or told != TOLD:
        problems.append(f"told {told}, answered {closed!r}")
    if not all(probe.heard_at for probe in probes):
        problems.append("nobody was told of bytes")


def _masked(first: int, payload: bytes) -> bytes:
    """A client's frame."""
    masked = bytearray(payload)
    websocket_mask(MASK, masked)
    return bytes((first, MASKED | len(payload))) + MASK + masked

"""The way in below aiohttp's public API: bytes reach a connection inside the transport's own callback.

aiohttp shakes hands. Then its parser stays and the rest of it goes: a `DirectLink` takes the transport over and is what
the parser feeds. So a message costs no queue, no future and no task's turn, and a connection keeps no request, no
handler and no parked task in memory. This module is the one place that does so. It leans on what is not public in
aiohttp: `WebSocketReader` (the parser), `WebSocketDataQueue` (what it feeds), `WebSocketResponse._post_start` (where
the two are put together), and on a `RequestHandler` that tidies up when it is told that its connection is lost.

`find_problem` tries all this out on the aiohttp that is installed; where it finds one, the server goes through
`WebSocketResponse.receive()` (see `socket`).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.http import WebSocketError

from gameserver.protocol import close_frame

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger("gameserver.web")

# In Python 3.11 a look at an enum's member costs as much as ten looks at a global.
BINARY: Final = WSMsgType.BINARY
PING: Final = WSMsgType.PING
TEXT: Final = WSMsgType.TEXT
CLOSE: Final = WSMsgType.CLOSE

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


class DirectLink(WebSocketDataQueue, asyncio.Protocol):
    """What the transport calls with bytes, and aiohttp's parser with messages. Nothing is queued."""

    __slots__ = (
        "_close_received", "_close_sent", "_listener", "_lost", "_now", "_transport", "independent", "parser",
        "writing_paused",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, message_bytes_limit: int, now: Callable[[], float]) -> None:
        # Not the base class's `__init__`: it makes a queue. The size that the parser looks at stays zero.
        self.writing_paused = False
        self.independent = False
        """aiohttp has let go of the transport."""
        self._now = now
        self._transport = transport
        self._listener: Listener
        self._close_sent = self._close_received = False
        self._lost: asyncio.Future[None] | None = None
        self.parser: WebSocketReader | None = WebSocketReader(
            self, message_bytes_limit, compress=False, decode_text=True
        )

    def listen(self, listener: Listener) -> None:
        """Before the first bytes: where messages go."""
        self._listener = listener

    # --- what the transport calls ------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        """Bytes: none, one or many messages."""
        parser = self.parser
        if parser is not None:
            self._listener.heard_at = self._now()
            parser.feed_data(data)

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
        if self.parser is None:
            return
        listener = self._listener
        self.parser = None  # they refer to each other
        del self._listener
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        listener.gone()

    # --- what the parser calls ---------------------------------------------------------------------------------------
    def feed_data(self, message: Any, size: int) -> None:
        """One whole message."""
        kind = message.type
        try:
            if kind is BINARY:
                self._listener.feed(message.data)
            elif kind is PING:
                self._listener.feed_ping(message.data)
            elif kind is TEXT:
                self._listener.feed_text()
            elif kind is CLOSE:
                self._peer_closed(message.data or WSCloseCode.OK)
        except Exception as failure:  # raised into the parser it would stop it for good
            log.error("message_not_taken", exc_info=failure)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """What arrived is no WebSocket, or too large; the parser reads nothing after it."""
        self._listener.unreadable(exc.code if isinstance(exc, WebSocketError) else WSCloseCode.PROTOCOL_ERROR)

    def feed_eof(self) -> None:
        """aiohttp's handler lost the transport before it could let go of it."""
        if not self.independent:
            self.connection_lost(None)

    def _peer_closed(self, close_code: int) -> None:
        self._close_received = True
        if self._close_sent:
            self._transport.close()
        else:
            self._listener.peer_closed(close_code)

    # --- what the connection calls -----------------------------------------------------------------------------------
    async def close(self, close_code: int, reason: bytes) -> None:
        """Say why, and wait for the peer to say that it has read all until there. It may never do so."""
        if self.parser is None:
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
        request.protocol.set_parser(link.parser)  # type: ignore[arg-type] # what came with the request is in there
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
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        await let_go.wait()
        writer.writelines(_masked(first, payload) for first, payload in SENT)
        closed = await reader.read()
        if server.connections:
            problems.append("aiohttp has not forgotten the connection")
    finally:
        writer.close()
        await server.shutdown(PROBE_CLOSE_SECONDS)
    told = probes[0].told if probes else []
    if closed != close_frame(WSCloseCode.GOING_AWAY, b"") or told != TOLD:
        problems.append(f"told {told}, answered {closed!r}")
    if not all(probe.heard_at for probe in probes):
        problems.append("nobody was told of bytes")


def _masked(first: int, payload: bytes) -> bytes:
    """A client's frame: a mask is demanded of it; zeros change nothing."""
    return bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload

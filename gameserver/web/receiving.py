"""The way in below aiohttp's public API: bytes reach a connection inside the transport's own callback.

aiohttp shakes hands, and then it goes: a `DirectLink` takes the transport over and reads frames itself (`link`). So a
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
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from gameserver.protocol import close_frame
from gameserver.web.frames import GOING_AWAY, MASKED, websocket_mask
from gameserver.web.link import DirectLink, Listener

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_SECONDS: Final = 2.0
PROBE_CLOSE_SECONDS: Final = 0.1


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
        transport.set_protocol(link)  # type: ignore[arg-type] # one in all but the base
        link.independent = True
        link.send_directly()
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
    (0x82, b"whole"), (0x82, b"long" * 20), (0x02, b"in "), (0x89, b"!"), (0x80, b"parts"), (0x81, b"text"),
    (0x88, b"\x03\xe9"),
)  # fmt: skip
TOLD: Final = [b"whole", b"long" * 20, ("ping", b"!"), b"in parts", "text", 1001, "gone"]


class _Probe(Listener):
    """Notes what it is told."""

    def __init__(self, link: DirectLink) -> None:
        super().__init__(heard_at=0.0)
        self.link = link
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

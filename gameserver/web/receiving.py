"""Binary messages at once: handed over inside the transport's own callback, with no task to wake and no queue between.

aiohttp's public way, `await receive()`, costs a queue, a future and a task's turn for each message. This module is the
one place that goes below it, and leans on three parts of aiohttp that are not public: `WebSocketDataQueue` (what its
parser feeds), `WebSocketReader` (the parser) and `WebSocketResponse._post_start` (where the two are put together).
Only binary messages take the short way. Text, pings, pongs and closes go into aiohttp's queue as ever, so a task that
is parked in `receive()` answers them. aiohttp's own heartbeat costs a callback per message; `Heartbeat` does without.

`find_problem` tries all this out on the aiohttp that is installed. Where it finds one, a `DirectWebSocket` is made with
`direct=False` and is an ordinary `WebSocketResponse`, whose binary messages come out of `receive()` like all others.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger("gameserver.web")

QUEUE_BYTES_MAX: Final = 4_096  # of texts, pings and closes that wait; past twice as much aiohttp stops reading
PROBE_SECONDS: Final = 2.0
PROBE_CLOSE_SECONDS: Final = 0.1


class DirectQueue(WebSocketDataQueue):
    """aiohttp's queue, past which binary messages go straight to `take`.

    Nothing is kept of them, so there is nothing to pause reading for: whoever takes them bounds what they leave behind.
    """

    __slots__ = ("take",)

    def __init__(self, protocol: Any, take: Callable[[bytes], None], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(protocol, QUEUE_BYTES_MAX, loop=loop)
        self.take = take

    def feed_data(self, message: Any, size: int) -> None:
        """Called by aiohttp's parser for each whole message."""
        if message.type is WSMsgType.BINARY:
            try:
                self.take(message.data)
            except Exception as failure:  # raised into the parser it would stop it for good
                log.error("message_not_taken", exc_info=failure)
            return
        if message.type is WSMsgType.CLOSE:
            self.stop()  # nothing counts after the peer's close
        super().feed_data(message, size)

    def stop(self) -> None:
        """Take nothing more; the cycle of references through the taker ends here too."""
        self.take = ignore


def ignore(_data: bytes) -> None:
    """What becomes of messages after the end."""


class DirectWebSocket(web.WebSocketResponse):
    """A WebSocket whose binary messages do not wait for `receive()`."""

    def __init__(self, *, direct: bool, heartbeat: float, max_msg_size: int, **options: Any) -> None:
        super().__init__(heartbeat=None if direct else heartbeat, max_msg_size=max_msg_size, compress=False, **options)
        self._direct = direct
        self._message_bytes_limit = max_msg_size

    def opened(self, request: web.BaseRequest) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        """The handshake is done: who takes binary messages, and who is told that bytes have arrived (before those)."""
        raise NotImplementedError

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        if not self._direct:
            super()._post_start(request, protocol, writer)
            return
        self._ws_protocol, self._writer = protocol, writer
        take, heard = self.opened(request)
        queue = DirectQueue(request.protocol, take, asyncio.get_running_loop())
        self._reader = queue
        self._parser = WebSocketReader(queue, self._message_bytes_limit, compress=False, decode_text=True)
        request.protocol.set_parser(self._parser, data_received_cb=heard)
        request.protocol.keep_alive(False)

    def stop_taking(self) -> None:
        """No more messages, whatever still arrives."""
        if isinstance(self._reader, DirectQueue):
            self._reader.stop()


# --- the self-test ----------------------------------------------------------------------------------------------------
HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: probe\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# Control frames may stand between fragments.
SENT: Final = ((0x82, b"whole"), (0x02, b"in "), (0x89, b"ping"), (0x80, b"parts"))
TAKEN: Final = [b"whole", b"in parts"]
PONG: Final = b"\x8a\x04ping"
CLOSED: Final = b"\x88\x02\x03\xe8"


class _Probe(DirectWebSocket):
    def __init__(self) -> None:
        super().__init__(direct=True, heartbeat=PROBE_SECONDS, max_msg_size=1_024, timeout=PROBE_CLOSE_SECONDS)
        self.taken: list[bytes] = []
        self.heard = 0

    def opened(self, request: web.BaseRequest) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        return self._take, self._hear

    def _take(self, data: bytes) -> None:
        self.taken.append(data)

    def _hear(self) -> None:
        self.heard += 1


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
    probe = _Probe()

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        try:
            await probe.prepare(request)
            problems.extend([f"{message.type!r} came out of receive()" async for message in probe])
        except Exception as failure:  # noqa: BLE001 - see above; aiohttp would log it with a traceback
            problems.append(f"{type(failure).__name__}: {failure}")
        return probe

    server = web.Server(serve)
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(server, theirs)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    try:
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(_masked(first, payload) for first, payload in SENT)
        pong = await reader.readexactly(len(PONG))
        taken, heard = list(probe.taken), probe.heard
        writer.write(_masked(0x88, b"\x03\xe8"))
        closed = await reader.read()
    finally:
        writer.close()
        await server.shutdown(PROBE_CLOSE_SECONDS)
    if (taken, pong, closed, heard > 0) != (TAKEN, PONG, CLOSED, True):
        problems.append(f"took {taken}, heard {heard}, answered {pong!r} and {closed!r}")


def _masked(first: int, payload: bytes) -> bytes:
    """A client's frame: a mask is demanded of it; zeros change nothing."""
    return bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload

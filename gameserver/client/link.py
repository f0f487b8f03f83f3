"""One WebSocket: bytes out in order without waiting, messages in to a callback, and one word on how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

from gameserver.access import TokenBucket
from gameserver.client.errors import ConnectionClosed, ConnectionLost, ServerUnreachable, error_from_close
from gameserver.errors import ProtocolError, should_reconnect
from gameserver.protocol import SUBPROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.errors import GameServerError

OUTGOING_BYTES_MAX = 4 * 1024 * 1024  # what may wait for a server that does not read
MESSAGE_BYTES_MAX = 64 * 1024 * 1024  # a full state may be large; the server is trusted more than a client is
CLOSE_SECONDS = 2.0
PACE_SHARE = 0.9  # of what the server allows: its clock and ours are not the same
TIMER_SLACK_SECONDS = 0.001
MESSAGE_COST_BYTES = 1024  # a message counts as one, and one more for each of these

log = logging.getLogger("gameserver.client")


class Pace(NamedTuple):
    """How fast messages may leave."""

    bucket: TokenBucket
    burst: float


class Link:
    """A connected socket. `on_message` gets every binary message, `on_end` is called once with why it ended."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._outgoing: deque[bytes] = deque()
        self._outgoing_bytes = 0
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._pace: Pace | None = None
        self._closing = False
        self._failure: GameServerError | None = None

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, url: str, *, heartbeat_seconds: float, timeout: float) -> Link:  # noqa: ASYNC109 - one deadline for all of it
        """Connect, or say plainly why not."""
        try:
            async with asyncio.timeout(timeout):
                websocket = await http.ws_connect(
                    url,
                    protocols=(SUBPROTOCOL,),
                    heartbeat=heartbeat_seconds,
                    max_msg_size=MESSAGE_BYTES_MAX,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                )
        except aiohttp.WSServerHandshakeError as failure:
            raise ServerUnreachable(f"{url} answered {failure.status} instead of opening a WebSocket") from failure
        except (aiohttp.ClientError, OSError, TimeoutError) as failure:
            raise unreachable(url, failure) from failure
        return cls(websocket)

    def start(self, on_message: Callable[[bytes], None], on_end: Callable[[GameServerError, bool], None]) -> None:
        """Begin to read and write."""
        self._tasks = [
            asyncio.create_task(self._read(on_message, on_end), name="gameserver client: read"),
            asyncio.create_task(self._write(), name="gameserver client: write"),
        ]

    def pace(self, messages_per_second: float) -> None:
        """Never send more than that on average: the server ends connections that do."""
        rate = messages_per_second * PACE_SHARE
        self._pace = Pace(TokenBucket(rate, rate, asyncio.get_running_loop().time()), rate)

    def write(self, data: bytes) -> None:
        """Send soon, in order. A server that does not read for long costs the connection."""
        if self._outgoing_bytes + len(data) > OUTGOING_BYTES_MAX:
            self._give_up(ConnectionLost(f"{self._outgoing_bytes} bytes wait for a server that does not read"))
            return
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        self._wake.set()

    def abort(self, error: GameServerError) -> None:
        """End it without a word: the peer answers no more."""
        self._give_up(error)

    async def close(self) -> None:
        """Close properly: `on_end` has been called when this returns."""
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS * 2):
                await self._websocket.close()
        except TimeoutError:
            log.debug("the server did not read our goodbye")
        finally:
            if self._tasks:
                reader, writer = self._tasks
                writer.cancel()
                await asyncio.wait([reader, writer], timeout=CLOSE_SECONDS)
                reader.cancel()
                await asyncio.gather(reader, writer, return_exceptions=True)
            self._release()

    def _release(self) -> None:
        """Let go of the socket, if it is still held.

        aiohttp does so after a closing handshake only: when reading fails, or stops, the collector is left to find it.
        """
        response = self._websocket._response
        connection = response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # what waits there is for a peer that does not read
        response.close()

    async def _wait_for_turn(self, pace: Pace, size: int) -> None:
        now = asyncio.get_running_loop().time
        cost = min(1 + size // MESSAGE_COST_BYTES, pace.burst)
        if (seconds := pace.bucket.seconds_until(now(), cost)) > 0:
            await asyncio.sleep(seconds + TIMER_SLACK_SECONDS)
        pace.bucket.take(now(), cost)

    def _give_up(self, error: GameServerError) -> None:
        """End the connection from our side, without a word to a peer that would not read it."""
        if self._failure is None and self._tasks:
            self._failure = error
            self._tasks[0].cancel()

    async def _read(self, on_message: Callable[[bytes], None], on_end: Callable[[GameServerError, bool], None]) -> None:
        error: GameServerError = ConnectionLost("the client stopped reading")
        reconnect = True
        try:
            while True:
                message = await self._websocket.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    on_message(message.data)
                    # Whoever was waiting for this message goes first: callbacks are in place before what follows it.
                    await asyncio.sleep(0)
                elif message.type is not aiohttp.WSMsgType.TEXT:
                    error, reconnect = self._why(message)
                    return
        except ProtocolError as failure:
            log.error("the server sent what this client does not understand: %s", failure)
            error, reconnect = failure, False
            await self._websocket.close(code=aiohttp.WSCloseCode.PROTOCOL_ERROR)
        except Exception as failure:  # whoever waits must hear of it, not only the log
            log.exception("the client failed")
            error = ConnectionLost(f"the client failed: {failure}")
        finally:
            self._tasks[1].cancel()
            self._release()
            on_end(self._failure or error, reconnect)

    def _why(self, message: aiohttp.WSMessage) -> tuple[GameServerError, bool]:
        if self._closing:
            return ConnectionClosed(), False
        # Only a close frame's own code counts: at a bare end of the stream aiohttp says 1000, as if all were well.
        if message.type is not aiohttp.WSMsgType.CLOSE or message.data is None:
            detail = f": {message.data}" if message.data else ""
            return ConnectionLost(f"the connection to the server was lost{detail}"), True
        reason = message.extra if isinstance(message.extra, str) else ""
        return error_from_close(message.data, reason), should_reconnect(message.data)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._outgoing:
                    data = self._outgoing.popleft()
                    self._outgoing_bytes -= len(data)
                    if self._pace is not None:
                        await self._wait_for_turn(self._pace, len(data))
                    await self._websocket.send_bytes(data)
        except (ConnectionError, RuntimeError, aiohttp.ClientError) as failure:
            log.debug("stopped writing: %s", failure)  # the reader learns why, and tells


def unreachable(url: str, failure: BaseException) -> ServerUnreachable:
    """The error for a server that is not there, with what to look at."""
    why = str(failure) or type(failure).__name__
    return ServerUnreachable(f"cannot reach {url}: is the server running there (`gameserver run`)? ({why})")

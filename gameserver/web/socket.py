"""The WebSocket endpoint: directly (see `receiving`), or by aiohttp's own means where that cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import WSCloseCode, WSMsgType, web

from gameserver.errors import close_code_of
from gameserver.protocol import SUBPROTOCOL
from gameserver.web.link import Link
from gameserver.web.receiving import DirectSocket

if TYPE_CHECKING:
    import asyncio

    from gameserver.web.connection import Connection
    from gameserver.web.connections import Connections


async def serve_socket(request: web.Request, connections: Connections) -> web.StreamResponse:
    """One client: the handshake, and what follows."""
    connections.check_room()
    # aiohttp refuses what reaches its limit, ours is what may still be sent.
    message_bytes_limit = connections.limits.messages.message_bytes_max + 1
    if not connections.direct:
        return await _serve_awaited(request, connections, message_bytes_limit)
    socket = DirectSocket(
        connections.open, message_bytes_limit=message_bytes_limit, now=connections.now, protocols=(SUBPROTOCOL,)
    )
    await socket.prepare(request)
    socket.let_go(request)
    return socket


class AwaitedSocket(web.WebSocketResponse):
    """aiohttp's WebSocket, whose messages come out of `receive()`."""

    connection: Connection | None = None

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; what aiohttp itself refused as too big gets our error and our code."""
        if code == WSCloseCode.MESSAGE_TOO_BIG and self.connection is not None:
            error = self.connection.too_large()
            self.connection.tell(error)
            code, message = close_code_of(error), error.message.encode()
            self.connection.close_code = code
        return await super().close(code=code, message=message, drain=drain)


class AwaitedLink(Link):
    """A connection's way to an `AwaitedSocket`."""

    def __init__(self, socket: AwaitedSocket, transport: asyncio.Transport, request: web.Request) -> None:
        super().__init__(transport)
        self._websocket = socket
        self._protocol = request.protocol

    def buffered_bytes(self) -> int:
        """See `Link`."""
        return self.transport.get_write_buffer_size() if self._protocol.writing_paused else 0

    async def close(self, close_code: int, reason: bytes) -> None:
        """See `Link`."""
        await self._websocket.close(code=close_code, message=reason)


async def _serve_awaited(
    request: web.Request, connections: Connections, message_bytes_limit: int
) -> web.StreamResponse:
    """The whole life of a connection, from the handshake to the end."""
    limits = connections.limits
    socket = AwaitedSocket(
        protocols=(SUBPROTOCOL,), compress=False, max_msg_size=message_bytes_limit,
        heartbeat=limits.heartbeat_seconds, timeout=limits.close_seconds,
    )  # fmt: skip
    await socket.prepare(request)
    transport = request.transport
    if transport is None:  # it was gone before it was here
        return socket
    connection = socket.connection = connections.open(transport, AwaitedLink(socket, transport, request))
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                connection.heard_at = connections.now()
                connection.feed(message.data)
            elif message.type is WSMsgType.TEXT:
                connection.feed_text()
    finally:
        connections.closed(connection, socket.close_code)
    return socket

"""The WebSocket endpoint: aiohttp's handshake, close and heartbeat around our connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import WSCloseCode, WSMsgType

from gameserver.errors import MessageTooLarge, TextFrameRefused, close_code_of
from gameserver.protocol import SUBPROTOCOL, encode_failure, ws_frame
from gameserver.web.receiving import DirectWebSocket, ignore

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from gameserver.web.connection import Connection
    from gameserver.web.connections import Connections

log = structlog.get_logger("gameserver.web")


class GameSocket(DirectWebSocket):
    """aiohttp's WebSocket without compression, with a small message limit whose excess is told like other errors."""

    def __init__(self, connections: Connections) -> None:
        limits = connections.limits
        super().__init__(
            direct=connections.direct,
            protocols=(SUBPROTOCOL,),
            # aiohttp refuses what reaches its limit, ours is what may still be sent.
            max_msg_size=limits.messages.message_bytes_max + 1,
            heartbeat=limits.heartbeat_seconds,
            timeout=limits.close_seconds,
        )
        self._connections = connections
        self.connection: Connection | None = None

    def opened(self, request: web.BaseRequest) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        """The handshake is done: this is a connection now, unless the client has gone meanwhile."""
        connection = self.connection = self._connections.open(self, request)
        return (ignore, lambda: None) if connection is None else (connection.feed, connection.heard)

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; what aiohttp itself refused as too big gets our error and our code."""
        if code == WSCloseCode.MESSAGE_TOO_BIG and self.connection is not None:
            limits = self._connections.limits.messages
            error = MessageTooLarge(f"a message has at most {limits.message_bytes_max} bytes")
            self.connection.write((ws_frame(encode_failure(None, error)),))
            code, message = close_code_of(error), error.message.encode()
            self.connection.close_code = code
        return await super().close(code=code, message=message, drain=drain)


async def serve_socket(request: web.Request, connections: Connections) -> web.StreamResponse:
    """One client, from the handshake to the end of its connection."""
    connections.check_room()
    socket = GameSocket(connections)
    try:
        await socket.prepare(request)
        if socket.connection is None:
            socket.opened(request)
        if socket.connection is None:
            return socket
        async for message in socket:
            if message.type is WSMsgType.BINARY:  # where they do not come directly
                socket.connection.heard()
                socket.connection.feed(message.data)
            elif message.type is WSMsgType.TEXT:
                socket.connection.fail(TextFrameRefused())
    finally:
        socket.stop_taking()
        if socket.connection is not None:
            connections.closed(socket.connection, socket.close_code)
    return socket

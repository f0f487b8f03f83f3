"""The WebSocket endpoint: aiohttp's handshake, close and heartbeat around our connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from gameserver.errors import MessageTooLarge, TextFrameRefused, close_code_of
from gameserver.protocol import SUBPROTOCOL, encode_failure, ws_frame

if TYPE_CHECKING:
    from gameserver.web.connection import Connection
    from gameserver.web.connections import Connections

log = structlog.get_logger("gameserver.web")


class GameSocket(web.WebSocketResponse):
    """aiohttp's WebSocket without compression, with a small message limit whose excess is told like other errors."""

    connection: Connection | None = None

    def __init__(self, *, message_bytes_max: int, heartbeat_seconds: float, close_seconds: float) -> None:
        super().__init__(
            protocols=(SUBPROTOCOL,),
            compress=False,
            # aiohttp refuses what reaches its limit, ours is what may still be sent.
            max_msg_size=message_bytes_max + 1,
            heartbeat=heartbeat_seconds,
            timeout=close_seconds,
        )
        self._message_bytes_max = message_bytes_max

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; what aiohttp itself refused as too big gets our error and our code."""
        if code == WSCloseCode.MESSAGE_TOO_BIG and self.connection is not None:
            error = MessageTooLarge(f"a message has at most {self._message_bytes_max} bytes")
            self.connection.write((ws_frame(encode_failure(None, error)),))
            code, message = close_code_of(error), error.message.encode()
            self.connection.close_code = code
        return await super().close(code=code, message=message, drain=drain)


async def serve_socket(request: web.Request, connections: Connections) -> web.StreamResponse:
    """One client, from the handshake to the end of its connection."""
    connections.check_room()
    limits = connections.limits
    socket = GameSocket(
        message_bytes_max=limits.messages.message_bytes_max,
        heartbeat_seconds=limits.heartbeat_seconds,
        close_seconds=limits.close_seconds,
    )
    await socket.prepare(request)
    connection = connections.open(socket, request)
    if connection is None:  # it was gone before it was here
        return socket
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                connection.feed(message.data)
            elif message.type is WSMsgType.TEXT:
                connection.fail(TextFrameRefused())
    finally:
        connections.closed(connection, socket.close_code)
    return socket

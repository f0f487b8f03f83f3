"""As little as can be done on aiohttp: a synchronous receive callback, one frame per room written to each transport.

Nothing of what a game server needs is here: no sessions, no validation, no limits, no tracking, no journal. It is the
floor for a server on aiohttp; the distance to it is what features cost. It leans on private parts of aiohttp.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgpack
import uvloop
from aiohttp import WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

from benchmarks.peers.swarm import TICK_SECONDS, Body, Room, is_still

ROOMS: dict[str, BareRoom] = {}


def websocket_frame(payload: bytes) -> bytes:
    """An unmasked binary frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x82, size)) + payload
    if size < 65_536:
        return b"\x82\x7e" + size.to_bytes(2, "big") + payload
    return b"\x82\x7f" + size.to_bytes(8, "big") + payload


class BareRoom(Room):
    """A room that ticks by itself; its keys are transports."""

    def __init__(self, still: bool) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.due = self.loop.time()
        if not still:
            self.run()

    def run(self) -> None:
        """One tick, and the next one in its time."""
        self.move()
        self.send(self.state())
        self.due = max(self.due + TICK_SECONDS, self.loop.time() - TICK_SECONDS)
        self.loop.call_at(self.due, self.run)

    def send(self, message: list[Any]) -> None:
        """One frame for all."""
        frame = websocket_frame(msgpack.packb(message))
        for transport in self.bodies:
            if not transport.is_closing():
                transport.write(frame)


class CallbackQueue(WebSocketDataQueue):
    """Hands binary messages over at once instead of queueing them for `receive()`."""

    room: BareRoom
    body: Body

    def feed_data(self, msg: Any, size: int) -> None:
        """Called by aiohttp's reader for each message."""
        if msg.type is not WSMsgType.BINARY:
            super().feed_data(msg, size)
            return
        kind, *arguments = msgpack.unpackb(msg.data)
        if kind == 0:
            self.body.steer(*arguments)
        else:
            self.room.send([1, arguments[0]])


class CallbackResponse(web.WebSocketResponse):
    """A WebSocket whose parser feeds our queue."""

    def _post_start(self, request: Any, protocol: str | None, writer: Any) -> None:
        self._ws_protocol, self._writer = protocol, writer
        name = request.path
        queue = CallbackQueue(request._protocol, 65_536, loop=asyncio.get_running_loop())
        queue.room = ROOMS[name] if name in ROOMS else ROOMS.setdefault(name, BareRoom(is_still(name)))
        queue.body = queue.room.bodies[request.transport] = Body()
        self._reader = queue
        self._parser = WebSocketReader(queue, 65_536, compress=False, decode_text=True)
        request.protocol.set_parser(self._parser)
        request.protocol.keep_alive(False)


async def endpoint(request: web.Request) -> web.WebSocketResponse:
    """One client."""
    connection = CallbackResponse(compress=False)
    await connection.prepare(request)
    transport = request.transport
    async for _ in connection:
        pass
    ROOMS[request.path].bodies.pop(transport, None)
    return connection


def main() -> None:
    """Serve on the port given."""
    uvloop.install()
    app = web.Application()
    app.router.add_get("/{world}/{room}", endpoint)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()

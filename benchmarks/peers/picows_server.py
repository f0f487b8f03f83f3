"""picows (a WebSocket server in Cython), as its documentation shows it: a listener per client, `send` to each."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgpack
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.peers.swarm import TICK_SECONDS, Body, Room, is_still

ROOMS: dict[str, PicoRoom] = {}


class PicoRoom(Room):
    """A room that ticks by itself; its keys are picows's transports."""

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
        """To all."""
        payload = msgpack.packb(message)
        for transport in self.bodies:
            transport.send(WSMsgType.BINARY, payload)


class Listener(WSListener):
    """One client."""

    def __init__(self, room_name: str) -> None:
        self.room_name = room_name

    def on_ws_connected(self, transport: WSTransport) -> None:
        name = self.room_name
        self.room = ROOMS[name] if name in ROOMS else ROOMS.setdefault(name, PicoRoom(is_still(name)))
        self.body = self.room.bodies[transport] = Body()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            kind, *arguments = msgpack.unpackb(frame.get_payload_as_memoryview())
            if kind == 0:
                self.body.steer(*arguments)
            else:
                self.room.send([1, arguments[0]])
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.room.bodies.pop(transport, None)


async def serve() -> None:
    """Serve on the port given."""

    def listener(request: WSUpgradeRequest) -> Listener:
        return Listener(request.path.decode())

    server = await ws_create_server(listener, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())

"""aiohttp as its documentation shows it: receive in a loop, and `send_bytes` to every client of the room."""

from __future__ import annotations

import asyncio
import sys

import msgpack
import uvloop
from aiohttp import WSMsgType, web

from benchmarks.peers.swarm import TICK_SECONDS, Body, Room, is_still

ROOMS: dict[str, Room] = {}
TASKS: set[asyncio.Task[None]] = set()


async def run_room(room: Room) -> None:
    """Tick for ever, at a steady rate."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        room.move()
        for connection in list(room.bodies):
            try:
                await connection.send_bytes(msgpack.packb(room.state()))
            except ConnectionError:
                room.bodies.pop(connection, None)
        due = max(due + TICK_SECONDS, loop.time() - TICK_SECONDS)
        await asyncio.sleep(max(0.0, due - loop.time()))


async def endpoint(request: web.Request) -> web.WebSocketResponse:
    """One client."""
    connection = web.WebSocketResponse(compress=False)
    await connection.prepare(request)
    name = request.path
    room = ROOMS.get(name)
    if room is None:
        room = ROOMS[name] = Room()
        if not is_still(name):
            TASKS.add(asyncio.create_task(run_room(room)))
    body = room.bodies[connection] = Body()
    async for message in connection:
        if message.type is WSMsgType.BINARY:
            kind, *arguments = msgpack.unpackb(message.data)
            if kind == 0:
                body.steer(*arguments)
            else:
                for other in list(room.bodies):
                    await other.send_bytes(msgpack.packb([1, arguments[0]]))
    room.bodies.pop(connection, None)
    return connection


def main() -> None:
    """Serve on the port given."""
    uvloop.install()
    app = web.Application()
    app.router.add_get("/{world}/{room}", endpoint)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None, handle_signals=True)


if __name__ == "__main__":
    main()

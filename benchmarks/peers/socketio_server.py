"""python-socketio on aiohttp, as its documentation shows it: `enter_room`, and `emit` to the room. WebSocket only."""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from urllib.parse import parse_qs

import socketio
import uvloop
from aiohttp import web

from benchmarks.peers.swarm import TICK_SECONDS, Body, Room, is_still

sio = socketio.AsyncServer(async_mode="aiohttp", transports=["websocket"])
ROOMS: dict[str, Room] = {}
WHERE: dict[str, tuple[str, Body]] = {}
TASKS: set[Any] = set()


async def run_room(name: str, room: Room) -> None:
    """Tick for ever, at a steady rate."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        room.move()
        await sio.emit("state", room.state(), room=name)
        due = max(due + TICK_SECONDS, loop.time() - TICK_SECONDS)
        await asyncio.sleep(max(0.0, due - loop.time()))


@sio.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    """One client: the room is named in the query."""
    name = parse_qs(environ["QUERY_STRING"])["room"][0]
    room = ROOMS.get(name)
    if room is None:
        room = ROOMS[name] = Room()
        if not is_still(name):
            TASKS.add(sio.start_background_task(run_room, name, room))
    body = room.bodies[sid] = Body()
    WHERE[sid] = (name, body)
    await sio.enter_room(sid, name)


@sio.event
async def disconnect(sid: str, reason: str) -> None:
    """Gone."""
    name, _ = WHERE.pop(sid)
    ROOMS[name].bodies.pop(sid, None)


@sio.event
async def steer(sid: str, dx: float, dy: float, mark: int) -> None:
    """One input."""
    WHERE[sid][1].steer(dx, dy, mark)


@sio.event
async def shout(sid: str, mark: int) -> None:
    """An event to all at once."""
    await sio.emit("shout", mark, room=WHERE[sid][0])


def main() -> None:
    """Serve on the port given."""
    uvloop.install()
    app = web.Application()
    sio.attach(app)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()

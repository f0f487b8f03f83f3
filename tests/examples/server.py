"""A server as its users start it: the command line, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp

from gameserver.config import Settings

START_SECONDS = 20.0
STOP_SECONDS = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """`gameserver run`, with the examples or `games`, on the stores of the tests. The same port at every start."""

    def __init__(self, settings: Settings, folder: Path, games: tuple[str, ...] = (), **values: str) -> None:
        self._games = games
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._folder = folder
        assert settings.redis.url is not None
        assert settings.mongo.url is not None
        self._environment = {
            **os.environ,
            "GAMESERVER__SERVER__PORT": str(self.port),
            "GAMESERVER__REDIS__URL": settings.redis.url.get_secret_value(),
            "GAMESERVER__MONGO__URL": settings.mongo.url.get_secret_value(),
            "GAMESERVER__MONGO__DATABASE": settings.mongo.database,
            **values,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gameserver", "run", *self._games,
                cwd=self._folder, env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
            while True:
                assert self._process.returncode is None, self.log.read_text()
                try:
                    async with http.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it and return its exit code; it has ten seconds."""
        self.send(number)
        return await self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Its exit code; it has ten seconds to end."""
        assert self._process is not None
        async with asyncio.timeout(STOP_SECONDS):
            return await self._process.wait()

    async def end(self) -> None:
        """Make sure that nothing is left of it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

"""Real server processes with embedded stores."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "gameserver"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path, **values: str) -> dict[str, str]:
    """No configuration but what is given here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GAMESERVER__")}
    return kept | {"GAMESERVER__DATA__DIR": str(folder / "data")} | values


def command(*args: str, folder: Path, **values: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*COMMAND, *args], cwd=folder, env=environment(folder, **values), capture_output=True, text=True, timeout=60
    )


class Server:
    """`gameserver run` in a folder of its own."""

    def __init__(self, folder: Path, *games: str, arguments: tuple[str, ...] = (), **values: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "run", *games, "--port", str(self.port), *arguments],
                cwd=folder,
                env=environment(folder, **values),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:  # noqa: S310 - our own server
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def wait_until_ready(self, seconds: float = 20) -> Server:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if self.get("/readyz")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server is not ready:\n{self.text()[-3000:]}")

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 12) -> tuple[int, float]:
        """The exit code, and how long it took."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds), time.monotonic() - started

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *problem: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def store_processes(folder: Path) -> list[int]:
    """Stores on this data folder: who has it on the command line, without those that only watch over one of them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
                zombie = b") Z " in (entry / "stat").read_bytes()
            except OSError:
                continue
            if not zombie and str(folder / "data").encode() in line and b"launcher.py" not in line:
                found.append(int(entry.name))
    return found

"""`gameserver run --workers N`: several processes behind one port, started, kept and stopped by a supervisor."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gameserver.client import Client
from tests.cli.kit import Server, command, store_processes
from tests.cli.test_server_process import wait_for

pytestmark = pytest.mark.slow


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(server: Server) -> list[int]:
    """The children that are nodes; the others are stores."""
    found = []
    for pid in children(server.process.pid):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"gameserver\0run" in line and b"launcher.py" not in line:
            found.append(pid)
    return found


def alive(pids: list[int]) -> list[int]:
    def lives(pid: int) -> bool:
        try:
            return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return False

    return [pid for pid in pids if lives(pid)]


def started(server: Server, count: int) -> list[int]:
    """Wait until all workers serve."""
    wait_for(lambda: server.process.poll() is not None or "workers_started" in server.text(), 30)
    assert server.process.poll() is None, server.text()
    pids = workers_of(server)
    assert len(pids) == count
    return pids


async def play(url: str, name: str) -> Any:
    async with Client(url, name=name) as client:
        room = await client.join_or_create("arena")
        return await room.action("steer", dx=1.0, dy=0.0)


def test_workers_share_a_port_and_their_stores(tmp_path: Path) -> None:
    """Two nodes, one pair of stores; new connections go to both; SIGTERM ends everything in time and in order."""
    with Server(tmp_path, arguments=("--workers", "2")) as server:
        pids = started(server, 2)
        assert len(store_processes(tmp_path)) == 2
        for _ in range(40):
            assert server.get("/v1/matches")[0] == 200
        ports = [int(port) for port in re.findall(r"'[^']+-\d': (\d+)", server.text())]
        asked = [matches_asked(port) for port in ports]
        assert len(asked) == 2
        assert sum(asked) == 40
        assert min(asked) > 0
        for number in range(4):
            asyncio.run(play(server.url, f"p{number}"))
        code, seconds = server.stop(signal.SIGTERM)
        assert code == 0, server.text()
        assert seconds < 10
        assert alive(pids) == []
        assert "Traceback" not in server.text()
    assert store_processes(tmp_path) == []


def matches_asked(port: int) -> float:
    """How often this very worker has answered a listing."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        for line in response.read().decode().splitlines():
            if line.startswith('gameserver_http_requests_total{method="GET",route="/v1/matches"'):
                return float(line.split()[-1])
    return 0.0


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    with Server(tmp_path, arguments=("--workers", "2")) as server:
        first, second = started(server, 2)
        os.kill(first, signal.SIGKILL)
        # Only when it has been reaped is its socket surely closed: until then it could be given the request.
        wait_for(lambda: first not in children(server.process.pid))
        assert server.get("/readyz")[0] == 200  # the other one serves meanwhile
        wait_for(lambda: len(workers_of(server)) == 2)
        assert second in workers_of(server)
        assert "worker_died" in server.text()
        assert server.stop()[0] == 0


def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with Server(tmp_path, arguments=("--workers", "2")) as server:
        pids = started(server, 2) + store_processes(tmp_path)
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not alive(pids))
    assert store_processes(tmp_path) == []


def test_workers_that_cannot_start_are_given_up(tmp_path: Path) -> None:
    """A game that fails only in a worker: tried a few times, then told, and nothing stays."""
    (tmp_path / "broken.py").write_text(
        "import os\nfrom gameserver import Game\n\nclass Broken(Game):\n    pass\n\n"
        "if os.environ.get('GAMESERVER__SERVER__DIRECT_PORT'):\n    os._exit(3)\n"
    )
    with Server(tmp_path, "broken.py", arguments=("--workers", "2")) as server:
        assert server.process.wait(40) == 2
        assert "times in a row before it served, last with code 3: giving up" in server.text()
    assert store_processes(tmp_path) == []


def test_a_port_in_use_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Server(tmp_path / "a", arguments=("--workers", "2")) as first:
        started(first, 2)
        told = command("run", "--workers", "2", "--port", str(first.port), folder=tmp_path / "b")
        assert told.returncode == 2
        assert "Cannot listen on" in told.stderr
        assert first.stop()[0] == 0


def test_sighup_restarts_the_workers_one_by_one(tmp_path: Path) -> None:
    """At every moment somebody serves the port."""
    with Server(tmp_path, arguments=("--workers", "2")) as server:
        pids = started(server, 2)
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 40
        refused = 0
        while "rolling_restart_done" not in server.text():
            assert time.monotonic() < deadline, server.text()
            try:
                assert server.get("/healthz")[0] == 200
            except OSError:
                refused += 1
            time.sleep(0.02)
        assert alive(pids) == []
        assert len(workers_of(server)) == 2
        # A connection that waits in the queue of a process that stops is reset by the kernel; clients try again.
        assert refused <= 2
        assert server.stop()[0] == 0


@pytest.mark.parametrize("count", ["0", "-1", "1000"])
def test_a_wrong_number_is_told(tmp_path: Path, count: str) -> None:
    told = command("run", "--workers", count, folder=tmp_path)
    assert told.returncode == 2
    assert "expected a number from 1 to" in told.stderr

"""What the server costs: CPU time of the server process per delivered frame and per received action.

The server and the clients are processes of their own, pinned to different cores, talking over the loopback address.
The cost of a frame is measured with clients that only listen; the cost of an action is what ten inputs a second and
client add. The stores' processes are not counted; the server's own part of saving snapshots is.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.processes import cores, cpu_seconds, ending, move_stores, pinned
from loadtests.run import running_server

if TYPE_CHECKING:
    from benchmarks.report import Report

HERE = Path(__file__).parent
INPUTS_PER_SECOND = 10
GRACE_SECONDS = 120


@dataclass
class Window:
    """What happened between two moments."""

    seconds: float
    server_cpu_seconds: float
    client_cpu_seconds: float
    frames: int
    actions: int
    bytes: int


def observe(server: psutil.Process, url: str, secret: str, rates: list[float], **options: Any) -> list[Window]:
    """Let clients play, at each rate in turn, and read the server's CPU time at both ends of their windows."""
    command = [sys.executable, "-m", "benchmarks.clients", "--url", url, "--secret", secret]
    command += ["--rates", *(str(rate) for rate in rates)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    clients = subprocess.Popen(pinned(command, cores()[1]), stdout=subprocess.PIPE, text=True, env=environment)
    playing = len(rates) * (options["seconds"] + options["warm_up"])
    with ending(clients, at_most_seconds=playing + GRACE_SECONDS):
        assert clients.stdout is not None  # noqa: S101 - asked for above
        marks = [(json.loads(line), cpu_seconds(server)) for line in clients.stdout]
        if clients.wait(GRACE_SECONDS) != 0 or len(marks) != 2 * len(rates):
            raise RuntimeError("the clients failed: see above")
    return [
        Window(
            seconds=last["at"] - first["at"],
            server_cpu_seconds=cpu_last - cpu_first,
            client_cpu_seconds=last["cpu_seconds"] - first["cpu_seconds"],
            frames=last["frames"] - first["frames"],
            actions=last["actions"] - first["actions"],
            bytes=last["bytes"] - first["bytes"],
        )
        for (first, cpu_first), (last, cpu_last) in zip(marks[::2], marks[1::2], strict=True)
    ]


def measure_rooms(report: Report, room: int, game: str, *, clients: int, seconds: float, warm_up: float) -> None:
    """One server, first with clients that listen, then with clients that act."""
    secret = secrets.token_urlsafe(48)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        environment = {"GAMESERVER__AUTH__SECRET": secret}
        with running_server([str(HERE / "games.py")], log, cores=cores()[0], environment=environment) as (url, process):
            server = psutil.Process(process.pid)
            move_stores(server)
            shared: dict[str, Any] = {"game": game, "clients": clients, "seconds": seconds, "warm_up": warm_up}
            listening, acting = observe(server, url, secret, [0, INPUTS_PER_SECOND], **shared)
            memory = server.memory_info().rss / 1e6
    per_frame = listening.server_cpu_seconds / listening.frames * 1e6
    # The ticks and frames of the second window cost what they cost in the first one; the rest is the actions'.
    extra = acting.server_cpu_seconds - per_frame / 1e6 * acting.frames
    busy = f"clients used {acting.client_cpu_seconds / acting.seconds:.0%} of their core"
    name = f"server: rooms of {room}"
    rate = f"{listening.frames / listening.seconds:,.0f} frames/s"
    report.add(f"{name}, CPU per delivered frame", per_frame, "µs", rate)
    report.add(
        f"{name}, CPU per received action", extra / acting.actions * 1e6, "µs",
        f"{acting.actions / acting.seconds:,.0f} actions/s",
    )  # fmt: skip
    both = acting.server_cpu_seconds / acting.frames * 1e6
    report.add(f"{name}, CPU per delivered frame, inputs included", both, "µs", busy)
    report.add(f"{name}, bytes per frame", listening.bytes / listening.frames, "B")
    report.add(f"{name}, memory with {clients} players", memory, "MB")


def run(report: Report, *, quick: bool) -> None:
    """All cases of this group."""
    clients, seconds, warm_up = (200, 3.0, 1.0) if quick else (1000, 10.0, 3.0)
    pinned = "pinned to cores {} and {}".format(*cores()) if cores()[0] else "NOT pinned: there is only one core"
    print(f"\nserver: {clients} clients, 20 frames/s, {INPUTS_PER_SECOND} inputs/s each; server and clients {pinned}")
    for room, game in ((10, "swarm"), (50, "swarm50")):
        measure_rooms(report, room, game, clients=clients, seconds=seconds, warm_up=warm_up)

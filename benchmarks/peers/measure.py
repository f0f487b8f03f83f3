"""One server under one load: what it used while the load generator counted."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers.servers import HERE, Peer, started
from benchmarks.processes import cores, cpu_seconds, ending, machine_cpu_seconds, memory_bytes, move_stores, pinned

LOAD = HERE / "build" / "load"
JOIN_SECONDS_MAX = 120
GRACE_SECONDS = 30
Row = dict[str, float]
"""The figures of one server in one round, by name."""


@dataclass(frozen=True)
class Phase:
    """What the clients do for some time; the modes are told in load.c."""

    mode: str
    rate: float = 0.0
    seconds: float = 5.0
    warm_up: float = 2.0

    def __str__(self) -> str:
        return f"{self.mode}:{self.rate}:{self.warm_up}:{self.seconds}"


@dataclass
class Window:
    """One phase after its warm-up."""

    seconds: float
    cpu: list[float]
    """CPU seconds of each process of the server."""
    stores_cpu: float
    load_cpu: float
    others_cpu: float
    """Of everything else on the machine: what disturbs."""
    rss: int
    """Bytes of the server's processes at the end."""
    counts: dict[str, float]
    p50_ms: float
    p99_ms: float

    @property
    def server_cpu(self) -> float:
        """Of all its processes."""
        return sum(self.cpu)

    @property
    def bench_busy(self) -> float:
        """How busy the other core was: near 1 it would be what is measured."""
        return (self.load_cpu + self.stores_cpu) / self.seconds


@dataclass
class Server:
    """A running server and the processes that count as it."""

    port: int
    process: psutil.Process
    folder: Path
    stores: list[psutil.Process]
    counted: list[psutil.Process]
    load_core: str | None
    """Where the load generator runs; None: anywhere."""


def build_load() -> None:
    """Compile the load generator if it is older than its source."""
    if shutil.which("gcc") is None:
        raise SystemExit("gcc is needed to build the load generator (Debian: apt-get install gcc libc6-dev)")
    sources = [HERE / "load.c", HERE / "msgpack.h"]
    if not LOAD.exists() or LOAD.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        LOAD.parent.mkdir(exist_ok=True)
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(LOAD), str(sources[0])], check=True)


@contextlib.contextmanager
def running(peer: Peer, room: int = 10, *, pin: bool = True) -> Iterator[Server]:
    """A fresh server on the first core, its stores on the other one; or all of it on all cores."""
    with tempfile.TemporaryDirectory(prefix="gameserver-peers-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with started(peer, room, folder, cores()[0] if pin else None) as (port, child):
            process = psutil.Process(child.pid)
            stores = move_stores(process) if pin else process.children(recursive=True)
            yield Server(port, process, folder, stores, [process], cores()[1] if pin else None)


def drive(server: Server, protocol: str, connections: Sequence[str], phases: Sequence[Phase]) -> list[Window]:
    """Let clients play the phases in turn, and read what was used at both ends of each."""
    path = server.folder / "connections"
    path.write_text("\n".join(connections) + "\n")
    command = [str(LOAD), protocol, str(len(connections)), str(path), *map(str, phases)]
    seconds = JOIN_SECONDS_MAX + sum(phase.warm_up + phase.seconds for phase in phases) + GRACE_SECONDS
    load = subprocess.Popen(pinned(command, server.load_core), stdout=subprocess.PIPE, text=True)
    with ending(load, at_most_seconds=seconds):
        assert load.stdout is not None  # noqa: S101 - asked for above
        marks = [(json.loads(line), _used(server)) for line in load.stdout]
        code = load.wait(GRACE_SECONDS)
    if code != 0 or len(marks) != 2 * len(phases):
        raise RuntimeError(f"the load failed with code {code}")
    return [_window(*pair) for pair in zip(marks[::2], marks[1::2], strict=True)]


def _used(server: Server) -> dict[str, Any]:
    return {
        "cpu": [cpu_seconds(process) for process in server.counted],
        "stores": cpu_seconds(*server.stores),
        "machine": machine_cpu_seconds(),
        "rss": memory_bytes(*server.counted),
    }


def _window(first: tuple[dict[str, Any], dict[str, Any]], last: tuple[dict[str, Any], dict[str, Any]]) -> Window:
    (begin, used_before), (end, used) = first, last
    cpu = [after - before for after, before in zip(used["cpu"], used_before["cpu"], strict=True)]
    stores, load = used["stores"] - used_before["stores"], end["cpu_seconds"] - begin["cpu_seconds"]
    counters = ("frames", "messages", "bytes", "inputs", "applied", "events", "acks", "blocked", "seen")
    return Window(
        seconds=end["at"] - begin["at"],
        cpu=cpu,
        stores_cpu=stores,
        load_cpu=load,
        others_cpu=used["machine"] - used_before["machine"] - sum(cpu) - stores - load,
        rss=used["rss"],
        counts={name: end[name] - begin[name] for name in counters} | {"waiting": end["waiting"]},
        p50_ms=end["p50_ms"],
        p99_ms=end["p99_ms"],
    )

"""What the journal costs: CPU per tick with and without it, and Redis round trips per second as matches grow in number.

Matches that nobody is in tick twenty times a second and change one number each time, so that every tick is a version
for the journal. Ticks are counted by the server's own metrics, round trips by the store, as reads from its sockets.
"""

from __future__ import annotations

import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from redis import Redis

from benchmarks.peers.servers import SETTINGS, create_matches
from benchmarks.processes import cores, cpu_seconds, move_stores
from loadtests.run import running_server

if TYPE_CHECKING:
    from benchmarks.report import Report

HERE = Path(__file__).parent
COUNTS = (1, 10, 100, 1000)
JOURNALED, UNJOURNALED = "busy", "busy_unjournaled"


@dataclass
class Sample:
    """What had happened up to a moment."""

    at: float
    cpu: float
    ticks: float
    reads: int
    appends: int


def take(url: str, server: psutil.Process, redis: Redis, game: str) -> Sample:
    """Read all counters."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    label = f'gameserver_flushes_total{{game="{game}"}} '
    ticks = next(float(line.removeprefix(label)) for line in lines if line.startswith(label))
    stats, commands = redis.info("stats"), redis.info("commandstats")
    appends = commands.get("cmdstat_evalsha", {}).get("calls", 0)
    return Sample(time.perf_counter(), cpu_seconds(server), ticks, stats["total_reads_processed"], appends)


def measure(game: str, counts: tuple[int, ...], *, seconds: float, warm_up: float) -> dict[int, tuple[Sample, Sample]]:
    """One server; more and more matches of the game; both ends of a window of time for each number of them."""
    windows = {}
    with tempfile.TemporaryDirectory(prefix="gs-") as folder:
        environment = SETTINGS | {"GAMESERVER__DATA__DIR": f"{folder}/data"}
        log = Path(folder) / "server.log"
        with running_server([str(HERE / "games.py")], log, cores=cores()[0], environment=environment) as (url, process):
            server = psutil.Process(process.pid)
            move_stores(server)
            there = 0
            with Redis(unix_socket_path=f"{folder}/data/redis/valkey.sock") as redis:
                for count in counts:
                    create_matches(int(url.rpartition(":")[2]), game, count - there)
                    there = count
                    time.sleep(warm_up)
                    first = take(url, server, redis, game)
                    time.sleep(seconds)
                    windows[count] = (first, take(url, server, redis, game))
    return windows


def run(report: Report, *, quick: bool) -> None:
    """All cases of this group."""
    seconds, warm_up = (2.0, 1.0) if quick else (6.0, 3.0)
    print("\njournal: matches with 20 ticks/s, one number changes in each; embedded store on the other core")
    with_it = measure(JOURNALED, COUNTS, seconds=seconds, warm_up=warm_up)
    without = measure(UNJOURNALED, COUNTS, seconds=seconds, warm_up=warm_up)
    for count in COUNTS:
        costs = []
        for windows, what in ((with_it, "journaled"), (without, "not journaled")):
            first, last = windows[count]
            ticks = last.ticks - first.ticks
            costs.append((last.cpu - first.cpu) / max(1.0, ticks) * 1e6)
            if count >= 100:  # below, what the server does anyway is more than the ticks
                note = f"{ticks / (last.at - first.at):,.0f} ticks/s, {_busy(first, last):.0%} of a core"
                report.add(f"journal: {count} matches, CPU per tick, {what}", costs[-1], "µs", note)
        first, last = with_it[count]
        took = last.at - first.at
        note = f"{(last.appends - first.appends) / took:.0f} script calls/s"
        report.add(f"journal: {count} matches, Redis round trips", (last.reads - first.reads) / took, "/s", note)


def _busy(first: Sample, last: Sample) -> float:
    return (last.cpu - first.cpu) / (last.at - first.at)

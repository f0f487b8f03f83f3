"""`make bench-peers`: the same game load against every server, interleaved and pinned, and one table at the end."""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil

from benchmarks.peers.servers import HERE, Peer, free_port, peers, start, write_connections
from benchmarks.report import RESULTS, machine
from benchmarks.server import cores, cpu_seconds, move_stores
from loadtests.run import stop

LOAD = HERE / "build" / "load"
REFERENCE = "Colyseus"
LATENCY_MS_MAX = 100.0  # a tick of 50 ms and as much again
GRACE_SECONDS = 180
HEAD = """# Side by side

Written by `make bench-peers` on {when:%Y-%m-%d}: {where}.
Medians of {rounds} rounds of {seconds:g} s, interleaved; the server pinned to one core, the load generator to another.
How it is measured: [peers/README.md](peers/README.md).
"""


@dataclass(frozen=True)
class Case:
    """One load."""

    name: str
    title: str
    room: int
    clients: int
    rate: float = 10.0
    mode: str = "play"


CASES = (
    Case("rooms10", "rooms of 10: 20 frames/s, 10 inputs/s per client", 10, 1000),
    Case("rooms50", "rooms of 50: 20 frames/s, 10 inputs/s per client", 50, 1000),
    Case("room500", "one room of 500: 20 frames/s, 10 inputs/s per client", 500, 500),
    Case("relay", "HIGH events relayed to a room of 10 (1,800 sent/s, 18,000 delivered/s)", 10, 200, 9.0, "shout"),
)


@dataclass
class Result:
    """One server under one load."""

    per_frame_us: float
    per_input_us: float
    p50_ms: float
    p99_ms: float
    bytes_per_frame: float
    kb_per_connection: float
    server_busy: float
    load_busy: float
    clients: int


def build_load() -> None:
    """Compile the load generator if it is older than its source."""
    if shutil.which("gcc") is None:
        raise SystemExit("gcc is needed to build the load generator (Debian: apt-get install gcc libc6-dev)")
    source = HERE / "load.c"
    if not LOAD.exists() or LOAD.stat().st_mtime < source.stat().st_mtime:
        LOAD.parent.mkdir(exist_ok=True)
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(LOAD), str(source)], check=True)


@contextlib.contextmanager
def running(peer: Peer, room: int) -> Iterator[tuple[int, psutil.Process, Path]]:
    """A fresh server; gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="gameserver-peers-") as name:
        folder, port = Path(name), free_port()
        process = start(peer, port, room, folder, cores()[0])
        try:
            server = psutil.Process(process.pid)
            move_stores(server)
            yield port, server, folder
        finally:
            stop(process)


def measure(peer: Peer, case: Case, *, seconds: float, warm_up: float) -> Result:
    """One fresh server, one load."""
    clients = min(case.clients, peer.clients_max)
    with running(peer, case.room) as (port, server, folder):
        connections = folder / "connections"
        rss_before = server.memory_info().rss
        write_connections(peer, port, clients, case.room, connections)
        core = cores()[1]
        command = ["taskset", "--cpu-list", core] if core else []
        command += [str(LOAD), str(port), peer.protocol, str(clients)]
        command += [str(connections), str(case.rate), str(warm_up), str(seconds), case.mode]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert load.stdout is not None  # noqa: S101 - asked for above
            marks = [(json.loads(line), cpu_seconds(server)) for line in load.stdout]
            if load.wait(GRACE_SECONDS) != 0 or len(marks) != 2:
                log = (folder / "server.log").read_text(errors="replace")[-1000:]
                raise RuntimeError(f"the load on {peer.name} failed; the end of the server's log:\n{log}")
            rss_after = server.memory_info().rss
        finally:
            stop(load, 5)
    (first, cpu_first), (last, cpu_last) = marks
    took, cpu = last["at"] - first["at"], cpu_last - cpu_first
    delivered = last["events"] if case.mode == "shout" else last["frames"]
    return Result(
        per_frame_us=cpu / max(1, delivered) * 1e6,
        per_input_us=cpu / max(1, last["inputs"]) * 1e6,
        p50_ms=last["p50_ms"],
        p99_ms=last["p99_ms"],
        bytes_per_frame=last["bytes"] / max(1, last["messages"]),
        kb_per_connection=(rss_after - rss_before) / clients / 1024,
        server_busy=cpu / took,
        load_busy=(last["cpu_seconds"] - first["cpu_seconds"]) / took,
        clients=clients,
    )


def capacity(peer: Peer, *, seconds: float, warm_up: float) -> int:
    """The most clients (rooms of 10) with a 99th percentile within a tick and 50 ms."""
    best, clients = 0, 400
    while True:
        try:
            case = Case("capacity", "", 10, clients)
            result = measure(Peer(**{**vars(peer), "clients_max": 10**6}), case, seconds=seconds, warm_up=warm_up)
        except RuntimeError as error:
            print(f"    {clients}: {str(error).splitlines()[0]}", flush=True)
            return best
        late = result.p99_ms > LATENCY_MS_MAX or result.p99_ms == 0
        print(f"    {clients}: p99 {result.p99_ms:.0f} ms, server {result.server_busy:.0%}", flush=True)
        if late:
            return best
        best, clients = clients, round(clients * 1.2 / 100 + 0.5) * 100


def table(case: Case, results: dict[str, list[Result]]) -> list[str]:
    """Medians over the rounds, as Markdown."""
    what = "delivered event" if case.mode == "shout" else "delivered frame, inputs included"
    columns = (
        "server", "clients", f"CPU µs per {what}", f"× {REFERENCE}", "p50 / p99 ms", "bytes per message",
        "kB per connection", "server's core", "load's core",
    )  # fmt: skip
    lines = [f"### {case.title}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    middle = {
        name: {key: median(getattr(result, key) for result in rounds) for key in vars(rounds[0])}
        for name, rounds in results.items() if rounds
    }  # fmt: skip
    reference = middle.get(REFERENCE, {}).get("per_frame_us")
    for name, row in sorted(middle.items(), key=lambda item: item[1]["per_frame_us"]):
        ratio = f"{row['per_frame_us'] / reference:.2f}" if reference else "–"
        lines.append(
            f"| {name} | {row['clients']:.0f} | {row['per_frame_us']:.1f} | {ratio} | {row['p50_ms']:.1f} / "
            f"{row['p99_ms']:.1f} | {row['bytes_per_frame']:.0f} | {row['kb_per_connection']:.0f} "
            f"| {row['server_busy']:.0%} | {row['load_busy']:.0%} |"
        )
    return [*lines, ""]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--case", action="append", choices=[*(case.name for case in CASES), "capacity"])
    parser.add_argument("--server", action="append", help="only these (names as in the table)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--warm-up", type=float, default=3.0)
    parser.add_argument("--clients", type=int, help="instead of each case's own number")
    parser.add_argument("--save", action="store_true", help="write benchmarks/RESULTS.md")
    return parser.parse_args()


def run_case(case: Case, chosen: list[Peer], options: argparse.Namespace) -> list[str]:
    """All servers in turn, as often as there are rounds: what disturbs one round disturbs all of them."""
    print(f"\n{case.title}", flush=True)
    results: dict[str, list[Result]] = {peer.name: [] for peer in chosen}
    for turn in range(options.rounds):
        for peer in chosen:
            try:
                result = measure(peer, case, seconds=options.seconds, warm_up=options.warm_up)
            except RuntimeError as error:
                print(f"  {peer.name}: {error}", flush=True)
                continue
            results[peer.name].append(result)
            print(
                f"  {turn + 1}/{options.rounds} {peer.name:<18}{result.per_frame_us:7.1f} µs"
                f"   p99 {result.p99_ms:6.1f} ms   server {result.server_busy:4.0%}   load {result.load_busy:4.0%}",
                flush=True,
            )
    return table(case, results)


def main() -> int:
    """Build, run, print."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every `finally` runs
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    build_load()
    chosen = []
    for peer in peers():
        if options.server and peer.name not in options.server:
            continue
        if problem := peer.missing():
            print(f"left out: {peer.name}: {problem}")
        else:
            chosen.append(peer)
    cases = [case for case in CASES if options.case is None or case.name in options.case]
    if options.clients:
        cases = [Case(**{**vars(case), "clients": options.clients}) for case in cases]
    lines = []
    for case in cases:
        lines += run_case(case, chosen, options)
    if options.case and "capacity" in options.case:
        title = f"### Most clients on one core, rooms of 10, p99 ≤ {LATENCY_MS_MAX:.0f} ms"
        lines += [title, "", "| server | clients |", "|---|---|"]
        for peer in chosen:
            print(f"\ncapacity: {peer.name}", flush=True)
            lines.append(f"| {peer.name} | {capacity(peer, seconds=options.seconds, warm_up=options.warm_up)} |")
    where = ", ".join(f"{key} {value}" for key, value in machine().items())
    text = "\n".join([HEAD.format(when=datetime.now(UTC), where=where, **vars(options)), *lines])
    print("\n" + text)
    target = RESULTS.parent / "RESULTS.md" if options.save else RESULTS / "local" / "peers.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n")
    print(f"written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

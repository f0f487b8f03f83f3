"""`make load`: start a server of our own, let locust play on it, write the report, stop everything again.

The server is a real one: its own process, embedded stores in a temporary folder, a free port on the loopback address.
Exits with 1 when the report holds a single error, or when the server did not survive the test.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("gameserver")
REPORTS = HERE / "reports"
READY_SECONDS = 30
STOP_SECONDS = 12
LOCUST_GRACE_SECONDS = 60


@dataclass
class Usage:
    """What the server used while locust played."""

    cpu_percent: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    def describe(self) -> str:
        """One line for the summary."""
        if not self.cpu_percent:
            return "server: not measured"
        mean, peak = sum(self.cpu_percent) / len(self.cpu_percent), max(self.cpu_percent)
        return f"server: CPU {mean:.0f} % of one core (peak {peak:.0f} %), memory {max(self.rss_mb):.0f} MB at most"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, server: subprocess.Popen[bytes], seconds: float = READY_SECONDS) -> None:
    """Until /readyz says so; a server that dies first, or is not ready in time, is an error."""
    deadline = time.monotonic() + seconds
    answer = "no answer yet"
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode} before it was ready")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2) as response:
                if response.status == 200:
                    return
        except urllib.error.HTTPError as error:
            answer = f"{error.code} {error.read(400).decode('utf-8', 'replace')}"
        except OSError as error:
            answer = str(error)
        time.sleep(0.1)
    raise RuntimeError(f"the server was not ready within {seconds:.0f} s: {answer}")


def stop(process: subprocess.Popen[Any], seconds: float = STOP_SECONDS) -> int:
    """SIGTERM, and SIGKILL for who does not listen; gives back the exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


@contextlib.contextmanager
def running_server(
    games: list[str], log_path: Path, *, cores: str | None = None, environment: dict[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server with a data folder of its own; stopped, and its folder gone, when the block ends."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    pin = ["taskset", "--cpu-list", cores] if cores else []
    command = [*pin, str(COMMAND), "run", *games, "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="gameserver-load-") as data, log_path.open("wb") as log:
        settings = {
            "GAMESERVER__SERVER__HOST": "127.0.0.1",
            "GAMESERVER__DATA__DIR": data,
            "GAMESERVER__LOG__LEVEL": "WARNING",
            **(environment or {}),
        }
        server = subprocess.Popen(
            command, env={**os.environ, **settings}, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait_until_ready(url, server)
            yield url, server
        except RuntimeError as error:
            tail = log_path.read_text(errors="replace")[-2000:] or "(empty)"
            raise RuntimeError(f"{error}\n--- the end of the server's log ---\n{tail}") from error
        finally:
            code = stop(server)
            if code != 0:
                print(f"the server ended with exit code {code}; its log: {log_path}", file=sys.stderr)


def watch(pid: int, usage: Usage, done: threading.Event) -> None:
    """Sample the server's CPU and memory (without the embedded stores, which are processes of their own)."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        process.cpu_percent()
        while not done.wait(1.0):
            usage.cpu_percent.append(process.cpu_percent())
            usage.rss_mb.append(process.memory_info().rss / 1e6)


def print_summary(prefix: Path, usage: Usage) -> int:
    """The report as a table for people; gives back the number of errors in it."""
    with Path(f"{prefix}_stats.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["Name"] != "Aggregated"]
    columns = ("what", "count", "errors", "per second", "mean", "median", "95 %", "99 %", "max", "kB/s")
    widths = [12 if name == "per second" else 10 for name in columns]
    title = "".join(f"{name:>{width}}" for name, width in zip(columns[1:], widths[1:], strict=True))
    print(f"\n{columns[0]:<40}{title}   (times in ms)")
    errors = 0
    for row in sorted(rows, key=lambda row: (row["Type"], row["Name"])):
        failed, count, rate = int(row["Failure Count"]), int(row["Request Count"]), float(row["Requests/s"])
        errors += failed
        names = ("Average Response Time", "50%", "95%", "99%", "Max Response Time")
        times = [float(row[name] or 0) for name in names]
        kilobytes = float(row["Average Content Size"] or 0) * rate / 1000
        print(
            f"{row['Type'] + ' ' + row['Name']:<40}{count:>10}{failed:>10}{rate:>12.1f}"
            + "".join(f"{value:>10.1f}" for value in times)
            + f"{kilobytes:>10.1f}"
        )
    print(f"\n{usage.describe()}")
    with Path(f"{prefix}_failures.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            print(f"error ({row['Occurrences']} ×) {row['Method']} {row['Name']}: {row['Error']}")
    return errors


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description=__doc__.split("\n\n")[0])
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--time", default="60s", help="how long to play: 30s, 5m, 1h")
    parser.add_argument("--rate", type=float, default=10.0, help="NORMAL actions per second and player")
    parser.add_argument("--fire-rate", type=float, default=0.5, help="HIGH actions per second and player")
    parser.add_argument("--spawn-rate", type=float, default=0.0, help="players per second; default: all within 5 s")
    parser.add_argument("--mirrored", type=float, default=0.25, help="share of players with a full mirror")
    parser.add_argument("--game", default="arena")
    parser.add_argument("--games", nargs="*", default=[], help="game files for the server; default: the examples")
    parser.add_argument("--pin", action="store_true", help="server on core 0, locust on core 1")
    return parser.parse_args(given)


def play(options: argparse.Namespace, url: str, prefix: Path) -> int:
    """Run locust until its time is up; its exit code."""
    match = re.fullmatch(r"(\d+)([smh]?)", options.time)
    if match is None:
        raise SystemExit(f"--time {options.time}: expected something like 30s, 5m or 1h")
    seconds = int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
    pin = ["taskset", "--cpu-list", "1"] if options.pin else []
    command = [
        *pin, sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--headless", "--only-summary",
        "--loglevel", "WARNING", "--host", url, "-u", str(options.users),
        "-r", str(options.spawn_rate or max(1.0, options.users / 5)), "-t", f"{seconds}s", "-s", "10",
        "--csv", f"{prefix}_live", "--final-csv", str(prefix), "--html", f"{prefix}.html",
        "--rate", str(options.rate), "--fire-rate", str(options.fire_rate),
        "--mirrored", str(options.mirrored), "--game", options.game,
    ]  # fmt: skip
    # From the repository's root, so that `loadtests` can be imported wherever this was called from.
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    locust = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        return locust.wait(seconds + LOCUST_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        print("locust did not end by itself", file=sys.stderr)
        return 2
    finally:
        stop(locust, 5)
        # The final ones are complete; of locust's own only the history says more.
        for name in ("stats", "failures", "exceptions"):
            Path(f"{prefix}_live_{name}.csv").unlink(missing_ok=True)


def main(given: list[str] | None = None) -> int:
    """Run one load test; the exit code says whether it was free of errors."""
    options = arguments(given)
    REPORTS.mkdir(exist_ok=True)
    prefix = REPORTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{options.game}-{options.users}"
    usage, done = Usage(), threading.Event()
    games = [str(Path(game).resolve()) if game.endswith(".py") else game for game in options.games]
    with running_server(games, Path(f"{prefix}.server.log"), cores="0" if options.pin else None) as (url, server):
        rates = f"{options.rate:g} NORMAL and {options.fire_rate:g} HIGH actions/s each"
        print(f"{options.users} players, {rates}, for {options.time} against {url}")
        watcher = threading.Thread(target=watch, args=(server.pid, usage, done), daemon=True)
        watcher.start()
        code = play(options, url, prefix)
        done.set()
        survived = server.poll() is None
    errors = print_summary(prefix, usage)
    print(f"report: {prefix}.html")
    if not survived:
        print("FAILED: the server ended during the test")
    elif errors or code:
        print(f"FAILED: {errors} errors, locust's exit code {code}")
    else:
        print("OK: no errors")
    return 0 if survived and not errors and not code else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` runs and nothing is left behind
    sys.exit(main())

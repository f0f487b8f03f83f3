"""The results as Markdown."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.cases import CASES, Case
from benchmarks.peers.measure import Row
from benchmarks.peers.servers import HERE, node
from benchmarks.peers.targets import Rows, ratio, summary
from benchmarks.report import machine

BUSY_MAX = 0.8
OTHERS_MAX = 0.1
NODE_PACKAGES = ("@colyseus/core", "@colyseus/schema", "@colyseus/ws-transport", "ws", "msgpackr", "zod")
PYTHON_PACKAGES = ("aiohttp", "uvloop", "picows", "python-socketio")


def table(case: Case, results: dict[str, list[Row]]) -> list[str]:
    """Medians over the rounds, best first; the ratio is the median of the rounds' ratios."""
    middle = {
        name: {key: median(row[key] for row in rounds) for key in rounds[0]}
        for name, rounds in results.items()
        if rounds
    }
    lines = [f"### {case.title}", ""]
    if not middle:
        return [*lines, "Not measured: see the run's output.", ""]
    titles = ["server", *(column.title for column in case.columns), f"× {case.reference}"]
    lines += [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, row in sorted(middle.items(), key=lambda item: item[1][case.main], reverse=case.more_is_better):
        share = ratio(case.name, name, case.reference, case.main)({case.name: results})
        # What was saved before a column was there does not have it.
        cells = [format(row[column.key], column.shape) if column.key in row else "–" for column in case.columns]
        lines.append(f"| {' | '.join([name, *cells, '–' if share is None else f'{share:.2f}'])} |")
    lines += [*_warnings(middle), ""]
    return lines


def _warnings(middle: dict[str, Row]) -> list[str]:
    busy = [name for name, row in middle.items() if row.get("bench_busy", 0) > BUSY_MAX]
    behind = [name for name, row in middle.items() if row.get("delivered", 1) < 0.97]
    disturbed = [f"{name} ({row['others']:.0%})" for name, row in middle.items() if row.get("others", 0) > OTHERS_MAX]
    waiting = [f"{name} ({row['waiting']:.0f})" for name, row in middle.items() if row.get("waiting", 0) > 0]
    lines = []
    if busy:
        lines.append(f"The load's core was over {BUSY_MAX:.0%} busy and may be what was measured: {', '.join(busy)}.")
    if disturbed:
        lines.append(f"Something else used over {OTHERS_MAX:.0%} of a core, do not trust: {', '.join(disturbed)}.")
    if behind:
        lines.append(f"Not all frames were delivered in time: {', '.join(behind)}.")
    if waiting:
        lines.append(f"Clients waited for over a second for their own last message: {', '.join(waiting)}.")
    return ["", *lines] if lines else []


def versions() -> str:
    """What was compared."""
    found = []
    for name in PYTHON_PACKAGES:
        with suppress(PackageNotFoundError):  # a peer that is not installed is left out of the tables as well
            found.append(f"{name} {version(name)}")
    for name in NODE_PACKAGES:
        manifest = HERE / "node_modules" / name / "package.json"
        if manifest.exists():
            found.append(f"{name} {_version(manifest)}")
    try:
        asked = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        found.append("no Node")
    else:
        found.append(f"Node {asked.stdout.strip()}")
    return ", ".join(found)


def _version(manifest: Path) -> str:
    return str(json.loads(manifest.read_text())["version"])


def about() -> dict[str, str]:
    """What results must have in common to stand in one document."""
    return {"machine": ", ".join(f"{key} {what}" for key, what in machine().items()), "versions": versions()}


def revision() -> str:
    """Which gameserver was measured."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    return asked.stdout.strip() or f"version {version('gameserver')}"


def document(results: dict[str, Any]) -> str:
    """The whole of RESULTS.md."""
    runs = results["cases"]
    rows: Rows = {name: run["rows"] for name, run in runs.items()}
    lines = [
        "# Side by side",
        "",
        "Written by `make bench-peers`. How it is measured: [peers/README.md](peers/README.md).",
        "",
        f"- Machine: {results['machine']}.",
        f"- Versions: {results['versions']}.",
        "- Medians of the rounds, servers in turn within each round; ratios are medians of the rounds' ratios.",
        "- The server is pinned to one core, load generator and stores to the other.",
        "- gameserver runs compiled, as in its image: `durability = \"async\"`, sessions, validation, metrics.",
        "",
        "## Targets",
        "",
        *summary(rows),
        "",
        "## Cases",
        "",
    ]
    for case in CASES:
        if case.name in runs:
            run = runs[case.name]
            lines += table(case, rows[case.name])
            lines += [f"{run['at']} UTC, gameserver {run['revision']}, {run['rounds']} × {run['seconds']:g} s.", ""]
    return "\n".join(lines).rstrip() + "\n"

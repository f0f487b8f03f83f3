"""`make bench-peers`: the same game load against every server, in turn and pinned; tables, and what targets are met."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.peers import ours
from benchmarks.peers.cases import CASES, Case
from benchmarks.peers.measure import Row, build_load
from benchmarks.peers.servers import Peer, peers
from benchmarks.peers.tables import OTHERS_MAX, about, document, revision, table
from benchmarks.peers.targets import summary
from benchmarks.processes import prepare
from benchmarks.report import RESULTS

WARM_UP_SECONDS = 2.0
SAVED = RESULTS / "peers.json"
LOCAL = RESULTS / "local"


@dataclass
class Progress:
    """How much of the run is over, in seconds as they were estimated and as they are."""

    total: float
    done: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """Time gone and, by how the estimate has held so far, time left."""
        gone = time.monotonic() - self.started
        pace = gone / self.done if self.done else 1.0
        return f"[{_clock(gone)} gone, {_clock((self.total - self.done) * pace)} left]"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--case", action="append", choices=names, help="only this one (may be repeated)")
    parser.add_argument("--without", action="append", choices=names, default=[], help="all but this one")
    parser.add_argument("--server", action="append", help="only this one (names as in the tables; may be repeated)")
    parser.add_argument("--rounds", type=int, default=5, help="at most; cases that are told well by fewer take fewer")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    parser.add_argument("--save", action="store_true", help="write benchmarks/RESULTS.md (and results/peers.json)")
    return parser.parse_args()


def cost(case: Case, seconds: float) -> float:
    """About how long one measurement takes."""
    return case.seconds + case.windows * (WARM_UP_SECONDS + seconds)


@dataclass
class Run:
    """One case: which servers, how often, and what they gave so far."""

    case: Case
    chosen: Sequence[Peer]
    rounds: int
    results: dict[str, list[Row]]

    def round(self, turn: int, seconds: float, progress: Progress) -> None:
        """All servers in turn: what disturbs one of them disturbs the others."""
        print(f"\n{self.case.title}", flush=True)
        for peer in self.chosen:
            label = f"  {progress.line()} {turn + 1}/{self.rounds} {peer.name:<32}"
            try:
                row = self.case.measure(peer, seconds)
            except RuntimeError as error:
                print(f"{label} FAILED: {error}", flush=True)
            else:
                self.results[peer.name].append(row)
                print(f"{label} {_told(self.case, row)}", flush=True)
            progress.done += cost(self.case, seconds)


def _told(case: Case, row: Row) -> str:
    shown = ", ".join(f"{format(row[one.key], one.shape)} {one.title}" for one in case.columns)
    others = row.get("others", 0.0)
    disturbed = f" — DISTURBED, others used {others:.0%} of a core" if others > OTHERS_MAX else ""
    return shown + disturbed


def present(names: Sequence[str] | None) -> dict[str, Peer]:
    """The servers that can run here, of those that were asked for."""
    found = {}
    for peer in (peers() | ours.variants()).values():
        if names and peer.name not in names:
            continue
        if problem := peer.missing():
            print(f"left out: {peer.name}: {problem}")
        else:
            found[peer.name] = peer
    return found


def planned(options: argparse.Namespace) -> list[Run]:
    """What was asked for, as far as it can be had here."""
    there = present(options.server)
    runs = []
    for case in CASES:
        if (options.case and case.name not in options.case) or case.name in options.without:
            continue
        chosen = [there[name] for name in case.servers if name in there]
        results: dict[str, list[Row]] = {peer.name: [] for peer in chosen}
        runs.append(Run(case, chosen, min(options.rounds, case.rounds_max), results))
    return runs


def measure(runs: Sequence[Run], options: argparse.Namespace, saved: dict[str, Any]) -> str:
    """A round of each case, then the next of each: a machine that is slow for minutes is so for a part of all of them.

    Answers where the results were written; that is done after each round, so a run that is stopped leaves what it had.
    """
    progress = Progress(sum(cost(run.case, options.seconds) * len(run.chosen) * run.rounds for run in runs))
    print(f"{len(runs)} cases, about {_clock(progress.total)} minutes")
    measured, written = revision(), "nowhere: no case was chosen"
    for turn in range(options.rounds):
        for run in [run for run in runs if turn < run.rounds]:
            run.round(turn, options.seconds, progress)
            saved["cases"][run.case.name] = {
                "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "revision": measured, "rounds": turn + 1,
                "seconds": options.seconds, "rows": run.results,
            }  # fmt: skip
            written = write(saved, save=options.save)
    return written


def main() -> int:
    """Build, run, print."""
    options = arguments()
    prepare()
    build_load()
    runs = planned(options)
    saved = earlier() if options.save else nothing_yet()
    written = measure(runs, options, saved)
    for run in runs:
        print("\n" + "\n".join(table(run.case, run.results)))
    print("\n".join(summary({name: case["rows"] for name, case in saved["cases"].items()})))
    print(f"\nwritten to {written}")
    return 0


def earlier() -> dict[str, Any]:
    """What was saved on this machine with these versions: cases that are left out this time stay as they were."""
    known: dict[str, Any] = json.loads(SAVED.read_text()) if SAVED.exists() else {}
    same = all(known.get(key) == what for key, what in about().items())
    return known if same else nothing_yet()


def nothing_yet() -> dict[str, Any]:
    """Results without a case."""
    return {**about(), "cases": {}}


def write(results: dict[str, Any], *, save: bool) -> str:
    """The tables for people, and all rounds for those who want to reckon for themselves."""
    text, raw = (RESULTS.parent / "RESULTS.md", SAVED) if save else (LOCAL / "peers.md", LOCAL / "peers.json")
    raw.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(document(results))
    raw.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return f"{_short(text)} and {_short(raw)}"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped; everything that was started has ended", file=sys.stderr)
        sys.exit(130)

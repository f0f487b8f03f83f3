"""`python -m benchmarks [state] [server] [journal]`: run, print, keep as JSON, compare with the committed result."""

from __future__ import annotations

import argparse
import sys

from benchmarks import journal, server, state
from benchmarks.processes import prepare
from benchmarks.report import Report

GROUPS = {"state": state.run, "server": server.run, "journal": journal.run}
REPEATS_MAX = 2  # of a group with a figure that looks worse: one disturbance is no regression


def measure(report: Report, groups: list[str], *, quick: bool) -> None:
    """Each group in turn."""
    for name in groups:
        with report.group(name):
            GROUPS[name](report, quick=quick)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks; without names: all groups.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"one or more of: {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and clients: to see that it runs")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/baseline.json, to be committed")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a figure is over 15 %% worse")
    options = parser.parse_args()
    unknown = set(options.groups) - GROUPS.keys()
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are: {', '.join(GROUPS)}")
    prepare()

    report = Report()
    chosen = [name for name in GROUPS if not options.groups or name in options.groups]
    measure(report, chosen, quick=options.quick)
    worse: dict[str, str] = {}
    if not options.quick and not options.save:
        worse = report.worse()
        for _ in range(REPEATS_MAX):
            suspects = [name for name in chosen if any(figure.startswith(f"{name}:") for figure in worse)]
            if suspects:
                print(f"\nover 15 % worse than the committed result, so once more: {', '.join(suspects)}")
                measure(report, suspects, quick=options.quick)
                worse = report.worse()
    print(f"\nwritten to {report.write(baseline=options.save)}")
    for name, what in worse.items():
        print(f"OVER 15 % WORSE: {name}: {what}")
    return 1 if worse and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks [state] [server]`: run, print, keep as JSON, compare with the committed result."""

from __future__ import annotations

import argparse
import sys

from benchmarks.calibration import calibrate
from benchmarks.processes import prepare
from benchmarks.report import Report

GROUPS = ("state", "server")
DISTURBED = 1.10


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks; without names: all groups.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"one or more of: {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and clients: to see that it runs")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/baseline.json, to be committed")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a figure is over 15 %% worse")
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are: {', '.join(GROUPS)}")
    prepare()

    before = calibrate()
    print(f"calibration: {before:.0f} ns per step; the last column is in multiples of that")
    report = Report(before)
    for group in GROUPS:
        if not options.groups or group in options.groups:
            if group == "state":
                from benchmarks import state

                state.run(report, quick=options.quick)
            else:
                from benchmarks import server

                server.run(report, quick=options.quick)
    after = calibrate()
    disturbed = max(before, after) / min(before, after)
    print(f"\ncalibration afterwards: {after:.0f} ns per step", end="")
    print(f" — {disturbed - 1:.0%} off: the machine was busy, trust nothing" if disturbed > DISTURBED else "")
    print(f"written to {report.write(baseline=options.save)}")
    worse = [] if options.quick or options.save else report.compare()
    for line in worse:
        print(f"OVER 15 % WORSE: {line}")
    return 1 if worse and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())

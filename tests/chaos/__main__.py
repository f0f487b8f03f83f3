"""`python -m tests.chaos --rounds 50 --seed 1`: break a fleet at random points, and see whether its promises hold."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from gameserver.config import LogSettings
from gameserver.logs import configure_logging
from tests.chaos.faults import ALL, plan
from tests.chaos.fleet import Fleet
from tests.chaos.report import Report
from tests.chaos.rounds import Chaos, run

BROKEN_SHOWN_MAX = 30


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="0: drawn, and printed")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--matches", type=int, default=6)
    parser.add_argument("--players", type=int, default=4, help="in each match")
    parser.add_argument("--rate", type=float, default=8.0, help="actions per second of each player")
    parser.add_argument("--balanced", action="store_true", help="all players come back through a load balancer")
    parser.add_argument("--kind", action="append", choices=sorted(ALL), help="only faults of this kind")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and data")
    return parser.parse_args()


async def main(options: argparse.Namespace) -> int:
    """The exit code: 0 if every promise held."""
    configure_logging(LogSettings(level="WARNING"))
    seed = options.seed or Random().randrange(1, 2**32)
    size = f"{options.nodes} nodes, {options.matches} matches of {options.players} players"
    print(f"{options.rounds} rounds, {size}, SEED={seed}")
    folder = Path(tempfile.mkdtemp(prefix="gameserver-chaos-"))
    random, report = Random(seed), Report(seed)
    faults = list(plan(random, options.rounds, options.matches, options.kind))
    chaos = Chaos(Fleet(folder, options.nodes), report, random)
    started = time.monotonic()
    try:
        await chaos.start(options.matches, options.players, options.rate, faithful=not options.balanced)
        await run(chaos, faults, options.rounds, lambda line: print(line, flush=True))
    finally:
        await chaos.end()
    print("\n" + "\n".join(report.lines()) + f"\n\n  {time.monotonic() - started:.0f} s, SEED={seed}")
    found = report.found
    shown = {"lost": found.lost, "duplicated": found.duplicated, "broken": found.problems, "not heard": found.unheard}
    for title, lines in shown.items():
        for line in lines[:BROKEN_SHOWN_MAX]:
            print(f"  {title}: {line}")
    if report.good and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"  logs and data: {folder}")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(arguments())))

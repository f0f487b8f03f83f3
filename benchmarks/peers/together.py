"""Servers that run at the same time on one core, each under a load of its own: what one takes beside another.

    python -m benchmarks.peers.together now=. before=../other            # two checkouts, both compiled
    python -m benchmarks.peers.together gameserver Colyseus "Node ws"    # servers of `make bench-peers`

A machine that is slow for a moment is so for all of them, so this tells a per cent or two where windows in turns tell
ten. They compete for the core's caches: alone each of them takes less.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.peers.measure import Phase, Window, build_load, drive, running
from benchmarks.peers.servers import OURS, Peer, connections, peers
from benchmarks.processes import prepare

LOADS = {"play": (10.0, "frames"), "shout": (9.0, "events"), "idle": (0.0, "frames")}
"""By mode, as load.c has them: its rate, and what the CPU time is divided by."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.together", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("servers", nargs="+", help="name=folder of a checkout, or a peer's name; the first is 1.00")
    parser.add_argument("--clients", type=int, default=400, help="of each of them (400)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round (10)")
    parser.add_argument("--rounds", type=int, default=3, help="each with fresh servers, in another order (3)")
    parser.add_argument("--load", choices=sorted(LOADS), default="play", help="what the rooms of ten do")
    return parser.parse_args()


def chosen(names: list[str]) -> dict[str, Peer]:
    """What was asked for. Raises SystemExit for a name that nobody has."""
    known, found = peers(), {}
    for one in names:
        name, _, folder = one.partition("=")
        if folder:
            root = Path(folder).resolve()
            if not (root / "gameserver").is_dir():
                raise SystemExit(f"{folder} is no checkout of gameserver")
            found[name] = replace(known[OURS], name=name, root=root)
        elif name in known:
            found[name] = known[name]
        else:
            raise SystemExit(f"no server is named {name!r}; known are {', '.join(known)}, or name=folder")
    return found


def at_once(servers: dict[str, Peer], options: argparse.Namespace) -> dict[str, Window]:
    """One round."""
    phase = Phase(options.load, LOADS[options.load][0], options.seconds)
    with ExitStack() as stack, ThreadPoolExecutor(len(servers)) as threads:
        runs = {}
        for name, peer in servers.items():
            server = stack.enter_context(running(peer))
            who = connections(peer, server.port, "swarm", 10, options.clients)
            runs[name] = (server, peer.protocol, who, [phase])
        windows = {name: threads.submit(drive, *run) for name, run in runs.items()}
        return {name: found.result()[0] for name, found in windows.items()}


def main() -> int:
    """Measure, and print a line for each round and server."""
    options = arguments()
    prepare()
    build_load()
    servers = chosen(options.servers)
    first, counted = next(iter(servers)), LOADS[options.load][1]
    ratios: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(options.rounds):
        names = list(servers)
        order = names[turn % len(names) :] + names[: turn % len(names)]
        windows = at_once({name: servers[name] for name in order}, options)
        costs = {name: windows[name].server_cpu / max(1, windows[name].counts[counted]) * 1e6 for name in names}
        for name in names:
            ratios[name].append(costs[name] / costs[first])
            told = f"{costs[name]:.2f} µs per {counted[:-1]}, × {ratios[name][-1]:.3f}"
            print(f"{turn + 1}/{options.rounds} {name:<28} {told}, p99 {windows[name].p99_ms:.1f} ms", flush=True)
    for name, found in ratios.items():
        print(f"median {name:<26} × {median(found):.3f}  ({min(found):.3f} to {max(found):.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

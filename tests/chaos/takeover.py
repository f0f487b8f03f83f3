"""`python -m tests.chaos.takeover`: kill a node that runs many matches, and time how long each of them stands still.

All matches tick on one of three nodes; each has a player, on one of the other two. A match runs again when its player
gets the first frame of the next epoch. Times count from the `kill -9`: the lease (2 s by default) is part of them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from gameserver.client import Client, Room
from gameserver.config import LogSettings
from gameserver.logs import configure_logging
from tests.chaos.fleet import POLL_SECONDS, Fleet

WAIT_SECONDS = 30.0
SETTLE_SECONDS = 1.0


class Watch:
    """When each match went on under another owner."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.rooms: list[Room] = []

    def add(self, room: Room) -> None:
        epoch = room.position[0]

        def changed(_changes: object) -> None:
            if room.position[0] > epoch:
                self.at.setdefault(room.match_id, time.monotonic())

        room.on_change(changed)
        self.rooms.append(room)


async def measure(folder: Path, matches: int) -> None:
    """One fleet, one kill, one line for each figure."""
    fleet = Fleet(folder, 3, GAMESERVER__LIMITS__CHANNELS_MAX=str(matches))
    watch, clients = Watch(), []
    try:
        await fleet.start()
        owner, *others = fleet.nodes
        for node in others:
            clients.append(Client(node.url, name=f"player at {node.name}"))
            await clients[-1].connect()
        async with Client(owner.url, name="maker") as maker:
            for number in range(matches):
                made = await maker.create("ledger")
                watch.add(await clients[number % len(clients)].join(made.match_id))
                await made.leave()
        await asyncio.sleep(SETTLE_SECONDS)
        killed = time.monotonic()
        await owner.kill()
        while len(watch.at) < matches and time.monotonic() < killed + WAIT_SECONDS:
            await asyncio.sleep(POLL_SECONDS)
        at = {match.match_id: match.node for match in await fleet.journal.owned()}
    finally:
        await asyncio.gather(*(client.close() for client in clients))
        await fleet.end()
    _show(sorted(when - killed for when in watch.at.values()), matches, Counter(at.values()))


def _show(seconds: list[float], matches: int, shares: Counter[str]) -> None:
    print(f"{matches} ticking matches, their owner killed; seconds from the kill until they run elsewhere:")
    if len(seconds) < matches:
        print(f"  only {len(seconds)} of them within {WAIT_SECONDS:.0f} s")
        sys.exit(1)
    half, most = seconds[len(seconds) // 2], seconds[len(seconds) * 9 // 10]
    print(f"  first {seconds[0]:.2f}   half {half:.2f}   nine of ten {most:.2f}   all {seconds[-1]:.2f}")
    print("  " + ", ".join(f"{count} at {node}" for node, count in sorted(shares.items())))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.takeover", description=__doc__)
    parser.add_argument("--matches", type=int, default=200)
    options = parser.parse_args()
    configure_logging(LogSettings(level="WARNING"))
    with tempfile.TemporaryDirectory(prefix="gameserver-takeover-") as name:
        asyncio.run(measure(Path(name), options.matches))


if __name__ == "__main__":
    main()

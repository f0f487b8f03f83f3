"""`kill -9` under load: what was acknowledged is there afterwards, once, in order; what was not may be sent again."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gameserver.client import Client, ConnectionLost
from gameserver.config import Settings
from tests.examples.server import ServerProcess

pytestmark = [pytest.mark.slow]

GAME = '''
from gameserver import Entity, Game, List, Map, Player, Priority, action, server_only

class Ledger(Game):
    name = "ledger"
    tick_hz = 20
    empty_seconds = None
    DURABILITY
    rows: Map[str, List[int]]
    total: int = 0
    ticks: int = 0
    secret: int = server_only(0)

    def on_join(self, player: Player) -> None:
        self.rows.setdefault(player.id, [])

    def on_tick(self, dt: float) -> None:
        self.ticks += 1

    def write(self, player: Player, value: int) -> int:
        self.rows[player.id].append(value)
        self.total += 1
        self.secret = self.random.randrange(1_000_000)
        self.record("row", {"player": player.id, "value": value})
        return self.total

    @action
    def slow(self, player: Player, value: int) -> int:
        return self.write(player, value)

    @action(priority=Priority.HIGH)
    def fast(self, player: Player, value: int) -> int:
        return self.write(player, value)
'''


class Writer:
    """One player that writes numbers down and knows which of them were acknowledged."""

    def __init__(self, client: Client, room: Any, random: Random) -> None:
        self.client = client
        self.room = room
        self.random = random
        self.acknowledged: list[int] = []
        self.sent = 0

    async def run(self) -> None:
        while True:
            self.sent += 1
            name = "fast" if self.random.random() < 0.5 else "slow"
            await self.room.action(name, value=self.sent)
            self.acknowledged.append(self.sent)


async def play(writers: list[Writer], seconds: float, kill: Any) -> None:
    tasks = [asyncio.create_task(writer.run()) for writer in writers]
    await asyncio.sleep(seconds)
    await kill()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, ConnectionLost) for outcome in outcomes), outcomes


@pytest.mark.parametrize("durability", ["async", "strict"])
async def test_nothing_acknowledged_is_lost(durability: str, store_settings: Settings, tmp_path: Path) -> None:
    """Three players, two kills at random moments; every acknowledged number is in the ledger once, in order."""
    seed = int(os.environ.get("SEED", "0")) or Random().randrange(2**32)
    print("SEED", seed)  # noqa: T201 - shown when the test fails
    random = Random(seed)
    (tmp_path / "ledger.py").write_text(GAME.replace("DURABILITY", f'durability = "{durability}"'))
    server = ServerProcess(store_settings, tmp_path, ("ledger.py",))
    await server.start()
    written: dict[str, list[int]] = {}
    match_id = None
    try:
        for _ in range(3):
            clients = [Client(server.url, name=f"p{i}", token=_token(f"p{i}"), reconnect=False) for i in range(3)]
            for client in clients:
                await client.connect()
            writers = []
            for client in clients:
                room = await (client.join(match_id) if match_id else client.join_or_create("ledger"))
                match_id = room.match_id
                rows = list(room.state.rows[client.user_id])
                before = written.get(client.user_id, [])
                assert [n for n in before if n not in rows] == [], "an acknowledged action was lost"
                assert len(rows) == len(set(rows)), "an action was applied twice"
                assert rows == sorted(rows)
                writer = Writer(client, room, random)
                writer.sent = max(rows, default=0)
                writer.acknowledged = before
                written[client.user_id] = writer.acknowledged
                writers.append(writer)

            async def kill() -> None:
                await server.stop(signal.SIGKILL)

            await play(writers, random.uniform(0.3, 1.5), kill)
            for client in clients:
                await client.close()
            await server.start()
        assert all(len(rows) > 10 for rows in written.values())
    finally:
        await server.end()


def _token(user: str) -> str:
    import time

    from gameserver.access import Role, issue_token
    from gameserver.config import DEVELOPMENT_SECRET

    return issue_token(DEVELOPMENT_SECRET, user, Role.PLAYER, now=time.time(), ttl_seconds=600)

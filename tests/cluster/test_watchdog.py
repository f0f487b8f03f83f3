"""Game code that does not return: seen, named, marked, and ended with its process."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from gameserver import Game, Player, action
from gameserver.client import Client, ConnectionLost
from gameserver.cluster import Stuck, Watchdog
from gameserver.cluster.watchdog import EXIT_CODE
from gameserver.config import Settings
from gameserver.match import Match, User
from gameserver.storage.shards import shard_of
from tests.examples.server import ServerProcess

GAME = '''
import re
from gameserver import Game, Player, Priority, action

class Trap(Game):
    name = "trap"
    tick_hz = 20
    empty_seconds = None
    armed: bool = False
    moves: int = 0

    def on_tick(self, dt: float) -> None:
        while self.armed:
            pass

    @action(priority=Priority.HIGH)
    def move(self, player: Player) -> int:
        self.moves += 1
        return self.moves

    @action
    def spin(self, player: Player) -> None:
        while True:
            self.moves += 1

    @action
    def backtrack(self, player: Player) -> None:
        re.match(r"(a+)+$", "a" * 60 + "b")
'''


class Busy(Game):
    """Takes as long as it is told."""

    empty_seconds = None

    @action
    def work(self, player: Player, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pass


class Watched:
    """A match on this loop, watched by a watchdog that ends nothing."""

    def __init__(self, seconds: float) -> None:
        self.stuck: list[Stuck] = []
        self.codes: list[int] = []
        self.ended = threading.Event()
        self.watchdog = Watchdog(seconds, self.stuck.append, end=self.end)
        self.match = Match.create(Busy, "busy-match", seed=1, now=0.0, wall=0.0)
        self.match.join(User("anne"), "s1", 0.0, 0.0)
        self.seq = 0

    def end(self, code: int) -> None:
        self.codes.append(code)
        self.ended.set()

    def work(self, seconds: float) -> None:
        self.seq += 1
        self.match.receive("s1", self.seq, "work", [seconds], self.seq, 0.0)
        self.match.wake(self.seq + 0.5, 0.0)


async def test_a_call_that_does_not_return_is_named() -> None:
    watched = Watched(0.2)
    watched.watchdog.start(asyncio.get_running_loop())
    await asyncio.sleep(0.05)
    watched.work(0.6)
    assert watched.ended.wait(2)
    assert watched.codes == [EXIT_CODE]
    [stuck] = watched.stuck
    assert (stuck.match_id, stuck.game, stuck.epoch, stuck.method) == ("busy-match", "busy", 1, "work")
    assert stuck.seconds >= 0.2
    assert "in work" in stuck.stack
    watched.watchdog.stop()


async def test_many_slow_calls_in_a_row_blame_none_of_them() -> None:
    watched = Watched(0.3)
    watched.watchdog.start(asyncio.get_running_loop())
    await asyncio.sleep(0.05)
    for _ in range(8):
        watched.work(0.1)
    await asyncio.sleep(0.1)
    assert watched.codes == []
    watched.watchdog.stop()


async def test_code_of_ours_that_hangs_is_given_longer() -> None:
    watched = Watched(0.1)
    watched.watchdog.start(asyncio.get_running_loop())
    await asyncio.sleep(0.05)
    time.sleep(0.3)  # noqa: ASYNC251 - the loop stands still: that is the point
    assert watched.codes == []
    time.sleep(0.6)  # noqa: ASYNC251
    assert watched.ended.wait(2)
    assert watched.stuck == []
    watched.watchdog.stop()


async def test_zero_is_off() -> None:
    watched = Watched(0.0)
    watched.watchdog.start(asyncio.get_running_loop())
    watched.work(0.1)
    assert all(thread.name != "watchdog" for thread in threading.enumerate())


class Trapped:
    """A server process with a game that can hang, and a client in a match of it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        (folder / "trap.py").write_text(GAME)
        values = {"GAMESERVER__SERVER__WATCHDOG_SECONDS": "1.1", "GAMESERVER__SERVER__NODE_ID": "node-a"}
        self.server = ServerProcess(settings, folder, ("trap.py",), **values)

    async def hang(self, name: str) -> tuple[int, str, float]:
        """How the process ended, in which match, after how long."""
        await self.server.start()
        async with Client(self.server.url, name="anne", reconnect=False) as client:
            room = await client.join_or_create("trap")
            assert await room.action("move") == 1
            started = time.monotonic()
            with pytest.raises(ConnectionLost):
                await room.action(name)
            return await self.server.wait(), room.match_id, time.monotonic() - started


@pytest.fixture
def token_of(redis_url: str) -> Callable[[str], dict[str, str]]:
    def read(match_id: str) -> dict[str, str]:
        with redis.Redis.from_url(redis_url) as client:
            found: Any = client.hgetall(f"gs:{{s{shard_of(match_id)}}}:{match_id}:token")
        return {name.decode(): value.decode() for name, value in found.items()}

    return read


@pytest.mark.slow
async def test_a_process_with_a_game_that_hangs_ends(
    store_settings: Settings, tmp_path: Path, token_of: Callable[[str], dict[str, str]]
) -> None:
    trapped = Trapped(store_settings, tmp_path)
    try:
        code, match_id, seconds = await trapped.hang("spin")
    finally:
        await trapped.server.end()
    assert code == EXIT_CODE
    assert 1.0 <= seconds < 5.0
    told = trapped.server.log.read_text()
    assert "game_code_does_not_return" in told
    assert match_id in told
    assert "trap.py" in told
    assert "in spin" in told
    token = token_of(match_id)
    assert token["suspects"] == "1"
    assert "spin did not return" in token["suspect_reason"]


@pytest.mark.slow
async def test_code_that_lets_no_thread_run_is_ended_by_the_kernel(store_settings: Settings, tmp_path: Path) -> None:
    trapped = Trapped(store_settings, tmp_path)
    try:
        code, _, _ = await trapped.hang("backtrack")
    finally:
        await trapped.server.end()
    assert code == -signal.SIGVTALRM
    assert "in backtrack" in trapped.server.log.read_text()


@pytest.mark.slow
async def test_a_process_that_was_stopped_goes_on(store_settings: Settings, tmp_path: Path) -> None:
    trapped = Trapped(store_settings, tmp_path)
    server = trapped.server
    try:
        await server.start()
        async with Client(server.url, name="anne") as client:
            room = await client.join_or_create("trap")
            assert await room.action("move") == 1  # so the seat is journaled: the pause costs the lease
            server.send(signal.SIGSTOP)
            await asyncio.sleep(3.5)
            server.send(signal.SIGCONT)
            assert await room.action("move") == 2
            await asyncio.sleep(1.5)
            assert await room.action("move") == 3
        assert await server.stop() == 0
    finally:
        await server.end()

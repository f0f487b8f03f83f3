"""Draining nodes under players that act: real processes that share a port and a store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gameserver.access import Role, issue_token
from gameserver.client import Client
from gameserver.config import DEVELOPMENT_SECRET, Settings
from tests.cluster.test_kill import GAME
from tests.examples.server import ServerProcess, free_port

pytestmark = [pytest.mark.slow]


def token(user: str, role: Role = Role.PLAYER) -> str:
    return issue_token(DEVELOPMENT_SECRET, user, role, now=time.time(), ttl_seconds=600)


class Node(ServerProcess):
    """A server that shares its port with others and has one of its own, too."""

    def __init__(self, name: str, settings: Settings, folder: Path, shared_port: int, **more: str) -> None:
        self.name = name
        self.direct = f"http://127.0.0.1:{(direct_port := free_port())}"
        own = folder / name
        own.mkdir()
        (own / "ledger.py").write_text(GAME.replace("DURABILITY", 'durability = "async"'))
        values = {"NODE_ID": name, "PORT": str(shared_port), "REUSE_PORT": "true", "DIRECT_PORT": str(direct_port)}
        settings_of = {f"GAMESERVER__SERVER__{key}": value for key, value in values.items()}
        super().__init__(settings, own, ("ledger.py",), **settings_of, **more)
        self.url = self.direct

    def ask(self, path: str, method: str = "GET") -> Any:
        headers = {"Authorization": f"Bearer {token('root', Role.ADMIN)}"}
        request = urllib.request.Request(self.direct + path, headers=headers, method=method)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


class Writer:
    """Writes numbers down, and knows which were acknowledged and for how long nothing was."""

    def __init__(self, room: Any) -> None:
        self.room = room
        self.acknowledged: list[int] = []
        self.errors: list[BaseException] = []
        self.pause_seconds = 0.0
        self.stopping = False

    async def run(self) -> None:
        number = 0
        answered = time.monotonic()
        while not self.stopping:
            number += 1
            try:
                await self.room.action("fast" if number % 3 else "slow", value=number)
            except Exception as error:  # noqa: BLE001 - every one of them fails the test
                self.errors.append(error)
                return
            self.acknowledged.append(number)
            now = time.monotonic()
            self.pause_seconds, answered = max(self.pause_seconds, now - answered), now


@contextlib.asynccontextmanager
async def writers(url: str, matches: int, players: int) -> Any:
    """Acting clients in several matches, through the shared port."""
    async with contextlib.AsyncExitStack() as stack:
        found, tasks = [], []
        for match in range(matches):
            match_id = None
            for player in range(players):
                client = await stack.enter_async_context(Client(url, token=token(f"m{match}p{player}")))
                room = await (client.join(match_id) if match_id else client.create("ledger"))
                match_id = room.match_id
                writer = Writer(room)
                found.append(writer)
                tasks.append(asyncio.create_task(writer.run()))
        yield found
        for writer in found:
            writer.stopping = True
        async with asyncio.timeout(15):
            await asyncio.gather(*tasks)


def check(found: list[Writer]) -> None:
    """Nothing acknowledged is lost, nothing is applied twice, in order; and nobody saw an error."""
    assert [error for writer in found for error in writer.errors] == []
    for writer in found:
        rows = list(writer.room.state.rows[writer.room.player_id])
        assert rows == writer.acknowledged


async def eventually(condition: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_sigterm_hands_matches_to_the_node_that_stays(store_settings: Settings, tmp_path: Path) -> None:
    """Two matches with acting players on one node; a second node comes, the first one goes; and back."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first, second = (Node(name, store_settings, tmp_path, port) for name in ("first", "second"))
    try:
        await first.start()
        async with writers(url, matches=2, players=3) as found:
            await asyncio.sleep(0.5)
            for goes, stays in ((first, second), (second, first)):
                await stays.start()
                assert await goes.stop() == 0
                before = [len(writer.acknowledged) for writer in found]
                await eventually(
                    lambda: all(len(w.acknowledged) > n + 5 for w, n in zip(found, before, strict=True))  # noqa: B023
                )
                assert stays.ask("/healthz")[1]["matches"] == 2
        check(found)
        assert max(writer.pause_seconds for writer in found) < 5
    finally:
        for node in (first, second):
            await node.end()


async def test_an_operator_drains_a_node(store_settings: Settings, tmp_path: Path) -> None:
    """`gameserver drain`: it says it is not ready, takes nobody, has no matches; its players go on at the other."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first, second = (Node(name, store_settings, tmp_path, port) for name in ("first", "second"))
    try:
        await first.start()
        async with writers(url, matches=2, players=2) as found:
            await second.start()
            assert first.ask("/v1/admin/drain")[1]["draining"] is False
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "gameserver", "drain", "--url", first.direct],
                cwd=tmp_path, capture_output=True, text=True, timeout=30,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "first: 2 matches handed over, 0 left" in done.stdout
            status, body = first.ask("/readyz")
            assert (status, body["failing"]) == (503, ["draining"])
            assert first.ask("/healthz")[1]["matches"] == 0
            before = [len(writer.acknowledged) for writer in found]
            await eventually(lambda: all(len(w.acknowledged) > n + 5 for w, n in zip(found, before, strict=True)))
            assert second.ask("/healthz")[1]["matches"] == 2
        check(found)
        assert await first.stop() == 0
    finally:
        for node in (first, second):
            await node.end()


async def test_the_last_node_leaves_everything_to_its_successor(store_settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    node = Node("only", store_settings, tmp_path, port)
    try:
        await node.start()
        async with writers(url, matches=2, players=2) as found:
            await asyncio.sleep(0.3)
            assert await node.stop(signal.SIGTERM) == 0
            await asyncio.sleep(0.5)
            before = [len(writer.acknowledged) for writer in found]
            await node.start()
            await eventually(
                lambda: all(len(w.acknowledged) > n + 5 for w, n in zip(found, before, strict=True)), 20
            )
        check(found)
    finally:
        await node.end()


async def test_only_admins_may_drain(store_settings: Settings, tmp_path: Path) -> None:
    node = Node("only", store_settings, tmp_path, free_port())
    try:
        await node.start()
        told = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "gameserver", "drain", "--url", node.direct, "--token", token("anne")],
            cwd=tmp_path, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert told.returncode == 2
        assert "the role player may not do this" in told.stderr
        assert node.ask("/readyz")[0] == 200
    finally:
        await node.end()

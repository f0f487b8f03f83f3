"""The server as a process: from `gameserver run` to SIGTERM, Ctrl-C and kill -9, with embedded stores."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from gameserver.client import Client
from tests.cli.kit import Server, command, store_processes

pytestmark = pytest.mark.slow


def wait_for(condition: Any, seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen")


async def play(url: str, token_name: str, tokens: dict[str, str]) -> tuple[str, float, float]:
    """Join arena, sail for a moment, stop; where the ship is."""
    async with Client(url, token=tokens.get(token_name), name=token_name) as client:
        tokens[token_name] = client.token or ""
        room = await client.join_or_create("arena")
        me = client.user_id
        if token_name not in seen:
            seen.add(token_name)
            await room.action("steer", dx=1.0, dy=0.5)
            await asyncio.sleep(0.4)
            await room.action("steer", dx=0.0, dy=0.0)
        await asyncio.sleep(0.1)
        ship = room.state.ships[me]
        return room.match_id, ship.x, ship.y


seen: set[str] = set()


def test_sigterm_and_start_again_keeps_the_match(tmp_path: Path) -> None:
    """Two SDK clients play arena; stop; start again: the same match, everyone where they were."""
    tokens: dict[str, str] = {}
    seen.clear()
    with Server(tmp_path) as server:
        server.wait_until_ready()
        before = [asyncio.run(play(server.url, name, tokens)) for name in ("anne", "bob")]
        code, seconds = server.stop(signal.SIGTERM)
        assert code == 0
        assert seconds < 10
    assert store_processes(tmp_path) == []
    with Server(tmp_path) as server:
        server.wait_until_ready()
        after = [asyncio.run(play(server.url, name, tokens)) for name in ("anne", "bob")]
        assert after == before
        assert "Traceback" not in server.text()
        assert server.stop(signal.SIGINT)[0] == 0
    for token in tokens.values():
        assert token not in server.text()


def test_kill_9_leaves_no_orphans_and_the_match_comes_back(tmp_path: Path) -> None:
    tokens: dict[str, str] = {}
    seen.clear()
    with Server(tmp_path, GAMESERVER__MATCH__SNAPSHOT_INTERVAL_SECONDS="0.3") as server:
        server.wait_until_ready()
        before = asyncio.run(play(server.url, "anne", tokens))
        time.sleep(1.5)
        assert len(store_processes(tmp_path)) >= 2
        server.process.kill()
        server.process.wait()
    wait_for(lambda: not store_processes(tmp_path))
    with Server(tmp_path) as server:
        server.wait_until_ready()
        assert asyncio.run(play(server.url, "anne", tokens)) == before
        assert server.stop()[0] == 0


def test_a_second_server_on_the_same_folder_is_told(tmp_path: Path) -> None:
    with Server(tmp_path) as first:
        first.wait_until_ready()
        with Server(tmp_path) as second:
            assert second.process.wait(20) == 2
            assert "in use by the server with process id" in second.text()
        assert first.get("/readyz")[0] == 200


def test_readyz_names_the_store_that_fails_and_recovers(tmp_path: Path) -> None:
    """Redis hangs (SIGSTOP): not ready, by name, while matches go on; it comes back: ready again."""
    with Server(tmp_path) as server:
        server.wait_until_ready()
        valkey = next(
            pid for pid in store_processes(tmp_path) if b"valkey" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(valkey, signal.SIGSTOP)
        try:
            wait_for(lambda: server.get("/readyz")[0] == 503)
            body = server.get("/readyz")[1]
            assert body["failing"] in (["redis"], ["redis", "lease"])  # which cannot be renewed meanwhile
            assert body["checks"]["mongo"] == "ok"
            assert server.get("/healthz")[0] == 200
            seen.add("anne")  # she only looks: what she did would not be acknowledged before the journal has it
            asyncio.run(play(server.url, "anne", {}))
        finally:
            os.kill(valkey, signal.SIGCONT)
        wait_for(lambda: server.get("/readyz")[0] == 200)
        assert server.stop()[0] == 0


def test_a_stop_with_a_hanging_store_ends_within_ten_seconds(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        server.wait_until_ready()
        asyncio.run(play(server.url, "anne", {}))
        for pid in store_processes(tmp_path):
            os.kill(pid, signal.SIGSTOP)
        code, seconds = server.stop(signal.SIGTERM, 15)
        assert seconds < 10.5
        assert code in (0, 1)
    wait_for(lambda: not store_processes(tmp_path))


def test_a_game_file_from_anywhere_and_the_matches_command(tmp_path: Path) -> None:
    assert command("new", "my_game", folder=tmp_path).returncode == 0
    with Server(tmp_path, "my_game.py", GAMESERVER__LOG__FORMAT="json") as server:
        server.wait_until_ready()

        async def join() -> str:
            async with Client(server.url, name="Anne") as client:
                room = await client.join_or_create("my_game")
                assert await room.action("step", count=2) == 2
                shown = await asyncio.to_thread(command, "matches", "--url", server.url, folder=tmp_path)
                assert room.match_id in shown.stdout
                assert "1/8" in shown.stdout
                return room.match_id

        match = asyncio.run(join())
        listed = command("matches", "list", "--json", "--url", server.url, folder=tmp_path)
        assert [found["match"] for found in json.loads(listed.stdout)["matches"]] == [match]
        shown = command("matches", "--url", server.url, "show", match, folder=tmp_path)
        assert f"match              {match}" in shown.stdout
        missing = command("matches", "show", "nope", "--url", server.url, folder=tmp_path)
        assert (missing.returncode, "answered 404" in missing.stderr) == (2, True)
        assert server.stop()[0] == 0
        lines = [json.loads(line) for line in server.text().splitlines()]
        assert {"server_started", "match_created", "server_stopped"} <= {line["event"] for line in lines}

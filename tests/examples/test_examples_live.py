"""The examples as their players meet them: a server process, the client SDK, and a restart in the middle of it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gameserver.client import Client, CloseReason, ConnectionLost, Room
from gameserver.client.link import Link
from gameserver.config import Settings
from gameserver.errors import ActionRefused, MatchEnded
from gameserver.examples.bots.players import ChatroomBot
from gameserver.examples.bots.report import Report
from tests.examples.server import ServerProcess, free_port
from tests.examples.test_battleship import FLEET, named

pytestmark = pytest.mark.slow


class SpyClient(Client):
    """Keeps every byte it received."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wire = bytearray()

    def _received(self, link: Link, data: bytes) -> None:
        self.wire += data
        super()._received(link, data)


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def soon(awaitable: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.wait_for(awaitable, 10)


@pytest.fixture
async def server(store_settings: Settings, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    process = ServerProcess(store_settings, tmp_path)
    await process.start()
    yield process
    await process.end()


async def shoot_until_hit(shooter: Room, target: Room) -> None:
    """Chase a ship until a shot hits it."""
    async with asyncio.timeout(30):
        while True:
            me, other = shooter.state.ships[shooter.player_id], shooter.state.ships[target.player_id]
            shooter.send("steer", dx=other.x - me.x, dy=other.y - me.y)
            if me.ammo > 0 and await shooter.action("fire", target=target.player_id):
                await shooter.action("steer", dx=0.0, dy=0.0)
                return
            await asyncio.sleep(0.15)


def ships(room: Room) -> dict[str, dict[str, Any]]:
    """What everyone may know of the ships."""
    return {id: {k: v for k, v in ship.items() if k != "ammo"} for id, ship in room.state.ships.items()}


async def test_arena_goes_on_after_a_restart(server: ServerProcess) -> None:
    hits: list[Any] = []
    reasons: list[CloseReason] = []
    off = {"reconnect": False}  # what happens to a client that does not come back by itself
    async with Client(server.url, name="Alice", **off) as alice, Client(server.url, name="Bob", **off) as bob:
        a = await alice.join_or_create("arena", options={"size": 60})
        b = await bob.join_or_create("arena", options={"size": 60})
        assert a.match_id == b.match_id
        await soon(a.wait_for(lambda state: len(state.ships) == 2))
        b.on_event("hit", hits.append)
        for room in (a, b):
            room.on_close(reasons.append)
        await shoot_until_hit(a, b)
        await soon(b.wait_for(lambda state: state.ships[bob.user_id].hp == 75))
        await until(lambda: hits)
        assert hits == [{"by": alice.user_id, "target": bob.user_id, "hp": 75}]
        assert not hasattr(b.state.ships[alice.user_id], "ammo")
        await until(lambda: ships(a) == ships(b))
        before, position = ships(a), a.position
        assert await server.stop() == 0
        await until(lambda: len(reasons) == 2)
        assert {(reason.code, reason.reconnect) for reason in reasons} == {("match_moved", True)}
    await server.start()
    async with Client(server.url, token=alice.token) as alice, Client(server.url, token=bob.token) as bob:
        a, b = await alice.join(a.match_id), await bob.join(b.match_id)
        assert a.position > position
        assert ships(a) == before
        assert ships(b) == before
        await shoot_until_hit(b, a)
        await soon(a.wait_for(lambda state: state.ships[alice.user_id].hp == 75))


async def begin_battleship(alice: Client, bob: Client) -> tuple[Room, Room]:
    """A game that has begun, the room whose turn it is first."""
    a = await alice.join_or_create("battleship", options={"turn_seconds": 6})
    b = await bob.join_or_create("battleship", options={"turn_seconds": 6})
    assert a.match_id == b.match_id
    await a.action("place", ships=named(FLEET, "alices"))
    await b.action("place", ships=named(FLEET, "bobs"))
    for room in (a, b):
        await soon(room.wait_for(lambda state: state.phase == "playing"))
    return (a, b) if a.state.turn == alice.user_id else (b, a)


async def test_battleship_goes_on_after_a_restart_with_its_clock(server: ServerProcess) -> None:
    async with SpyClient(server.url) as alice, SpyClient(server.url) as bob:
        first, second = await begin_battleship(alice, bob)
        assert await first.action("shoot", cell="A1") == "hit"
        with pytest.raises(ActionRefused, match="not your turn"):
            await second.action("shoot", cell="A1")
        assert await server.stop() == 0
        mover = alice if first.player_id == alice.user_id else bob
        waiter = bob if mover is alice else alice
    await server.start()
    async with SpyClient(server.url, token=mover.token) as m, SpyClient(server.url, token=waiter.token) as w:
        mover_room, waiter_room = await m.join(first.match_id), await w.join(first.match_id)
        assert waiter_room.state.turn == m.user_id
        assert dict(mover_room.state.boards[w.user_id].shots) == {"A1": "hit"}
        assert mover_room.state.boards[w.user_id].fleet is None
        assert waiter_room.state.turn_ends_at > 6.0
        # Nobody moves: the timer that was pending before the restart gives the turn to the other one.
        missed = await soon(waiter_room.next_event("turn_missed"))
        assert missed == {"player": m.user_id}
        await soon(waiter_room.wait_for(lambda state: state.turn == w.user_id))
        assert await waiter_room.action("shoot", cell="C1") == "hit"
        hidden = {alice.user_id: b"bobs ", bob.user_id: b"alices "}
        shown = {alice.user_id: b"alices ", bob.user_id: b"bobs "}
        for client in (alice, bob, m, w):
            assert shown[client.user_id] in client.wire
            assert hidden[client.user_id] not in client.wire


async def test_battleship_to_the_end(server: ServerProcess) -> None:
    async with SpyClient(server.url) as alice, SpyClient(server.url) as bob:
        first, second = await begin_battleship(alice, bob)
        overs: list[Any] = []
        second.on_event("game_over", overs.append)
        result = ""
        for cells in FLEET.values():
            for cell in cells:
                result = await first.action("shoot", cell=cell)
        assert result == "won"
        await until(lambda: second.closed and first.closed)
        assert overs == [{"winner": first.player_id, "how": "sank the fleet"}]
        assert second.state.winner == first.player_id
        assert second.state.boards[first.player_id].fleet.ships[0].name.endswith("destroyer")
        with pytest.raises(MatchEnded):
            await second.action("shoot", cell="A1")


async def test_chatroom_is_heard_by_all(server: ServerProcess) -> None:
    async with Client(server.url, name="Ann") as ann, Client(server.url, name="Ben") as ben:
        a = await ann.join_or_create("chatroom", options={"topic": "tests"})
        await a.action("say", text="anybody here?")
        b = await ben.join_or_create("chatroom", options={"topic": "tests"})
        assert [line["text"] for line in b.state.history] == ["anybody here?"]
        typing = asyncio.create_task(a.next_event("typing"))
        b.send("typing")
        assert await asyncio.wait_for(typing, 10) == {"player": ben.user_id}
        assert await b.action("react", message_id=1, reaction="heart") == 1
        await soon(a.wait_for(lambda state: ben.user_id in state.history[0]["reactions"].get("heart", ())))


async def test_a_killed_server_is_a_lost_connection(server: ServerProcess) -> None:
    reasons: list[CloseReason] = []
    async with Client(server.url, reconnect=False) as client:
        room = await client.join_or_create("chatroom")
        room.on_close(reasons.append)
        await server.stop(signal.SIGKILL)
        await until(lambda: reasons)
        assert reasons[0].reconnect
        with pytest.raises(ConnectionLost):
            await room.action("say", text="hello?")


async def run_bots(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gameserver.examples.bots", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.parametrize(("game", "sign"), [("arena", "hit"), ("battleship", "shot"), ("chatroom", "typing")])
async def test_bots_play_and_report(server: ServerProcess, game: str, sign: str) -> None:
    bots = await run_bots(game, "--players", "6", "--seconds", "4", "--url", server.url)
    output = (await asyncio.wait_for(bots.communicate(), 20))[0].decode()
    assert bots.returncode == 0, output
    assert f"event {sign}" in output
    assert "p50 / p99" in output
    assert "failure" not in output


async def test_ctrl_c_ends_the_bots_with_a_summary(server: ServerProcess) -> None:
    bots = await run_bots("chatroom", "--players", "3", "--seconds", "600", "--url", server.url)
    await asyncio.sleep(3)
    bots.send_signal(signal.SIGINT)
    output = (await asyncio.wait_for(bots.communicate(), 5))[0].decode()
    assert bots.returncode == 0, output
    assert "3 bots" in output


async def test_bots_without_a_server_say_so() -> None:
    bots = await run_bots("arena", "--players", "3", "--url", f"http://127.0.0.1:{free_port()}")
    output = (await asyncio.wait_for(bots.communicate(), 20))[0].decode()
    assert bots.returncode == 1
    assert "is the server running there" in output
    assert "Traceback" not in output


async def test_bots_come_back_after_a_restart(server: ServerProcess) -> None:
    report = Report()
    bot = asyncio.create_task(ChatroomBot(1, server.url, report).run())
    await until(lambda: report.actions)
    await server.stop()
    await server.start()
    actions = report.actions
    await until(lambda: report.actions > actions)
    assert len(report.matches) == 1
    bot.cancel()
    await asyncio.gather(bot, return_exceptions=True)


async def test_bots_train_a_server_for_the_compiler(tmp_path: Path) -> None:
    """What `make compile-pgo` and the image run between their two compilations: it starts and ends by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gameserver.examples.training", "--seconds", "4",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(90):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    for crowd in ("60 bots", "20 bots", "actions acknowledged"):
        assert crowd in output.decode()

"""The client against a real server: every call of its API, and everything that can happen to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gameserver.app import Application
from gameserver.client import Client, CloseReason, ConnectionClosed, Room, RoomLeft
from gameserver.errors import (
    ActionInvalid,
    ActionRefused,
    ActionUnknown,
    GameCodeError,
    GameNotFound,
    LimitReached,
    MatchEnded,
    MatchMoved,
    MatchNotFound,
    NotFound,
    PermissionDenied,
    RequestInvalid,
    ServerDraining,
    SessionReplaced,
)
from tests.client.conftest import Connect, token


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def soon(awaitable: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.wait_for(awaitable, 10)


@pytest.fixture
async def alice(connect: Connect) -> Client:
    return await connect("alice")


@pytest.fixture
async def room(alice: Client) -> Room:
    return await alice.join_or_create("counter")


class TestConnecting:
    async def test_a_guest_needs_no_token(self, app: Application) -> None:
        async with Client(app.url, name="Gus") as client:
            assert client.info.role == "guest"
            assert client.info.name == "Gus"
            room = await client.join_or_create("counter")
            assert room.state.names[client.user_id] == "Gus"
            assert room.player_id == client.user_id
            again = Client(app.url, token=client.token)
        async with again:
            assert again.user_id == client.user_id

    async def test_ping_takes_a_moment(self, alice: Client) -> None:
        assert 0 < await alice.ping() < 1

    async def test_requests_and_listings(self, alice: Client, room: Room) -> None:
        (found,) = await alice.matches(game="counter")
        assert (found["match"], found["players"]) == (room.match_id, 1)
        assert await alice.matches(game="arena") == []
        assert (await alice.request("match", {"match": room.match_id}))["game"] == "counter"
        with pytest.raises((NotFound, RequestInvalid)):
            await alice.request("make_coffee")
        with pytest.raises(RequestInvalid):
            await alice.request("match", {"match": object()})

    async def test_it_can_be_closed_twice_and_is_not_used_again(self, app: Application) -> None:
        client = Client(app.url)
        with pytest.raises(ConnectionClosed):
            await client.ping()
        await client.connect()
        await client.close()
        await client.close()
        assert not client.connected
        with pytest.raises(ConnectionClosed):
            await client.ping()
        with pytest.raises(RuntimeError):
            await client.connect()

    async def test_leaving_the_block_closes_its_rooms(self, app: Application) -> None:
        reasons: list[CloseReason] = []
        async with Client(app.url) as client:
            room = await client.join_or_create("counter")
            room.on_close(reasons.append)
        assert [reason.code for reason in reasons] == ["connection_closed"]
        assert room.closed
        with pytest.raises(ConnectionClosed):
            await room.action("add", n=1)
        with pytest.raises(ConnectionClosed):
            room.send("add", n=1)

    async def test_an_exception_in_the_block_comes_out_and_the_connection_is_closed(self, app: Application) -> None:
        with pytest.raises(ZeroDivisionError):
            async with Client(app.url) as client:
                1 / 0  # noqa: B018
        assert not client.connected


class TestJoining:
    async def test_two_players_meet(self, connect: Connect, room: Room) -> None:
        bob = await connect("bob")
        other = await bob.join_or_create("counter")
        assert other.match_id == room.match_id
        assert dict(other.state.names) == {"alice": "Alice", "bob": "Bob"}
        await soon(room.wait_for(lambda state: len(state.names) == 2))
        assert (room.game, room.spectator, room.session) == ("counter", False, room.session)
        assert "add" in room.actions

    async def test_create_makes_a_new_one_and_join_finds_it(self, connect: Connect, alice: Client, room: Room) -> None:
        second = await alice.create("counter")
        assert second.match_id != room.match_id
        bob = await connect("bob")
        joined = await bob.join(second.match_id)
        assert await joined.action("add", n=2) == 2
        await soon(second.wait_for(lambda state: state.count == 2))
        assert room.state.count == 0
        assert {one.match_id for one in alice.rooms} == {room.match_id, second.match_id}

    async def test_options_reach_the_game(self, alice: Client) -> None:
        arena = await alice.create("arena", options={"size": 30})
        assert arena.state.size == 30.0

    async def test_what_is_not_there(self, alice: Client) -> None:
        with pytest.raises(GameNotFound):
            await alice.join_or_create("chess")
        with pytest.raises(MatchNotFound):
            await alice.join("nothing")
        with pytest.raises(RequestInvalid):
            await alice.create("counter", options={"x": object()})

    async def test_spectators_see_and_do_nothing(self, connect: Connect, room: Room) -> None:
        watcher = await (await connect("carol")).join(room.match_id, spectate=True)
        assert watcher.spectator
        heard: list[Any] = []
        watcher.on_event("added", heard.append)
        await room.action("add", n=3)
        await soon(watcher.wait_for(lambda state: state.count == 3))
        await until(lambda: heard)
        assert "carol" not in room.state.names
        with pytest.raises(PermissionDenied):
            await watcher.action("add", n=1)

    async def test_leaving(self, alice: Client, room: Room) -> None:
        reasons: list[CloseReason] = []
        room.on_close(reasons.append)
        await room.leave()
        await room.leave()
        assert room.closed
        assert reasons == [CloseReason("left", "You left this match.", False)]
        assert alice.rooms == []
        with pytest.raises(RoomLeft):
            await room.action("add", n=1)
        assert dict((await alice.join(room.match_id)).state.names) == {"alice": "Alice"}

    async def test_the_same_user_from_elsewhere_takes_the_seat_over(self, connect: Connect, room: Room) -> None:
        reasons: list[CloseReason] = []
        room.on_close(reasons.append)
        again = await (await connect("alice")).join(room.match_id)
        await until(lambda: reasons)
        assert (reasons[0].code, reasons[0].reconnect) == ("session_replaced", False)
        with pytest.raises(SessionReplaced):
            await room.action("add", n=1)
        assert await again.action("add", n=1) == 1

    async def test_joining_again_on_the_same_connection(self, alice: Client, room: Room) -> None:
        again = await alice.join(room.match_id)
        assert room.closed
        assert await again.action("add", n=5) == 5
        assert alice.rooms == [again]


class TestActing:
    async def test_results_and_state(self, room: Room) -> None:
        before = room.position
        assert await room.action("add", n=2) == 2
        assert await room.action("add", 40) == 42
        assert room.state.count == 42
        assert room.position > before
        assert room.applied == 2
        assert room.unacknowledged == 0

    async def test_errors_are_typed(self, room: Room) -> None:
        with pytest.raises(ActionRefused, match="not today"):
            await room.action("refuse")
        with pytest.raises(ActionInvalid):
            await room.action("add", n="many")
        with pytest.raises(ActionInvalid):
            await room.action("add", n=object())
        with pytest.raises(ActionUnknown, match="add"):
            await room.action("subtract", n=1)
        with pytest.raises(GameCodeError):
            await room.action("fail")
        with pytest.raises(TypeError):
            await room.action("add", 1, n=1)
        assert await room.action("add", n=1) == 1

    async def test_more_than_the_window_at_once_keeps_the_order(self, room: Room) -> None:
        results = await asyncio.gather(*(room.action("append", n) for n in range(150)))
        assert results == [None] * 150
        assert list(room.state.order) == list(range(150))

    async def test_sending_without_waiting_keeps_the_order_and_the_servers_pace(self, room: Room) -> None:
        for n in range(300):
            room.send("append", n=n)
        assert room.unacknowledged == 300
        await soon(room.wait_for(lambda state: len(state.order) == 300))
        assert list(room.state.order) == list(range(300))
        assert not room.closed

    async def test_a_flood_is_refused_here_and_not_buffered(self, room: Room) -> None:
        for n in range(64 + 1024):
            room.send("append", n=n)
        with pytest.raises(LimitReached):
            room.send("append", n=0)

    async def test_refusals_of_what_nobody_waits_for(self, room: Room, caplog: pytest.LogCaptureFixture) -> None:
        room.send("refuse")
        await until(lambda: "not today" in caplog.text)
        errors: list[tuple[str, str]] = []
        room.on_error(lambda name, error: errors.append((name, error.code)))
        room.send("refuse")
        await until(lambda: errors)
        assert errors == [("refuse", "action_refused")]

    async def test_an_action_that_is_given_up_disturbs_nothing(self, room: Room) -> None:
        task = asyncio.create_task(room.action("append", n=1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await room.action("add", n=1) == 1
        assert list(room.state.order) == [1]

    async def test_the_mirror_is_read_only(self, room: Room) -> None:
        with pytest.raises(AttributeError, match="read-only"):
            room.state.count = 5


class TestListening:
    async def test_events_reach_their_callbacks_until_unsubscribed(self, room: Room) -> None:
        heard: list[Any] = []
        every: list[Any] = []
        unsubscribe = room.on_event("added", heard.append)
        room.on_event("*", lambda name, data: every.append(name))

        @room.on_event("shout")
        def shouted(data: Any) -> None:
            heard.append(data)

        await room.action("add", n=1)
        await room.action("shout", text="hey")
        await until(lambda: len(heard) == 2)
        assert heard == [{"by": "alice", "n": 1}, "hey"]
        unsubscribe()
        unsubscribe()
        await room.action("add", n=1)
        await until(lambda: len(every) == 3)
        assert len(heard) == 2

    async def test_an_event_for_one_player(self, connect: Connect, room: Room) -> None:
        other = await (await connect("bob")).join(room.match_id)
        heard: list[str] = []
        room.on_event("whisper", lambda _: heard.append("alice"))
        other.on_event("whisper", lambda _: heard.append("bob"))
        await room.action("whisper", to="bob")
        await until(lambda: heard)
        await room.action("add", n=1)
        assert heard == ["bob"]

    async def test_changes_name_the_places(self, room: Room) -> None:
        places: list[Any] = []
        room.on_change(places.extend)
        await room.action("add", n=1)
        assert ("count",) in places

    async def test_a_callback_that_raises_is_logged_and_hurts_nobody(
        self, room: Room, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard: list[Any] = []

        def broken(*_: Any) -> None:
            raise ZeroDivisionError("mine")

        async def broken_later(_: Any) -> None:
            raise ZeroDivisionError("mine too")

        for register in (room.on_change, room.on_close):
            register(broken)
        room.on_event("added", broken)
        room.on_event("added", broken_later)
        room.on_event("added", heard.append)
        assert await room.action("add", n=1) == 1
        assert await room.action("add", n=1) == 2
        await until(lambda: len(heard) == 2)
        await until(lambda: "mine too" in caplog.text)
        assert "broken" in caplog.text
        await room.leave()
        assert room.closed

    async def test_coroutine_callbacks_may_act(self, room: Room) -> None:
        @room.on_event("shout")
        async def answer(text: str) -> None:
            await room.action("add", n=len(text))

        room.send("shout", text="four")
        await soon(room.wait_for(lambda state: state.count == 4))

    async def test_coroutine_callbacks_end_with_the_client(self, app: Application) -> None:
        ended: list[str] = []

        async def forever(_: Any) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append("ended")

        async with Client(app.url) as client:
            room = await client.join_or_create("counter")
            room.on_event("added", forever)
            await room.action("add", n=1)
            await room.action("add", n=1)
            await until(lambda: room._tasks)
        assert ended == ["ended"] * len(ended)
        assert ended

    async def test_waiting_for_events_and_states(self, connect: Connect, room: Room) -> None:
        other = await (await connect("bob")).join(room.match_id)
        waiting = asyncio.create_task(other.next_event("added"))
        await asyncio.sleep(0)
        await room.action("add", n=7)
        assert await waiting == {"by": "alice", "n": 7}
        assert await soon(other.wait_for(lambda state: state.count)) == 7
        with pytest.raises(ZeroDivisionError):
            await soon(other.wait_for(lambda state: 1 / 0))

    async def test_who_waits_is_told_when_the_room_closes(self, room: Room) -> None:
        waiting = [
            asyncio.create_task(room.next_event("never")),
            asyncio.create_task(room.wait_for(lambda state: state.count == 99)),
        ]
        await asyncio.sleep(0)
        await room.leave()
        for task in waiting:
            with pytest.raises(RoomLeft):
                await task
        with pytest.raises(RoomLeft):
            await room.next_event("never")


class TestEnds:
    async def test_the_match_ends(self, room: Room) -> None:
        reasons: list[CloseReason] = []
        room.on_close(reasons.append)
        room.send("finish")
        await until(lambda: reasons)
        assert (reasons[0].code, reasons[0].reconnect) == ("match_ended", False)
        with pytest.raises(MatchEnded):
            await room.action("add", n=1)

    async def test_the_server_stops(self, app: Application, connect: Connect) -> None:
        alice = await connect("alice", reconnect=False)
        room = await alice.join_or_create("counter")
        reasons: list[CloseReason] = []
        room.on_close(reasons.append)
        await app.stop()
        await until(lambda: reasons)
        assert (reasons[0].code, reasons[0].reconnect) == ("match_moved", True)
        await until(lambda: not alice.connected)
        with pytest.raises(MatchMoved):
            await room.action("add", n=1)
        with pytest.raises(ServerDraining):
            await alice.ping()

    async def test_the_token_is_in_no_log(self, app: Application, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        secret = token("dora")
        async with Client(app.url, token=secret) as client:
            await client.join_or_create("counter")
        assert secret not in caplog.text

"""Real sockets that are cut, servers that restart: the client comes back by itself, and nobody has to care."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from gameserver import Game, Player, action
from gameserver.app import Application
from gameserver.client import Client, CloseReason, ReconnectPolicy, Room, RoomLeft, to_plain
from gameserver.config import Settings
from gameserver.errors import GameServerError, OutcomeUnknown, TokenExpired
from gameserver.protocol import encode_moved, ws_frame
from tests.client.conftest import Connect, token
from tests.client.games import Counter
from tests.client.test_client_live import until
from tests.proxy import Proxy

QUICK = ReconnectPolicy(delay_seconds_min=0.02, delay_seconds_max=0.2, give_up_seconds=20.0)


class Brief(Game):
    """Gives seats up at once."""

    batch_ms = 10_000
    seat_hold_seconds = 0.05
    empty_seconds = None

    n: int = 0

    @action
    def add(self, player: Player) -> int:
        self.n += 1
        return self.n


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Application]:
    async with serving(settings) as application:
        yield application


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Application]:
    application = Application(settings, [Counter, Brief])
    await application.start()
    try:
        yield application
    finally:
        await application.stop()


@pytest.fixture
async def proxy(app: Application) -> AsyncIterator[Proxy]:
    async with Proxy(app.url, seed=7) as made:
        yield made


@pytest.fixture
async def alice(proxy: Proxy) -> AsyncIterator[Client]:
    async with Client(proxy.url("http"), token=token("alice"), reconnect=QUICK) as client:
        yield client


@pytest.fixture
async def room(alice: Client) -> Room:
    return await alice.join_or_create("counter")


def watch(room: Room) -> list[str]:
    """What a user is told of the connection, in order."""
    told: list[str] = []
    room.on_disconnect(lambda error: told.append(f"away: {error.code}"))
    room.on_reconnect(lambda recovered: told.append("recovered" if recovered else "started over"))
    room.on_close(lambda reason: told.append(f"closed: {reason.code}"))
    return told


async def test_a_cut_is_hardly_noticed(app: Application, proxy: Proxy, room: Room) -> None:
    told, heard = watch(room), []
    room.on_event("added", lambda data: heard.append(data["n"]))
    session = room.session
    assert await room.action("add", n=1) == 1
    proxy.reset()
    assert await room.action("add", n=2) == 3  # waits for the connection
    assert told == ["away: connection_lost", "recovered"]
    assert (room.connected, room.session, room.state.count) == (True, session, 3)
    await until(lambda: heard == [1, 2])
    assert app.host.get(room.match_id).match.players["alice"].connected


@pytest.mark.slow
async def test_cuts_in_the_middle_of_everything(app: Application, proxy: Proxy, room: Room, connect: Connect) -> None:
    """Requests that never arrive, answers that half arrive: every action is done once and answered once."""
    told, heard, seen = watch(room), [], []
    other = await (await connect("bob")).join(room.match_id)
    room.on_event("added", lambda data: heard.append(data["n"]))
    other.on_event("added", lambda data: seen.append(data["n"]))
    proxy.drop_requests = proxy.cut_replies = 0.04

    async def act(number: int) -> int:
        await asyncio.sleep(number * 0.01)
        if number % 3 == 0:
            room.send("append", number)
        return await room.action("add", n=number)

    results = await asyncio.gather(*(act(number) for number in range(1, 151)))
    proxy.drop_requests = proxy.cut_replies = 0.0
    assert results == [number * (number + 1) // 2 for number in range(1, 151)]
    assert proxy.dropped >= 5
    assert told.count("recovered") >= 5
    assert "started over" not in told
    await until(lambda: len(seen) == 150)
    await until(lambda: len(heard) == 150)
    assert heard == seen == list(range(1, 151))
    await room.wait_for(lambda state: len(state.order) == 50)
    assert sorted(room.state.order) == list(range(3, 151, 3))
    match = app.host.get(room.match_id).match
    await until(lambda: to_plain(room.state) == match.tree.view("alice"))


@pytest.mark.slow
async def test_a_server_that_restarts(settings: Settings) -> None:
    """Another process and another epoch: a full state, the same session, every action once."""
    async with serving(settings) as first:
        proxy = Proxy(first.url)
        await proxy.__aenter__()
        client = Client(proxy.url("http"), token=token("alice"), reconnect=QUICK)
        await client.connect()
        room = await client.join_or_create("counter")
        told, session = watch(room), room.session
        results: list[int] = []

        async def act() -> None:
            for _ in range(60):
                results.append(await room.action("add", n=1))
                room.send("append", len(results))
                await asyncio.sleep(0.01)

        acting = asyncio.create_task(act())
        await until(lambda: len(results) > 10)
    assert not room.connected
    async with serving(settings) as second:
        proxy._upstream = urlsplit(second.url)
        await acting
        assert results == list(range(1, 61))
        assert [one.split(":")[0] for one in told] == ["away", "started over"]
        assert room.session == session
        assert room.position[0] > 1
        await room.wait_for(lambda state: len(state.order) == 60)
        assert list(room.state.order) == list(range(1, 61))
        await client.close()
    await proxy.__aexit__(None, None, None)
    assert told[-1] == "closed: connection_closed"


async def test_what_is_done_meanwhile_waits(proxy: Proxy, alice: Client, room: Room) -> None:
    proxy.refuse = True
    proxy.reset()
    await until(lambda: not room.connected)
    assert not alice.connected
    assert not room.closed
    for number in range(100):
        room.send("append", number)
    asking = asyncio.create_task(alice.matches(game="counter"))
    await asyncio.sleep(0.1)
    assert room.unacknowledged == 100
    proxy.refuse = False
    await room.wait_for(lambda state: len(state.order) == 100)
    assert list(room.state.order) == list(range(100))
    assert len(await asking) == 1
    assert alice.rooms == [room]


async def test_who_waits_for_the_state_goes_on_waiting(proxy: Proxy, room: Room, connect: Connect) -> None:
    other = await (await connect("bob")).join(room.match_id)
    waiting = asyncio.create_task(room.wait_for(lambda state: state.count == 7))
    event = asyncio.create_task(room.next_event("added"))
    await asyncio.sleep(0)
    proxy.reset()
    await other.action("add", n=7)
    assert await event == {"by": "bob", "n": 7}
    await waiting


async def test_a_seat_that_was_given_up(proxy: Proxy, alice: Client) -> None:
    room = await alice.create("brief")
    told, session = watch(room), room.session
    acting = asyncio.create_task(room.action("add"))
    await asyncio.sleep(0.05)
    proxy.refuse = True
    proxy.reset()
    await until(lambda: not room.connected)
    await asyncio.sleep(0.2)
    proxy.refuse = False
    with pytest.raises(OutcomeUnknown):
        await acting
    assert told == ["away: connection_lost", "started over"]
    assert room.session != session
    assert room.connected


async def test_several_rooms_and_spectators_come_back(
    app: Application, proxy: Proxy, alice: Client, connect: Connect
) -> None:
    bob = await connect("bob")
    watched = await bob.create("counter")
    rooms = [await alice.create("counter"), await alice.join(watched.match_id, spectate=True)]
    told = [watch(room) for room in rooms]
    proxy.reset()
    await until(lambda: all("started over" in one or "recovered" in one for one in told))
    assert told == [["away: connection_lost", "recovered"], ["away: connection_lost", "started over"]]
    await watched.action("add", n=5)
    await until(lambda: rooms[1].state.count == 5)
    assert await rooms[0].action("add", n=1) == 1
    assert len(app.host.get(watched.match_id).match.watchers) == 1


async def test_leaving_and_closing_while_away(proxy: Proxy, alice: Client, room: Room) -> None:
    second = await alice.create("counter")
    proxy.refuse = True
    proxy.reset()
    await until(lambda: not second.connected)
    await room.leave()
    assert room.close_reason is not None
    assert room.close_reason.code == "left"
    with pytest.raises(RoomLeft):
        await room.action("add", n=1)
    async with asyncio.timeout(1):
        await alice.close()
    assert second.close_reason is not None
    assert second.close_reason.code == "connection_closed"


async def test_it_can_be_turned_off(proxy: Proxy) -> None:
    async with Client(proxy.url("http"), token=token("alice"), reconnect=False) as client:
        room = await client.join_or_create("counter")
        told = watch(room)
        proxy.reset()
        await until(lambda: room.closed)
    assert told == ["closed: connection_lost"]


async def test_it_gives_up_in_the_end(proxy: Proxy) -> None:
    policy = ReconnectPolicy(0.02, 0.05, give_up_seconds=0.3)
    async with Client(proxy.url("http"), token=token("alice"), reconnect=policy) as client:
        room = await client.join_or_create("counter")
        acting = asyncio.create_task(room.wait_for(lambda state: state.count == 1))
        await asyncio.sleep(0)
        proxy.refuse = True
        proxy.reset()
        with pytest.raises(GameServerError, match="lost"):
            await acting
        assert isinstance(room.close_reason, CloseReason)
        assert (room.close_reason.code, room.close_reason.reconnect) == ("connection_lost", True)
        with pytest.raises(GameServerError, match="lost"):
            await client.ping()


async def test_a_token_that_has_run_out_ends_it(proxy: Proxy) -> None:
    async with Client(proxy.url("http"), token=token("alice"), reconnect=QUICK) as client:
        room = await client.join_or_create("counter")
        client._token = token("alice", ttl_seconds=-60)  # as time passes
        proxy.reset()
        await until(lambda: room.closed)
        assert room.close_reason is not None
        assert (room.close_reason.code, room.close_reason.reconnect) == ("token_expired", False)
        with pytest.raises(TokenExpired):
            await room.action("add", n=1)


async def test_guests_stay_who_they_are(app: Application, proxy: Proxy) -> None:
    async with Client(proxy.url("http"), name="Gus", reconnect=QUICK) as client:
        room = await client.join_or_create("counter")
        who = client.user_id
        told = watch(room)
        proxy.reset()
        assert await room.action("add", n=1) == 1
        assert (client.user_id, told[-1]) == (who, "recovered")


async def test_an_action_with_a_time_limit(proxy: Proxy) -> None:
    async with Client(proxy.url("http"), token=token("alice"), reconnect=QUICK, action_timeout_seconds=0.2) as client:
        room = await client.join_or_create("counter")
        proxy.stall()
        with pytest.raises(OutcomeUnknown, match="add"):
            await room.action("add", n=1)
        proxy.resume()
        assert await room.action("add", n=1) == 2  # the first one was done all the same


async def test_a_line_that_is_open_and_silent(app: Application, proxy: Proxy, alice: Client, room: Room) -> None:
    """The server still holds the old connection when the client is back on a new one."""
    told = watch(room)
    old: Any = alice._link
    proxy.stall()
    old.abort(GameServerError("silent"))
    await until(lambda: not room.connected)
    proxy._lines.clear()  # leave the old line open for good
    proxy.resume()
    assert await room.action("add", n=1) == 1
    assert told[-1] == "recovered"
    assert len(app.host.get(room.match_id).members) == 1


def offer(app: Application, room: Room, address: str) -> None:
    """What a server says that knows a shorter way to the match."""
    hosted = app.host.get(room.match_id)
    for member in hosted.members.values():
        member.receiver.write((ws_frame(encode_moved(hosted.channel, address)),))


async def test_an_offer_to_go_where_the_match_is_run(app: Application, proxy: Proxy, alice: Client, room: Room) -> None:
    """Followed by those who want it, and only if it leads somewhere."""
    async with (
        Proxy(app.url) as nearer,
        Client(proxy.url("http"), token=token("bob"), reconnect=QUICK, direct=True) as bob,
    ):
        other = await bob.join(room.match_id)
        told, stayed = watch(other), watch(room)
        offer(app, room, "ws://127.0.0.1:1/v1/ws")
        offer(app, room, "nonsense://")
        await asyncio.sleep(0.1)
        assert told == []
        offer(app, room, nearer.url("ws"))
        await until(lambda: "recovered" in told)
        assert told == ["away: match_moved", "recovered"]
        assert nearer.accepted == 1
        assert await other.action("add", n=1) == 1
        nearer.refuse = True
        nearer.reset()
        assert await other.action("add", n=1) == 2  # back at the first address
        assert stayed == []

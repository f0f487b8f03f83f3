"""Clients that do not read: conflated, never buffered for without bound, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from gameserver.app import Application
from gameserver.config import Settings
from gameserver.protocol import Ack, Action, Events, Frame, Ping, StateMessage
from gameserver.web import connections
from gameserver.web.connection import Connection
from tests.web.conftest import Opener, changed
from tests.web.games import GAMES
from tests.web.kit import RawClient, eventually

BUFFER_BYTES_MAX = 1_000_000


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Application]:
    limits = {"send_buffer_bytes_max": BUFFER_BYTES_MAX, "slow_consumer_seconds_max": 2.0, "messages_burst": 10_000}
    application = Application(changed(settings, limits=limits), GAMES)
    await application.start()
    yield application
    await application.stop()


def stop_reading(client: RawClient) -> None:
    client.socket._response.connection.transport.pause_reading()


def read_on(client: RawClient) -> None:
    client.socket._response.connection.transport.resume_reading()


async def until_behind(app: Application, user: str) -> Connection:
    """Its connection. On a slow machine others are behind for a moment, too."""
    fanout = app.host._services.fanout
    member = await eventually(lambda: next((one for one in fanout.behind if one.user_id == user), None), 20)
    connection: Connection = member.receiver
    return connection


async def test_a_slow_client_gets_one_state_for_all_it_missed(app: Application, connect: Opener) -> None:
    """Patches stop past the limit; what may not be dropped comes after the state that it belongs to."""
    slow, quick = await connect("slow"), await connect("quick")
    channel = (await slow.join("flood")).channel
    await quick.join("flood")
    stop_reading(slow)
    connection = await until_behind(app, "slow")
    hosted = next(iter(app.host))
    assert connection.buffered_bytes() < BUFFER_BYTES_MAX + 200_000
    before = len(quick.seen)
    await slow.send(Action(channel, 1, "ping", []))  # acted on although it does not read
    await quick.expect(Events)
    await asyncio.sleep(0.5)
    assert connection.buffered_bytes() < BUFFER_BYTES_MAX + 200_000  # half a second and 3 MB later
    read_on(slow)
    state = await slow.expect(StateMessage)
    assert state.events_lost > 0
    index = slow.seen.index(state)
    after = [await slow.next(), await slow.next()]
    kinds = [type(message) for message in after]
    assert kinds == [Events, Ack]  # held back, never dropped, and not before their patch
    assert all(message.version <= state.version for message in after)
    frame = await slow.expect(Frame)
    assert frame.version > state.version
    versions = [message.version for message in slow.seen[:index] if isinstance(message, Frame)]
    assert versions == sorted(versions)
    assert state.version > versions[-1] + 1  # it did miss some
    assert len(quick.seen) > before
    assert hosted.match.ended is None


async def test_who_lags_for_too_long_is_aborted_with_its_own_code(app: Application, connect: Opener) -> None:
    slow, quick = await connect("slow"), await connect("quick")
    await slow.join("flood")
    quick_channel = (await quick.join("flood")).channel
    stop_reading(slow)
    await until_behind(app, "slow")
    async with asyncio.timeout(20):
        while len(app.web.connections) > 1:
            await quick.next()
    app.host.update_metrics()
    assert app.metrics.value("slow_consumers_total", outcome="aborted") == 1
    assert app.metrics.value("connections_closed_total", code="4508") == 1
    player = next(iter(app.host)).match.players["slow"]
    assert not player.connected  # the seat is held like for any lost connection
    assert (await quick.act(quick_channel, "ping")).ok


async def test_who_asks_and_never_reads_is_aborted(app: Application, connect: Opener) -> None:
    """Answers are not conflated, so they are what an attacker would fill memory with."""
    client, bystander = await connect("greedy"), await connect("bob")
    stop_reading(client)
    policy = app.web.connections.limits.policy
    policy.budget_seconds = 1e9
    try:
        async with asyncio.timeout(20):
            while len(app.web.connections) > 1:
                for _ in range(500):
                    await client.send(Ping("x" * 60))
                await asyncio.sleep(0)
    except (ConnectionError, OSError):
        pass
    await eventually(lambda: len(app.web.connections) == 1)
    await bystander.send(Ping(1))
    assert (await bystander.next()).nonce == 1


class Filling(Connection):
    """A connection whose peer leaves so much unread."""

    unread: ClassVar[int] = 0

    def buffered_bytes(self) -> int:
        return self.unread


async def test_low_events_go_first(app: Application, connect: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between half the limit and all of it a client gets everything but LOW events."""
    monkeypatch.setattr(connections, "Connection", Filling)
    client = await connect("alice")
    await client.join("flood")
    monkeypatch.setattr(Filling, "unread", BUFFER_BYTES_MAX * 3 // 4)
    for _ in range(3):
        await client.expect(Frame)
    lagging = await client.expect(Frame)
    monkeypatch.setattr(Filling, "unread", 0)
    for _ in range(5):
        recovered = await client.expect(Frame)
    assert [name for name, _ in lagging.events] == ["normal"]
    assert [name for name, _ in recovered.events] == ["normal", "low"]

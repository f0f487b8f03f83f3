"""Stores go away while people play: nothing that was answered is lost, what cannot be answered is said to be open."""

from __future__ import annotations

import asyncio
import os
import signal
from unittest.mock import ANY

import pytest

from gameserver.app import Application
from gameserver.client import Client, Room
from gameserver.config import Settings
from gameserver.errors import StoreUnavailable
from gameserver.protocol import Ack, Action, Events, Frame
from gameserver.storage import EmbeddedStores
from tests.client.conftest import token
from tests.storage.conftest import frozen
from tests.web.conftest import changed
from tests.web.games import GAMES
from tests.web.kit import RawClient, eventually

pytestmark = pytest.mark.slow


def settings_of(own: EmbeddedStores) -> Settings:
    short = {"timeout_seconds": 0.3, "connect_timeout_seconds": 0.3, "pool_wait_seconds": 0.3}
    return changed(
        Settings(redis={"url": own.redis_url, **short}, mongo={"url": own.mongo_url}),
        server={"port": 0},
        match={"gate_timeout_seconds": 0.4, "unjournaled_ms_max": 1_000},
    )


async def test_redis_hangs(own: EmbeddedStores) -> None:
    """`outcome_unknown`, then stand still, then the same seq gets its answer; after a crash all of it is there."""
    app = Application(settings_of(own), GAMES)
    await app.start()
    alice = await RawClient.open(app, "alice")
    joined = await alice.join("board")
    channel = joined.channel
    assert (await alice.act(channel, "ring")).result == 1
    with frozen(own.children["redis"].pid):
        alice.seq += 1
        ring = Action(channel, alice.seq, "ring", [])
        await alice.send(ring)
        seen = len(alice.seen)
        unknown = await alice.expect(Ack)
        assert unknown.refused
        assert unknown.result[0] == "outcome_unknown"
        assert unknown.result[2] is True
        # The patch did not wait, the event did.
        assert any(isinstance(message, Frame) for message in alice.seen[seen:])
        assert not any(isinstance(message, Events) for message in alice.seen[seen:])
        await asyncio.sleep(1.0)
        await alice.send(Action(channel, alice.seq + 1, "ring", []))
        still = await alice.expect(Ack)
        assert still.refused
        assert still.result[0] == "store_unavailable"
    await alice.send(ring)
    answer = await alice.expect(Ack)
    while answer.refused:
        answer = await alice.expect(Ack)
    assert (answer.seq, answer.result) == (alice.seq, 2)
    assert (await alice.act(channel, "ring")).result == 3
    await alice.close()
    # Not stopped in order: what a crash leaves behind is what the next start finds.
    match_id = joined.info.match
    hosted = app.host.get(match_id)
    version = hosted.match.version
    hosted.freeze()
    await app.stop()
    again = Application(settings_of(own), GAMES)
    await again.start()
    try:
        restored = again.host.get(match_id).match
        assert restored.version >= version
        assert restored.game.rung == 3  # type: ignore[attr-defined]
        assert restored.epoch > 1
    finally:
        await again.stop()


async def test_redis_flaps(own: EmbeddedStores) -> None:
    """Gone and back, again and again: each action is done once, in order, and nobody is disconnected."""
    app = Application(settings_of(own), GAMES)
    await app.start()
    drops: list[object] = []
    try:
        async with Client(app.url, token=token("alice")) as alice:
            room = await alice.join_or_create("board")
            room.on_disconnect(drops.append)
            acting = asyncio.create_task(_ring(room, 40))
            for _ in range(8):
                with frozen(own.children["redis"].pid):
                    await asyncio.sleep(0.3)
                await asyncio.sleep(0.1)
            async with asyncio.timeout(20):
                assert await acting == list(range(1, 41))
        assert drops == []
        await eventually(lambda: ready(app))
    finally:
        await app.stop()


async def test_mongo_hangs_and_dies(own: EmbeddedStores) -> None:
    """Matches do not notice; readiness does; what was to be recorded is there once when it is back."""
    app = Application(settings_of(own), GAMES)
    await app.start()
    try:
        async with Client(app.url, token=token("alice")) as alice:
            room = await alice.join_or_create("board")
            mongo = own.children["mongo"]
            with frozen(mongo.pid):
                for number in range(5):
                    async with asyncio.timeout(1):
                        await room.action("note", text=f"while it hangs {number}")
                assert await app._check() == {"redis": None, "mongo": ANY, "lease": None}
                assert (await app._check())["mongo"] is not None
            os.kill(mongo.pid or 0, signal.SIGKILL)
            await eventually(lambda: not mongo.pid)
            for number in range(5):
                async with asyncio.timeout(1):
                    await room.action("note", text=f"while it is dead {number}")
            await mongo.start(supervise=False)
            assert app.stores is not None
            documents = app.stores.documents

            async def all_there() -> bool:
                try:
                    return len(await documents.records(room.match_id, kind="note")) >= 10
                except StoreUnavailable:
                    return False

            await eventually(all_there, 15)
            found = [record["data"]["text"] for record in await documents.records(room.match_id, kind="note")]
            assert sorted(found) == sorted(
                [f"while it hangs {n}" for n in range(5)] + [f"while it is dead {n}" for n in range(5)]
            )
            hosted = app.host.get(room.match_id)
            await eventually(lambda: not hosted.match.unsettled)
            await eventually(lambda: ready(app))
    finally:
        await app.stop()


async def _ring(room: Room, times: int) -> list[int]:
    counted = []
    for _ in range(times):
        counted.append(await room.action("ring"))
        await asyncio.sleep(0.05)
    return counted


async def ready(app: Application) -> bool:
    return not any((await app._check()).values())

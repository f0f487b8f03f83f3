"""Redis hangs while people play: nothing that was answered is lost, what cannot be answered yet is said to be open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gameserver.app import Application
from gameserver.config import DataSettings, Settings
from gameserver.metrics import Metrics
from gameserver.protocol import Ack, Action, Events, Frame
from gameserver.storage import EmbeddedStores
from tests.storage.conftest import frozen
from tests.web.conftest import changed
from tests.web.games import GAMES
from tests.web.kit import RawClient

pytestmark = pytest.mark.slow


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[EmbeddedStores]:
    stores = EmbeddedStores(DataSettings(dir=tmp_path / "own"), Metrics())
    await stores.start(supervise=False)
    yield stores
    await stores.stop()


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
        assert restored.epoch == 2
    finally:
        await again.stop()

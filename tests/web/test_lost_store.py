"""A store that comes back empty, or as it was a while ago: matches that run are put back, and have one history."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gameserver.app import Application
from gameserver.client import Client, Room
from gameserver.config import Settings
from gameserver.storage import EmbeddedStores
from tests.client.conftest import token
from tests.web.conftest import changed
from tests.web.games import GAMES
from tests.web.kit import eventually

pytestmark = pytest.mark.slow


class Fleet:
    """Two nodes on one store; a match that the first one runs, with a player on each."""

    def __init__(self, stores: EmbeddedStores, folder: Path) -> None:
        self.stores = stores
        self.folder = folder
        short = {"timeout_seconds": 0.3, "connect_timeout_seconds": 0.3, "pool_wait_seconds": 0.3}
        settings = Settings(redis={"url": stores.redis_url, **short}, mongo={"url": stores.mongo_url})
        self.nodes = [
            Application(changed(settings, server={"port": 0, "node_id": name}, cluster={"lease_seconds": 1.0}), GAMES)
            for name in ("n1", "n2")
        ]
        self.clients: list[Client] = []
        self.rooms: list[Room] = []

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()
        for node, name in zip(self.nodes, ("ann", "ben"), strict=True):
            client = Client(node.url, token=token(name))
            await client.connect()
            self.clients.append(client)
        ann, ben = self.clients
        self.rooms.append(await ann.create("board"))
        self.rooms.append(await ben.join(self.rooms[0].match_id))

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        for node in self.nodes:
            await node.stop()

    @property
    def owners(self) -> list[str]:
        match_id = self.rooms[0].match_id
        return [node.name for node in self.nodes if match_id in node.host]

    async def ring(self) -> list[int]:
        """An urgent action by each player; what it counts."""
        return [await room.action("ring") for room in self.rooms]

    def redis_files(self) -> Path:
        return next(path for path in self.folder.rglob("appendonlydir")).parent

    async def lose(self, older: Path | None) -> None:
        """Redis dies; what it had is gone, or is what it was when `older` was copied."""
        redis = self.stores.children["redis"]
        files = self.redis_files()
        os.kill(redis.pid or 0, signal.SIGKILL)
        await eventually(lambda: not redis.pid)
        shutil.rmtree(files / "appendonlydir")
        (files / "dump.rdb").unlink(missing_ok=True)
        if older is not None:
            shutil.copytree(older, files / "appendonlydir")
        await redis.start(supervise=False)


@pytest.fixture
async def fleet(own: EmbeddedStores, tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(own, tmp_path)
    await fleet.start()
    yield fleet
    await fleet.stop()


@pytest.mark.parametrize("what", ["emptied", "rewound"])
async def test_what_the_store_lost_is_put_back(fleet: Fleet, tmp_path: Path, what: str) -> None:
    """Nobody loses the connection, nothing acknowledged is lost, and the match goes on under a higher epoch."""
    seen: list[Any] = []
    for room in fleet.rooms:
        room.on_disconnect(lambda error: seen.append(error))
    assert await fleet.ring() == [1, 2]
    older = None
    if what == "rewound":
        older = tmp_path / "older"
        shutil.copytree(fleet.redis_files() / "appendonlydir", older)
        for number in (3, 5, 7):
            assert await fleet.ring() == [number, number + 1]
    before = (await fleet.ring())[-1]
    await fleet.lose(older)
    async with asyncio.timeout(20):
        assert await fleet.ring() == [before + 1, before + 2]
    assert fleet.owners == ["n1"]
    hosted = fleet.nodes[0].host.get(fleet.rooms[0].match_id)
    journal = fleet.nodes[1].node.takeover
    async with asyncio.timeout(10):
        while True:
            assert fleet.nodes[1].stores is not None
            [owned] = await fleet.nodes[1].stores.journal.find([hosted.match_id])
            if owned is not None and (owned.node, owned.epoch) == ("n1", hosted.match.epoch):
                break
            await asyncio.sleep(0.05)
    assert hosted.match.epoch > 1
    await asyncio.sleep(2.5)  # longer than a lease: nobody else takes it
    assert fleet.owners == ["n1"]
    assert await fleet.ring() == [before + 3, before + 4]
    assert not journal.fleet.is_dead("n1")
    assert seen == []

"""A whole server on real stores and real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gameserver.app import Application
from gameserver.config import DataSettings, Settings
from gameserver.metrics import Metrics
from gameserver.storage import EmbeddedStores
from tests.web.games import GAMES
from tests.web.kit import RawClient

Opener = Callable[..., Awaitable[RawClient]]


def changed(settings: Settings, **sections: dict[str, Any]) -> Settings:
    """The settings with some keys of some sections changed."""
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=keys) for name, keys in sections.items()}
    )


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[EmbeddedStores]:
    """Stores for one test alone, restarted by nobody."""
    stores = EmbeddedStores(DataSettings(dir=tmp_path / "own"), Metrics())
    await stores.start(supervise=False)
    yield stores
    await stores.stop()


@pytest.fixture
def settings(store_settings: Settings) -> Settings:
    return changed(
        store_settings,
        server={"port": 0, "node_id": "web"},
        match={"snapshot_interval_seconds": 0.1, "snapshot_idle_seconds": 0.2},  # six times that with a journal
    )


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Application]:
    application = Application(settings, GAMES)
    await application.start()
    yield application
    await application.stop()


@pytest.fixture
async def connect(app: Application) -> AsyncIterator[Opener]:
    """Open clients; they are closed at the end."""
    clients: list[RawClient] = []

    async def open_client(user: str | None = "alice", *, name: str | None = None) -> RawClient:
        client = await RawClient.open(app, user, name=name)
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        await client.close()

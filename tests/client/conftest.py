"""A whole server on real stores and real sockets, and clients of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gameserver.access import Role, issue_token
from gameserver.app import Application
from gameserver.client import Client
from gameserver.config import DEVELOPMENT_SECRET, Settings
from gameserver.examples import GAMES
from tests.client.games import Counter

Connect = Callable[..., Awaitable[Client]]


def token(user: str, *, ttl_seconds: float = 600) -> str:
    return issue_token(
        DEVELOPMENT_SECRET, user, Role.PLAYER, name=user.title(), now=time.time(), ttl_seconds=ttl_seconds
    )


@pytest.fixture
def settings(store_settings: Settings) -> Settings:
    server = store_settings.server.model_copy(update={"port": 0})
    return store_settings.model_copy(update={"server": server})


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Application]:
    application = Application(settings, [Counter, *GAMES])
    await application.start()
    yield application
    await application.stop()


@pytest.fixture
async def connect(app: Application) -> AsyncIterator[Connect]:
    """Connect clients; they are closed at the end."""
    async with AsyncExitStack() as stack:

        async def open_client(user: str, **options: Any) -> Client:
            return await stack.enter_async_context(Client(app.url, token=token(user), **options))

        yield open_client

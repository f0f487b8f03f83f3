"""Stores of this room's tests, and one that a test may kill, stop and start."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from gameserver.config import DataSettings, MongoSettings, RedisSettings, Settings
from gameserver.metrics import Metrics
from gameserver.storage import EmbeddedStores, MongoDocuments
from gameserver.storage.mongo_client import close_mongo, make_mongo
from gameserver.storage.redis_client import make_redis

DRIVERS = ["motor", "pymongo"]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    client = make_redis(redis_url, RedisSettings())
    yield client
    await client.aclose()


@pytest.fixture(params=DRIVERS)
async def mongo(request: pytest.FixtureRequest, mongo_url: str) -> AsyncIterator[Any]:
    """The client of each driver in turn."""
    client = make_mongo(mongo_url, MongoSettings(driver=request.param))
    yield client
    await close_mongo(client)


@pytest.fixture
async def documents(mongo: Any, mongo_database: str) -> MongoDocuments:
    store = MongoDocuments(mongo, mongo_database)
    await store.create_indexes()
    return store


@pytest.fixture
async def own_stores(tmp_path: Path, metrics: Metrics) -> AsyncIterator[EmbeddedStores]:
    """Embedded stores for one test alone, restarted by nobody."""
    stores = EmbeddedStores(DataSettings(dir=tmp_path / "own"), metrics)
    await stores.start(supervise=False)
    yield stores
    await stores.stop()


@pytest.fixture
def own_settings(own_stores: EmbeddedStores) -> Settings:
    """Settings for `own_stores` with short timeouts."""
    short = {"timeout_seconds": 0.5, "connect_timeout_seconds": 0.5, "pool_wait_seconds": 0.5}
    return Settings(
        redis={"url": own_stores.redis_url, **short},
        mongo={"url": own_stores.mongo_url, "server_selection_timeout_seconds": 0.5, **short},
        records={"batch_interval_ms": 20, "retry_seconds_min": 0.02, "retry_seconds_max": 0.1, "close_seconds": 0.5},
    )


def sync_each_write(url: str) -> None:
    """Have this Redis write before it answers, however slow its disk: `kill -9` of it then loses nothing."""
    with Redis.from_url(url) as redis:
        redis.config_set("appendfsync", "always")


@contextmanager
def frozen(*pids: int | None) -> Iterator[None]:
    """The processes hang: they hold their sockets and do not answer."""
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:  # the signal is on its way: an answer that is being written may still come
        for task in Path(f"/proc/{pid}/task").iterdir():
            while (task / "stat").read_text().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.001)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)  # type: ignore[arg-type]


async def eventually(condition: Any, seconds: float = 10.0) -> None:
    """Wait until `condition()` (plain or a coroutine function) is true."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Is there a process of this id that is more than a zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

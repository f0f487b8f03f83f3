"""Fixtures that several rooms share: real stores, fresh for each test.

`redis_url` and `mongo_url` are embedded child processes in a temporary folder, one pair per test process, or what
`GAMESERVER_TEST_REDIS_URL` and `GAMESERVER_TEST_MONGO_URL` name (each pytest-xdist worker then uses a Redis database
number and a MongoDB database of its own). A test that uses them, directly or through another fixture, finds them empty.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from pymongo import MongoClient

from gameserver.config import DataSettings, Settings
from gameserver.metrics import Metrics
from gameserver.storage import EmbeddedStores

T = TypeVar("T")


def pytest_configure() -> None:
    """Say that the main thread has no event loop.

    looptime asks for one around every test that is not async, asyncio would make it, and nobody would close it.
    """
    asyncio.set_event_loop(None)


def run_apart(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on a loop of its own: the tests' loops come and go, the stores stay."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


@pytest.fixture(scope="session")
def worker_number() -> int:
    """0 in a single process, 1, 2, … in the workers of pytest-xdist."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    return int(name.removeprefix("gw")) + 1 if name.startswith("gw") else 0


@pytest.fixture(scope="session")
def redis_url(worker_number: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis that is empty at the start of each test."""
    external = os.environ.get("GAMESERVER_TEST_REDIS_URL")
    if external:
        yield _with_database(external, worker_number)
    else:
        stores = _embedded(tmp_path_factory.mktemp("redis"), redis=True, mongo=False)
        yield str(stores.redis_url)
        run_apart(stores.stop())


@pytest.fixture(scope="session")
def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A MongoDB; use only the database `mongo_database` (or ones whose names begin with it): those are emptied."""
    external = os.environ.get("GAMESERVER_TEST_MONGO_URL")
    if external:
        yield external
    else:
        stores = _embedded(tmp_path_factory.mktemp("mongo"), redis=False, mongo=True)
        yield str(stores.mongo_url)
        run_apart(stores.stop())


@pytest.fixture(scope="session")
def mongo_database(worker_number: int) -> str:
    """The name of this process's database."""
    return f"gameserver_test_{worker_number}"


@pytest.fixture
def store_settings(redis_url: str, mongo_url: str, mongo_database: str, tmp_path: Path) -> Settings:
    """Settings of a server that uses the stores above; `model_copy(update=…)` changes what a test needs changed."""
    return Settings(
        redis={"url": redis_url},
        mongo={"url": mongo_url, "database": mongo_database},
        data={"dir": tmp_path / "data"},
    )


@pytest.fixture(autouse=True)
def _stores_are_empty(request: pytest.FixtureRequest) -> None:
    """Before the test, not after it: a test that is stopped in the middle spoils nothing for the next one."""
    if "redis_url" in request.fixturenames:
        with redis.Redis.from_url(request.getfixturevalue("redis_url")) as client:
            client.flushdb()
    if "mongo_url" in request.fixturenames:
        ours = request.getfixturevalue("mongo_database")
        with MongoClient(request.getfixturevalue("mongo_url")) as client:
            for name in client.list_database_names():
                if name == ours or name.startswith(f"{ours}_"):
                    client.drop_database(name)


def _with_database(url: str, number: int) -> str:
    """The same server, the database of this number."""
    if url.startswith("unix://"):
        return f"{url.partition('?')[0]}?db={number}"
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))


def _embedded(folder: Path, *, redis: bool, mongo: bool) -> EmbeddedStores:
    stores = EmbeddedStores(DataSettings(dir=folder), Metrics(), redis=redis, mongo=mongo)
    run_apart(stores.start(supervise=False))
    return stores

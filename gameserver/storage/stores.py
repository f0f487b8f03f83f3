"""Open all stores, check them, close them in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from pydantic import SecretStr
from redis.asyncio import Redis

from gameserver.config import Settings
from gameserver.errors import StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage.embedded import EmbeddedStores
from gameserver.storage.mongo_client import close_mongo, make_mongo, mongo_errors
from gameserver.storage.mongo_documents import MongoDocuments
from gameserver.storage.records import RecordWriter
from gameserver.storage.redis_client import make_redis, open_pool, persistence_warnings, redis_errors, shown_address
from gameserver.storage.redis_journal import make_journal

CHECK_SECONDS = 1.0

log = structlog.get_logger("gameserver.storage")


class Stores:
    """All stores of one server. Made by `open_stores`; `close` it last."""

    def __init__(self, settings: Settings, metrics: Metrics, embedded: EmbeddedStores | None) -> None:
        self.embedded = embedded
        self._metrics = metrics
        self._urls = {
            "redis": _chosen(settings.redis.url, embedded.redis_url if embedded else None),
            "mongo": _chosen(settings.mongo.url, embedded.mongo_url if embedded else None),
        }
        self.redis: Redis = make_redis(self._urls["redis"], settings.redis)
        self.mongo: Any = make_mongo(self._urls["mongo"], settings.mongo)
        self.journal = make_journal(self._urls["redis"], settings.redis, metrics)
        self.documents = MongoDocuments(self.mongo, settings.mongo.database)
        self.records = RecordWriter(self.documents, settings.records, metrics)
        self.warnings: list[str] = []
        self._probes = {"redis": _Probe(self._ping_redis), "mongo": _Probe(self._ping_mongo)}

    @property
    def redis_url(self) -> str:
        """Where Redis is, the configured one or the embedded one."""
        return self._urls["redis"]

    async def open(self, settings: Settings) -> None:
        """Connect, make indexes, judge the set-up, begin to write records."""
        await asyncio.gather(self._open_redis(settings), self._open_mongo())
        self.records.start()

    async def check(self, timeout_seconds: float = CHECK_SECONDS) -> dict[str, str | None]:
        """Ask each store whether it answers: its name → None, or what is wrong. Ends within the timeout."""
        answers = await asyncio.gather(*(probe.ask(timeout_seconds) for probe in self._probes.values()))
        found = dict(zip(self._probes, answers, strict=True))
        for name, problem in found.items():
            self._metrics.store_up.labels(name).set(problem is None)
        return found

    async def close(self) -> None:
        """Write the records that wait, close the clients, stop the embedded stores."""
        await self.records.close()
        for probe in self._probes.values():
            probe.cancel()
        await self.journal.close()
        await self.redis.aclose()
        await close_mongo(self.mongo)
        if self.embedded is not None:
            await self.embedded.stop()

    async def _open_redis(self, settings: Settings) -> None:
        await _opened("redis", self._urls["redis"], lambda: open_pool(self.redis, settings.redis))
        with redis_errors():
            self.warnings = await persistence_warnings(self.redis)
        for warning in self.warnings:
            log.warning("redis_setup_is_risky", problem=warning, address=shown_address(self._urls["redis"]))

    async def _open_mongo(self) -> None:
        await _opened("mongo", self._urls["mongo"], self.documents.create_indexes)

    async def _ping_redis(self) -> None:
        with redis_errors():
            await self.redis.ping()

    async def _ping_mongo(self) -> None:
        with mongo_errors():
            await self.mongo.admin.command("ping")


class _Probe:
    """A ping that is asked for again and again but is under way at most once, however long it hangs."""

    def __init__(self, ping: Callable[[], Awaitable[None]]) -> None:
        self._ping = ping
        self._task: asyncio.Task[str | None] | None = None
        self._started = 0.0

    async def ask(self, seconds: float) -> str | None:
        """None if the store answers within this time, else what is wrong."""
        if self._task is None or self._task.done():
            self._started = time.monotonic()
            self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._task)
        except TimeoutError:
            return f"no answer for {time.monotonic() - self._started:.1f} s"

    def cancel(self) -> None:
        """Give up what is under way."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> str | None:
        try:
            await self._ping()
        except StoreUnavailable as error:
            return error.message
        return None


async def open_stores(settings: Settings, metrics: Metrics | None = None) -> Stores:
    """Start the embedded stores that are needed and open all of them; on any failure nothing is left running.

    Call it in the main thread: embedded stores die with the thread that started them. Raises `ConfigError` (the extra
    is missing), `DataFolderInUse`, or `StoreUnavailable` that names the store and its address.
    """
    metrics = metrics or Metrics()
    embedded = None
    if settings.redis.url is None or settings.mongo.url is None:
        wanted = {"redis": settings.redis.url is None, "mongo": settings.mongo.url is None}
        embedded = EmbeddedStores(settings.data, metrics, **wanted)
        await embedded.start()
    stores = None
    try:
        stores = Stores(settings, metrics, embedded)
        await stores.open(settings)
    except BaseException:
        if stores is not None:
            await stores.close()
        elif embedded is not None:
            await embedded.stop()
        raise
    return stores


async def _opened(name: str, url: str, connect: Callable[[], Awaitable[None]]) -> None:
    try:
        await connect()
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"The {name} store at {shown_address(url)} does not serve: {error.message}. "
            f"Start it, or correct {name}.url (GAMESERVER__{name.upper()}__URL)."
        ) from error


def _chosen(configured: SecretStr | None, embedded: str | None) -> str:
    if configured is not None:
        return configured.get_secret_value()
    assert embedded is not None  # noqa: S101 - open_stores starts one for each url that is missing
    return embedded

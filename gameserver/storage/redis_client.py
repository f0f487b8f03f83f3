"""The one place where a Redis client is made, its errors are translated and its server's set-up is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from gameserver.config import RedisSettings
from gameserver.errors import StoreUnavailable

# RuntimeError: what uvloop says to a write on a connection that was reset since.
CONNECTION_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)


def make_redis(url: str, settings: RedisSettings) -> Redis:
    """A client with a bounded pool that waits rather than fails when it is used up, and with no retries of its own.

    redis-py repeats a timed-out command up to 10 times by default, and a stalled server then runs each of them:
    what may be repeated is decided where it is known to be safe.
    """
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=settings.pool_max,
        timeout=settings.pool_wait_seconds,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.connect_timeout_seconds,
        health_check_interval=settings.pool_idle_seconds,
        retry=Retry(NoBackoff(), 0),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        client_name="gameserver",
    )
    return Redis.from_pool(pool)


async def open_pool(redis: Redis, settings: RedisSettings) -> None:
    """Check that the store answers and open `pool_min` connections."""
    with redis_errors():
        await asyncio.gather(*(redis.ping() for _ in range(max(1, settings.pool_min))))


@contextmanager
def redis_errors() -> Iterator[None]:
    """Whatever goes wrong with the store becomes `StoreUnavailable`: also being full, read-only or still loading."""
    try:
        yield
    except CONNECTION_ERRORS as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> StoreUnavailable:
    """What is said of an error of the store, or of the way to it."""
    return StoreUnavailable(f"Redis: {str(error) or type(error).__name__}")


def shown_address(url: str) -> str:
    """The url without user, password and options, for people."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path}"


async def persistence_warnings(redis: Redis) -> list[str]:
    """What is risky about the server's set-up, for the log. A server that does not tell (managed ones) says so."""
    try:
        raw = await redis.config_get("appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy")
    except RedisError as error:
        return [f"could not check persistence and maxmemory-policy ({error}): see that snapshots are kept on disk"]
    return judge_persistence({_text(name): _text(value) for name, value in raw.items()})


def judge_persistence(config: Mapping[str, str]) -> list[str]:
    """Warnings for these settings of the server."""
    warnings = []
    if config.get("appendonly") != "yes":
        if config.get("save"):
            warnings.append("appendonly is off: a crash of Redis loses what changed since its last RDB file")
        else:
            warnings.append("persistence is off: a restart of Redis loses every match; set appendonly yes")
    elif config.get("appendfsync") == "no":
        warnings.append("appendfsync is no: a power failure may lose much; use everysec or always")
    if config.get("maxmemory-policy", "noeviction") != "noeviction":
        warnings.append(
            f"maxmemory-policy is {config['maxmemory-policy']}: Redis may throw matches away; use noeviction"
        )
    return warnings


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

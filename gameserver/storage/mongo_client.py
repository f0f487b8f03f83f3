"""The one place where a MongoDB client is made, and where the two drivers differ.

Motor is the default and at the end of its support; PyMongo's own async client is the other choice. What they share is
named alike. Where they do not: `close()` is a plain call in Motor, and `aggregate()` gives a cursor without awaiting.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo.errors import DocumentTooLarge, PyMongoError
from pymongo.read_preferences import SecondaryPreferred
from pymongo.write_concern import WriteConcern

from gameserver.config import MongoSettings
from gameserver.errors import RequestInvalid, StoreUnavailable

STALENESS_SECONDS_MAX = 90  # the least that MongoDB accepts


def make_mongo(url: str, settings: MongoSettings) -> Any:
    """A client of the configured driver; it connects when it is used, and again whenever it has to."""
    options: dict[str, Any] = {
        "appname": "gameserver",
        "minPoolSize": settings.pool_min,
        "maxPoolSize": settings.pool_max,
        "maxIdleTimeMS": _ms(settings.pool_idle_seconds),
        "waitQueueTimeoutMS": _ms(settings.pool_wait_seconds),
        "connectTimeoutMS": _ms(settings.connect_timeout_seconds),
        "serverSelectionTimeoutMS": _ms(settings.server_selection_timeout_seconds),
        "timeoutMS": _ms(settings.timeout_seconds),
        "w": "majority",
        "retryWrites": True,
        "tz_aware": True,
    }
    if settings.driver == "motor":
        from motor.motor_asyncio import AsyncIOMotorClient

        return AsyncIOMotorClient(url, **options)
    from pymongo import AsyncMongoClient

    return AsyncMongoClient(url, **options)


def open_database(client: Any, name: str) -> Any:
    """The database, with `w: majority` said again here: a url may carry options of its own."""
    return client.get_database(name, codec_options=CodecOptions(tz_aware=True), write_concern=WriteConcern("majority"))


def stale_reads(collection: Any) -> Any:
    """The collection read from secondaries where there are any: for lists that may be a little old."""
    return collection.with_options(read_preference=SecondaryPreferred(max_staleness=STALENESS_SECONDS_MAX))


async def aggregate(collection: Any, pipeline: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents of an aggregation, with either driver."""
    cursor = collection.aggregate(pipeline)
    if inspect.isawaitable(cursor):
        cursor = await cursor
    found: list[dict[str, Any]] = await cursor.to_list(None)
    return found


async def close_mongo(client: Any) -> None:
    """Close the client's connections, with either driver."""
    closing = client.close()
    if inspect.isawaitable(closing):
        await closing


@contextmanager
def mongo_errors() -> Iterator[None]:
    """A document that cannot be stored is the caller's problem; all else is a store that does not serve."""
    try:
        yield
    except (DocumentTooLarge, BSONError) as error:
        raise RequestInvalid(f"MongoDB cannot hold this document: {error}") from error
    except (PyMongoError, OSError, TimeoutError) as error:
        # Drivers append the topology to their messages: one line is enough for people.
        raise StoreUnavailable(f"MongoDB: {str(error).split(', Timeout:')[0] or type(error).__name__}") from error


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))

"""Records: urgent ones at once, the rest by size or time; bounded; nothing twice, nothing silently lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gameserver.config import MongoSettings, RecordsSettings, Settings
from gameserver.errors import RequestInvalid
from gameserver.match import Priority
from gameserver.metrics import Metrics
from gameserver.storage import EmbeddedStores, InsertOutcome, MongoDocuments, RecordWriter, StoreUnavailable
from gameserver.storage.mongo_client import close_mongo, make_mongo
from gameserver.storage.records import RECORD_BYTES_MAX

from .conftest import eventually, frozen

HIGH, NORMAL = Priority.HIGH, Priority.NORMAL
Made = tuple[RecordWriter, MongoDocuments]


@pytest.fixture
async def make(mongo_url: str, mongo_database: str, metrics: Metrics) -> AsyncIterator[Any]:
    """Build a started writer with these settings."""
    client = make_mongo(mongo_url, MongoSettings())
    writers = []

    def build(**settings: Any) -> Made:
        documents = MongoDocuments(client, mongo_database)
        writer = RecordWriter(documents, RecordsSettings(**settings), metrics)
        writer.start()
        writers.append(writer)
        return writer, documents

    yield build
    for writer in writers:
        await writer.close()
    await close_mongo(client)


async def kept(documents: MongoDocuments, match_id: str = "m1") -> list[Any]:
    return sorted(record["data"].get("n", -1) for record in await documents.records(match_id, limit=10_000))


async def test_urgent_records_do_not_wait(make: Any) -> None:
    """Neither for a batch nor for a clock; the others stay queued."""
    writer, documents = make(batch_interval_ms=60_000)
    writer.record("score", "m1", {"n": 1}, NORMAL)
    writer.record("score", "m1", {"n": 2}, HIGH)
    await eventually(lambda: len(writer) == 1)
    assert await kept(documents) == [2]


async def test_a_full_batch_is_written_at_once(make: Any, metrics: Metrics) -> None:
    """The hundredth record sets off the write; what is beyond waits for the next."""
    writer, documents = make(batch_interval_ms=60_000)
    for n in range(99):
        writer.record("score", "m1", {"n": n})
    await asyncio.sleep(0.1)
    assert len(writer) == 99
    writer.record("score", "m1", {"n": 99})
    writer.record("score", "m1", {"n": 100})
    await eventually(lambda: len(writer) == 1)
    assert await kept(documents) == list(range(100))
    assert metrics.value("records_total", outcome="written") == 100
    assert metrics.value("records_queued") == 1


async def test_a_batch_is_written_when_its_oldest_record_is_due(make: Any) -> None:
    """Measured from the first record, not from the last."""
    writer, documents = make(batch_interval_ms=200)
    started = time.monotonic()
    for n in range(5):
        writer.record("score", "m1", {"n": n})
        await asyncio.sleep(0.03)
    await eventually(lambda: len(writer) == 0)
    assert 0.19 <= time.monotonic() - started < 2
    assert await kept(documents) == list(range(5))


async def test_records_carry_what_was_given(make: Any) -> None:
    """Any plain data, copied when it was given."""
    writer, documents = make()
    data = {"$inc": {"a.b": 2**64}, "list": [1]}
    writer.record("score", "m1", data, HIGH, key="m1:4:0")
    data["list"].append(2)  # type: ignore[attr-defined]
    await writer.flush()
    [record] = await documents.records("m1", kind="score")
    assert record["data"] == {"$inc": {"a.b": 2**64}, "list": [1]}
    assert (record["id"], record["kind"], record["match"], record["priority"]) == ("m1:4:0", "score", "m1", 2)
    assert await documents.records("m1", kind="other") == []


async def test_a_key_is_written_once(make: Any, metrics: Metrics) -> None:
    """An effect that is issued again after a takeover."""
    writer, documents = make()
    for n in range(3):
        writer.record("score", "m1", {"n": n}, key="m1:7:0")
    await writer.flush()
    assert await kept(documents) == [0]
    assert metrics.value("records_total", outcome="duplicate") == 2


@pytest.mark.parametrize("data", [{"a": object()}, {"a": "x" * RECORD_BYTES_MAX}])
async def test_what_cannot_be_stored_is_told_at_once(make: Any, data: dict[str, Any]) -> None:
    """To the caller, not to the log an hour later."""
    writer, _ = make()
    with pytest.raises(RequestInvalid):
        writer.record("score", "m1", data)
    assert len(writer) == 0


class AwayStore:
    """A store that is not there (the real one's outages are tested below; here its absence must be exact)."""

    async def insert_records(self, encoded: list[bytes]) -> InsertOutcome:
        raise StoreUnavailable("away")


def away(metrics: Metrics, **settings: Any) -> RecordWriter:
    writer = RecordWriter(AwayStore(), RecordsSettings(close_seconds=0.1, **settings), metrics)  # type: ignore[arg-type]
    writer.start()
    return writer


async def test_a_full_queue_takes_nothing_and_drops_nothing(metrics: Metrics) -> None:
    """Whatever the priority: who asked keeps it, and hears how many were not written in the end."""
    writer = away(metrics, queue_records_max=3, batch_size=1)
    assert [writer.record("score", "m1", {"n": n}) for n in range(4)] == [True, True, True, False]
    assert not writer.record("score", "m1", {}, HIGH)
    assert len(writer) == 3
    with capture_logs() as logs:
        assert await writer.close() == 3
    assert [(entry["event"], entry["count"]) for entry in logs if entry["log_level"] == "warning"][-1] == (
        "records_left_at_close", 3,
    )  # fmt: skip
    assert not writer.record("score", "m1", {})


async def test_the_queue_is_bounded_in_bytes(metrics: Metrics) -> None:
    """A few large records fill it too."""
    writer = away(metrics, queue_bytes_max=2**21)
    accepted = [writer.record("score", "m1", {"text": "x" * 1_000_000}) for _ in range(3)]
    assert accepted == [True, True, False]
    await writer.close()


async def test_close_ends_in_time(metrics: Metrics) -> None:
    """Also when the store never comes back."""
    writer = away(metrics)
    writer.record("score", "m1", {}, HIGH)
    started = time.monotonic()
    assert await writer.close() == 1
    assert time.monotonic() - started < 1
    assert metrics.value("record_retries_total") >= 1


async def test_close_writes_what_waits(make: Any) -> None:
    """Nobody waits for the batch's clock."""
    writer, documents = make(batch_interval_ms=60_000)
    for n in range(250):
        writer.record("score", "m1", {"n": n})
    assert await writer.close() == 0
    assert await kept(documents) == list(range(250))


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_records_survive_an_outage(
    own_stores: EmbeddedStores, own_settings: Settings, metrics: Metrics, driver: str
) -> None:
    """MongoDB is killed in the middle and comes back: everything is there once."""
    client = make_mongo(str(own_stores.mongo_url), own_settings.mongo.model_copy(update={"driver": driver}))
    documents = MongoDocuments(client, "test")
    writer = RecordWriter(documents, own_settings.records, metrics)
    writer.start()
    for n in range(100):
        writer.record("score", "m1", {"n": n}, HIGH if n % 10 == 0 else NORMAL)
    child = own_stores.children["mongo"]
    os.kill(child.pid or 0, signal.SIGKILL)
    for n in range(100, 200):
        writer.record("score", "m1", {"n": n}, HIGH if n % 10 == 0 else NORMAL)
    await eventually(lambda: metrics.value("record_retries_total") > 1)
    await child.start(supervise=False)
    assert await writer.flush(10)
    assert await kept(documents) == list(range(200))
    await writer.close()
    await close_mongo(client)


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_a_hung_store_stores_nothing_twice(
    own_stores: EmbeddedStores, own_settings: Settings, metrics: Metrics, driver: str
) -> None:
    """Writes time out, are repeated, and the stalled server runs each of them: every record is there once."""
    client = make_mongo(str(own_stores.mongo_url), own_settings.mongo.model_copy(update={"driver": driver}))
    documents = MongoDocuments(client, "test")
    writer = RecordWriter(documents, own_settings.records, metrics)
    writer.start()
    writer.record("score", "m1", {"n": 0}, HIGH)
    assert await writer.flush(5)
    with frozen(own_stores.children["mongo"].pid):
        for n in range(1, 50):
            writer.record("score", "m1", {"n": n}, HIGH if n % 2 else NORMAL)
        await eventually(lambda: metrics.value("record_retries_total") > 2)
    assert await writer.flush(10)
    assert await kept(documents) == list(range(50))
    await writer.close()
    await close_mongo(client)

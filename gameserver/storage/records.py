"""Records of matches on their way to MongoDB: HIGH at once, the rest in batches by size or by time.

Two lanes with a task each, so that an urgent record never waits behind a batch that is being written. The queue is
bounded in records and in bytes; while MongoDB is away it fills up, and then records are not taken: whoever asked keeps
them. A write whose outcome is unknown is repeated; the record's `_id` is made here, so nothing is stored twice.
"""

from __future__ import annotations

import asyncio
import datetime
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import bson
import structlog

from gameserver.config import RecordsSettings
from gameserver.errors import RequestInvalid, StoreUnavailable
from gameserver.match import Priority
from gameserver.metrics import Metrics
from gameserver.storage.plain import to_document
from gameserver.storage.ports import DocumentStore, InsertOutcome

RECORD_BYTES_MAX = 1_048_576

log = structlog.get_logger("gameserver.storage")


@dataclass(slots=True)
class _Record:
    encoded: bytes
    queued_at: float
    on_done: Callable[[], None] | None = None


class _Lane:
    """Records of one urgency: waiting, and being written."""

    def __init__(self) -> None:
        self.waiting: deque[_Record] = deque()
        self.writing: list[_Record] = []
        self.changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self.waiting) + len(self.writing)


class RecordWriter:
    """`RecordSink` in front of a `DocumentStore`. `start` it inside the event loop, `close` it before the store."""

    def __init__(self, store: DocumentStore, settings: RecordsSettings, metrics: Metrics | None = None) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._lanes = {"high": _Lane(), "normal": _Lane()}
        self._bytes = 0
        self._flushing = False
        self._closed = False
        self._settled = asyncio.Event()
        self._settled.set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to write."""
        self._tasks = [
            asyncio.create_task(self._write_lane(name, lane), name=f"records-{name}")
            for name, lane in self._lanes.items()
        ]

    def __len__(self) -> int:
        """Records that are not written yet."""
        return sum(map(len, self._lanes.values()))

    def record(
        self,
        kind: str,
        match_id: str,
        data: Mapping[str, Any],
        priority: int = Priority.NORMAL,
        *,
        key: str | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> bool:
        """See `RecordSink.record`."""
        encoded = _encode(kind, match_id, data, int(priority), key)
        urgent = priority >= Priority.HIGH
        if self._closed or not self._has_room(len(encoded)):
            return False
        lane = self._lanes["high" if urgent else "normal"]
        lane.waiting.append(_Record(encoded, asyncio.get_running_loop().time(), on_done))
        self._bytes += len(encoded)
        self._settled.clear()
        if urgent or len(lane.waiting) in (1, self._settings.batch_size):
            lane.changed.set()
        self._metrics.records_queued.set(len(self))
        return True

    async def flush(self, seconds: float | None = None) -> bool:
        """Write all that waits, now; False if it is not written within this time."""
        self._flushing = True
        for lane in self._lanes.values():
            lane.changed.set()
        try:
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        except TimeoutError:
            return False
        finally:
            self._flushing = False
        return True

    async def close(self) -> int:
        """Stop accepting, write what waits within `close_seconds`; how many records are left to whoever asked."""
        self._closed = True
        if self._tasks:
            await self.flush(self._settings.close_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        left = len(self)
        if left:
            log.warning("records_left_at_close", count=left, consequence="their matches ask again when they run again")
            for lane in self._lanes.values():
                lane.waiting.clear()
                lane.writing.clear()
            self._bytes = 0
        self._metrics.records_queued.set(0)
        return left

    # --- the queue ----------------------------------------------------------------------------------------------------
    def _has_room(self, size: int) -> bool:
        settings = self._settings
        return len(self) < settings.queue_records_max and self._bytes + size <= settings.queue_bytes_max

    # --- writing ------------------------------------------------------------------------------------------------------
    async def _write_lane(self, name: str, lane: _Lane) -> None:
        while True:
            await self._due(name, lane)
            while lane.waiting and len(lane.writing) < self._settings.batch_size:
                lane.writing.append(lane.waiting.popleft())
            await self._write(lane)

    async def _due(self, name: str, lane: _Lane) -> None:
        """Return when this lane should write: HIGH as soon as there is one, NORMAL when the batch is full or old."""
        loop = asyncio.get_running_loop()
        while True:
            lane.changed.clear()
            if not lane.waiting:
                await lane.changed.wait()
                continue
            if name == "high" or self._flushing or len(lane.waiting) >= self._settings.batch_size:
                return
            due_in = lane.waiting[0].queued_at + self._settings.batch_interval_ms / 1000 - loop.time()
            if due_in <= 0:
                return
            try:
                async with asyncio.timeout(due_in):
                    await lane.changed.wait()
            except TimeoutError:
                return

    async def _write(self, lane: _Lane) -> None:
        """Write the batch until the store has it."""
        pause = self._settings.retry_seconds_min
        failed = 0
        while True:
            outcome = await self._try_write(lane, first=failed == 0)
            if outcome is not None:
                break
            failed += 1
            # Jitter: the nodes of a cluster must not come back to a struggling store in step.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, self._settings.retry_seconds_max)
        if failed:
            log.info("records_flow_again", attempts=failed + 1)
        self._done(lane, outcome)

    async def _try_write(self, lane: _Lane, *, first: bool) -> InsertOutcome | None:
        """One attempt; None means "again"."""
        try:
            return await self._store.insert_records([record.encoded for record in lane.writing])
        except RequestInvalid as error:
            log.error("records_invalid", reason=error.message)
            return InsertOutcome(written=0, duplicate=0, refused=len(lane.writing))
        except StoreUnavailable as error:
            if first:
                log.warning("records_wait", count=len(self), reason=error.message)
        except Exception:
            log.exception("records_wait", count=len(self))
        self._metrics.record_retries_total.inc()
        self._metrics.store_errors_total.labels("mongo").inc()
        return None

    def _done(self, lane: _Lane, outcome: InsertOutcome) -> None:
        self._bytes -= sum(len(record.encoded) for record in lane.writing)
        for record in lane.writing:
            if record.on_done is not None:
                record.on_done()
        lane.writing.clear()
        self._metrics.records_total.labels("written").inc(outcome.written)
        self._metrics.records_total.labels("duplicate").inc(outcome.duplicate)
        self._metrics.records_total.labels("refused").inc(outcome.refused)
        if outcome.refused:
            log.error("records_refused", count=outcome.refused)
        self._metrics.records_queued.set(len(self))
        if not len(self):
            self._settled.set()


def _encode(kind: str, match_id: str, data: Mapping[str, Any], priority: int, key: str | None) -> bytes:
    """The record as BSON: checked and copied now, so that the caller hears of mistakes and may go on using `data`."""
    record = {
        "_id": bson.ObjectId() if key is None else to_document(key),
        "kind": to_document(kind),
        "match": to_document(match_id),
        "at": datetime.datetime.now(datetime.UTC),
        "priority": priority,
        "data": to_document(data, "data"),
    }
    encoded: bytes = bson.encode(record)
    if len(encoded) > RECORD_BYTES_MAX:
        raise RequestInvalid(f"A record may have {RECORD_BYTES_MAX} bytes, this one has {len(encoded)}.")
    return encoded

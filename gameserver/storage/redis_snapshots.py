"""Snapshots in Redis.

Keys carry the shard as their hash tag, so that one script or pipeline may touch all keys of a shard in a cluster too:

    gs:{s17}:<match>:snapshot      hash: game, epoch, version, state_version, saved_at_ms, payload
    gs:{s17}:<match>:ended         a late save of a match that is over finds this and stops; expires by itself
    gs:{s17}:live                  set of the shard's matches that have a snapshot
    gs:{s17}:<match>:quarantined:<time_ms>   a damaged snapshot with its reason, for people to look at
    gs:{s17}:quarantined           set of those keys
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gameserver.errors import SnapshotCorrupt, StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage.codec import decode_snapshot
from gameserver.storage.ports import RestoredSnapshot, SnapshotMeta
from gameserver.storage.redis_client import redis_errors

SHARDS = 64  # part of every key: must never change
ENDED_SECONDS = 86_400  # far longer than a save can be under way

log = structlog.get_logger("gameserver.storage")
T = TypeVar("T")

# Checked and written in one step: a snapshot that was delayed in a socket must not replace a later one.
_SAVE = """
if redis.call('EXISTS', KEYS[3]) == 1 then return 'ended' end
local held = redis.call('HMGET', KEYS[1], 'epoch', 'version')
local held_epoch, held_version = tonumber(held[1] or ''), tonumber(held[2] or '')
local epoch, version = tonumber(ARGV[2]), tonumber(ARGV[3])
if held_epoch and held_version then
  if held_epoch > epoch or (held_epoch == epoch and held_version > version) then return 'newer' end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'version', ARGV[3], 'game', ARGV[4], 'state_version', ARGV[5],
  'saved_at_ms', ARGV[6], 'payload', ARGV[7])
redis.call('SADD', KEYS[2], ARGV[1])
return 'saved'
"""

_QUARANTINE = """
redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[3])
if redis.call('TYPE', KEYS[3]).ok == 'hash' then redis.call('HSET', KEYS[3], 'reason', ARGV[2]) end
redis.call('SADD', KEYS[4], KEYS[3])
return 1
"""


def shard_of(match_id: str) -> int:
    """The shard that holds everything of this match."""
    return zlib.crc32(match_id.encode()) % SHARDS


class RedisSnapshots:
    """`SnapshotStore` over one Redis or Valkey server."""

    def __init__(self, redis: Redis, *, prefix: str = "gs", metrics: Metrics | None = None) -> None:
        self._redis = redis
        self._prefix = prefix
        self._metrics = metrics or Metrics()
        self._save = redis.register_script(_SAVE)
        self._quarantine = redis.register_script(_QUARANTINE)

    def key(self, match_id: str, kind: str) -> str:
        """`gs:{s17}:<match>:<kind>`."""
        return f"{self._shard(shard_of(match_id))}:{match_id}:{kind}"

    async def save(self, match_id: str, meta: SnapshotMeta, payload: bytes) -> bool:
        """See `SnapshotStore.save`."""
        keys = [self.key(match_id, "snapshot"), self._live_key(match_id), self.key(match_id, "ended")]
        args: list[Any] = [match_id, meta.epoch, meta.version, meta.game, meta.state_version, _now_ms(), payload]
        started = time.perf_counter()
        try:
            answer = await self._repeatable(lambda: self._save(keys=keys, args=args))
        except StoreUnavailable:
            self._metrics.snapshots_total.labels("failed").inc()
            raise
        saved = bool(answer == b"saved")
        self._metrics.snapshots_total.labels("saved" if saved else "refused").inc()
        self._metrics.snapshot_seconds.observe(time.perf_counter() - started)
        self._metrics.snapshot_bytes.observe(len(payload))
        return saved

    async def load(self, match_id: str) -> bytes | None:
        """See `SnapshotStore.load`."""
        payload = await self._repeatable(lambda: _of(self._redis.hget(self.key(match_id, "snapshot"), "payload")))
        return cast("bytes | None", payload)

    async def restore(self, match_id: str) -> RestoredSnapshot | None:
        """See `SnapshotStore.restore`."""
        try:
            fields = await self._read(match_id)
            return _whole(match_id, fields) if fields else None
        except SnapshotCorrupt as error:
            moved_to = await self.quarantine(match_id, error.message)
            raise SnapshotCorrupt(f"Match {match_id}: {error.message} It was moved to {moved_to}.") from None

    async def quarantine(self, match_id: str, reason: str) -> str | None:
        """See `SnapshotStore.quarantine`."""
        target = self.key(match_id, f"quarantined:{_now_ms()}")
        keys = [self.key(match_id, "snapshot"), self._live_key(match_id), target]
        keys.append(f"{self._shard(shard_of(match_id))}:quarantined")
        with redis_errors():  # not repeated by itself: a second run finds nothing and would hide the first one's key
            moved = await self._quarantine(keys=keys, args=[match_id, reason])
        if not moved:
            return None
        self._metrics.snapshots_quarantined_total.inc()
        log.error("snapshot_quarantined", match=match_id, key=target, reason=reason)
        return target

    async def quarantined(self) -> list[str]:
        """The keys of all quarantined snapshots."""
        return await self._members("quarantined")

    async def delete(self, match_id: str) -> None:
        """See `SnapshotStore.delete`."""

        async def run() -> None:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(self.key(match_id, "ended"), 1, ex=ENDED_SECONDS)
                pipe.delete(self.key(match_id, "snapshot"))
                pipe.srem(self._live_key(match_id), match_id)
                await pipe.execute()

        await self._repeatable(run)

    async def live(self) -> list[str]:
        """See `SnapshotStore.live`."""
        return await self._members("live")

    async def _members(self, name: str) -> list[str]:
        async def run() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for shard in range(SHARDS):
                    pipe.smembers(f"{self._shard(shard)}:{name}")
                return await pipe.execute()

        return [member.decode() for members in await self._repeatable(run) for member in members]

    async def _read(self, match_id: str) -> dict[bytes, bytes]:
        try:
            fields = await self._repeatable(lambda: _of(self._redis.hgetall(self.key(match_id, "snapshot"))))
        except StoreUnavailable as error:
            if isinstance(error.__cause__, ResponseError) and str(error.__cause__).startswith("WRONGTYPE"):
                raise SnapshotCorrupt("The snapshot's key holds something else.") from None
            raise
        return cast("dict[bytes, bytes]", fields)

    async def _repeatable(self, run: Callable[[], Awaitable[T]]) -> T:
        """Run what may be run twice; once more if the connection turned out to be dead (the store was restarted).

        Not after a timeout: the store is slow then, and the caller was promised an end.
        """
        try:
            with redis_errors():
                try:
                    return await run()
                except RedisTimeoutError:
                    raise
                except RedisConnectionError:
                    return await run()
        except StoreUnavailable:
            self._metrics.store_errors_total.labels("redis").inc()
            raise

    def _shard(self, shard: int) -> str:
        return f"{self._prefix}:{{s{shard}}}"

    def _live_key(self, match_id: str) -> str:
        return f"{self._shard(shard_of(match_id))}:live"


def _whole(match_id: str, fields: dict[bytes, bytes]) -> RestoredSnapshot:
    try:
        meta = SnapshotMeta(
            game=fields[b"game"].decode(),
            epoch=int(fields[b"epoch"]),
            version=int(fields[b"version"]),
            state_version=int(fields[b"state_version"]),
        )
        payload = fields[b"payload"]
    except (KeyError, ValueError) as error:
        raise SnapshotCorrupt(f"The snapshot's fields are not complete: {error!r}.") from None
    return RestoredSnapshot(match_id, meta, decode_snapshot(payload))


def _of(answer: Any) -> Awaitable[Any]:
    """redis-py types its commands as "a value or an awaitable"; with its async client it is always the latter."""
    return cast("Awaitable[Any]", answer)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

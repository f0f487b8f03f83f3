"""Snapshots in a real Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gameserver.errors import SnapshotCorrupt, SnapshotTooNew
from gameserver.metrics import Metrics
from gameserver.storage import RedisSnapshots, SnapshotMeta, encode_snapshot
from gameserver.storage.redis_snapshots import SHARDS, shard_of

META = SnapshotMeta("arena", epoch=1, version=10, state_version=3)
PAYLOAD = encode_snapshot({"x": 1})


def at(epoch: int, version: int) -> SnapshotMeta:
    return SnapshotMeta("arena", epoch, version)


async def test_a_saved_snapshot_is_there(snapshots: RedisSnapshots) -> None:
    """Bytes, meta and decoded."""
    assert await snapshots.save("m1", META, PAYLOAD)
    assert await snapshots.load("m1") == PAYLOAD
    restored = await snapshots.restore("m1")
    assert restored is not None
    assert (restored.match_id, restored.meta, restored.snapshot) == ("m1", META, {"x": 1})


async def test_an_unknown_match_has_none(snapshots: RedisSnapshots) -> None:
    """No error."""
    assert await snapshots.load("nobody") is None
    assert await snapshots.restore("nobody") is None
    assert await snapshots.quarantine("nobody", "because") is None
    await snapshots.delete("nobody")


async def test_keys_are_laid_out_as_documented(snapshots: RedisSnapshots, redis: Any) -> None:
    """Stored data outlives the code; the hash tag keeps a shard's keys together."""
    await snapshots.save("m1", META, PAYLOAD)
    shard = f"gs:{{s{shard_of('m1')}}}"
    assert set(await redis.keys()) == {f"{shard}:m1:snapshot".encode(), f"{shard}:live".encode()}
    assert shard_of("m1") == 47, "the shard of a match must never change"
    assert SHARDS == 64


async def test_live_lists_each_match_once(snapshots: RedisSnapshots) -> None:
    """Over all shards, and no longer when deleted."""
    names = [f"match-{number}" for number in range(200)]
    await asyncio.gather(*(snapshots.save(name, META, PAYLOAD) for name in names * 2))
    assert sorted(await snapshots.live()) == sorted(names)
    await snapshots.delete("match-7")
    assert sorted(await snapshots.live()) == sorted(set(names) - {"match-7"})


@pytest.mark.parametrize(
    ("position", "accepted"),
    [((1, 10), True), ((1, 11), True), ((2, 1), True), ((1, 9), False), ((0, 99), False)],
)
async def test_a_later_snapshot_is_never_replaced(
    snapshots: RedisSnapshots, position: tuple[int, int], accepted: bool, metrics: Metrics
) -> None:
    """Epoch first, then version; the same position again is accepted."""
    await snapshots.save("m1", at(1, 10), b"first")
    assert await snapshots.save("m1", at(*position), b"second") is accepted
    assert await snapshots.load("m1") == (b"second" if accepted else b"first")
    assert metrics.value("snapshots_total", outcome="refused") == (0 if accepted else 1)


async def test_versions_are_compared_as_numbers(snapshots: RedisSnapshots) -> None:
    """10 is later than 9."""
    await snapshots.save("m1", at(1, 9), b"nine")
    assert await snapshots.save("m1", at(1, 10), b"ten")


async def test_a_late_save_does_not_bring_a_match_back(snapshots: RedisSnapshots) -> None:
    """It may have been under way when the match ended."""
    await snapshots.save("m1", META, PAYLOAD)
    await snapshots.delete("m1")
    assert not await snapshots.save("m1", at(9, 99), PAYLOAD)
    assert await snapshots.load("m1") is None
    assert await snapshots.live() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("payload", b"GSS\x01garbage"), ("payload", PAYLOAD[:-1]), ("epoch", b"many"), ("game", b"\xff")],
)
async def test_a_corrupt_snapshot_is_moved_aside(
    snapshots: RedisSnapshots, redis: Any, metrics: Metrics, field: str, value: bytes
) -> None:
    """Kept with its reason, told loudly, not tried again; other matches are not touched."""
    await snapshots.save("m1", META, PAYLOAD)
    await snapshots.save("m2", META, PAYLOAD)
    await redis.hset(snapshots.key("m1", "snapshot"), field, value)
    with capture_logs() as logs, pytest.raises(SnapshotCorrupt, match=r"m1.*moved to"):
        await snapshots.restore("m1")
    [key] = await snapshots.quarantined()
    kept = await redis.hgetall(key)
    assert kept[field.encode()] == value
    assert b"reason" in kept
    assert await snapshots.restore("m1") is None
    assert await snapshots.live() == ["m2"]
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("snapshot_quarantined", "error")]
    assert metrics.value("snapshots_quarantined_total") == 1


async def test_a_snapshot_without_its_payload_is_corrupt(snapshots: RedisSnapshots, redis: Any) -> None:
    """Never started blank."""
    await snapshots.save("m1", META, PAYLOAD)
    await redis.hdel(snapshots.key("m1", "snapshot"), "payload")
    with pytest.raises(SnapshotCorrupt, match="not complete"):
        await snapshots.restore("m1")


async def test_a_key_of_another_type_is_quarantined(snapshots: RedisSnapshots, redis: Any) -> None:
    """Whatever somebody wrote there is kept too."""
    await redis.set(snapshots.key("m1", "snapshot"), "oops")
    with pytest.raises(SnapshotCorrupt):
        await snapshots.restore("m1")
    [key] = await snapshots.quarantined()
    assert await redis.get(key) == b"oops"


async def test_a_newer_format_stays_where_it_is(snapshots: RedisSnapshots) -> None:
    """A server that can read it will."""
    newer = PAYLOAD[:3] + b"\x02" + PAYLOAD[4:]
    await snapshots.save("m1", META, newer)
    with pytest.raises(SnapshotTooNew):
        await snapshots.restore("m1")
    assert await snapshots.load("m1") == newer
    assert await snapshots.live() == ["m1"]


async def test_scripts_are_loaded_again_when_the_server_forgot_them(snapshots: RedisSnapshots, redis: Any) -> None:
    """A restart or SCRIPT FLUSH."""
    await snapshots.save("m1", at(1, 1), PAYLOAD)
    await redis.script_flush()
    assert await snapshots.save("m1", at(1, 2), PAYLOAD)


async def test_prefixes_keep_servers_apart(redis: Any, snapshots: RedisSnapshots) -> None:
    """Two servers on one store."""
    await snapshots.save("m1", META, PAYLOAD)
    assert await RedisSnapshots(redis, prefix="other").live() == []

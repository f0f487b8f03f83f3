"""The journal in a real Redis: the contract, the keys, and what Redis itself may do to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gameserver.config import RedisSettings, Settings
from gameserver.errors import JournalCorrupt, MatchExists, StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage import JournalStore, NodeInfo, Outcome, RedisJournal, open_stores
from gameserver.storage.redis_client import make_redis
from gameserver.storage.shards import SHARDS, shard_of
from tests.storage.journal_contract import DONE, FENCED, GAP, JournalContract, created, extend, meta, state


class RedisHarness:
    """A real store with a back door."""

    def __init__(self, redis: Any, *, by_shard: bool = False) -> None:
        self.redis = redis
        self.by_shard = by_shard
        self.keyed = RedisJournal(redis)
        self.journals: list[RedisJournal] = []

    def journal(self) -> JournalStore:
        self.journals.append(RedisJournal(self.redis, by_shard=self.by_shard))
        return self.journals[-1]

    async def close(self) -> None:
        for journal in self.journals:
            await journal.close()

    async def wipe(self) -> None:
        await self.redis.flushdb()

    async def keep(self) -> Any:
        return {key: await self.redis.dump(key) for key in await self.redis.keys()}

    async def rewind(self, kept: Any) -> None:
        await self.redis.flushdb()
        for key, value in kept.items():
            await self.redis.restore(key, 0, value)

    async def entries(self, match_id: str) -> dict[int, bytes]:
        found = await self.redis.xrange(self.keyed.key(match_id, "journal"))
        return {int(id_.split(b"-")[0]): fields[b"e"] for id_, fields in found}

    async def put_entry(self, match_id: str, version: int, data: bytes | None) -> None:
        entries = await self.entries(match_id)
        key = self.keyed.key(match_id, "journal")
        await self.redis.delete(key)
        for at, old in entries.items():
            if at != version or data is not None:
                await self.redis.xadd(key, {"e": data if at == version else old}, id=f"{at}-0")

    async def put_snapshot(self, match_id: str, data: bytes) -> None:
        await self.redis.hset(self.keyed.key(match_id, "snapshot"), "payload", data)

    async def get_snapshot(self, match_id: str) -> bytes:
        return bytes(await self.redis.hget(self.keyed.key(match_id, "snapshot"), "payload"))

    async def keys(self, match_id: str) -> int:
        return len(await self.redis.keys(f"*:{match_id}:*"))


class TestRedisJournal(JournalContract):
    @pytest.fixture
    async def harness(self, redis: Any) -> AsyncIterator[RedisHarness]:
        harness = RedisHarness(redis)
        yield harness
        await harness.close()


class TestRedisJournalByShard(JournalContract):
    """As a cluster, or a proxy in front of one, wants it."""

    @pytest.fixture
    async def harness(self, redis: Any) -> AsyncIterator[RedisHarness]:
        harness = RedisHarness(redis, by_shard=True)
        yield harness
        await harness.close()


@pytest.fixture
async def journal(redis: Any, metrics: Metrics) -> AsyncIterator[RedisJournal]:
    journal = RedisJournal(redis, metrics=metrics)
    yield journal
    await journal.close()


async def test_keys_are_laid_out_as_documented(journal: RedisJournal, redis: Any) -> None:
    """Stored data outlives the code."""
    token = await created(journal)
    await extend(journal, token, 0, 120)
    shard = f"gs:{{s{shard_of('m1')}}}"
    names = {f"{shard}:m1:{kind}" for kind in ("token", "snapshot", "journal")} | {f"{shard}:matches", f"{shard}:store"}
    assert {key.decode() for key in await redis.keys()} == names
    assert [id_ for id_, _ in await redis.xrange(f"{shard}:m1:journal")] == [b"120-0"]
    assert await redis.ttl(f"{shard}:m1:token") == -1, "it never expires"
    assert await journal.end(token) is DONE
    assert await redis.ttl(f"{shard}:m1:token") > 86_400 * 29
    assert {key.decode() for key in await redis.keys()} == {f"{shard}:m1:token", f"{shard}:store"}
    await journal.renew(NodeInfo("n1", "a"), 1000)
    assert {b"gs:node:n1", b"gs:nodes"} <= set(await redis.keys())


async def test_scripts_are_loaded_again_when_the_server_forgot_them(journal: RedisJournal, redis: Any) -> None:
    """A restart or SCRIPT FLUSH, in the middle of whatever."""
    await redis.script_flush()
    token = await created(journal)
    for version in range(3):
        assert await extend(journal, token, version, version + 1) == [DONE]
        await redis.script_flush()
        with pytest.raises(StoreUnavailable, match="NOSCRIPT"):  # what was sent after it must not overtake it
            await extend(journal, token, version + 1, version + 2)
    await redis.script_flush()
    assert len(await journal.owned()) == 1
    await redis.script_flush()
    assert await journal.save(token, 3, meta(3), state(3)) is DONE
    assert (await journal.recover("m1")).version == 3


async def test_quarantine_keeps_everything_and_tells(journal: RedisJournal, redis: Any, metrics: Metrics) -> None:
    """For people to look at: the bytes as they were, the reason, an alert."""
    token = await created(journal)
    await extend(journal, token, 0, 1, 2)
    await redis.hset(journal.key("m1", "snapshot"), "payload", b"garbage")
    with capture_logs() as logs, pytest.raises(JournalCorrupt, match=r"m1.*moved to"):
        await journal.recover("m1")
    [moved_to] = await redis.smembers(f"gs:{{s{shard_of('m1')}}}:quarantined")
    moved_to = moved_to.decode()
    kept = await redis.hgetall(moved_to)
    assert kept[b"payload"] == b"garbage"
    assert b"cut short" in kept[b"reason"]
    assert await redis.xlen(f"{moved_to}:journal") == 2
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("match_quarantined", "error")]
    assert metrics.value("snapshots_quarantined_total") == 1
    assert (await redis.hgetall(journal.key("m1", "token")))[b"state"] == b"quarantined"


@pytest.mark.parametrize("kind", ["token", "snapshot", "journal"])
async def test_a_key_of_another_type_hurts_only_its_match(journal: RedisJournal, redis: Any, kind: str) -> None:
    """Appends of the others in the same call go through."""
    tokens = [await created(journal, name) for name in ("m1", "m2")]
    await redis.delete(journal.key("m1", kind))
    await redis.set(journal.key("m1", kind), "oops")
    outcomes = [(await extend(journal, token, 0, 1))[0] for token in tokens]
    assert outcomes == [{"token": FENCED, "snapshot": DONE, "journal": GAP}[kind], DONE]
    assert {owned.match_id for owned in await journal.owned()} == {"m1", "m2"}
    if kind != "token":  # a claim looks at nothing else
        await journal.claim("m1", "n2", expect_epoch=1)
    with pytest.raises(JournalCorrupt):
        await (journal.claim("m1", "n2", expect_epoch=1) if kind == "token" else journal.recover("m1"))
    assert [owned.match_id for owned in await journal.owned()] == ["m2"]


async def test_a_snapshot_puts_a_foreign_journal_right(journal: RedisJournal, redis: Any) -> None:
    """The owner has all of it in memory."""
    token = await created(journal)
    await redis.set(journal.key("m1", "journal"), "oops")
    assert await extend(journal, token, 0, 1) == [GAP]
    assert await journal.save(token, 1, meta(1), state(1)) is DONE
    assert await extend(journal, token, 1, 2) == [DONE]
    assert (await journal.recover("m1")).version == 2


@pytest.mark.parametrize("field", ["epoch", "version", "node", "bases", "state"])
async def test_a_token_with_a_field_missing_is_found_by_its_claim(
    journal: RedisJournal, redis: Any, field: str
) -> None:
    """It is listed, and set aside: not passed over in silence."""
    await created(journal)
    await redis.hdel(journal.key("m1", "token"), field)
    [owned] = await journal.owned()
    with pytest.raises(JournalCorrupt):
        await journal.claim("m1", "n2", expect_epoch=owned.epoch)
    assert await journal.owned() == []


async def test_a_lost_token_is_no_new_beginning(journal: RedisJournal, redis: Any) -> None:
    """What is left of the match is set aside by a claim and refuses a new one."""
    await created(journal)
    await redis.delete(journal.key("m1", "token"))
    with pytest.raises(MatchExists):
        await created(journal)
    with pytest.raises(JournalCorrupt):
        await journal.claim("m1", "n2", expect_epoch=1)
    assert await journal.owned() == []


def test_the_shard_of_a_match_never_changes() -> None:
    """It is part of every key."""
    assert (shard_of("m1"), SHARDS) == (47, 64)


async def test_prefixes_keep_servers_apart(journal: RedisJournal, redis: Any) -> None:
    """Two servers on one store."""
    await created(journal)
    other = RedisJournal(redis, prefix="other")
    assert await other.owned() == []
    await created(other)
    await journal.renew(NodeInfo("n1", "a"), 1000)
    assert await other.nodes() == []
    await other.close()


async def test_a_full_store_is_unavailable_and_loses_nothing(journal: RedisJournal, redis: Any) -> None:
    """Out of memory: refused as a whole, then accepted when repeated."""
    tokens = [await created(journal, f"m{number}") for number in range(3)]
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used // 2)
    try:
        with pytest.raises(StoreUnavailable, match=r"OOM|maxmemory"):
            await extend(journal, tokens[0], 0, 1)
    finally:
        await redis.config_set("maxmemory", 0)
    assert await extend(journal, tokens[0], 0, 1) == [DONE]
    assert (await journal.recover("m0")).version == 1


async def test_a_cancelled_call_does_not_mix_up_answers(redis_url: str) -> None:
    """The connection it used is not used again."""
    redis = make_redis(redis_url, RedisSettings(pool_max=1))
    journal = RedisJournal(redis)
    token = await created(journal)
    for version in range(20):
        task = asyncio.create_task(extend(journal, token, version, version + 1))
        for _ in range(version % 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await extend(journal, token, version, version + 1) == [Outcome.DONE]
        assert [found.version for found in await journal.find(["m1"]) if found] == [version + 1]
    await journal.close()


async def test_the_stores_have_a_journal_with_a_pool_of_its_own(store_settings: Settings) -> None:
    """Whatever else uses Redis up does not make it wait."""
    stores = await open_stores(store_settings)
    try:
        token = await created(stores.journal)
        assert await extend(stores.journal, token, 0, 1) == [DONE]
        pool: Any = stores.redis.connection_pool
        connections = await asyncio.gather(*(pool.get_connection() for _ in range(store_settings.redis.pool_max)))
        async with asyncio.timeout(1):
            assert await extend(stores.journal, token, 1, 2) == [DONE]
        for connection in connections:
            await pool.release(connection)
    finally:
        await stores.close()

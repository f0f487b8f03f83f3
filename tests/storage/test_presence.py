"""Presence in a real store: exact per node, and gone by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gameserver.storage import Present, RedisPresence


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(redis_url)
    await client.flushdb()
    yield client
    await client.aclose()


async def test_users_and_matches(redis: Redis) -> None:
    store = RedisPresence(redis)
    await store.tell_all("a", [Present("anne"), Present("anne", "m1"), Present("bob")], 60)
    assert await store.online() == (2, ["anne", "bob"])
    assert await store.online(match_id="m1") == (1, ["anne"])
    assert await store.online(match_id="m") == (0, [])
    assert await store.matches_of("anne") == ["m1"]
    assert await store.matches_of("bob") == []
    assert await store.matches_of("an") is None
    assert await store.matches_of("carl") is None
    assert await store.online(limit=1) == (2, ["anne"])


async def test_each_node_takes_back_only_what_it_wrote(redis: Redis) -> None:
    store = RedisPresence(redis)
    for node in ("a", "b"):
        await store.tell_all(node, [Present("anne"), Present("anne", "m1")], 60)
    assert await store.tell("a", [], [Present("anne"), Present("anne", "m1")], 60)
    assert await store.matches_of("anne") == ["m1"]
    assert await store.tell("b", [], [Present("anne", "m1")], 60)
    assert await store.matches_of("anne") == []
    assert await store.tell("b", [Present("bob")], [Present("anne")], 60)
    assert await store.matches_of("anne") is None
    assert await store.online() == (1, ["bob"])


async def test_nothing_is_left_of_what_an_earlier_process_told(redis: Redis) -> None:
    await RedisPresence(redis).tell_all("a", [Present("anne"), Present("anne", "m1")], 60)
    await RedisPresence(redis).tell_all("a", [Present("bob")], 60)
    assert await RedisPresence(redis).online() == (1, ["bob"])
    assert await RedisPresence(redis).matches_of("anne") is None


async def test_all_last_longer_when_the_node_speaks_up_and_expire_when_not(redis: Redis) -> None:
    store = RedisPresence(redis)
    await store.tell_all("a", [Present("anne"), Present("anne", "m1")], 0.4)
    await store.tell_all("b", [Present("bob")], 60)
    await asyncio.sleep(0.25)
    assert await store.tell("a", [], [], 0.4)
    await asyncio.sleep(0.25)
    assert await store.online() == (2, ["anne", "bob"])
    await asyncio.sleep(0.25)
    assert await store.online() == (1, ["bob"])
    assert await store.online(match_id="m1") == (0, [])
    assert await store.matches_of("anne") is None
    assert await redis.keys("gs:presence:{a}:*") == []
    assert await store.tell("b", [], [], 60)
    assert await redis.zrange("gs:presence:nodes", 0, -1) == [b"b"]


async def test_a_store_that_lost_something_says_so(redis: Redis) -> None:
    store = RedisPresence(redis)
    assert not await store.tell("a", [], [], 60)  # it never was told anything
    await store.tell_all("a", [Present("anne")], 60)
    mark = await redis.get("gs:presence:{a}:mark")
    assert await store.tell("a", [Present("bob")], [], 60)
    await redis.set("gs:presence:{a}:mark", mark)  # as a store that was rewound
    assert not await store.tell("a", [], [], 60)
    await redis.flushdb()
    assert not await store.tell("a", [], [], 60)


async def test_many_at_once(redis: Redis) -> None:
    store = RedisPresence(redis)
    await store.tell_all("a", [Present(f"user-{number}") for number in range(3000)], 60)
    count, users = await store.online(limit=5000)
    assert (count, len(users)) == (3000, 1000)


async def test_a_short_lived_node_does_not_shorten_the_others(redis: Redis) -> None:
    store = RedisPresence(redis)
    await store.tell_all("a", [Present("anne")], 60)
    await store.tell_all("b", [Present("bob")], 0.2)
    await asyncio.sleep(0.3)
    assert await store.online() == (1, ["anne"])

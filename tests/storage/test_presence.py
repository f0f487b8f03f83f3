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
    await store.write("a", [Present("anne"), Present("anne", "m1"), Present("bob")], [], 60)
    assert await store.online() == (2, ["anne", "bob"])
    assert await store.online(match_id="m1") == (1, ["anne"])
    assert await store.matches_of("anne") == ["m1"]
    assert await store.matches_of("bob") == []
    assert await store.matches_of("carl") is None
    assert await store.online(limit=1) == (2, ["anne"])


async def test_each_node_takes_back_only_what_it_wrote(redis: Redis) -> None:
    store = RedisPresence(redis)
    for node in ("a", "b"):
        await store.write(node, [Present("anne"), Present("anne", "m1")], [], 60)
    await store.write("a", [], [Present("anne"), Present("anne", "m1")], 60)
    assert await store.matches_of("anne") == ["m1"]
    await store.write("b", [], [Present("anne", "m1")], 60)
    assert await store.matches_of("anne") == []
    await store.write("b", [], [Present("anne")], 60)
    assert await store.matches_of("anne") is None


async def test_what_is_not_refreshed_expires_and_leaves_no_keys(redis: Redis) -> None:
    store = RedisPresence(redis)
    await store.write("a", [Present("anne"), Present("anne", "m1")], [], 0.2)
    await store.write("b", [Present("bob")], [], 60)
    await asyncio.sleep(0.3)
    assert await store.online() == (1, ["bob"])
    assert await store.online(match_id="m1") == (0, [])
    assert await store.matches_of("anne") is None
    assert await redis.exists("gs:presence:match:m1", "gs:presence:user:anne") == 0
    await store.write("b", [Present("bob")], [], 60)
    assert await redis.zcard("gs:presence:online") == 1


async def test_many_at_once(redis: Redis) -> None:
    store = RedisPresence(redis)
    await store.write("a", [Present(f"user-{number}") for number in range(3000)], [], 60)
    count, users = await store.online(limit=5000)
    assert (count, len(users)) == (3000, 1000)
    assert [await store.matches_of(f"user-{number}") for number in range(0, 3000, 50)] == [[]] * 60


async def test_a_short_lived_node_does_not_shorten_the_others(redis: Redis) -> None:
    store = RedisPresence(redis)
    await store.write("a", [Present("anne")], [], 60)
    await store.write("b", [Present("bob")], [], 0.2)
    await asyncio.sleep(0.3)
    assert await store.online() == (1, ["anne"])

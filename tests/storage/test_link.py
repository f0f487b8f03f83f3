"""Connections to Redis that are held open: answers go to whom they belong, and what is lost is said to be unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError

from gameserver.config import RedisSettings
from gameserver.errors import StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage.redis_calls import HeldCalls, script
from gameserver.storage.redis_client import make_redis
from gameserver.storage.redis_link import RequestLink
from tests.proxy import Proxy

SECONDS = 0.5


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url, seed=20) as proxy:
        yield proxy


@pytest.fixture
async def distant(proxy: Proxy) -> AsyncIterator[Any]:
    """A client whose connections go through the proxy."""
    client = make_redis(proxy.url("redis"), RedisSettings())
    yield client
    await client.aclose()


@pytest.fixture
async def calls(distant: Any) -> AsyncIterator[HeldCalls]:
    calls = HeldCalls(distant, deadline_seconds=SECONDS, metrics=Metrics())
    yield calls
    await calls.close()


def soon() -> float:
    return asyncio.get_running_loop().time() + SECONDS


async def test_answers_come_in_the_order_of_the_requests(calls: HeldCalls, proxy: Proxy) -> None:
    """Any number under way, of several commands each, one cancelled; over one connection."""
    await calls.run([("DEL", "list")])
    asked = [
        asyncio.create_task(calls.run([("RPUSH", "list", number), ("LINDEX", "list", number)])) for number in range(100)
    ]
    await asyncio.sleep(0)
    asked[50].cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers.pop(50), asyncio.CancelledError)
    wanted = [[number + 1, b"%d" % number] for number in range(100)]
    del wanted[50]
    assert answers == wanted
    assert proxy.accepted == 1


async def test_an_error_is_the_answer_to_its_own_command(distant: Any) -> None:
    link = await RequestLink.open(distant.connection_pool)
    await link.ask([("SET", "text", "x")], soon())
    one, two, three = await link.ask([("ECHO", b"a" * 100_000), ("INCR", "text"), ("ECHO", "c")], soon())
    assert (one, three) == (b"a" * 100_000, b"c")
    assert isinstance(two, ResponseError)
    link.close()


async def test_a_request_that_is_not_answered_in_time_ends_all_that_are_under_way(distant: Any, proxy: Proxy) -> None:
    """Those behind it would not be answered either; their outcome is unknown, and nothing more goes over this link."""
    link = await RequestLink.open(distant.connection_pool)
    proxy.stall()
    first, second = link.ask([("INCR", "n")], soon() - SECONDS / 2), link.ask([("INCR", "n")], soon() + 60)
    with pytest.raises(TimeoutError):
        await first
    with pytest.raises(TimeoutError):
        await second
    assert link.closed
    with pytest.raises(ConnectionLost):
        await link.ask([("INCR", "n")], soon())


async def test_a_reset_link_is_replaced(calls: HeldCalls, proxy: Proxy) -> None:
    """Told at once to whoever waits; the next call opens another one."""
    await calls.run([("PING",)])
    proxy.stall()
    waiting = asyncio.create_task(calls.run([("PING",)]))
    await asyncio.sleep(0.01)
    proxy.reset()
    async with asyncio.timeout(SECONDS / 2):
        with pytest.raises(StoreUnavailable):
            await waiting
    proxy.resume()
    assert await calls.run([("ECHO", "again")]) == [b"again"]
    assert proxy.accepted == 2


async def test_those_who_wait_for_a_connection_wait_for_the_same_one(calls: HeldCalls, proxy: Proxy) -> None:
    """And when it does not come in time, the next call tries anew."""
    proxy.stall()
    answers = await asyncio.gather(*(calls.run([("PING",)]) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert proxy.accepted == 1
    proxy.resume()
    assert await asyncio.gather(*(calls.run([("ECHO", n)]) for n in range(20))) == [[b"%d" % n] for n in range(20)]
    assert proxy.accepted == 2


async def test_a_link_that_was_idle_for_long_is_not_trusted(distant: Any, proxy: Proxy) -> None:
    """Whatever stands between may have dropped it without a word."""
    distant.connection_pool.connection_kwargs["health_check_interval"] = 0.05
    calls = HeldCalls(distant, deadline_seconds=SECONDS, metrics=Metrics())
    await calls.run([("PING",)])
    await calls.run([("PING",)])
    assert proxy.accepted == 1
    await asyncio.sleep(0.1)
    await calls.run([("PING",)])
    assert proxy.accepted == 2
    await calls.close()


async def test_what_is_no_redis_is_not_listened_to(distant: Any) -> None:
    """A line that lost its place is of no use to anybody."""
    link = await RequestLink.open(distant.connection_pool)
    asked = link.ask([("PING",)], soon())
    link.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConnectionLost, match="protocol"):
        await asked
    unasked = await RequestLink.open(distant.connection_pool)
    unasked.data_received(b"+PONG\r\n")
    assert unasked.closed


async def test_scripts_are_loaded_where_the_server_has_forgotten_them(calls: HeldCalls, redis: Any) -> None:
    await redis.script_flush()
    command = script("append", [], [""])
    assert await asyncio.gather(calls.run([command]), calls.run([command])) == [[[]], [[]]]


async def test_closing_ends_what_waits(calls: HeldCalls, proxy: Proxy) -> None:
    await calls.run([("PING",)])
    proxy.stall()
    waiting = asyncio.create_task(calls.run([("PING",)]))
    await asyncio.sleep(0.01)
    await calls.close()
    with pytest.raises(StoreUnavailable):
        await waiting

"""The journal when the way to the store, or the store itself, fails."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gameserver.config import DataSettings, RedisSettings
from gameserver.errors import StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage import Append, EmbeddedStores, Outcome, RedisJournal, Token, make_journal
from gameserver.storage.embedded import find_programs, free_port
from tests.proxy import Proxy
from tests.storage.conftest import frozen, sync_each_write
from tests.storage.journal_contract import DONE, FENCED, created, extend, meta, state

DEADLINE_SECONDS = 0.5


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[RedisJournal]:
    """A journal with a short deadline."""
    journal = make_journal(url, RedisSettings(journal_timeout_seconds=DEADLINE_SECONDS, **settings))
    try:
        yield journal
    finally:
        await journal.close()


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url, seed=20) as proxy:
        yield proxy


@pytest.fixture
async def distant(proxy: Proxy) -> AsyncIterator[RedisJournal]:
    """The journal as seen through the proxy."""
    async with opened(proxy.url("redis")) as journal:
        yield journal


async def until_told(journal: RedisJournal, batch: list[Append], tries: int = 100) -> tuple[list[Outcome], int]:
    """The same append again and again until its outcome is known; and how often it was not."""
    for unknown in range(tries):
        try:
            return await journal.append(batch), unknown
        except StoreUnavailable:
            continue
    raise AssertionError(f"no answer in {tries} tries")


# --- the way --------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["drop_replies", "drop_requests", "cut_replies"])
async def test_ten_thousand_appends_are_ten_thousand_versions(
    proxy: Proxy, distant: RedisJournal, redis_url: str, fault: str
) -> None:
    """With 5 % of the answers lost: each version is there once, in order, with its own payload."""
    matches, versions = 10, 1000
    async with opened(redis_url) as near:
        tokens = [await created(near, f"m{number}") for number in range(matches)]
        setattr(proxy, fault, 0.05)
        unknown = 0

        async def play(half: list[Token]) -> None:
            nonlocal unknown
            for version in range(versions):
                batch = [Append(one, version, version + 1, f"{one.match_id} {version + 1}".encode()) for one in half]
                outcomes, tries = await until_told(distant, batch)
                assert outcomes == [DONE] * len(half)
                unknown += tries

        await asyncio.gather(play(tokens[:5]), play(tokens[5:]))
        assert proxy.dropped > 50
        assert unknown >= proxy.dropped * 0.9
        for token in tokens:
            recovered = await near.recover(token.match_id)
            assert [entry.version for entry in recovered.entries] == list(range(1, versions + 1))
            assert all(
                entry.payload == f"{token.match_id} {entry.version}".encode() and entry.base == entry.version - 1
                for entry in recovered.entries
            )


async def test_every_call_may_be_repeated(proxy: Proxy, distant: RedisJournal) -> None:
    """The answer to the first try is lost, the second try is told what the first one did."""

    async def twice(call: Any) -> Any:
        proxy.drop_replies = 1.0
        with pytest.raises(StoreUnavailable):
            await call()
        proxy.drop_replies = 0.0
        return await call()

    await distant.identity()  # scripts and connections are another matter
    token = await twice(lambda: created(distant))
    await distant.owned()
    assert await twice(lambda: extend(distant, token, 0, 1, 2)) == [DONE, DONE]
    assert await twice(lambda: distant.save(token, 2, meta(2), state(2))) is DONE
    assert await twice(lambda: distant.note_suspect(token, "tick")) is DONE
    claimed = await twice(lambda: distant.claim("m1", "n2", expect_epoch=1))
    assert (claimed.token.epoch > 1, claimed.attempts, claimed.suspects) == (True, 1, 1)
    back = await twice(lambda: distant.reassert(claimed.token, meta=meta(9), snapshot=state(9)))
    assert back.epoch == claimed.token.epoch + 1
    assert await twice(lambda: distant.release(back)) is DONE
    claimed = await twice(lambda: distant.claim("m1", "n2", expect_epoch=back.epoch))
    assert await twice(lambda: distant.end(claimed.token)) is DONE
    other = await twice(lambda: created(distant, "m2"))
    moved_to = await twice(lambda: distant.quarantine("m2", "because"))
    assert moved_to == await distant.quarantine("m2", "because")
    assert await extend(distant, other, 0, 1) == [FENCED]


async def test_a_slow_way_is_only_slow(proxy: Proxy, distant: RedisJournal) -> None:
    token = await created(distant)
    assert await extend(distant, token, 0, 1) == [DONE]
    proxy.delay_seconds = 0.05
    assert await extend(distant, token, 1, 2) == [DONE]


async def test_a_stalled_way_ends_in_time(proxy: Proxy, distant: RedisJournal) -> None:
    """Also for many at once that wait for each other's connections; then it goes on."""
    token = await created(distant)
    proxy.stall()
    started = time.monotonic()
    calls = [distant.find(["m1"]) for _ in range(30)] + [extend(distant, token, 0, 1)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert time.monotonic() - started < DEADLINE_SECONDS + 0.4
    proxy.resume()
    outcomes, _ = await until_told(distant, [Append(token, 0, 1, b"to 1")])
    assert outcomes == [DONE]
    assert len((await distant.recover("m1")).entries) == 1


async def test_a_reset_way_and_a_closed_door(proxy: Proxy, distant: RedisJournal) -> None:
    """Told at once, not after a timeout; the next call after it works."""
    token = await created(distant)
    proxy.reset()
    outcomes, unknown = await until_told(distant, [Append(token, 0, 1, b"x")])
    assert (outcomes, unknown <= 1) == ([DONE], True)
    proxy.refuse = True
    proxy.reset()
    started = time.monotonic()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await extend(distant, token, 1, 2)
    assert time.monotonic() - started < DEADLINE_SECONDS
    proxy.refuse = False
    assert await extend(distant, token, 1, 2) == [DONE]


# --- the store --------------------------------------------------------------------------------------------------------
@pytest.fixture
async def own_store(tmp_path: Path, metrics: Metrics) -> AsyncIterator[EmbeddedStores]:
    """A Redis for one test alone, restarted by nobody."""
    stores = EmbeddedStores(DataSettings(dir=tmp_path / "own"), metrics, mongo=False)
    await stores.start(supervise=False)
    yield stores
    await stores.stop()


@pytest.mark.slow
async def test_a_killed_store_has_what_was_appended(own_store: EmbeddedStores) -> None:
    """kill -9: everything it answered is there, the same process goes on, and it says that it was restarted.

    If it syncs each write: with `everysec` it answers without having written anything while a sync is under way.
    """
    assert own_store.redis_url is not None
    async with opened(own_store.redis_url) as journal:
        sync_each_write(own_store.redis_url)
        tokens = [await created(journal, f"m{number}") for number in range(20)]
        for version in range(10):
            batch = [Append(one, version, version + 1, b"%d" % (version + 1)) for one in tokens]
            assert await journal.append(batch) == [DONE] * 20
        await journal.save(tokens[0], 6, meta(6), state(6))
        identity = await journal.identity()
        child = own_store.children["redis"]
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.sleep(0.05)
        with pytest.raises(StoreUnavailable):
            await extend(journal, tokens[0], 10, 11)
        await child.start(supervise=False)
        outcomes, unknown = await until_told(journal, [Append(one, 10, 11, b"11") for one in tokens])
        assert (outcomes, unknown <= 2) == ([DONE] * 20, True)
        for token in tokens[1:]:
            recovered = await journal.recover(token.match_id)
            assert [entry.payload for entry in recovered.entries] == [b"%d" % number for number in range(1, 12)]
        recovered = await journal.recover("m0")
        assert (recovered.snapshot, [entry.version for entry in recovered.entries]) == ({"version": 6}, [*range(7, 12)])
        after = await journal.identity()
        assert after.run_id != identity.run_id
        assert after.known_seconds < 60 < identity.known_seconds
        assert after.epoch == identity.epoch


@pytest.mark.slow
async def test_an_emptied_store_accepts_nothing_from_before(own_store: EmbeddedStores) -> None:
    """FLUSHALL under a running owner; the owner may put its match back."""
    assert own_store.redis_url is not None
    async with opened(own_store.redis_url) as journal:
        token = await created(journal)
        await extend(journal, token, 0, 1)
        identity = await journal.identity()
        await journal._calls._redis.flushall()
        assert await extend(journal, token, 1, 2) == [FENCED]
        assert (await journal.identity()).epoch != identity.epoch
        back = await journal.reassert(token, meta=meta(2), snapshot=state(2))
        assert await extend(journal, token, 1, 2) == [FENCED]
        assert await extend(journal, back, 2, 3) == [DONE]


@pytest.mark.slow
async def test_a_hung_store_is_bounded_and_repeats_do_no_harm(own_store: EmbeddedStores) -> None:
    """SIGSTOP: what was sent meanwhile is done when it wakes up, all of it, and makes one version."""
    assert own_store.redis_url is not None
    async with opened(own_store.redis_url) as journal:
        token = await created(journal)
        with frozen(own_store.children["redis"].pid):
            for _ in range(3):
                started = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await extend(journal, token, 0, 1)
                assert time.monotonic() - started < DEADLINE_SECONDS + 0.3
        assert await extend(journal, token, 0, 1) == [DONE]
        assert await extend(journal, token, 1, 2) == [DONE]
        await asyncio.sleep(0.1)
        assert [entry.version for entry in (await journal.recover("m1")).entries] == [1, 2]


@pytest.mark.slow
async def test_late_writes_of_a_hung_store_do_not_undo_a_claim(own_store: EmbeddedStores) -> None:
    """A paused owner's write that was under way is refused when it arrives after the claim."""
    assert own_store.redis_url is not None
    async with (
        Proxy(own_store.redis_url) as line,
        opened(line.url("redis")) as paused,
        opened(own_store.redis_url) as other,
    ):
        token = await created(paused)
        await extend(paused, token, 0, 1)
        line.stall()
        write = asyncio.create_task(extend(paused, token, 1, 2))
        await asyncio.sleep(0.05)
        claimed = await other.claim("m1", "n2", expect_epoch=1)
        line.resume()
        assert await write == [FENCED]
        assert await extend(other, claimed.token, 1, 2) == [DONE]
        assert [entry.epoch for entry in (await other.recover("m1")).entries] == [1, claimed.token.epoch]


# --- replicas ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[str, str, list[int]]]:
    """A Redis and its replica, both in memory only: their urls, and their process ids."""
    program = str(find_programs(redis=True, mongo=False)["redis"])
    ports = [free_port(), free_port()]
    quiet = ("--save", "", "--appendonly", "no", "--dir", str(tmp_path), "--bind", "127.0.0.1")
    follow = ("--replicaof", f"127.0.0.1 {ports[0]}")
    started = [
        subprocess.Popen((program, "--port", str(port), *quiet, *extra), stdout=subprocess.DEVNULL)
        for port, extra in zip(ports, (("--repl-diskless-sync-delay", "0"), follow), strict=True)
    ]
    yield (f"redis://127.0.0.1:{ports[0]}", f"redis://127.0.0.1:{ports[1]}", [process.pid for process in started])
    for process in started:
        process.kill()
        process.wait()


async def until_replicated(journal: RedisJournal) -> Token:
    """A match, made as soon as the replica is there to have it."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await created(journal)
            except StoreUnavailable:
                await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_replicas_are_waited_for(pair: tuple[str, str, list[int]]) -> None:
    """An append counts when they have it; if they do not, its outcome is unknown, also when it is repeated."""
    url, replica_url, pids = pair
    async with opened(url, wait_replicas=1, wait_replicas_ms=200) as journal, opened(replica_url) as replica:
        token = await until_replicated(journal)
        outcomes, _ = await until_told(journal, [Append(token, 0, 1, b"to 1")])  # it has only just come
        assert outcomes == [DONE]
        assert [held.version for held in await replica.find(["m1"]) if held] == [1]
        with frozen(pids[1]):
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
                    await extend(journal, token, 1, 2)
            async with opened(url, wait_replicas=1, wait_replicas_ms=200) as again:
                # Over a connection that has written nothing yet.
                with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
                    await extend(again, token, 1, 2)
            with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
                await journal.save(token, 2, meta(2), state(2))
        outcomes, _ = await until_told(journal, [Append(token, 1, 2, b"to 2")])
        assert outcomes == [DONE]
        assert await journal.save(token, 2, meta(2), state(2)) is DONE
        assert [held.version for held in await replica.find(["m1"]) if held] == [2]

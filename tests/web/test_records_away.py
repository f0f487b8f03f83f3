"""MongoDB goes away while matches record, end and go: what was acknowledged is written once, what waits is bounded."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gameserver import Game, Player, Priority, action
from gameserver.app import Application
from gameserver.client import Client
from gameserver.config import Settings
from gameserver.errors import GameServerError, StoreUnavailable
from gameserver.protocol import Closed, ErrorMessage, Join
from gameserver.storage import EmbeddedStores, MongoDocuments
from tests.client.conftest import token
from tests.examples.server import ServerProcess
from tests.storage.conftest import frozen
from tests.web.conftest import changed
from tests.web.kit import RawClient, eventually

pytestmark = pytest.mark.slow

QUEUE = 20


class Book(Game):
    """Has everything recorded that it is told."""

    batch_ms = 10
    empty_seconds = None
    seat_hold_seconds = 0.2
    hibernate_seconds = 0.2
    lines: int = 0

    @action
    def write(self, player: Player, number: int) -> int:
        return self._write(number, Priority.NORMAL)

    @action(priority=Priority.HIGH)
    def carve(self, player: Player, number: int) -> int:
        return self._write(number, Priority.HIGH)

    @action(priority=Priority.HIGH)
    def look(self, player: Player) -> int:
        return self.lines

    @action(priority=Priority.HIGH)
    def finish(self, player: Player, number: int) -> None:
        self._write(number, Priority.NORMAL)
        self.end("read")

    def _write(self, number: int, priority: Priority) -> int:
        self.lines += 1
        self.record("line", {"number": number}, priority=priority)
        return self.lines


class Clock(Book):
    """The same with ticks."""

    tick_hz = 20
    hibernate_seconds = None
    ticks: int = 0

    def on_tick(self, dt: float) -> None:
        self.ticks += 1


class Loose(Book):
    """The same without a journal."""

    durability = "snapshot"
    hibernate_seconds = None


def settings_of(own: EmbeddedStores) -> Settings:
    short = {"timeout_seconds": 0.3, "connect_timeout_seconds": 0.3, "server_selection_timeout_seconds": 0.3}
    return changed(
        Settings(redis={"url": own.redis_url}, mongo={"url": own.mongo_url, **short}),
        server={"port": 0, "drain_seconds": 4.0},
        records={"queue_records_max": QUEUE, "batch_size": 5, "retry_seconds_max": 0.2},
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Application]:
    app = Application(settings, [Book, Clock, Loose])
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def kill_mongo(own: EmbeddedStores) -> None:
    mongo = own.children["mongo"]
    os.kill(mongo.pid or 0, signal.SIGKILL)
    await eventually(lambda: not mongo.pid)


def documents_of(app: Application) -> MongoDocuments:
    assert app.stores is not None
    return app.stores.documents


async def written(documents: MongoDocuments, match_id: str) -> list[int]:
    try:
        return sorted(record["data"]["number"] for record in await documents.records(match_id, limit=10_000))
    except StoreUnavailable:
        return []


async def write_until_refused(alice: RawClient, channel: int, first: int = 1) -> list[int]:
    """The numbers that were acknowledged, before one was refused because nothing more can be kept."""
    acknowledged: list[int] = []
    for number in range(first, first + 10 * QUEUE):
        ack = await alice.act(channel, "carve" if number % 3 == 0 else "write", number)
        if ack.refused:
            assert ack.result[0] == "store_unavailable"
            assert "records" in ack.result[1]
            assert ack.result[2] is True
            alice.seq -= 1  # it was not taken
            return acknowledged
        acknowledged.append(number)
    raise AssertionError("there is no bound")


@pytest.mark.parametrize("game", ["book", "clock"])
async def test_what_does_not_fit_is_refused_before_it_is_acknowledged(own: EmbeddedStores, game: str) -> None:
    """Nor is anything dropped, an urgent record or another; who records nothing plays on."""
    async with serving(settings_of(own)) as app:
        alice, bob = await RawClient.open(app, "alice"), await RawClient.open(app, "bob")
        joined = await alice.join(game, "create")
        other = (await bob.join("book", "create")).channel
        await kill_mongo(own)
        acknowledged = await write_until_refused(alice, joined.channel)
        assert len(acknowledged) == QUEUE + 1
        hosted = app.host.get(joined.info.match)
        assert len(hosted.match.unsettled) == len(acknowledged)
        before = hosted.match.version
        assert (await alice.act(joined.channel, "look")).refused, "it stands still"
        alice.seq -= 1
        await bob.send(Join(2, "match", joined.info.match))
        refused = await bob.expect(ErrorMessage)
        assert (refused.code, refused.retryable) == ("store_unavailable", True)
        assert (await bob.act(other, "look")).result == 0
        await asyncio.sleep(0.3)
        assert hosted.match.version == before
        app.host.update_metrics()
        assert app.metrics.value("matches_still") == 1
        assert app.metrics.value("records_held") == 1
        assert (await app._check())["mongo"] is not None
        await own.children["mongo"].start(supervise=False)
        await eventually(lambda: not hosted.still)
        assert await written_all(app, joined.info.match, acknowledged)
        assert (await alice.act(joined.channel, "look")).result == len(acknowledged)
        more = [await alice.act(joined.channel, "write", 1_000 + number) for number in range(3)]
        assert not any(ack.refused for ack in more)
        assert await written_all(app, joined.info.match, [*acknowledged, 1_000, 1_001, 1_002])
        app.host.update_metrics()
        assert app.metrics.value("matches_still") == app.metrics.value("records_held") == 0
        for client in (alice, bob):
            await client.close()


async def written_all(app: Application, match_id: str, numbers: list[int]) -> bool:
    async def there() -> bool:
        return await written(documents_of(app), match_id) == sorted(numbers)

    return bool(await eventually(there, 10))


async def test_a_node_that_is_killed_meanwhile_owes_nothing(own: EmbeddedStores, tmp_path: Path) -> None:
    """More than its queue takes, from several matches; what it had acknowledged another process writes, once."""
    (tmp_path / "book.py").write_text(BOOK)
    server = ServerProcess(
        settings_of(own), tmp_path, ("book.py",), GAMESERVER__RECORDS__QUEUE_RECORDS_MAX=str(QUEUE),
        GAMESERVER__CLUSTER__LEASE_SECONDS="1.0",
    )  # fmt: skip
    acknowledged: Counter[tuple[str, int]] = Counter()
    clients: list[Client] = []
    try:
        await server.start()

        async def write(user: str) -> None:
            client = Client(server.url, token=token(user), reconnect=False)
            clients.append(client)
            await client.connect()
            room = await client.create("book")
            for number in range(50):
                await room.action("carve" if number % 3 == 0 else "write", number=number)
                acknowledged[room.match_id, number] += 1

        with frozen(own.children["mongo"].pid):
            tasks = [asyncio.create_task(write(f"u{number}")) for number in range(4)]
            await asyncio.sleep(2.0)
            assert not any(task.done() for task in tasks), "all of them wait for room"
            await server.stop(signal.SIGKILL)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(outcome, GameServerError) for outcome in outcomes)
        assert QUEUE <= sum(acknowledged.values()) <= QUEUE + 4
        await server.start()
        async with serving(changed(settings_of(own), server={"node_id": "reader"})) as reader:
            for match_id in {match_id for match_id, _ in acknowledged}:
                numbers = [number for match, number in acknowledged if match == match_id]

                async def there(match_id: str = match_id, numbers: list[int] = numbers) -> bool:
                    found = await written(documents_of(reader), match_id)
                    assert len(found) == len(set(found))
                    return set(numbers) <= set(found)

                await eventually(there, 10)
    finally:
        for client in clients:
            await client.close()
        await server.end()


BOOK = '''
from gameserver import Game, Player, Priority, action

class Book(Game):
    batch_ms = 10
    empty_seconds = None

    @action
    def write(self, player: Player, number: int) -> None:
        self.record("line", {"number": number})

    @action(priority=Priority.HIGH)
    def carve(self, player: Player, number: int) -> None:
        self.record("line", {"number": number}, priority=Priority.HIGH)

    @action(priority=Priority.HIGH)
    def finish(self, player: Player, number: int) -> None:
        self.record("line", {"number": number})
        self.end("read")
'''


async def test_a_match_that_has_ended_is_remembered_until_its_records_are_written(
    own: EmbeddedStores, tmp_path: Path
) -> None:
    """Its document is final, its last record still waits for its batch, and the process is killed."""
    (tmp_path / "book.py").write_text(BOOK)
    settings = settings_of(own)
    late = {"GAMESERVER__RECORDS__BATCH_INTERVAL_MS": "60000", "GAMESERVER__CLUSTER__LEASE_SECONDS": "1.0"}
    server = ServerProcess(settings, tmp_path, ("book.py",), **late)
    try:
        await server.start()
        async with Client(server.url, token=token("alice"), reconnect=False) as alice:
            room = await alice.create("book")
            await room.action("finish", number=7)
            async with serving(changed(settings, server={"node_id": "reader"})) as reader:

                async def final() -> bool:
                    document = await documents_of(reader).get_match(room.match_id)
                    return document is not None and document["status"] == "ended"

                await eventually(final)
                await asyncio.sleep(0.3)
                assert await written(documents_of(reader), room.match_id) == []
                await server.stop(signal.SIGKILL)
                assert await written_all(reader, room.match_id, [7])
    finally:
        await server.end()


async def test_matches_that_end_are_bounded_too(own: EmbeddedStores) -> None:
    """Each holds its place until its end is known; then all of them are there, with what they recorded last."""
    settings = changed(settings_of(own), limits={"matches_max": 3})
    async with serving(settings) as app:
        alice = await RawClient.open(app, "alice")
        await kill_mongo(own)
        ended = []
        for number in range(3):
            joined = await alice.join("book", "create")
            alice.seq = 0
            assert not (await alice.act(joined.channel, "finish", number)).refused
            assert (await alice.expect(Closed)).code == "match_ended"
            ended.append(joined.info.match)
        assert len(app.host) == 0
        await alice.send(Join(9, "create", "book"))
        assert (await alice.expect(ErrorMessage)).code == "limit_reached"
        await own.children["mongo"].start(supervise=False)
        for number, match_id in enumerate(ended):
            assert await written_all(app, match_id, [number])

            async def final(match_id: str = match_id) -> bool:
                document = await documents_of(app).get_match(match_id)
                return document is not None and document["status"] == "ended"

            await eventually(final)
        await eventually(lambda: app.host.room == 3)
        await alice.join("book", "create")
        await alice.close()


async def test_a_match_that_records_does_not_sleep_before_it_is_written(own: EmbeddedStores) -> None:
    async with serving(settings_of(own)) as app:
        alice = await RawClient.open(app, "alice")
        joined = await alice.join("book", "create")
        await kill_mongo(own)
        assert not (await alice.act(joined.channel, "write", 1)).refused
        await alice.close()
        await asyncio.sleep(2.0)
        assert joined.info.match in app.host
        await own.children["mongo"].start(supervise=False)
        assert await written_all(app, joined.info.match, [1])
        await eventually(lambda: joined.info.match not in app.host)


async def test_a_stop_meanwhile_leaves_it_to_the_next_start(own: EmbeddedStores) -> None:
    """Matches that run, and those that have ended."""
    settings = settings_of(own)
    async with serving(settings) as app:
        alice = await RawClient.open(app, "alice")
        running, over = await alice.join("book", "create"), await alice.join("book", "create")
        await kill_mongo(own)
        acknowledged = await write_until_refused(alice, running.channel)
        alice.seq = 0
        await alice.act(over.channel, "finish", 7)
        await alice.close()
    await own.children["mongo"].start(supervise=False)
    async with serving(settings) as app:
        assert await written_all(app, running.info.match, acknowledged)
        assert await written_all(app, over.info.match, [7])


async def test_what_is_recorded_after_a_crash_is_not_taken_for_what_was_before(own: EmbeddedStores) -> None:
    """Without a journal a match goes on from its last snapshot: versions come again, with other records in them."""
    settings = changed(settings_of(own), match={"snapshot_idle_seconds": 0.2})
    async with serving(settings) as app:
        alice = await RawClient.open(app, "alice")
        joined = await alice.join("loose", "create")
        hosted = app.host.get(joined.info.match)
        await eventually(lambda: hosted.saved_version >= hosted.match.version)
        await crash_after(app, alice, joined.channel, range(10))
        await alice.close()
    async with serving(settings) as app:
        alice = await RawClient.open(app, "alice")
        joined = await alice.join(joined.info.match, "match")
        assert (await alice.act(joined.channel, "look")).result == 0
        for number in range(10, 20):
            assert not (await alice.act(joined.channel, "carve", number)).refused
        await alice.close()
        assert await written_all(app, joined.info.match, list(range(20)))


async def crash_after(app: Application, alice: RawClient, channel: int, numbers: range) -> None:
    """Nothing is saved after this, as far as the stores can tell, but what was recorded."""
    await app.node.snapshotter.stop(10.0)
    for number in numbers:
        assert not (await alice.act(channel, "carve", number)).refused
    await eventually(lambda: not any(hosted.match.unsettled for hosted in app.host))
    for hosted in app.host:
        hosted.freeze()
    app.host._matches.clear()

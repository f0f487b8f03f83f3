"""Stop and start again, crash and start again, stores that go away: the matches stay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from gameserver.app import Application
from gameserver.config import Settings
from gameserver.errors import ConfigError, RequestInvalid, StoreUnavailable
from gameserver.match import Game
from gameserver.protocol import ErrorMessage, Frame, Join
from tests.web.games import GAMES, Board, Walk
from tests.web.kit import RawClient, eventually

NOTES = "notes of matches"
"""The name of the task that writes them."""


@asynccontextmanager
async def serving(settings: Settings, games: list[type[Game]] | None = None) -> AsyncIterator[Application]:
    application = Application(settings, games or GAMES)
    await application.start()
    try:
        yield application
    finally:
        await application.stop()


async def test_a_stop_keeps_everything_and_tells_clients_to_reconnect(settings: Settings) -> None:
    async with serving(settings) as app:
        alice, bob = await RawClient.open(app, "alice"), await RawClient.open(app, "bob")
        joined = await alice.join("board")
        await bob.join("board")
        assert (await alice.act(joined.channel, "move", 41)).result == 41
        await alice.act(joined.channel, "later", 0.5)
        codes = [asyncio.create_task(client.closed()) for client in (alice, bob)]
        started = time.monotonic()
        await app.stop()
        assert time.monotonic() - started < 3
        assert await asyncio.gather(*codes) == [4503, 4503]
        for client in (alice, bob):
            await client.close()
    await asyncio.sleep(0.7)  # the match's timer does not run while there is no server
    async with serving(settings) as app:
        hosted = app.host.get(joined.info.match)
        assert not hosted.match.players["alice"].connected  # nobody is, yet; the seats are held
        assert not hosted.match.game.due
        alice = await RawClient.open(app, "alice")
        back = await alice.join("board")
        assert back.info.match == joined.info.match
        assert back.info.epoch > joined.info.epoch
        assert back.info.slot == joined.info.slot
        assert back.info.version > joined.info.version
        assert (await alice.act(back.channel, "move", 1)).result == 42
        async with asyncio.timeout(3):
            while not hosted.match.game.due:
                await alice.next()
        assert sorted(hosted.match.players) == ["alice", "bob"]
        await alice.close()


async def test_ticks_go_on_after_a_restart(settings: Settings) -> None:
    async with serving(settings) as app:
        alice = await RawClient.open(app, "alice")
        joined = await alice.join("walk")
        for _ in range(10):
            await alice.expect(Frame)
        await alice.close()
    async with serving(settings) as app:
        hosted = app.host.get(joined.info.match)
        steps = hosted.match.game.steps
        assert steps >= 10
        alice = await RawClient.open(app, "alice")
        await alice.join("walk")
        for _ in range(5):
            await alice.expect(Frame)
        assert steps + 4 <= hosted.match.game.steps <= steps + 12  # no burst for the time that nobody was there
        await alice.close()


async def test_what_was_not_stopped_comes_back_from_the_last_snapshot(settings: Settings) -> None:
    """A crash, as far as the stores can tell: no final snapshot, no goodbye."""
    app = Application(settings, GAMES)
    await app.start()
    alice = await RawClient.open(app, "alice")
    joined = await alice.join("board")
    await alice.act(joined.channel, "move", 3)
    await asyncio.sleep(0.8)  # quiet for longer than snapshot_idle_seconds
    for hosted in app.host:
        hosted.freeze()
    app.host._matches.clear()
    await alice.close()
    await app.stop()
    async with serving(settings) as app:
        alice = await RawClient.open(app, "alice")
        back = await alice.join(joined.info.match, "match")
        assert (await alice.act(back.channel, "move", 0)).result == 3
        await alice.close()


async def test_a_corrupt_snapshot_is_reported_and_the_others_go_on(settings: Settings) -> None:
    async with serving(settings) as app:
        alice = await RawClient.open(app, "alice")
        bad = await alice.join("board", "create")
        good = await alice.join("board", "create")
        await alice.close()
    async with serving(settings) as app:
        assert app.stores is not None
        key = app.stores.journal.key(bad.info.match, "snapshot")
        await app.stores.redis.hset(key, "payload", b"GSS\x01 broken")
        for hosted in app.host:
            hosted.freeze()
        app.host._matches.clear()
    async with serving(settings) as app:
        assert [hosted.match_id for hosted in app.host] == [good.info.match]
        assert app.metrics.value("snapshots_quarantined_total") == 1
        alice = await RawClient.open(app, "alice")
        await alice.send(Join(1, "match", bad.info.match))
        error = await alice.expect(ErrorMessage)
        assert error.code == "match_not_found"
        await alice.join(good.info.match, "match")
        await alice.close()


async def test_a_match_of_a_game_that_is_not_loaded_is_left_alone(settings: Settings) -> None:
    async with serving(settings) as app:
        alice = await RawClient.open(app, "alice")
        joined = await alice.join("board")
        await alice.act(joined.channel, "move", 9)
        await alice.close()
    async with serving(settings, [Walk]) as app:
        assert len(app.host) == 0
    async with serving(settings, [Board]) as app:
        alice = await RawClient.open(app, "alice")
        back = await alice.join("board")
        assert back.info.match == joined.info.match
        assert (await alice.act(back.channel, "move", 0)).result == 9
        await alice.close()


async def test_a_match_that_nobody_changes_is_saved_once(settings: Settings) -> None:
    async with serving(settings) as app:
        alice = await RawClient.open(app, "alice")
        await alice.join("board")
        saved = await eventually(lambda: app.metrics.value("snapshots_total", outcome="saved"))
        await asyncio.sleep(1.5)  # more than two intervals of a match with a journal
        assert app.metrics.value("snapshots_total", outcome="saved") == saved
        await alice.close()


async def test_a_port_that_is_taken_is_said_plainly(settings: Settings) -> None:
    async with serving(settings) as app:
        taken = settings.model_copy(update={"server": settings.server.model_copy(update={"port": app.web.port})})
        second = Application(taken, GAMES)
        with pytest.raises(ConfigError, match="Cannot listen on"):
            await second.start()


async def test_stop_does_not_wait_for_a_client_that_does_not_answer(settings: Settings) -> None:
    """A peer that never reads and never closes is cut off within the deadline."""
    app = Application(settings, GAMES)
    await app.start()
    clients = [await RawClient.open(app, f"p{number}") for number in range(20)]
    for client in clients:
        client.socket._response.connection.transport.pause_reading()
    assert len(app.web.connections) == 20
    started = time.monotonic()
    await app.stop()
    assert time.monotonic() - started < 6
    assert len(app.web.connections) == 0
    await asyncio.gather(*(client.close() for client in clients))


async def test_snapshots_do_not_wait_for_the_documents(settings: Settings) -> None:
    """MongoDB hangs: matches are saved to Redis all the same, and what was to be written there is written later."""
    async with serving(settings) as app:
        assert app.stores is not None
        documents, real = app.stores.documents, app.stores.documents.save_matches
        hang = asyncio.Event()

        async def hanging(docs: Sequence[Mapping[str, Any]]) -> int:
            await hang.wait()
            return await real(docs)

        documents.save_matches = hanging  # type: ignore[method-assign]
        alice = await RawClient.open(app, "alice")
        joined = await alice.join("board")
        for _ in range(3):
            before = app.metrics.value("snapshots_total", outcome="saved")
            await alice.act(joined.channel, "move", 1)
            await eventually(lambda before=before: app.metrics.value("snapshots_total", outcome="saved") > before)
        hang.set()
        document = await eventually(lambda: documents.get_match(joined.info.match))
        assert document["player_ids"] == ["alice"]
        await alice.close()


async def test_what_is_noted_of_many_matches_travels_together(settings: Settings) -> None:
    """And one whose document cannot be stored keeps no other from it."""
    async with serving(settings) as app:
        assert app.stores is not None
        documents, real = app.stores.documents, app.stores.documents.save_matches
        written: list[list[str]] = []
        bad: set[str] = set()

        async def watched(docs: Sequence[Mapping[str, Any]]) -> int:
            written.append([doc["id"] for doc in docs])
            if bad.intersection(written[-1]):
                raise RequestInvalid
            return await real(docs)

        documents.save_matches = watched  # type: ignore[method-assign]
        clients = [await RawClient.open(app, f"p{number}") for number in range(12)]
        unwanted, *others = dict.fromkeys([(await client.join("board")).info.match for client in clients])
        bad.add(unwanted)
        for match in others:
            assert (await eventually(partial(documents.get_match, match), seconds=5))["status"] == "live"
        assert len(others) == 3
        assert await documents.get_match(unwanted) is None
        assert max(map(len, written)) > 1
        for client in clients:
            await client.close()


async def test_of_matches_that_have_ended_nothing_is_noted_any_more(settings: Settings) -> None:
    """Nor does noting fail when that leaves nothing to write."""
    async with serving(settings) as app:
        assert app.stores is not None
        written: list[int] = []

        async def watched(docs: Sequence[Mapping[str, Any]]) -> int:
            written.append(len(docs))
            return len(docs)

        app.stores.documents.save_matches = watched  # type: ignore[method-assign]
        alice = await RawClient.open(app, "alice")
        joined = await alice.join("board")
        (noting,) = await eventually(lambda: [task for task in asyncio.all_tasks() if task.get_name() == NOTES])
        await alice.act(joined.channel, "finish")
        await noting  # raises what it ended with
        assert written == []
        await alice.close()


async def test_a_stop_writes_what_is_noted_at_once(settings: Settings) -> None:
    async with serving(settings) as app:
        assert app.stores is not None
        alice = await RawClient.open(app, "alice")
        match = (await alice.join("board")).info.match
        before = app.metrics.value("snapshots_total", outcome="saved")
        await eventually(lambda: app.metrics.value("snapshots_total", outcome="saved") > before)
        closed = asyncio.create_task(alice.closed())
        await app.stop()
        await closed
        await alice.close()
    async with serving(settings) as app:
        assert app.stores is not None
        document = await app.stores.documents.get_match(match)
        assert document is not None
        assert document["player_ids"] == ["alice"]


async def test_an_end_is_written_when_the_documents_are_back(settings: Settings) -> None:
    """The snapshot stays until the final document is stored."""
    async with serving(settings) as app:
        assert app.stores is not None
        stores, real = app.stores, app.stores.documents.match_ended
        away = True

        async def failing(match_id: str, **fields: Any) -> bool:
            if away:
                raise StoreUnavailable
            return await real(match_id, **fields)

        stores.documents.match_ended = failing  # type: ignore[method-assign]
        alice = await RawClient.open(app, "alice")
        joined = await alice.join("board")
        await eventually(stores.journal.owned)
        await alice.act(joined.channel, "finish")
        await asyncio.sleep(0.5)
        assert [match.match_id for match in await stores.journal.owned()] == [joined.info.match]
        away = False

        async def gone() -> bool:
            return not await stores.journal.owned()

        await eventually(gone)
        document = await stores.documents.get_match(joined.info.match)
        assert document is not None
        assert document["end_reason"] == "won"
        await alice.close()

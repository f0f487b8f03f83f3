"""A wake in which nothing happened ends early; one that has left anything to do does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from gameserver import Game
from gameserver.cluster import Host
from tests.cluster.kit import FakeReceiver, enter, make_host

pytestmark = pytest.mark.looptime  # time passes only while there is nothing to do: no machine is too slow


class Quiet(Game):
    """Does in its next tick what it is told, and nothing otherwise."""

    tick_hz = 50
    seen: ClassVar[list[float]] = []
    told: ClassVar[list[Callable[[Any], Any]]] = []
    number: int = 0

    def on_tick(self, dt: float) -> None:
        self.seen.append(dt)
        while self.told:
            self.told.pop()(self)


async def settled() -> tuple[Host, Any, FakeReceiver, list[int]]:
    """A match with a player who has been welcomed; how often the lease is looked at, which each flush begins with."""
    host = make_host([Quiet])
    member, receiver = await enter(host, "quiet", "a")
    await ticks(2)
    receiver.clear()
    looks: list[int] = []

    def valid() -> bool:
        looks.append(len(Quiet.seen))
        return True

    host._services.valid = valid
    return host, member, receiver, looks


async def ticks(count: int) -> None:
    until = len(Quiet.seen) + count
    async with asyncio.timeout(10):
        while len(Quiet.seen) < until:
            await asyncio.sleep(0.005)


async def test_nothing_is_flushed_when_nothing_happened() -> None:
    """The match is woken again all the same."""
    host, member, receiver, looks = await settled()
    version = member.hosted.match.version
    await ticks(5)
    assert looks == []
    assert receiver.writes == []
    assert member.hosted.match.version == version
    assert member.hosted._alarm.is_set()
    await host.stop(1)


async def test_what_changes_in_a_wake_is_sent_in_it() -> None:
    host, _, receiver, looks = await settled()
    Quiet.told.append(lambda game: setattr(game, "number", 7))
    await ticks(2)
    assert receiver.kinds() == ["Frame"]
    assert looks
    await host.stop(1)


async def test_topics_alone_are_told_to_the_keeper() -> None:
    """Nothing is sent: nobody but the node has to know."""
    host, _, receiver, _ = await settled()
    told: list[list[str]] = []
    host._services.keeper.listens = lambda hosted: told.append(list(hosted.match.topics))  # type: ignore[method-assign]
    Quiet.told.append(lambda game: game.subscribe("news"))
    await ticks(2)
    assert told == [["news"]]
    assert receiver.writes == []
    await host.stop(1)


async def test_a_flush_that_failed_is_not_held_against_the_match_once_one_works_again() -> None:
    """Although nothing happens between one failure and the next: they are not in a row."""
    host, _, receiver, _ = await settled()

    def listens(hosted: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    host._services.keeper.listens = listens  # type: ignore[method-assign]
    for number in range(4):
        Quiet.told.append(lambda game, number=number: game.subscribe(f"news-{number}"))
        await ticks(3)
    assert host._services.meters.game("quiet").failures._value.get() == 4
    assert receiver.gone == []
    assert len(host) == 1
    await host.stop(1)

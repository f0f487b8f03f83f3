"""Messages between matches: published after the gate, heard in order, at most once, through takeovers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gameserver import Game, List, Player, Priority, action
from gameserver.client import Client
from gameserver.cluster import User
from gameserver.config import Settings
from gameserver.errors import StateError
from gameserver.testing import MatchTester
from tests.cluster.fleet import FleetNode
from tests.cluster.kit import FakeReceiver
from tests.cluster.test_drain import Node, eventually, token
from tests.examples.server import free_port
from tests.simulation.memory_bus import MemoryWire
from tests.simulation.memory_journal import MemoryServer

SOURCE = '''
class Town(Game):
    """Shouts, and hears what others shout."""

    empty_seconds = None
    heard_rows: List[Any]

    def on_create(self, options: dict[str, Any]) -> None:
        if options.get("listen", True):
            self.subscribe("news")

    def on_message(self, topic: str, data: Any) -> None:
        if data == "poison":
            self.heard_rows.append("never seen")
            raise ValueError("poisoned")
        self.heard_rows.append([topic, data])

    @action(priority=Priority.HIGH)
    def shout(self, player: Player, topic: str, data: Any) -> None:
        self.publish(topic, data)

    @action(priority=Priority.HIGH)
    def shout_and_fail(self, player: Player) -> None:
        self.publish("news", "nothing")
        self.subscribe("other")
        raise ValueError("on purpose")

    @action(priority=Priority.HIGH)
    def listen_to(self, player: Player, topic: str, listen: bool) -> None:
        if listen:
            self.subscribe(topic)
        else:
            self.unsubscribe(topic)
'''
namespace: dict[str, Any] = {
    "Game": Game, "List": List, "Any": Any, "action": action, "Priority": Priority, "Player": Player,
    "__name__": __name__,
}  # fmt: skip
exec(SOURCE, namespace)  # noqa: S102 - the same text is the game of the real processes below
Town: Any = namespace["Town"]


# --- one match --------------------------------------------------------------------------------------------------------
def test_the_kit_shows_what_is_published_and_lets_matches_hear() -> None:
    tester = MatchTester(Town, raise_failures=False)
    anne = tester.join("anne")
    anne.act("shout", "news", {"a": [1]})
    assert tester.published == [("news", {"a": [1]})]
    assert tester.records == []
    assert tester.message("news", "rain")
    assert not tester.message("weather", "snow")
    assert anne.view["heard_rows"] == [["news", "rain"]]
    tester.restart()
    assert tester.game.topics == ("news",)
    assert tester.message("news", "sun")


def test_what_fails_publishes_nothing_and_subscribes_to_nothing() -> None:
    tester = MatchTester(Town, raise_failures=False)
    anne = tester.join("anne")
    with pytest.raises(Exception, match="failed"):
        anne.act("shout_and_fail")
    assert tester.published == []
    assert tester.game.topics == ("news",)
    tester.message("news", "poison")
    assert anne.view["heard_rows"] == []


def test_none_is_heard_twice_even_after_a_restart() -> None:
    tester = MatchTester(Town)
    for position, fresh in (((5, 0), True), ((5, 0), False), ((5, 1), True), ((4, 9), False)):
        assert tester.match.hear("news", list(position), "m1", position, tester.now, tester.wall) is fresh
        tester.flush()
    tester.restart()
    assert not tester.match.hear("news", "again", "m1", (5, 1), tester.now, tester.wall)
    assert tester.match.hear("news", "another", "m2", (1, 0), tester.now, tester.wall)


def test_names_and_kinds_are_checked() -> None:
    tester = MatchTester(Town)
    with pytest.raises(StateError, match="a topic has 1 to 64 characters"):
        tester.game.publish("", None)
    with pytest.raises(StateError, match="does not begin with a star"):
        tester.game.record("*publish", {})


# --- nodes on a bus in memory -----------------------------------------------------------------------------------------
class TalkingNode(FleetNode):
    def __init__(self, name: str, store: MemoryServer, wire: MemoryWire) -> None:
        super().__init__(name, store, [Town], wire)

    async def found(self, **options: Any) -> Any:
        return await self.host.join("create", "town", User("anne", "Anne"), FakeReceiver(), 1, options=options)


@pytest.fixture
async def nodes() -> AsyncIterator[tuple[TalkingNode, TalkingNode]]:
    store, wire = MemoryServer(time.monotonic), MemoryWire()
    a, b = TalkingNode("a", store, wire), TalkingNode("b", store, wire)
    for node in (a, b):
        await node.begin()
    yield a, b
    for node in (a, b):
        await node.end()


def heard(member: Any) -> list[Any]:
    return [[topic, data] for topic, data in member.hosted.match.game.heard_rows]


async def test_all_who_listen_hear_in_order(nodes: tuple[TalkingNode, TalkingNode]) -> None:
    a, b = nodes
    shouter, near = await a.found(listen=False), await a.found()
    far, deaf = await b.found(), await b.found(listen=False)
    for number in range(1, 21):
        shouter.receive(number, "shout", ["news", number], quiet=True)
    expected = [["news", number] for number in range(1, 21)]
    await eventually(lambda: heard(near) == heard(far) == expected)
    assert heard(deaf) == heard(shouter) == []


async def test_subscriptions_follow_the_match(nodes: tuple[TalkingNode, TalkingNode]) -> None:
    a, b = nodes
    listener, shouter = await a.found(), await b.found(listen=False)
    match_id = listener.hosted.match_id
    listener.receive(1, "listen_to", ["weather", True], quiet=False)
    await eventually(lambda: len(a.host.topics) == 2)
    assert await a.handover.hand_over(listener.hosted, 2.0)
    assert len(a.host.topics) == 0
    assert await b.arrivals.bring(match_id)
    assert len(b.host.topics) == 2
    shouter.receive(1, "shout", ["weather", "rain"], quiet=False)
    game = b.host.get(match_id).match.game
    await eventually(lambda: [list(row) for row in game.heard_rows] == [["weather", "rain"]])


async def test_what_is_published_again_after_a_takeover_is_not_heard_again(
    nodes: tuple[TalkingNode, TalkingNode],
) -> None:
    """What was published since the last snapshot is asked for again; those who heard it remember."""
    a, b = nodes
    shouter, listener = await a.found(listen=False), await b.found()
    match_id = shouter.hosted.match_id
    shouter.receive(1, "shout", ["news", "once"], quiet=False)
    await eventually(lambda: heard(listener) == [["news", "once"]])
    shouter.hosted.freeze()  # its node is gone
    claimed = await b.journal.claim(match_id, "b", expect_epoch=1)
    hosted = b.host.run_recovered(await b.journal.recover(match_id), claimed.token)
    assert hosted is not None
    await asyncio.sleep(0.1)
    assert heard(listener) == [["news", "once"]]


@pytest.mark.slow
async def test_matches_on_real_nodes_hear_each_other(store_settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    first, second = (Node(name, store_settings, tmp_path, port) for name in ("first", "second"))
    imports = "from typing import Any\nfrom gameserver import Game, List, Player, Priority, action\n\n"
    for node in (first, second):
        (tmp_path / node.name / "ledger.py").write_text(imports + SOURCE)
    try:
        await first.start()
        await second.start()
        async with (
            Client(first.direct, token=token("anne")) as anne,
            Client(second.direct, token=token("bob")) as bob,
        ):
            here, there = await anne.create("town"), await bob.create("town")
            for number in range(50):
                here.send("shout", topic="news", data=number)
            async with asyncio.timeout(10):
                for room in (here, there):
                    await room.wait_for(lambda state: len(state.heard_rows) == 50)
            assert [row[1] for row in there.state.heard_rows] == list(range(50))
    finally:
        for node in (first, second):
            await node.end()

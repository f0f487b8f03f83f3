"""The test kit notices what it is there to notice."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import gameserver
from gameserver import Entity, Game, Map, Player, action
from gameserver.testing import MatchTester


class Thing(Entity):
    x: float = 0.0
    audience_name: str = ""


class World(Game):
    batch_ms = 0
    things: Map[str, Thing]
    total: int = 0

    def on_join(self, player: Player) -> None:
        self.things[player.id] = Thing(owner=player)
        self.grid(10.0).follow(player, 0.0, 0.0)

    @action
    def go(self, player: Player, x: float) -> None:
        thing = self.things[player.id]
        thing.x = x
        self.grid(10.0).place(thing, x, 0.0)
        self.grid(10.0).follow(player, x, 0.0)

    @action
    def add(self, player: Player, n: int) -> int:
        self.total += n
        return self.total


def test_a_grid_shows_what_is_near():
    tester = MatchTester(World)
    alice, bob, watcher = tester.join("alice"), tester.join("bob"), tester.spectate()
    alice.act("go", 5.0)
    bob.act("go", 15.0)
    assert set(alice.view["things"]) == {"alice", "bob"}
    bob.act("go", 500.0)
    assert set(alice.view["things"]) == {"alice"}
    assert set(bob.view["things"]) == {"bob"}
    assert set(watcher.view["things"]) == {"alice", "bob"}
    tester.restart()
    alice.act("go", 495.0)
    assert set(alice.view["things"]) == {"alice", "bob"}


def test_send_and_result():
    tester = MatchTester(World)
    alice = tester.join("alice")
    seq = alice.send("add", 2)
    with pytest.raises(KeyError):
        alice.result(seq)
    tester.advance(0.1)
    assert alice.result(seq) == 2
    assert alice.applied == seq
    assert alice.state.total == 2
    with pytest.raises(TypeError, match="by position or by name"):
        alice.send("add", 1, n=2)


def test_a_mirror_that_differs_is_noticed():
    tester = MatchTester(World)
    alice = tester.join("alice")
    alice.mirror.root._fields["total"] = 5
    with pytest.raises(AssertionError, match="differs from the server's view"):
        tester.flush()


def test_two_testers_do_not_share_failures():
    class Bad(Game):
        tick_hz = 10

        def on_tick(self, dt: float) -> None:
            raise ValueError

    bad, good = MatchTester(Bad, raise_failures=False), MatchTester(World)
    bad.advance(0.1)
    good.advance(0.1)
    assert len(bad.failures) == 1
    assert good.failures == []


def test_the_package_is_light():
    """A game file can be imported, and tested, without the server."""
    code = (
        "import sys, gameserver; "
        "heavy = {'aiohttp', 'asyncio', 'redis', 'pymongo', 'motor', 'pydantic', 'uvloop'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert gameserver.__version__[0].isdigit()
    names: list[Any] = [getattr(gameserver, name) for name in gameserver.__all__]
    assert len(names) == len(set(gameserver.__all__))

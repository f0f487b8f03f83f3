"""Snapshots across restarts and across deploys."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gameserver import Entity, Game, List, Map, Player, Priority, StateError, action
from gameserver.errors import GameCodeError
from gameserver.match import Match
from gameserver.testing import MatchTester
from tests.match.games import WALL, Boom, Harness, Log


class Ship(Entity):
    hp: int = 100


class Before(Game):
    name = "evolving"
    score: int = 7
    old_name: str = "x"
    ships: Map[str, Ship]
    tags: List[Any]

    def on_join(self, player: Player) -> None:
        self.ships[player.id] = Ship()
        self.tags.append({"by": player.id})

    def later(self) -> None:
        self.score += 1

    def gone_later(self) -> None:
        self.score += 100

    @action(priority=Priority.HIGH)
    def arm(self, player: Player) -> None:
        self.after(1, self.later)
        self.after(1, self.gone_later)

    @action
    def queued(self, player: Player) -> int:
        return self.score


class After(Game):
    name = "evolving"
    state_version = 2
    ships: Map[str, Ship]
    score: int = 0
    new_name: str = "default"
    old: Any = None

    def on_upgrade(self, old: dict[str, Any]) -> None:
        self.new_name = old["old_name"].upper()
        self.old = {"version": old["state_version"], "tags": old["tags"], "ships": old["ships"]}
        if self.score == 666:
            self.score = 0
            raise Boom

    def later(self) -> None:
        self.score += 10

    @action(priority=Priority.HIGH)
    def another(self, player: Player) -> None: ...

    @action
    def queued(self, player: Player) -> int:
        return -self.score


def test_a_changed_class_goes_on_with_what_was_saved(caplog):
    tester = MatchTester(Before)
    alice = tester.join("alice")
    alice.act("arm")
    seq = alice.send("queued")
    tester.restart(After)
    assert alice.view["score"] == 7
    assert alice.view["new_name"] == "X"
    assert alice.view["old"] == {"version": 1, "tags": [{"by": "alice"}], "ships": {"alice": {"hp": 100}}}
    assert "no method gone_later" in caplog.text
    tester.advance(2)
    assert alice.view["score"] == 17
    assert alice.result(seq) == -7, "what was queued runs in the new class, by name"
    with pytest.raises(StateError, match="a newer version of the game must run it"):
        tester.restart(Before)


def test_an_upgrade_that_fails_restores_nothing():
    tester = MatchTester(Before)
    tester.game.score = 666
    tester.flush()
    snapshot = tester.match.snapshot(tester.now)
    with pytest.raises(GameCodeError, match="on_upgrade"):
        Match.restore(After, snapshot, now=0, wall=WALL, epoch=2)


def test_a_snapshot_of_another_game_is_refused():
    snapshot = MatchTester(Before).match.snapshot(2_000)
    with pytest.raises(StateError, match="cannot be restored as 'log'"):
        Match.restore(Log, snapshot, now=0, wall=WALL, epoch=2)
    with pytest.raises(StateError, match="format"):
        Match.restore(Before, {**snapshot, "format": 99}, now=0, wall=WALL, epoch=2)


def test_a_snapshot_is_a_copy():
    harness = Harness(Log)
    harness.join("ann")
    harness.send("s1", 1, "limited", [])
    harness.send("s1", 2, "write", [1])
    snapshot = harness.match.snapshot(harness.now)
    before = msgspec.msgpack.encode(snapshot)
    harness.send("s1", 3, "limited", [])
    harness.advance(1)
    assert msgspec.msgpack.encode(snapshot) == before


def test_the_epoch_is_the_new_owners_and_the_version_goes_on():
    harness = Harness(Log)
    harness.join("ann")
    snapshot = harness.match.snapshot(harness.now)
    match = Match.restore(Log, snapshot, now=5.0, wall=WALL, epoch=9)
    assert (match.epoch, match.version, match.id) == (9, harness.match.version, "m")
    assert match.take_output() is None

"""Author code that fails: its own problem, told to whoever acted, counted, and the end of the match if it goes on."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from gameserver import Game, Grid, Map, Player, Priority, action
from gameserver.errors import GameCodeError, RequestInvalid
from gameserver.match import RUNNING, Match
from gameserver.testing import MatchTester
from tests.match.games import WALL, Boom, Harness, Log


class Shaky(Game):
    tick_hz = 10
    failures_max = 3
    empty_seconds = None
    score: int = 0
    ticks_fail: bool = False
    end_fails: bool = False
    notes: Map[str, Any]

    def on_tick(self, dt: float) -> None:
        self.score += 1
        if self.ticks_fail:
            raise Boom

    def on_end(self, reason: str) -> None:
        self.notes["end"] = reason
        self.emit("over", reason, priority=Priority.HIGH)
        self.record("result", {"reason": reason})
        self.end("not again")
        if self.end_fails:
            raise Boom

    @action(priority=Priority.HIGH)
    def fail(self, player: Player, how: str = "boom") -> None:
        self.score += 1000
        self.end("because it failed")
        match how:
            case "exit":
                sys.exit(1)
            case "recursion":
                self.fail(player, how)
            case "memory":
                raise MemoryError
            case "oserror":
                raise OSError("password=hunter2")
            case _:
                raise Boom("password=hunter2")

    @action(priority=Priority.HIGH)
    def set(self, player: Player, name: str, value: bool) -> None:
        setattr(self, name, value)

    @action(priority=Priority.HIGH)
    def finish(self, player: Player) -> None:
        self.end("done")
        self.end("second reason")


@pytest.mark.parametrize("how", ["boom", "exit", "recursion", "memory", "oserror"])
def test_the_sender_gets_an_error_without_details_and_the_match_goes_on(how, caplog):
    tester = MatchTester(Shaky, match_id="m-17")
    alice = tester.join("alice")
    with pytest.raises(GameCodeError) as caught:
        alice.act("fail", how)
    assert "hunter2" not in str(caught.value)
    assert alice.view["score"] == 0
    assert tester.ended is None
    assert RUNNING.match is None
    record = next(r for r in caplog.records if r.levelno == logging.ERROR)
    assert "m-17" in record.getMessage()
    assert "fail of game shaky" in record.getMessage()
    assert record.exc_info
    alice.act("set", "end_fails", False)


def test_failures_in_a_row_end_the_match():
    tester = MatchTester(Shaky)
    alice = tester.join("alice")
    for _ in range(2):
        with pytest.raises(GameCodeError):
            alice.act("fail")
    alice.act("set", "end_fails", False)
    for _ in range(3):
        assert tester.ended is None
        with pytest.raises(GameCodeError):
            alice.act("fail")
    assert tester.ended == "game_failed: 3 calls in a row failed, the last in fail"
    assert alice.view["notes"] == {"end": tester.ended}
    assert alice.events[-1] == ("over", tester.ended)
    assert [record.kind for record in tester.records] == ["result"]


def test_the_count_survives_a_restart():
    tester = MatchTester(Shaky)
    alice = tester.join("alice")
    for _ in range(2):
        with pytest.raises(GameCodeError):
            alice.act("fail")
    tester.restart()
    with pytest.raises(GameCodeError):
        alice.act("fail")
    assert tester.ended is not None


def test_failing_ticks_end_the_match_even_while_actions_succeed():
    tester = MatchTester(Shaky, raise_failures=False)
    alice = tester.join("alice")
    alice.act("set", "ticks_fail", True)
    for _ in range(2):
        tester.advance(0.1)
        alice.act("set", "end_fails", False)
    assert tester.ended is None
    assert alice.view["score"] == 0
    tester.advance(0.1)
    assert tester.ended == "game_failed: 3 calls in a row failed, the last in on_tick"


def test_the_kit_raises_what_ticks_raise():
    tester = MatchTester(Shaky)
    tester.join("alice").act("set", "ticks_fail", True)
    with pytest.raises(Boom):
        tester.advance(0.1)


def test_an_end_that_fails_is_still_the_end():
    tester = MatchTester(Shaky, raise_failures=False)
    alice = tester.join("alice")
    alice.act("set", "end_fails", True)
    alice.act("finish")
    assert tester.ended == "done"
    assert alice.view["notes"] == {}
    assert not tester.records


def test_the_first_reason_stands():
    tester = MatchTester(Shaky)
    alice = tester.join("alice")
    alice.act("finish")
    assert tester.ended == "done"
    assert alice.view["notes"] == {"end": "done"}


def test_on_create_that_fails():
    class Broken(Game):
        def on_create(self, options: dict[str, Any]) -> None:
            raise Boom

    with pytest.raises(GameCodeError) as caught:
        Match.create(Broken, "m", seed=1, now=0, wall=WALL)
    assert isinstance(caught.value.__cause__, Boom)


@pytest.mark.parametrize("options", [{1.5: 1}, {"x": {1}}, {"x": 2**64}])
def test_options_are_plain(options):
    with pytest.raises(RequestInvalid):
        Match.create(Log, "m", options=options, seed=1, now=0, wall=WALL)


def test_a_rollback_that_fails_takes_the_match_out_of_play():
    def broken() -> None:
        raise RuntimeError("cannot undo")

    class Stuck(Game):
        batch_ms = 0

        @action
        def crash(self, player: Player) -> None:
            self._match.tree.record(broken)
            raise Boom

    harness = Harness(Stuck)
    session = harness.join("ann")
    harness.send(session.id, 1, "crash", [])
    harness.advance(0.1)
    assert harness.match.ended == "state_broken: crash could not be undone"


def test_the_grid_is_part_of_the_transaction():
    class Map2(Game):
        batch_ms = 0

        @action
        def go(self, player: Player, x: float, y: float, fail: bool) -> list[str]:
            grid = self.grid(10)
            grid.follow(player, x, y)
            if fail:
                raise Boom
            return sorted(name for name, group in self._match.tree.groups.items() if player in group)

        @action
        def other_size(self, player: Player) -> None:
            self.grid(5)

        @action
        def away(self, player: Player) -> None:
            self.grid(10).unfollow(player)

    def cells(*pairs: tuple[int, int]) -> list[str]:
        return sorted(f"grid:{x}:{y}" for x, y in pairs)

    square = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    tester = MatchTester(Map2)
    alice = tester.join("alice")
    with pytest.raises(GameCodeError):
        alice.act("go", 5.0, 5.0, True)
    assert tester.match.grids == {}
    assert alice.act("go", 5.0, 5.0, False) == cells(*square)
    with pytest.raises(GameCodeError):
        alice.act("go", 100.0, 100.0, True)
    with pytest.raises(GameCodeError):
        alice.act("other_size")
    tester.restart()
    assert isinstance(tester.match.grids["grid"], Grid)
    assert alice.act("go", 15.0, 5.0, False) == cells(*[(x + 1, y) for x, y in square])
    alice.act("away")
    assert not any("alice" in group for name, group in tester.match.tree.groups.items() if name.startswith("grid"))
    alice.act("go", 5.0, 5.0, False)
    alice.leave()
    assert not any(len(group) for name, group in tester.match.tree.groups.items() if name.startswith("grid"))

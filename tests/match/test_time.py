"""Ticks, timers, batches and the clock."""

from __future__ import annotations

from typing import Any

import pytest

from gameserver import Game, List, Player, Priority, StateError, action
from gameserver.errors import GameCodeError
from gameserver.match import Match, MatchLimits
from gameserver.testing import MatchTester
from tests.match.games import WALL, Boom, Harness


class Diary(Game):
    """Writes down what ran when."""

    lines: List[Any]
    last_timer: int = 0
    empty_seconds = None

    def note(self, what: str) -> None:
        self.lines.append([what, round(self.now, 6)])

    def ring(self, what: str, again_seconds: float = 0.0) -> None:
        self.note(what)
        if again_seconds:
            self.after(again_seconds, self.ring, what, again_seconds)

    def loop(self) -> None:
        self.note("loop")
        self.after(0, self.loop)

    def explode(self) -> None:
        self.note("never seen")
        raise Boom

    @action
    def act(self, player: Player, what: str) -> float:
        self.note(what)
        return self.now

    @action(priority=Priority.HIGH)
    def arm(self, player: Player, seconds: float, what: str, again_seconds: float = 0.0) -> int:
        self.last_timer = self.after(seconds, self.ring, what, again_seconds)
        return self.last_timer

    @action(priority=Priority.HIGH)
    def arm_method(self, player: Player, method: str) -> int:
        return self.after(0.1, getattr(self, method))

    @action(priority=Priority.HIGH)
    def disarm(self, player: Player, timer_id: int) -> bool:
        return self.cancel(timer_id)

    @action(priority=Priority.HIGH)
    def misuse(self, player: Player, how: str) -> None:
        match how:
            case "lambda":
                self.after(1, lambda: None)
            case "function":
                self.after(1, len)
            case "other":
                self.after(1, Diary().ring)
            case "player":
                self.after(1, self.ring, player)
            case "negative":
                self.after(-1, self.loop)
            case "nan":
                self.after(float("nan"), self.loop)
            case "text":
                self.after("1", self.loop)  # type: ignore[arg-type]


class Ticking(Diary):
    tick_hz = 20

    def on_tick(self, dt: float) -> None:
        assert dt == 0.05
        self.note("tick")


def lines(game: Any) -> list[Any]:
    return [list(line) for line in game.lines]


def test_ticks_come_at_fixed_times():
    tester = MatchTester(Ticking)
    tester.advance(0.21)
    assert lines(tester.game) == [["tick", 0.05], ["tick", 0.1], ["tick", 0.15], ["tick", 0.2]]
    assert tester.match.counts.ticks == 4


def test_a_late_wake_makes_up_for_a_few_ticks_and_skips_the_rest():
    tester = MatchTester(Ticking)
    tester.stall(0.12)
    assert lines(tester.game) == [["tick", 0.05], ["tick", 0.1]]
    tester.stall(10.0)
    assert lines(tester.game)[2:] == [["tick", t] for t in (9.9, 9.95, 10.0, 10.05, 10.1)]
    assert tester.match.counts.ticks_skipped == 195
    tester.advance(0.05)
    assert lines(tester.game)[-1] == ["tick", 10.15], "the rhythm is kept"


def test_actions_and_timers_come_before_the_tick_each_at_its_own_time():
    tester = MatchTester(Ticking)
    alice = tester.join("alice")
    alice.act("arm", 0.03, "timer")
    alice.act("arm", 0.02, "first timer")
    tester.now += 0.025
    alice.send("act", "action")
    tester.advance(0.03)
    assert lines(tester.game) == [
        ["first timer", 0.02],
        ["action", 0.025],
        ["timer", 0.03],
        ["tick", 0.05],
    ]
    tester.stall(0.045)  # the wake of 0.1 comes exactly in time
    tester.now += 0.02
    alice.send("act", "after the tick was due")
    tester.stall(0.0)
    assert lines(tester.game)[-1] == ["tick", 0.1], "what comes after a tick waits for the next"


def test_a_late_wake_shows_what_came_after_its_tick_was_due():
    """In order of time all the same: the tick first. Else an input would wait for the lateness and a tick."""
    tester = MatchTester(Ticking)
    alice = tester.join("alice")
    alice.act("arm", 0.06, "due before the wake")
    alice.act("arm", 0.09, "due after the wake")
    tester.now += 0.045
    alice.send("act", "before the tick")
    tester.now += 0.025
    alice.send("act", "after the tick was due")
    version = tester.match.version
    tester.stall(0.01)
    assert lines(tester.game) == [
        ["before the tick", 0.045],
        ["tick", 0.05],
        ["due before the wake", 0.06],
        ["after the tick was due", 0.07],
    ]
    assert tester.match.version == version + 1, "one commit of all of it"
    tester.advance(0.03)
    assert lines(tester.game)[4:] == [["due after the wake", 0.09], ["tick", 0.1]]


def test_without_ticks_actions_are_collected_and_timers_are_on_time():
    tester = MatchTester(Diary)
    alice = tester.join("alice")
    assert tester.match.next_wake(tester.now) is None
    alice.act("arm", 1.0, "timer")
    assert tester.match.next_wake(tester.now) == tester.now + 1.0
    alice.send("act", "one")
    tester.now += 0.01
    alice.send("act", "two")
    version = tester.match.version
    tester.advance(0.03)
    assert lines(tester.game) == []
    tester.advance(0.02)
    assert lines(tester.game) == [["one", 0.0], ["two", 0.01]]
    assert tester.match.version == version + 1, "one flush for both"
    tester.advance(1.0)
    assert lines(tester.game)[-1] == ["timer", 1.0]
    assert tester.match.next_wake(tester.now) is None


def test_timers_fire_in_the_order_they_are_due_and_repeat_without_drift():
    tester = MatchTester(Diary)
    alice = tester.join("alice")
    for seconds, what in ((0.3, "c"), (0.1, "a"), (0.2, "b"), (0.1, "a2")):
        alice.act("arm", seconds, what)
    alice.act("arm", 0.1, "again", 0.1)
    tester.stall(0.35)
    assert lines(tester.game) == [
        ["a", 0.1],
        ["a2", 0.1],
        ["again", 0.1],
        ["b", 0.2],
        ["again", 0.2],
        ["c", 0.3],
        ["again", 0.3],
    ]


def test_cancel():
    tester = MatchTester(Diary)
    alice = tester.join("alice")
    timer = alice.act("arm", 0.1, "x")
    assert alice.act("disarm", timer) is True
    assert alice.act("disarm", timer) is False
    assert alice.act("disarm", 0) is False
    tester.advance(1)
    assert lines(tester.game) == []


def test_a_timer_that_arms_itself_without_delay_does_not_hold_up_the_host():
    tester = MatchTester(Diary, limits=MatchLimits(timers_per_wake_max=100))
    tester.join("alice").act("arm_method", "loop")
    tester.stall(0.1)
    tester.stall(10.0)
    assert len(lines(tester.game)) == 101
    assert tester.match.next_wake(tester.now) <= tester.now, "the rest in the next wake"


def test_a_timer_that_fails_does_not_fire_again():
    tester = MatchTester(Diary, raise_failures=False)
    tester.join("alice").act("arm_method", "explode")
    tester.advance(5)
    assert [what for what, _error in tester.failures] == ["timer explode"]
    assert lines(tester.game) == []


@pytest.mark.parametrize("how", ["lambda", "function", "other", "player", "negative", "nan", "text"])
def test_misuse_of_after_is_told(how):
    alice = MatchTester(Diary).join("alice")
    with pytest.raises(GameCodeError) as caught:
        alice.act("misuse", how)
    assert isinstance(caught.value.__cause__, StateError)


def test_too_many_timers():
    tester = MatchTester(Diary, limits=MatchLimits(timers_max=2))
    alice = tester.join("alice")
    alice.act("arm", 1, "a")
    alice.act("arm", 1, "b")
    with pytest.raises(GameCodeError):
        alice.act("arm", 1, "c")


def test_match_time_never_goes_back_and_does_not_count_a_crash():
    harness = Harness(Diary)
    harness.join("ann")
    harness.advance(10)
    harness.now -= 5  # a host whose clock is wrong
    harness.send("s1", 1, "arm", [1, "x"])
    assert harness.match.game.now == 5.0, "nothing happened in the ten seconds, so nobody saw them"
    harness.now += 5
    harness.send("s1", 2, "arm", [1, "x"])
    assert harness.match.game.now == 10.0
    harness.now -= 5
    harness.send("s1", 3, "arm", [1, "x"])
    assert harness.match.game.now == 10.0
    harness.now += 5
    later = harness.restored(Diary, now=999_999.0)
    later.send("s1", 4, "arm", [1, "x"])
    assert later.match.game.now == 10.0


def test_match_time_does_count_hibernation():
    tester = MatchTester(Diary)
    alice = tester.join("alice")
    alice.act("arm", 60, "woken")
    tester.restart(idle_seconds=61)
    tester.advance(0)
    assert lines(tester.game) == [["woken", 60.0]]


def test_wall_time_is_the_hosts():
    tester = MatchTester(Diary)
    tester.advance(5)
    tester.match.wake(tester.now, WALL)
    assert tester.game.wall_time == WALL


def test_a_wake_too_early_does_nothing():
    match = Match.create(Diary, "m", seed=1, now=0.0, wall=WALL)
    match.take_output()
    match.wake(0.001, WALL)
    assert match.take_output() is None
    assert match.clock_us == 0


def test_odd_tick_rates_keep_their_rhythm():
    class Sixty(Diary):
        tick_hz = 60
        ticks: int = 0

        def on_tick(self, dt: float) -> None:
            self.ticks += 1

    tester = MatchTester(Sixty)
    tester.advance(10)
    assert tester.game.ticks == 600
    tester.stall(3600)
    assert tester.match.counts.ticks_skipped == 3600 * 60 - 5
    tester.restart()
    tester.advance(1)
    assert tester.game.ticks == 665


def test_a_class_with_another_tick_rate_goes_on():
    def diary(hz: int) -> type[Game]:
        return type("Diary", (Diary,), {"__module__": __name__, "tick_hz": hz, "on_tick": lambda self, dt: None})

    tester = MatchTester(diary(0))
    for hz in (20, 7, 0, 50):
        tester.advance(1.01)
        tester.restart(diary(hz))
    tester.advance(1)
    assert tester.match.counts.ticks == 50
    assert tester.match.counts.ticks_skipped == 0
    assert tester.game.now == 5.04

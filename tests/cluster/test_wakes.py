"""Alarms: one timer of the loop for all of them."""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from gameserver.cluster.wakes import SLOT_SECONDS, Alarm, Wakes


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Time that only `run` moves."""

    def __init__(self) -> None:
        self.time = 100.0
        self.spent = 0.0
        """What `perf` says."""
        self.timers: list[tuple[float, int, Handle, Callable[[], None]]] = []
        self.started = 0
        self._order = itertools.count()

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        handle = Handle()
        self.started += 1
        heapq.heappush(self.timers, (when, next(self._order), handle, callback))
        return handle

    def call_soon(self, callback: Callable[[], None]) -> Any:
        return self.call_at(self.time, callback)

    def run(self, until: float) -> None:
        while self.timers and self.timers[0][0] <= until:
            when, _, handle, callback = heapq.heappop(self.timers)
            if not handle.cancelled:
                self.time = max(self.time, when)
                callback()
        self.time = max(self.time, until)


    def step(self, early: float) -> None:
        """The next timer, so much before its time."""
        if not self.timers:
            self.time += 0.001
            return
        when, _, handle, callback = heapq.heappop(self.timers)
        if not handle.cancelled:
            self.time = max(self.time, when - early)
            callback()


class Bell:
    def __init__(self, clock: Clock, wakes: Wakes) -> None:
        self.rang: list[float] = []
        self._clock = clock
        self.alarm = Alarm(wakes, self.ring)

    def ring(self) -> None:
        self.rang.append(self._clock.now())

    def set(self, due: float) -> None:
        self.alarm.set(due, self._clock.now())


def bells(count: int) -> tuple[Clock, Wakes, list[Bell]]:
    clock = Clock()
    wakes = Wakes(clock, lambda: clock.spent)
    return clock, wakes, [Bell(clock, wakes) for _ in range(count)]


def test_it_rings_once_in_the_millisecond_that_it_was_set_for() -> None:
    clock, _, (bell,) = bells(1)
    bell.set(100.0507)
    clock.run(100.049)
    assert bell.rang == []
    assert bell.alarm.is_set()
    clock.run(101.0)
    assert bell.rang == [100.05]
    assert not bell.alarm.is_set()
    assert bell.alarm.at == 100.0507


def test_many_alarms_share_a_timer() -> None:
    clock, _, all_bells = bells(100)
    for bell in all_bells:
        bell.set(100.05)
    clock.run(101.0)
    assert all(bell.rang == [100.05] for bell in all_bells)
    assert clock.started == 1


def test_it_rings_for_the_last_setting_only() -> None:
    clock, _, (bell, other) = bells(2)
    other.set(100.5)
    bell.set(100.2)
    bell.set(100.1)
    bell.set(100.3)
    clock.run(101.0)
    assert bell.rang == [100.3]
    assert other.rang == [100.5]


def test_what_is_cleared_does_not_ring() -> None:
    clock, _, (bell, other) = bells(2)
    bell.set(100.1)
    other.set(100.1)
    bell.alarm.clear()
    clock.run(101.0)
    assert bell.rang == []
    assert other.rang == [100.1]


def test_one_that_fails_does_not_keep_the_others_from_ringing() -> None:
    clock, wakes, (bell, later) = bells(2)

    def fail() -> None:
        raise ZeroDivisionError

    Alarm(wakes, fail).set(100.1, 100.0)
    bell.set(100.1)
    later.set(100.2)
    clock.run(101.0)
    assert bell.rang == [100.1]
    assert later.rang == [100.2]


def test_what_is_set_while_others_ring_waits_for_another_turn_of_the_loop() -> None:
    clock, wakes, (bell,) = bells(1)
    turns: list[int] = []

    def ring() -> None:
        turns.append(clock.started)
        if len(turns) < 3:
            again.set(clock.now(), clock.now())

    again = Alarm(wakes, ring)
    again.set(100.1, 100.0)
    bell.set(100.1)
    clock.run(101.0)
    assert turns == [1, 2, 3]
    assert bell.rang == [100.1]


def test_one_that_clears_another_of_its_slot_is_obeyed() -> None:
    clock, wakes, (bell,) = bells(1)
    Alarm(wakes, lambda: bell.alarm.clear()).set(100.1, 100.0)
    bell.set(100.1)
    clock.run(101.0)
    assert bell.rang == []


def test_what_takes_long_lets_the_loop_turn_in_between() -> None:
    clock, wakes, _ = bells(0)
    rang: list[tuple[int, int]] = []

    def slow(number: int) -> None:
        rang.append((number, clock.started))
        clock.spent += 0.0006
        if number == 1:
            alarms[3].clear()
            alarms[4].set(100.3, clock.now())

    alarms = [Alarm(wakes, functools.partial(slow, number)) for number in range(6)]
    for alarm in alarms:
        alarm.set(100.1, 100.0)
    clock.run(101.0)
    assert rang == [(0, 1), (1, 1), (2, 3), (5, 3), (4, 4)]
    assert not any(alarm.is_set() for alarm in alarms)
    assert not wakes._slots


def test_what_waits_for_its_turn_rings_once_however_it_is_set_meanwhile() -> None:
    """Those that were due first go first, also before what became due while they waited."""
    clock, wakes, _ = bells(0)
    rang: list[int] = []

    def slow(number: int) -> None:
        rang.append(number)
        clock.spent += 0.002
        clock.time += 0.002
        if number == 0:
            alarms[2].set(100.1, clock.now())
            alarms[3].set(clock.now(), clock.now())
            alarms[5].set(100.101, clock.now())
            alarms[6].set(100.2, clock.now())

    alarms = [Alarm(wakes, functools.partial(slow, number)) for number in range(7)]
    for alarm in alarms[:5]:
        alarm.set(100.1, 100.0)
    clock.run(100.15)
    assert rang == [0, 1, 2, 3, 4, 5]
    assert not wakes._due
    clock.run(101.0)
    assert rang == [0, 1, 2, 3, 4, 5, 6]
    assert not wakes._slots


def test_those_that_wait_are_not_lost_when_their_timer_was_a_hair_early() -> None:
    clock, wakes, _ = bells(0)
    rang: list[int] = []

    def slow(number: int) -> None:
        rang.append(number)
        clock.spent += 0.002

    for number in range(4):
        Alarm(wakes, functools.partial(slow, number)).set(100.1, 100.0)
    ((_, _, _, timed),) = clock.timers
    clock.timers.clear()
    clock.time = 100.0995
    timed()
    clock.run(100.0996)
    assert rang == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(50))
def test_no_alarm_is_lost_and_none_rings_that_is_not_set(seed: int) -> None:
    """Whatever is set and cleared while others ring, however long that takes, with timers that are a hair early."""
    chance = random.Random(seed)
    clock, wakes, _ = bells(0)
    due: dict[int, float] = {}

    def ring(number: int) -> None:
        assert clock.now() >= due.pop(number) - 2 * SLOT_SECONDS
        clock.spent += chance.choice((0.0, 0.0004, 0.002))
        if clock.now() < 100.3:
            change(chance.randrange(20))

    def change(number: int) -> None:
        alarms[number].clear()
        due.pop(number, None)
        if chance.random() < 0.8:
            due[number] = clock.now() + chance.choice((-0.001, 0.0, 0.0005, 0.003, 0.05))
            alarms[number].set(due[number], clock.now())

    alarms = [Alarm(wakes, functools.partial(ring, number)) for number in range(20)]
    while clock.now() < 100.3:
        for _ in range(5):
            change(chance.randrange(20))
        clock.time += 0.0003
        clock.step(early=chance.random() * SLOT_SECONDS)
    for _ in range(1000):
        clock.time += 0.0003
        clock.step(early=chance.random() * SLOT_SECONDS)
    assert not due
    assert not any(alarm.is_set() for alarm in alarms)


def test_what_is_far_away_rings_before_to_be_set_again() -> None:
    """And however often it is put off, few slots are left behind."""
    clock, wakes, (bell,) = bells(1)
    for number in range(10_000):
        bell.set(190.0 + number / 1000)
    assert len(wakes._slots) <= 12
    bell.set(150.75)
    clock.run(150.5)
    assert bell.rang == [150.0]
    bell.set(150.75)
    clock.run(151.0)
    assert bell.rang == [150.0, 150.75]
    bell.set(1_000_000.0)
    assert bell.alarm.at <= 151.0 + 3600


class Urgent(Alarm):
    """Has something that cannot wait."""

    def __init__(self, wakes: Wakes, done: list[str], name: str) -> None:
        super().__init__(wakes, None)
        self._done = done
        self._name = name

    def rung(self) -> None:
        self._done.append(f"{self._name} rang")

    def hurried(self) -> None:
        self._done.append(self._name)
        if self._name == "bad":
            raise ZeroDivisionError


def test_what_is_urgent_is_done_together_and_then_carried_on() -> None:
    """In the turn of the loop in which it came, once; one that fails does not keep the others from it."""
    clock, wakes, _ = bells(0)
    done: list[str] = []
    wakes.after_hurry = lambda: done.append("carried on")
    for name in ("one", "bad", "two"):
        wakes.hurry(Urgent(wakes, done, name))
    assert not done
    assert clock.started == 1
    clock.run(100.0)
    assert done == ["one", "bad", "two", "carried on"]
    clock.run(101.0)
    assert len(done) == 4
    wakes.hurry(Urgent(wakes, done, "three"))
    clock.run(101.0)
    assert done[4:] == ["three", "carried on"]


def test_what_is_urgent_goes_before_what_rings() -> None:
    """Even before the loop comes to it; alarms wait until it has looked again at what has come in."""
    clock, wakes, _ = bells(0)
    done: list[str] = []
    wakes.after_hurry = lambda: done.append("carried on")
    later, urgent = Urgent(wakes, done, "later"), Urgent(wakes, done, "urgent")
    later.set(100.1, 100.0)
    clock.time = 100.2  # the timer is due, and stands before what is called soon
    wakes.hurry(urgent)
    started = clock.started
    clock.run(100.2)
    assert done == ["urgent", "carried on", "later rang"]
    assert clock.started == started + 2
    assert not wakes._slots


def test_what_fails_after_it_keeps_no_alarm_from_ringing() -> None:
    clock, wakes, (bell,) = bells(1)

    def fail() -> None:
        raise ZeroDivisionError

    wakes.after_hurry = fail
    bell.set(100.1)
    clock.time = 100.2
    wakes.hurry(Urgent(wakes, [], "urgent"))
    clock.run(100.3)
    assert bell.rang == [100.2]


def test_few_alarms_ring_at_a_time_while_things_are_urgent() -> None:
    clock, wakes, _ = bells(0)
    turns: list[int] = []

    def ring() -> None:
        turns.append(clock.started)
        clock.spent += 0.00015

    def ring_all(at: float) -> list[int]:
        turns.clear()
        for _ in range(4):
            Alarm(wakes, ring).set(at, clock.now())
        clock.run(at)
        return [turn - turns[0] for turn in turns]

    assert ring_all(100.1) == [0, 0, 0, 0]
    wakes.hurry(Urgent(wakes, [], "now"))
    assert ring_all(100.15) == [0, 2, 4, 6]
    assert ring_all(100.5) == [0, 0, 0, 0]


class Earlier(Alarm):
    """Has something that cannot wait, and sets another alarm then."""

    bell: Bell

    def hurried(self) -> None:
        self.bell.set(100.0)


@pytest.mark.parametrize("yielded", [False, True])
def test_there_is_one_timer_whatever_is_urgent(*, yielded: bool) -> None:
    """Even when a timer is a hair early, and what is urgent sets an alarm before the one that it was for."""
    clock, wakes, (bell, early, later) = bells(3)
    earlier = Earlier(wakes, None)
    earlier.bell = early
    bell.set(100.1)
    ((_, _, _, timed),) = clock.timers
    clock.timers.clear()
    later.set(150.0)
    clock.time = 100.0985
    wakes.hurry(earlier)
    if yielded:  # it comes while the loop looks at what has come in
        wakes._ring()
    else:
        timed()
    for step in range(20):
        clock.run(100.2 + step / 10)
        bell.set(100.25 + step / 10)
    assert len(bell.rang) == 20
    assert len([timer for timer in clock.timers if not timer[2].cancelled]) == 1

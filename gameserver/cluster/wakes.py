"""When the matches of a node wake: one timer of the event loop for all of them.

A timer of the loop costs more than what there is to do in a match that nobody is in, and every match that ticks wants
one many times a second. So time has slots of a millisecond, as fine as the loop's clock: alarms of one slot ring
together, at its beginning, and the loop has a timer for the first slot only. Slots far away are whole seconds: however
often an alarm is put off, there are not many slots that nobody waits for any more.

What is urgent has no alarm: it is done before the loop's turn is over, ahead of alarms that ring, and while such things
happen, few alarms ring before the loop looks again at what has come in (ADR 21).
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from gameserver.cluster.ports import Clock

log = structlog.get_logger("gameserver.cluster")

SLOT_SECONDS = 0.001
SLOTS_PER_SECOND = 1000
NEAR_SECONDS = 1.0  # what is further away rings on a whole second before it is due, to be set again
FAR_SECONDS = 3600.0  # and this soon at the latest
TURN_SECONDS = 0.001  # what rings for longer than this lets the loop see what has come in, and then goes on
URGENT_TURN_SECONDS = 0.0001  # the same while something was urgent a moment ago
URGENT_SECONDS = 0.1  # a moment
NO_SLOT = -1
NEVER = 2**62


class Alarm:
    """Rings at one moment at a time."""

    __slots__ = ("_ring", "_slot", "_wakes", "at")

    def __init__(self, wakes: Wakes, ring: Callable[[], None] | None) -> None:
        self.at = 0.0
        """What it rings for, or rang for last: it is early by less than a slot."""
        self._wakes = wakes
        self._ring = ring
        self._slot = NO_SLOT

    def is_set(self) -> bool:
        """Will it ring?"""
        return self._slot != NO_SLOT

    def set(self, due: float, now: float) -> None:
        """Ring then, or some time before if that is far away; and not when it was to ring until now."""
        self.clear()
        if due - now > NEAR_SECONDS:
            due = float(int(min(due, now + FAR_SECONDS)))
        self.at = due
        self._slot = int(due * SLOTS_PER_SECOND)
        self._wakes.add(self, self._slot)

    def clear(self) -> None:
        """Do not ring."""
        if self._slot != NO_SLOT:
            self._wakes.remove(self, self._slot)
            self._slot = NO_SLOT

    def ring(self, last: int) -> None:
        """The time of a slot that it was in has come, and of all to the last: it may have been set anew, or cleared."""
        if self._slot > last or self._slot == NO_SLOT:
            return
        self._slot = NO_SLOT
        try:
            self.rung()
        except Exception as failure:
            log.error("wake_failed", exc_info=failure)

    def rung(self) -> None:
        """What it is for."""
        if self._ring is not None:
            self._ring()

    def hurried(self) -> None:
        """What cannot wait for it: see `Wakes.hurry`."""


class Wakes:
    """All alarms of a node."""

    __slots__ = (
        "_clock", "_due", "_hurried", "_last", "_order", "_perf", "_slots", "_soon", "_timer", "_timer_slot",
        "_urgent_until", "after_hurry", "now", "started", "wall",
    )  # fmt: skip

    def __init__(self, clock: Clock, perf: Callable[[], float]) -> None:
        self.now = 0.0
        """When those that ring now began to ring, in monotonic seconds: read once for all of them."""
        self.wall = 0.0
        """The same in unix seconds."""
        self.started = 0.0
        """When the one that rings now began, by `perf`. One that looks at its end notes it here."""
        self._clock = clock
        self._perf = perf  # the loop's own clock stands still within a turn
        self._slots: dict[int, dict[Alarm, None]] = {}  # in order of setting
        self._order: list[int] = []  # the slots, as a heap
        self._due: list[Alarm] = []  # those of slots whose time has come, as far as they have not rung yet
        self._last = NO_SLOT  # of those slots the last one: a timer that is a hair early is for one that is to come
        self._timer: asyncio.Handle | None = None
        self._timer_slot = NEVER
        self._hurried: list[Alarm] = []
        self._soon: asyncio.Handle | None = None
        self._urgent_until = 0.0
        self.after_hurry: Callable[[], None] | None = None
        """Called when all that was urgent is done: carries on what came of it."""

    def add(self, alarm: Alarm, slot: int) -> None:
        """An alarm is in this slot."""
        alarms = self._slots.get(slot)
        if alarms is None:
            alarms = self._slots[slot] = {}
            heappush(self._order, slot)
        alarms[alarm] = None
        if slot < self._timer_slot:
            self._start_timer(slot)

    def remove(self, alarm: Alarm, slot: int) -> None:
        """An alarm is not in this slot any more, if the slot's time has not come anyway."""
        alarms = self._slots.get(slot)
        if alarms is not None:
            alarms.pop(alarm, None)

    def hurry(self, alarm: Alarm) -> None:
        """Have its `hurried` called once this turn of the loop has seen what came in."""
        self._hurried.append(alarm)
        if self._soon is None:
            self._soon = self._clock.call_soon(self._called)

    def _called(self) -> None:
        self._soon = None
        self._do_urgent()

    def _do_urgent(self) -> bool:
        """Whether there was anything."""
        if not self._hurried:
            return False
        hurried, self._hurried = self._hurried, []
        for alarm in hurried:
            try:
                alarm.hurried()
            except Exception as failure:
                log.error("hurry_failed", exc_info=failure)
        self._urgent_until = self._clock.now() + URGENT_SECONDS
        if self.after_hurry is not None:
            try:
                self.after_hurry()
            except Exception as failure:
                log.error("hurry_failed", exc_info=failure)
        return True

    def _start_timer(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_slot = slot
        self._timer = self._clock.call_at(slot / SLOTS_PER_SECOND, self._timed)

    def _timed(self) -> None:
        # uvloop writes to the store when its timers and what was called soon are through: alarms would be in the way.
        if self._do_urgent():
            self._let_in()
        else:
            self._ring()

    def _let_in(self) -> None:
        """Ring when the loop has seen what has come in: what a timer calls soon may be called before that."""
        if self._timer is not None:  # what was urgent may have started one
            self._timer.cancel()
        self._timer = self._clock.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._timer = self._clock.call_soon(self._ring)

    def _ring(self) -> None:
        """Ring what is due. What is set meanwhile, however early, has to wait for another turn of the loop.

        So has what is still to ring when this has taken long enough.
        """
        if self._do_urgent() and self._timer is not None:  # see `_let_in`
            self._timer.cancel()
        self.now, self.wall = self._clock.now(), self._clock.wall()
        last = self._last = max(self._last, self._timer_slot, int(self.now * SLOTS_PER_SECOND))
        self._timer, self._timer_slot = None, NO_SLOT  # no slot comes before this one: no timer is started
        due, order = self._due, self._order
        while order and order[0] <= last:
            due.extend(self._slots.pop(heappop(order)))
        self.started = self._perf()
        rung, until = 0, self.started + (URGENT_TURN_SECONDS if self.now < self._urgent_until else TURN_SECONDS)
        try:
            for alarm in due:
                began = self.started
                rung += 1
                alarm.ring(last)
                if self.started == began:
                    self.started = self._perf()
                if self.started > until:
                    break
        finally:
            del due[:rung]
            if due:
                self._let_in()  # what is set meanwhile needs no timer
            else:
                self._timer_slot = NEVER
                if order:
                    self._start_timer(order[0])

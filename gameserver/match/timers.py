"""Timers as state: a method's name, plain arguments, and when it is due in microseconds of match time."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NEVER: Final = 2**62
"""Later than any due time."""


@dataclass(frozen=True, slots=True)
class Timer:
    """One pending call."""

    due_us: int
    id: int
    method: str
    args: tuple[Any, ...]


class Timers:
    """Pending timers in order of (due, id). `record` takes the inverse of each change for the running transaction."""

    __slots__ = ("_added", "_pending", "_record", "_removed", "_told_id", "heap", "next_id")

    def __init__(self, record: Callable[[Callable[[], None]], None]) -> None:
        self._record = record
        self._pending: dict[int, Timer] = {}
        self.heap: list[tuple[int, int]] = []
        """When each is due, and its id. Empty: there are none. Entries of timers that are gone stay until they come
        up: cancelling is then O(1)."""
        self.next_id = 1
        # Since `take_changes` was last called. What was undone, or came and went, is in neither.
        self._added: set[int] = set()
        self._removed: set[int] = set()
        self._told_id = 1

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, due_us: int, method: str, args: tuple[Any, ...]) -> int:
        """A new timer's id. Part of the running transaction."""
        timer = Timer(due_us, self.next_id, method, args)
        self.next_id += 1
        self._put(timer)
        self._record(lambda: self._take_back(timer.id))
        return timer.id

    def _take_back(self, timer_id: int) -> None:
        self._drop(timer_id)
        self.next_id = timer_id

    def cancel(self, timer_id: int) -> bool:
        """Whether there was such a timer. Part of the running transaction."""
        timer = self._pending.get(timer_id)
        if timer is None:
            return False
        self._drop(timer_id)
        self._record(lambda: self._put(timer))
        return True

    def next_due_us(self) -> int:
        """When the next one is due (`NEVER` if there is none)."""
        heap, pending = self.heap, self._pending
        while heap:
            due_us, timer_id = heap[0]
            timer = pending.get(timer_id)
            if timer is not None and timer.due_us == due_us:
                return due_us
            heappop(heap)
        return NEVER

    def pop(self) -> Timer:
        """Take the next one out, for good: a timer that fails does not fire again. Not part of a transaction."""
        self.next_due_us()
        timer = self._pending[heappop(self.heap)[1]]
        self._drop(timer.id)
        return timer

    def clear(self) -> None:
        """Drop all. Not part of a transaction."""
        for timer_id in list(self._pending):
            self._drop(timer_id)
        self.heap.clear()

    def take_changes(self) -> list[Any] | None:
        """`[added rows, removed ids, next id]` since the last call; None if nothing changed."""
        if not self._added and not self._removed and self.next_id == self._told_id:
            return None
        changes = [self.dump(sorted(self._added)), sorted(self._removed), self.next_id]
        self._told_id = self.next_id
        self._added, self._removed = set(), set()
        return changes

    def apply_changes(self, changes: list[Any]) -> None:
        """Repeats what `take_changes` told."""
        added, removed, self.next_id = changes
        for timer_id in removed:
            self._drop(timer_id)
        for due_us, timer_id, method, args in added:
            self._put(Timer(due_us, timer_id, method, tuple(args)))

    def dump(self, ids: Iterable[int] | None = None) -> list[Any]:
        """All of them, or those of these ids, in the order they will fire."""
        wanted = self._pending.values() if ids is None else [self._pending[timer_id] for timer_id in ids]
        ordered = sorted(wanted, key=lambda timer: (timer.due_us, timer.id))
        return [[timer.due_us, timer.id, timer.method, list(timer.args)] for timer in ordered]

    def load(self, dumped: list[Any], next_id: int) -> None:
        """The inverse of `dump`."""
        self.next_id = next_id
        self._pending = {row[1]: Timer(row[0], row[1], row[2], tuple(row[3])) for row in dumped}
        self.heap = [(row[0], row[1]) for row in dumped]
        heapify(self.heap)

    def _put(self, timer: Timer) -> None:
        self._pending[timer.id] = timer
        if timer.id in self._removed:
            self._removed.discard(timer.id)
        else:
            self._added.add(timer.id)
        heappush(self.heap, (timer.due_us, timer.id))

    def _drop(self, timer_id: int) -> None:
        if self._pending.pop(timer_id, None) is None:
            return
        if timer_id in self._added:
            self._added.discard(timer_id)
        else:
            self._removed.add(timer_id)

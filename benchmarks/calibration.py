"""How fast this machine runs Python right now: every figure is also given as a ratio to this loop.

The loop does what the server does, in miniature: attribute writes, dict and list work, method calls, small encodes.
It is run before and after each group of cases; when the two differ by much, something else was using the machine.
"""

from __future__ import annotations

import time
from statistics import median

import msgpack

ROUNDS = 15
STEPS = 4000


class _Point:
    __slots__ = ("x", "y")

    def __init__(self) -> None:
        self.x = self.y = 0.0

    def move(self, dx: float, dy: float) -> None:
        self.x += dx
        self.y += dy


def _loop() -> int:
    points = [_Point() for _ in range(50)]
    changed: dict[int, tuple[float, float]] = {}
    size = 0
    for step in range(STEPS):
        number = step % 50
        point = points[number]
        point.move(0.5, -0.5)
        changed[number] = (point.x, point.y)
        if number == 49:
            size += len(msgpack.packb([[key, *value] for key, value in changed.items()]))
            changed.clear()
    return size


def calibrate() -> float:
    """CPU nanoseconds per step of the loop: the median of several rounds, so that one disturbance does not count."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        _loop()
        rounds.append((time.process_time_ns() - started) / STEPS)
    return median(rounds)

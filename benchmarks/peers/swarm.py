"""The game of the Python peers: bodies that move every tick. The rules of `benchmarks/games.py`, without tracking."""

from __future__ import annotations

import random
from typing import Any

SIZE = 1000.0
SPEED = 5.0
TICK_SECONDS = 0.05


class Body:
    """One player."""

    __slots__ = ("dx", "dy", "mark", "x", "y")

    def __init__(self) -> None:
        self.x = random.random() * SIZE
        self.y = random.random() * SIZE
        self.dx, self.dy, self.mark = 1.0, 0.5, 0

    def steer(self, dx: float, dy: float, mark: int) -> None:
        """Apply one input."""
        self.dx, self.dy, self.mark = float(dx), float(dy), int(mark)


class Room:
    """Players of one room: whatever the server uses as a connection, and its body."""

    def __init__(self) -> None:
        self.bodies: dict[Any, Body] = {}
        self.tick = 0

    def move(self) -> None:
        """One tick."""
        self.tick += 1
        for body in self.bodies.values():
            body.x = (body.x + body.dx * SPEED * TICK_SECONDS) % SIZE
            body.y = (body.y + body.dy * SPEED * TICK_SECONDS) % SIZE

    def state(self) -> list[Any]:
        """The frame: hundredths as integers, like a quantized field."""
        bodies = [[round(body.x * 100), round(body.y * 100), body.mark] for body in self.bodies.values()]
        return [0, self.tick, bodies]


def is_still(name: str) -> bool:
    """Rooms in which nothing happens have this name."""
    return name.startswith("/lounge")

"""The game that is measured: every player moves every tick, and says ten times a second where to.

    gameserver run benchmarks/games.py
"""

from __future__ import annotations

from gameserver import Entity, Game, Map, Player, Priority, action, quantized, server_only

SIZE = 1000.0
SPEED = 5.0


class Body(Entity):
    """One player: two numbers that change every tick, and the mark of the last input that was applied."""

    x: float = quantized(0.0, step=0.01)
    y: float = quantized(0.0, step=0.01)
    mark: int = 0
    dx: float = server_only(1.0)
    dy: float = server_only(0.5)


class Swarm(Game):
    """Rooms of ten."""

    tick_hz = 20
    players_max = 10
    bodies: Map[str, Body]

    def on_join(self, player: Player) -> None:
        self.bodies[player.id] = Body(x=self.random.random() * SIZE, y=self.random.random() * SIZE)

    def on_leave(self, player: Player, reason: str) -> None:
        del self.bodies[player.id]

    @action
    def steer(self, player: Player, dx: float, dy: float, mark: int) -> None:
        """Change direction; `mark` comes back in the state, so that a client can tell when it did."""
        body = self.bodies[player.id]
        body.dx, body.dy, body.mark = dx, dy, mark

    @action(priority=Priority.HIGH)
    def shout(self, player: Player, mark: int) -> None:
        """An event to all at once."""
        self.emit("shout", mark, priority=Priority.HIGH)

    @action
    def say(self, player: Player, mark: int) -> None:
        """An event to all that may wait for the next frame."""
        self.emit("say", mark)

    def on_tick(self, dt: float) -> None:
        for body in self.bodies.values():
            body.x = (body.x + body.dx * SPEED * dt) % SIZE
            body.y = (body.y + body.dy * SPEED * dt) % SIZE


class Swarm50(Swarm):
    """Rooms of fifty."""

    players_max = 50


class Swarm500(Swarm):
    """Rooms of five hundred."""

    players_max = 500


class SwarmUngated(Swarm):
    """Rooms of ten without a journal, so that nothing waits for it."""

    durability = "snapshot"


class Deserted(Swarm):
    """Ticks with nobody in it, and does not end."""

    empty_seconds = None


class Lounge(Game):
    """Rooms of ten in which nothing happens: each player has a body, and it stands."""

    players_max = 10
    bodies: Map[str, Body]

    def on_join(self, player: Player) -> None:
        self.bodies[player.id] = Body()

    def on_leave(self, player: Player, reason: str) -> None:
        del self.bodies[player.id]


class Still(Game):
    """A match in which nothing happens and nothing ticks."""

    empty_seconds = None
    clicks: int = 0

    @action
    def click(self, player: Player) -> int:
        """The only thing to do."""
        self.clicks += 1
        return self.clicks


class Unit(Entity):
    """One of a hundred: six fields, of which two change now and then."""

    x: float = quantized(0.0, step=0.01)
    y: float = quantized(0.0, step=0.01)
    heading: float = 0.0
    hp: int = 100
    score: int = 0
    name: str = ""


class World(Game):
    """A hundred units, ten of which move in each tick, each in its turn."""

    tick_hz = 20
    players_max = 10
    units: Map[str, Unit]
    turn: int = server_only(0)

    def on_create(self, options: dict[str, object]) -> None:
        for number in range(100):
            spot = self.random.random() * SIZE
            self.units[f"u{number}"] = Unit(x=spot, y=SIZE - spot, name=f"unit {number}")

    def on_tick(self, dt: float) -> None:
        for number in range(self.turn, 100, 10):
            unit = self.units[f"u{number}"]
            unit.x = (unit.x + SPEED * dt) % SIZE
            unit.y = (unit.y + SPEED * dt) % SIZE
        self.turn = (self.turn + 1) % 10


class Busy(Game):
    """One number changes in each tick, whether anybody looks or not."""

    tick_hz = 20
    empty_seconds = None
    count: int = 0

    def on_tick(self, dt: float) -> None:
        self.count += 1


class BusyUnjournaled(Busy):
    """The same without a journal."""

    durability = "snapshot"


GAMES = [
    Swarm, Swarm50, Swarm500, SwarmUngated, Deserted, Lounge, Still, World, Busy, BusyUnjournaled,
]  # fmt: skip

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


class Still(Game):
    """A match in which nothing happens and nothing ticks."""

    empty_seconds = None
    clicks: int = 0

    @action
    def click(self, player: Player) -> int:
        """The only thing to do."""
        self.clicks += 1
        return self.clicks


GAMES = [Swarm, Swarm50, Swarm500, Still]

"""Arena: ships in a square, twenty ticks a second.

What to learn here: a `Map` of entities, numbers that are sent as small integers (`quantized`), a field that only its
owner receives (`owner_only`), fields that never leave the server (`server_only`), a HIGH action whose result and
event leave at once, and timers (`after`) that survive a restart because they are part of the state.
"""

from __future__ import annotations

import math
from typing import Any

from gameserver import ActionRefused, Entity, Game, Map, Player, Priority, action, owner_only, quantized, server_only

SPEED = 12.0  # units a second at full throttle
RANGE = 40.0
DAMAGE = 25
HP_MAX = 100
AMMO_MAX = 10
RELOAD_SECONDS = 1.0
RESPAWN_SECONDS = 3.0


class Ship(Entity):
    """One player's ship."""

    name: str = ""
    x: float = quantized(0.0, step=0.01)
    y: float = quantized(0.0, step=0.01)
    hp: int = HP_MAX
    alive: bool = True
    kills: int = 0
    ammo: int = owner_only(AMMO_MAX)
    dx: float = server_only(0.0)
    dy: float = server_only(0.0)


class Arena(Game):
    """Steer, and fire at whoever is in range; a destroyed ship comes back after three seconds."""

    tick_hz = 20
    players_max = 50

    size: float = 100.0
    ships: Map[str, Ship]

    def on_create(self, options: dict[str, Any]) -> None:
        self.size = min(1000.0, max(10.0, float(options.get("size", 100.0))))

    def on_join(self, player: Player) -> None:
        ship = Ship(owner=player, name=player.name)
        self.ships[player.id] = ship
        self.place_somewhere(ship)

    def on_leave(self, player: Player, reason: str) -> None:
        del self.ships[player.id]

    @action
    def steer(self, player: Player, dx: float, dy: float) -> None:
        """Set the direction to move in; longer than 1 counts as 1."""
        ship, length = self.ships[player.id], max(1.0, math.hypot(dx, dy))
        ship.dx, ship.dy = dx / length, dy / length

    @action(priority=Priority.HIGH, rate="10/s")
    def fire(self, player: Player, target: str) -> bool:
        """Fire at a player's ship: True when it is hit."""
        ship, victim = self.ships[player.id], self.ships.get(target)
        if not ship.alive:
            raise ActionRefused("your ship is destroyed: wait for the new one")
        if ship.ammo == 0:
            raise ActionRefused("out of ammunition")
        if ship.ammo == AMMO_MAX:  # else the next round is already on its way
            self.after(RELOAD_SECONDS, self.reload, player.id)
        ship.ammo -= 1
        if victim is None or victim is ship or not victim.alive:
            return False
        if math.hypot(victim.x - ship.x, victim.y - ship.y) > RANGE:
            return False
        victim.hp = max(0, victim.hp - DAMAGE)
        self.emit("hit", {"by": player.id, "target": target, "hp": victim.hp}, priority=Priority.HIGH)
        if victim.hp == 0:
            ship.kills += 1
            victim.alive = False
            victim.dx = victim.dy = 0.0
            self.emit("destroyed", {"by": player.id, "target": target}, priority=Priority.HIGH)
            self.after(RESPAWN_SECONDS, self.respawn, target)
        return True

    def on_tick(self, dt: float) -> None:
        for ship in self.ships.values():
            if ship.dx or ship.dy:  # what is not written costs nothing
                ship.x = min(self.size, max(0.0, ship.x + ship.dx * SPEED * dt))
                ship.y = min(self.size, max(0.0, ship.y + ship.dy * SPEED * dt))

    def reload(self, player_id: str) -> None:
        """One more round, until the magazine is full; a timer's player may have left meanwhile."""
        ship = self.ships.get(player_id)
        if ship is None or ship.ammo >= AMMO_MAX:
            return
        ship.ammo += 1
        if ship.ammo < AMMO_MAX:
            self.after(RELOAD_SECONDS, self.reload, player_id)

    def respawn(self, player_id: str) -> None:
        """Bring a destroyed ship back with full hit points."""
        ship = self.ships.get(player_id)
        if ship is None or ship.alive:
            return
        ship.hp, ship.alive = HP_MAX, True
        self.place_somewhere(ship)
        self.emit("respawned", {"player": player_id}, priority=Priority.LOW)

    def place_somewhere(self, ship: Ship) -> None:
        """`self.random` is part of the state: a restart does not change what comes next."""
        ship.x = self.random.uniform(0.0, self.size)
        ship.y = self.random.uniform(0.0, self.size)

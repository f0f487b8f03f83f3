"""The game of these tests: each action leaves its number in the state, so that what is lost or there twice shows.

Nodes load this file by its path (`gameserver run …/ledger.py`).
"""

from __future__ import annotations

from gameserver import Entity, Game, List, Map, Player, Priority, action, owner_only


class Bag(Entity):
    """What a player did since the last reckoning, and a sum that only they may see."""

    rows: List[int]
    sum: int = owner_only(0)


class Book(Game):
    """One bag per player. It ticks, so that a client sees when the match stands still."""

    tick_hz = 10
    players_max = 200
    empty_seconds = None
    seat_hold_seconds = 3600

    bags: Map[str, Bag]
    puts: int = 0
    ticks: int = 0
    leaves: int = 0
    still: bool = False

    def on_join(self, player: Player) -> None:
        self.bags[player.id] = Bag(owner=player, rows=[])

    def on_leave(self, player: Player, reason: str) -> None:
        self.leaves += 1

    def on_tick(self, dt: float) -> None:
        if not self.still:
            self.ticks += 1

    @action
    def put(self, player: Player, number: int) -> int:
        bag = self.bags[player.id]
        bag.rows.append(number)
        bag.sum += number
        self.puts += 1
        return number

    @action(priority=Priority.HIGH)
    def shout(self, player: Player, number: int) -> int:
        self.put(player, number)
        self.emit("shout", [player.id, number], priority=Priority.HIGH)
        self.record("shout", {"player": player.id, "number": number})
        return number

    @action(priority=Priority.HIGH)
    def hold_still(self, player: Player, still: bool) -> None:
        """Ticks change nothing: every mirror can be compared at the same version."""
        self.still = still

    @action(priority=Priority.HIGH)
    def begin_anew(self, player: Player) -> None:
        """The rows so far are reckoned with: the state stays small."""
        self.bags[player.id].rows.clear()


class Ledger(Book):
    """With what games have by default: patches do not wait for the journal."""

    durability = "async"


class StrictLedger(Book):
    """Every output waits for the journal."""

    durability = "strict"

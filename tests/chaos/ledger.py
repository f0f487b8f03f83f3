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
    seats: Map[str, bool]
    """Is the player connected? As the hooks told it."""
    leaves: Map[str, str]
    """Why seats were given up since the last reckoning."""
    puts: int = 0
    ticks: int = 0
    still: bool = False

    def on_join(self, player: Player) -> None:
        if player.id not in self.bags:
            self.bags[player.id] = Bag(owner=player, rows=[])
        self.seats[player.id] = True

    def on_disconnect(self, player: Player) -> None:
        self.seats[player.id] = False

    def on_reconnect(self, player: Player) -> None:
        self.seats[player.id] = True

    def on_leave(self, player: Player, reason: str) -> None:
        del self.seats[player.id]
        if reason != "refused":  # a join that came late, after its player had turned away
            self.leaves[player.id] = reason

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
    def roll(self, player: Player) -> dict[str, bool]:
        """Who has a seat and who of them is connected, as the server has it."""
        return {one.id: one.connected for one in self.players.values()}

    @action(priority=Priority.HIGH)
    def begin_anew(self, player: Player) -> None:
        """The rows so far are reckoned with: the state stays small."""
        for id, bag in list(self.bags.items()):
            if id in self.players:
                bag.rows.clear()
            else:
                del self.bags[id]
        self.leaves.clear()


class Ledger(Book):
    """With what games have by default: patches do not wait for the journal."""

    durability = "async"


class StrictLedger(Book):
    """Every output waits for the journal."""

    durability = "strict"

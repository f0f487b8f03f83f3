"""Battleship: two players, hidden boards, a clock on every turn.

What to learn here: a game without ticks, a part of the state that only one player may see (`audience`), showing it to
everyone later by changing its audience, a turn timer that is still pending after a restart, refusing an action with a
reason, and a record of the result that outlives the match.
"""

from __future__ import annotations

from typing import Any, Literal

from gameserver import ActionRefused, Entity, Game, List, Map, Player, Priority, action, server_only

SIZE = 10
FLEET = (2, 3, 3, 4, 5)
CELLS = frozenset(f"{column}{row}" for column in "ABCDEFGHIJ" for row in range(1, SIZE + 1))
NAME_LENGTH_MAX = 24
MISSED_TURNS_MAX = 3


class Ship(Entity):
    """Some cells in a row, and a name its captain chose."""

    name: str = ""
    cells: List[str]


class Fleet(Entity):
    """A player's ships: given an audience, nobody else receives any of it."""

    ships: List[Ship]


class Board(Entity):
    """What both players see of one side, and the fleet that only its captain sees."""

    ready: bool = False
    shots: Map[str, str]  # cell -> "miss", "hit" or "sunk"
    sunk: List[str]  # names of ships that went down
    afloat: int = len(FLEET)
    missed_turns: int = 0
    fleet: Fleet | None = None


class Battleship(Game):
    """Place five ships, then shoot in turns; who misses three turns in a row, or leaves, loses."""

    players_max = 2
    batch_ms = 0  # nothing to batch in a game of turns
    empty_seconds = 600

    phase: Literal["placing", "playing", "over"] = "placing"
    turn: str = ""
    turn_ends_at: float = 0.0  # in seconds of match time
    winner: str = ""
    boards: Map[str, Board]
    turn_seconds: float = 30.0
    turn_timer: int = server_only(0)

    def on_create(self, options: dict[str, Any]) -> None:
        self.turn_seconds = min(3600.0, max(0.5, float(options.get("turn_seconds", 30.0))))

    def on_join(self, player: Player) -> None:
        self.boards[player.id] = Board(fleet=Fleet(audience=f"player:{player.id}"))

    def on_leave(self, player: Player, reason: str) -> None:
        if self.phase == "placing":
            del self.boards[player.id]
        elif self.phase == "playing":
            self.win(self.opponent(player.id), "left")

    @action(priority=Priority.HIGH)
    def place(self, player: Player, ships: dict[str, list[str]]) -> None:
        """Place the whole fleet: {"Bounty": ["A1", "A2"], …}, one ship for each length in FLEET."""
        board = self.boards[player.id]
        if self.phase != "placing" or board.fleet is None:
            raise ActionRefused("ships are placed before the first shot")
        check_fleet(ships)
        board.fleet.ships = List(Ship(name=name, cells=List(cells)) for name, cells in ships.items())
        board.ready = True
        if len(self.boards) == self.players_max and all(board.ready for board in self.boards.values()):
            self.phase = "playing"
            self.start_turn(self.random.choice(list(self.boards)))

    @action(priority=Priority.HIGH)
    def shoot(self, player: Player, cell: str) -> str:
        """Shoot at the opponent's board: "miss", "hit", "sunk" or "won"; a hit earns another shot."""
        if self.phase != "playing":
            raise ActionRefused("there is nothing to shoot at yet" if self.phase == "placing" else "the game is over")
        if self.turn != player.id:
            raise ActionRefused("it is not your turn")
        opponent = self.opponent(player.id)
        board = self.boards[opponent]
        if cell not in CELLS or cell in board.shots:
            raise ActionRefused(f"{cell!r} is not a cell you can shoot at")
        self.boards[player.id].missed_turns = 0
        result = self.land_shot(board, cell)
        self.emit("shot", {"by": player.id, "cell": cell, "result": result}, priority=Priority.HIGH)
        if board.afloat == 0:
            self.win(player.id, "sank the fleet")
            return "won"
        self.start_turn(opponent if result == "miss" else player.id)
        return result

    def land_shot(self, board: Board, cell: str) -> str:
        ships = board.fleet.ships if board.fleet is not None else []
        ship = next((ship for ship in ships if cell in ship.cells), None)
        if ship is None:
            board.shots[cell] = "miss"
            return "miss"
        board.shots[cell] = "hit"
        if not all(part in board.shots for part in ship.cells):
            return "hit"
        for part in ship.cells:
            board.shots[part] = "sunk"
        board.sunk.append(ship.name)
        board.afloat -= 1
        return "sunk"

    def start_turn(self, player_id: str) -> None:
        """Give the turn to a player and start the clock; the timer is state and survives a restart."""
        self.cancel(self.turn_timer)
        self.turn = player_id
        self.turn_ends_at = self.now + self.turn_seconds
        self.turn_timer = self.after(self.turn_seconds, self.turn_over)

    def turn_over(self) -> None:
        """The clock ran out: the turn goes to the opponent, three times in a row and the game does."""
        late, opponent = self.turn, self.opponent(self.turn)
        self.boards[late].missed_turns += 1
        self.emit("turn_missed", {"player": late})
        if self.boards[late].missed_turns >= MISSED_TURNS_MAX:
            self.win(opponent, "the opponent fell asleep")
        else:
            self.start_turn(opponent)

    def win(self, player_id: str, how: str) -> None:
        """End the game, and show both fleets to everyone."""
        self.cancel(self.turn_timer)
        self.phase, self.turn, self.winner = "over", "", player_id
        for board in self.boards.values():
            if board.fleet is not None:
                board.fleet.audience = None
        self.emit("game_over", {"winner": player_id, "how": how}, priority=Priority.HIGH)
        self.record("result", {"winner": player_id, "players": list(self.boards), "how": how}, priority=Priority.HIGH)
        self.end("won")

    def opponent(self, player_id: str) -> str:
        return next(other for other in self.boards if other != player_id)


def check_fleet(ships: dict[str, list[str]]) -> None:
    """Refuse a fleet that breaks the rules, and say which one."""
    if tuple(sorted(len(cells) for cells in ships.values())) != FLEET:
        raise ActionRefused(f"a fleet is one ship for each of these lengths: {FLEET}")
    if not all(0 < len(name) <= NAME_LENGTH_MAX for name in ships):
        raise ActionRefused(f"a ship's name has 1 to {NAME_LENGTH_MAX} characters")
    for name, cells in ships.items():
        if not CELLS.issuperset(cells) or not in_a_row(cells):
            raise ActionRefused(f"the cells of {name!r} must be side by side on the board")
    if len({cell for cells in ships.values() for cell in cells}) != sum(FLEET):
        raise ActionRefused("two ships share a cell")


def in_a_row(cells: list[str]) -> bool:
    """Are these cells one straight line without a hole?"""
    columns = sorted(ord(cell[0]) for cell in cells)
    rows = sorted(int(cell[1:]) for cell in cells)
    length = len(cells)
    if len(set(columns)) == 1:
        return rows == list(range(rows[0], rows[0] + length))
    return len(set(rows)) == 1 and columns == list(range(columns[0], columns[0] + length))

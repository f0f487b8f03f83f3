"""Games for the tests of the edges: each shows one thing."""

from __future__ import annotations

from typing import Any

from gameserver import ActionRefused, Entity, Game, Map, Player, Priority, action, owner_only, server_only


class Piece(Entity):
    x: int = 0
    secret: str = owner_only("")
    hidden: str = server_only("NEVER-ON-THE-WIRE")


class Board(Game):
    """Without ticks: NORMAL actions are collected for 20 ms."""

    batch_ms = 20
    players_max = 3
    seat_hold_seconds = 5

    pieces: Map[str, Piece]
    rung: int = 0
    due: bool = False

    def on_create(self, options: dict[str, Any]) -> None:
        if options.get("fail"):
            raise RuntimeError("a game that cannot be made")

    def can_join(self, user: Any) -> bool | str:
        return "you are not welcome" if user.name == "Unwelcome" else True

    def on_join(self, player: Player) -> None:
        self.pieces[player.id] = Piece(owner=player, secret=f"secret-of-{player.id}")

    def on_leave(self, player: Player, reason: str) -> None:
        del self.pieces[player.id]

    @action
    def move(self, player: Player, dx: int) -> int:
        self.pieces[player.id].x += dx
        return self.pieces[player.id].x

    @action(priority=Priority.HIGH)
    def hide(self, player: Player, text: str) -> None:
        self.pieces[player.id].secret = text

    @action(priority=Priority.HIGH)
    def ring(self, player: Player, times: int = 1) -> int:
        for _ in range(times):
            self.rung += 1
            self.emit("ring", {"by": player.id, "n": self.rung}, priority=Priority.HIGH)
        return self.rung

    @action(priority=Priority.HIGH)
    def whisper(self, player: Player, to: str, text: str) -> None:
        self.emit("whisper", text, to=self.players[to], priority=Priority.HIGH)

    @action(priority=Priority.HIGH)
    def boom(self, player: Player) -> None:
        self.rung = 999_999
        raise RuntimeError("SECRET-DETAIL of the author's code")

    @action(priority=Priority.HIGH)
    def no(self, player: Player) -> None:
        raise ActionRefused("no means no")

    @action(priority=Priority.HIGH)
    def note(self, player: Player, text: str) -> None:
        self.record("note", {"text": text, "by": player.id}, priority=Priority.HIGH)

    @action(priority=Priority.HIGH)
    def later(self, player: Player, seconds: float) -> None:
        self.after(seconds, self.ring_the_bell)

    def ring_the_bell(self) -> None:
        self.due = True

    @action(priority=Priority.HIGH)
    def finish(self, player: Player) -> None:
        self.set_summary(winner=player.id)
        self.end("won")


class Flood(Game):
    """Ticks at 50 Hz and sends much: for clients that do not read."""

    tick_hz = 50
    players_max = 200

    blob: str = ""
    count: int = 0

    @action(priority=Priority.HIGH)
    def ping(self, player: Player) -> int:
        self.emit("pong", self.count, priority=Priority.HIGH)
        return self.count

    def on_tick(self, dt: float) -> None:
        self.count += 1
        self.blob = f"{self.count:08d}" * 16_000  # 128 kB in each tick
        self.emit("normal", self.count)
        self.emit("low", self.count, priority=Priority.LOW)


class Walk(Game):
    """Ticks at 20 Hz and moves."""

    tick_hz = 20
    empty_seconds = None
    seat_hold_seconds = 60

    steps: int = 0
    who: Map[str, int]

    def on_join(self, player: Player) -> None:
        self.who.setdefault(player.id, 0)

    @action
    def steer(self, player: Player, value: int) -> None:
        self.who[player.id] = value

    def on_tick(self, dt: float) -> None:
        if len(self.players):
            self.steps += 1


GAMES = [Board, Flood, Walk]

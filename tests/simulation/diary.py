"""A game in which everything that was done is written down: what is missing, there twice or seen by others shows."""

from __future__ import annotations

from gameserver import Entity, Game, List, Map, Player, Priority, action, owner_only, server_only
from gameserver.errors import ActionRefused

HIDDEN = "!hidden!"
"""Never leaves a server."""


def mark(user: str) -> str:
    """Found in what only this user may see."""
    return f"<only:{user}>"


class Page(Entity):
    """What one player did, and what only they may see."""

    done: int = 0
    x: float = 0.0
    secret: str = owner_only("")


class Diary(Game):
    """Without ticks. Numbers are used once, by whoever acts."""

    batch_ms = 20
    players_max = 50
    seat_hold_seconds = 6
    empty_seconds = None
    hibernate_seconds = 1.5

    pages: Map[str, Page]
    done: List[int]
    rung: List[int]
    heard: List[int]
    hidden: str = server_only("")

    def on_create(self, options: dict) -> None:
        self.hidden = HIDDEN
        self.subscribe("news")

    def on_join(self, player: Player) -> None:
        self.pages[player.id] = Page(owner=player, secret=mark(player.id))

    def on_leave(self, player: Player, reason: str) -> None:
        del self.pages[player.id]

    def on_message(self, topic: str, data: int) -> None:
        self.heard.append(data)

    def _write(self, player: Player, number: int) -> int:
        page = self.pages[player.id]
        page.done += 1
        page.x = self.random.random()
        page.secret = f"{mark(player.id)}{number}"
        self.done.append(number)
        self.hidden = f"{HIDDEN}{number}"
        return number

    @action
    def put(self, player: Player, number: int) -> int:
        self.emit("put", number)
        if number % 7 == 0:
            self.record("row", {"number": number})
        return self._write(player, number)

    @action(priority=Priority.HIGH)
    def shout(self, player: Player, number: int) -> int:
        self.emit("shout", number, priority=Priority.HIGH)
        self.emit("echo", mark(player.id), to=player, priority=Priority.HIGH)
        if number % 5 == 0:
            self.publish("news", number)
        return self._write(player, number)

    @action
    def later(self, player: Player, number: int) -> int:
        self.after(0.2 + number % 3, self.ring, number)
        return self._write(player, number)

    @action
    def refuse(self, player: Player, number: int) -> int:
        self._write(player, number)
        self.emit("shout", number, priority=Priority.HIGH)
        self.record("row", {"number": number})
        raise ActionRefused("not today")

    def ring(self, number: int) -> None:
        self.rung.append(number)


class Ticking(Diary):
    """With a clock; it does not sleep."""

    tick_hz = 10
    ticks: int = 0

    def on_tick(self, dt: float) -> None:
        self.ticks += 1
        for page in self.pages.values():
            page.x += 1.0


class StrictDiary(Diary):
    """Everything waits for the journal."""

    durability = "strict"


class LooseDiary(Diary):
    """No journal: a crash loses what came after the last snapshot."""

    durability = "snapshot"


GAMES: list[type[Game]] = [Diary, Ticking, StrictDiary, LooseDiary]

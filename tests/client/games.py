"""A small game that does whatever the client has to cope with."""

from __future__ import annotations

from gameserver import ActionRefused, Game, List, Map, Player, Priority, action


class Counter(Game):
    """Counts."""

    batch_ms = 10
    empty_seconds = None

    count: int = 0
    order: List[int]
    names: Map[str, str]

    def on_join(self, player: Player) -> None:
        self.names[player.id] = player.name

    def on_leave(self, player: Player, reason: str) -> None:
        del self.names[player.id]

    @action(priority=Priority.HIGH)
    def add(self, player: Player, n: int) -> int:
        self.count += n
        self.emit("added", {"by": player.id, "n": n}, priority=Priority.HIGH)
        return self.count

    @action
    def append(self, player: Player, n: int) -> None:
        self.order.append(n)

    @action(priority=Priority.HIGH)
    def shout(self, player: Player, text: str) -> None:
        self.emit("shout", text)

    @action(priority=Priority.HIGH)
    def whisper(self, player: Player, to: str) -> None:
        self.emit("whisper", "psst", to=self.players[to], priority=Priority.HIGH)

    @action(priority=Priority.HIGH)
    def refuse(self, player: Player) -> None:
        raise ActionRefused("not today")

    @action(priority=Priority.HIGH)
    def fail(self, player: Player) -> None:
        self.count = -1
        raise RuntimeError("a bug in the game")

    @action(priority=Priority.HIGH)
    def finish(self, player: Player) -> None:
        self.end("done")

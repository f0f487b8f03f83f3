"""Games for the tests: one that does anything at all to its state, and small ones for one question each."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from gameserver import (
    ActionRefused,
    Entity,
    Game,
    List,
    Map,
    Player,
    Priority,
    action,
    owner_only,
    quantized,
    server_only,
)
from gameserver.match import Match, MatchOutput, User

WALL = 1_700_000_000.0


class Boom(Exception):
    """What failing game code raises here."""


class Item(Entity):
    value: int = 0
    x: float = quantized(0.0, step=0.5)
    secret: int = owner_only(0)
    hidden: int = server_only(0)
    tags: List[str]
    data: Any = None


class ChaosBase(Game):
    """Does what a script says to every part of a match, and fails on demand."""

    name = "chaos"
    failures_max = 1_000_000
    empty_seconds = None
    seat_hold_seconds = 2
    skips: ClassVar[bool] = False

    items: Map[str, Item]
    bag: List[Item]
    info: Any = None
    counter: int = 0
    fired: List[Any]

    def on_create(self, options: dict[str, Any]) -> None:
        self.info = {"list": [3, 1, 2], "map": {"a": 1}}
        for index in range(3):
            self.items[str(index)] = Item(value=index)

    def on_join(self, player: Player) -> None:
        self.items[player.id] = Item(owner=player)
        self.group("team").add(player)

    def on_leave(self, player: Player, reason: str) -> None:
        self.items.pop(player.id, None)

    def on_disconnect(self, player: Player) -> None:
        self.counter += 1

    def on_tick(self, dt: float) -> None:
        self.counter += 1
        if self.random.random() < 0.2:
            self.items["0"].x += dt * 10 if "0" in self.items else 0

    @action
    def edit(self, player: Player, script: list[tuple[int, int, int]], fail: bool) -> Any:
        return self.run(player, script, fail)

    @action(priority=Priority.HIGH)
    def urgent(self, player: Player, script: list[tuple[int, int, int]], fail: bool) -> Any:
        return self.run(player, script, fail)

    def run(self, player: Player, script: list[tuple[int, int, int]], fail: bool) -> Any:
        if fail and self.skips:
            raise Boom
        try:
            for step in script:
                self.step(player, *step)
        except ActionRefused:
            if not fail:
                raise
        if fail:
            raise Boom
        return self.counter

    def timer(self, a: int, b: int, fail: bool) -> None:
        self.fired.append([a, self.now])
        if fail:
            raise Boom
        if b % 3 == 0 and len(self.fired) < 20:
            self.after(b / 7, self.timer, a, b + 1, b % 2 == 0)

    def step(self, player: Player, op: int, a: int, b: int) -> None:  # noqa: C901 - a list of things to do
        keys = list(self.items)
        key = keys[a % len(keys)] if keys else ""
        item = self.items.get(key)
        match op % 32:
            case 0:
                self.counter += a
            case 1 if item is not None:
                item.value = b
            case 2 if item is not None:
                item.x += b / 3
            case 3 if item is not None:
                item.secret = b
            case 4 if item is not None:
                item.hidden = b
            case 5:
                self.items[f"k{a}"] = Item(value=b)
            case 6 if keys:
                del self.items[key]
            case 7 if keys:
                self.bag.append(self.items.pop(key))
            case 8 if self.bag:
                self.items[f"b{b}"] = self.bag.pop(a % len(self.bag))
            case 9:
                self.bag.sort(key=lambda item: item.value)
            case 10 if item is not None:
                item.tags.append(str(b))
            case 11 if item is not None:
                item.tags[a % 3 :] = ["s", "t"]
            case 12 if item is not None:
                item.audience = ("team", "red", f"player:{player.id}", None)[b % 4]
            case 13 if item is not None:
                item.owner = player if b % 2 else None
            case 14:
                self.group("red").add(player)
            case 15:
                self.group(("red", "team")[b % 2]).discard(player)
            case 16:
                self.after(a / 5, self.timer, a, b, b % 4 == 0)
            case 17:
                self.cancel(a % 8)
            case 18:
                self.emit("e", {"a": a, "b": [b]}, priority=Priority(b % 3))
            case 19:
                self.emit("p", a, to=player)
            case 20:
                self.record("doc", {"a": a}, priority=Priority(b % 3))
            case 21:
                self.set_summary(a=a, b=None if b % 2 else b)
            case 22:
                self.counter = self.random.randrange(1000)
            case 23:
                self.info = {"x": [a, {"y": b}]} if a % 2 else a
            case 24:
                self.info = None
            case 25:
                grid = self.grid(10.0)
                grid.follow(player, a * 3.0, b * 3.0)
            case 26 if item is not None:
                self.grid(10.0).place(item, a * 3.0, b * 3.0)
            case 27 if len(keys) > 1:
                first, second = keys[0], keys[-1]
                self.items[first], self.items[second] = self.items[second], self.items[first]
            case 28 if item is not None:
                item.data = {"deep": [a, [b]]}
            case 29 if item is not None and a % 3 == 0:
                self.bag.append(item)  # in two places: the check at the end of the transaction refuses it
            case 30 if b % 5 == 0:
                raise ActionRefused("no")
            case 31:
                self.emit("bad", {1, 2}) if a % 7 == 0 else self.emit("t", None, to="team")


def chaos(*, tick_hz: int = 0, skips: bool = False) -> type[ChaosBase]:
    """A class of the same name each time, so that snapshots of its matches can be compared."""
    annotations = {"skips": ClassVar[bool]}
    body = {"__module__": __name__, "tick_hz": tick_hz, "skips": skips, "__annotations__": annotations}
    return type("Chaos", (ChaosBase,), body)


class Log(Game):
    """Writes down what it was asked, in order."""

    batch_ms = 50
    lines: List[Any]
    count: int = 0

    @action
    def write(self, player: Player, value: int) -> int:
        return self.add(player, "write", value)

    @action(priority=Priority.HIGH)
    def shout(self, player: Player, value: int) -> int:
        self.emit("shout", self.count + 1, priority=Priority.HIGH)
        return self.add(player, "shout", value)

    @action
    def crash(self, player: Player) -> None:
        self.count = 1000
        raise Boom("secret detail")

    @action(rate="2/s")
    def limited(self, player: Player) -> None:
        self.count += 1

    def add(self, player: Player, kind: str, value: int) -> int:
        self.count += 1
        self.lines.append([player.id, kind, value])
        return self.count


class Harness:
    """A match with a clock; outputs and snapshots in a form that compares."""

    def __init__(self, game: type[Game], *, seed: int = 7, match: Match | None = None, now: float = 50.0) -> None:
        self.now = now
        self.match = match or Match.create(game, "m", seed=seed, now=now, wall=WALL)
        self.outputs: list[Any] = []
        self.sessions = 0
        self.flush()

    @property
    def wall(self) -> float:
        return WALL + self.now

    def flush(self) -> MatchOutput | None:
        output = self.match.take_output()
        if output is not None:
            self.outputs.append(comparable(output))
        return output

    def settle(self) -> None:
        if self.match.urgent:
            self.flush()

    def advance(self, seconds: float) -> None:
        end = round(self.now + seconds, 6)
        while (due := self.match.next_wake(self.now)) is not None and due <= end:
            self.now = max(self.now, due)
            self.match.wake(self.now, self.wall)
            self.flush()
        self.now = end

    def join(self, user: str, **kwargs: Any) -> Any:
        self.sessions += 1
        session = self.match.join(User(user, user), f"s{self.sessions}", self.now, self.wall, **kwargs)
        self.flush()
        return session

    def send(self, session_id: str, seq: int, name: str, args: Any, **kwargs: Any) -> None:
        self.match.receive(session_id, seq, name, args, self.now, self.wall, **kwargs)

    def saved(self) -> bytes:
        self.flush()
        return msgspec.msgpack.encode(self.match.snapshot(self.now))

    def restored(self, game: type[Game], *, now: float | None = None, idle_seconds: float = 0.0) -> Harness:
        snapshot = msgspec.msgpack.decode(self.saved())
        at = self.now if now is None else now
        match = Match.restore(game, snapshot, now=at, wall=self.wall, epoch=self.match.epoch, idle_seconds=idle_seconds)
        made = Harness(game, match=match, now=at)
        made.sessions = self.sessions
        return made


def comparable(output: MatchOutput) -> Any:
    """An output as plain data in which sets have an order."""

    def names(receivers: frozenset[str] | None) -> Any:
        return None if receivers is None else sorted(receivers)

    return [
        output.version,
        output.epoch,
        output.time_ms,
        output.patch.everyone,
        [[names(part.receivers), part.ops] for part in output.patch.parts],
        output.applied,
        [[names(batch.receivers), batch.events, batch.priority] for batch in output.events],
        [[names(batch.receivers), batch.events, batch.priority] for batch in output.gated_events],
        [[ack.session_id, ack.seq, ack.version, ack.error, ack.result] for ack in output.acks],
        [[effect.kind, effect.payload, effect.priority, effect.index] for effect in output.effects],
        output.ended,
        output.high,
        output.committed,
    ]

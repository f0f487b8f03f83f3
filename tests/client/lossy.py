"""A real host and the client's real core with a wire between them that loses everything it may lose.

Bytes arrive in pieces, connections end in the middle of a frame, the server notices late that one is gone, the gate
opens when it likes, and a crash takes back what it has not let out. Time is a number, chance is seeded.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from gameserver import ActionRefused, Entity, Game, List, Map, Player, Priority, action, owner_only
from gameserver.client.core import (
    ActionFailed,
    Answered,
    ClientCore,
    Disconnected,
    Ended,
    Happened,
    Reconnected,
    Refused,
    ResendLater,
    RoomCore,
    Write,
)
from gameserver.client.errors import ConnectionLost
from gameserver.cluster import (
    Fanout,
    FanoutLimits,
    GameRegistry,
    Gate,
    Host,
    HostLimits,
    Meters,
    NoEffects,
    Receiver,
    RecentLimits,
    Services,
    User,
)
from gameserver.cluster.hosted import HostedMatch
from gameserver.errors import GameServerError
from gameserver.match import Match, MatchOutput
from gameserver.metrics import Metrics
from gameserver.protocol import Action, Join, JoinDetails, Leave, decode_client, encode_failure, encode_reply, ws_frame
from gameserver.storage import decode_snapshot, encode_snapshot


class Card(Entity):
    n: int = 0
    secret: int = owner_only(0)


class Relay(Game):
    """Everything that travels: shared, private and group state, urgent and other events, results and refusals."""

    batch_ms = 20
    seat_hold_seconds = 1_000_000
    empty_seconds = None

    cards: Map[str, Card]
    done: List[str]
    switched: List[str]
    red: Card

    def on_create(self, options: dict[str, Any]) -> None:
        self.red = Card(audience="red")

    def on_join(self, player: Player) -> None:
        self.cards[player.id] = Card(owner=player)

    def on_disconnect(self, player: Player) -> None:
        self.cards[player.id].n += 100

    def on_reconnect(self, player: Player) -> None:
        self.cards[player.id].n -= 100

    @action(priority=Priority.HIGH)
    def add(self, player: Player, key: str) -> str:
        self.done.append(key)
        self.emit("added", key, priority=Priority.HIGH)
        self.emit("yours", key, to=player, priority=Priority.HIGH)
        self.emit("heard", key)
        return key

    @action
    def note(self, player: Player, key: str) -> str:
        self.done.append(key)
        self.cards[player.id].secret += 1
        self.emit("heard", key)
        return key

    @action
    def switch(self, player: Player, key: str, who: str) -> str:
        """Someone, perhaps away, enters or leaves the reds; reds see a card and hear what others do not."""
        self.done.append(key)
        self.switched.append(key)
        reds = self.group("red")
        if who in reds:
            reds.discard(who)
        elif who in self.players:
            reds.add(who)
        self.red.n += 1
        self.emit("red", key, to="red", priority=Priority.HIGH)
        return key

    @action(priority=Priority.HIGH)
    def refuse(self, player: Player, key: str) -> None:
        raise ActionRefused(key)


class Timer:
    """What the clock gives back."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class World(Gate):
    """Time, one host with one match, and what the gate has let out."""

    def __init__(self, seed: int, recent: RecentLimits) -> None:
        self.random = Random(seed)
        self.time = 1000.0
        self.soon: list[Timer] = []
        self.due: list[tuple[float, int, Timer]] = []
        self.count = itertools.count()
        self.recent = recent
        self.held: list[tuple[MatchOutput, Callable[[MatchOutput], None]]] = []
        self.gate_open = True
        self.epoch = 1
        self.urgent: list[tuple[int, frozenset[str] | None, list[list[Any]]]] = []
        self.snapshot: bytes | None = None
        self.host = self._new_host()
        self.hosted: HostedMatch = self.host.create_match("relay")
        self.run()

    def _new_host(self) -> Host:
        host = Host(GameRegistry([Relay]), HostLimits())
        clock: Any = self
        services = Services(
            clock=clock, fanout=Fanout(FanoutLimits()), gate=self, effects=NoEffects(), meters=Meters(Metrics()),
            keeper=host, recent=self.recent,
        )  # fmt: skip
        host.attach(services, None, None)
        return host

    # --- Clock
    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    def call_soon(self, callback: Callable[[], None]) -> Any:
        self.soon.append(Timer(callback))
        return self.soon[-1]

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        timer = Timer(callback)
        heapq.heappush(self.due, (when, next(self.count), timer))
        return timer

    def run(self, seconds: float = 0.0) -> None:
        self.time += seconds
        while self.soon or (self.due and self.due[0][0] <= self.time):
            timer = self.soon.pop(0) if self.soon else heapq.heappop(self.due)[2]
            if timer.callback is not None:
                timer.callback()

    # --- Gate
    def commit(self, match_id: str, output: MatchOutput) -> bool:
        if output.committed:
            self.urgent.extend((output.version, batch.receivers, batch.events) for batch in output.gated_events)
        return self.gate_open and not self.held

    def hold(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> None:
        self.held.append((output, release))

    def forget(self, match_id: str) -> None:
        self.held.clear()

    def let_out(self, count: int) -> None:
        for _ in range(min(count, len(self.held))):
            output, release = self.held.pop(0)
            release(output)

    # --- crashes
    def save(self) -> None:
        """All that was let out is in the snapshot; until the crash nothing more is."""
        self.hosted.flush()
        self.let_out(len(self.held))
        self.gate_open = False
        self.snapshot = encode_snapshot(self.hosted.match.snapshot(self.time))

    def crash(self) -> None:
        assert self.snapshot is not None
        self.hosted.freeze()
        self.held.clear()
        self.soon.clear()
        self.due.clear()
        self.epoch += 1
        match = Match.restore(Relay, decode_snapshot(self.snapshot), now=self.time, wall=self.time, epoch=self.epoch)
        self.urgent = [row for row in self.urgent if row[0] <= match.version]
        self.host = self._new_host()
        self.hosted = self.host._adopt(match, Relay, "")
        self.hosted.disconnect_all()
        self.snapshot, self.gate_open = None, True
        self.run()


class Line(Receiver):
    """One connection: bytes on their way in both directions. The server's end is a receiver."""

    def __init__(self, world: World, user: str) -> None:
        self.world, self.user = world, user
        self.host = world.host
        self.up, self.down = bytearray(), bytearray()
        self.members: dict[int, Any] = {}
        self.dead = False

    # --- the server's end
    def write(self, frames: Sequence[bytes]) -> None:
        if not self.dead:
            for frame in frames:
                self.down += frame

    def buffered_bytes(self) -> int:
        return 0

    def detached(self, channel: int) -> None:
        self.members.pop(channel, None)

    def abort(self, close_code: int, reason: str) -> None:
        raise AssertionError(reason)

    def serve(self, data: bytes) -> None:
        message = decode_client(data)
        if isinstance(message, Join):
            joining = self.host.join(
                message.kind, message.name, User(self.user), self, message.request, resume=message.resume
            )
            try:
                joining.send(None)
            except StopIteration as done:
                self.members[done.value.channel] = done.value
            except GameServerError as error:
                self.write([ws_frame(encode_failure(message.request, error))])
        elif isinstance(message, Action):
            member = self.members.get(message.channel)
            if member is not None:
                member.receive(message.seq, message.name, message.args, quiet=message.quiet)
        elif isinstance(message, Leave):
            self.members.pop(message.channel).leave()
            self.write([ws_frame(encode_reply(message.request))])

    def noticed(self) -> None:
        """The server notices that it is gone."""
        members, self.members = self.members, {}
        if self.host is self.world.host:
            for member in members.values():
                member.lost()


def take_frame(buffer: bytearray) -> bytes | None:
    """The first message, if all of it is there."""
    if len(buffer) < 2:
        return None
    length, start = buffer[1], 2
    if length >= 126:
        start = 4 if length == 126 else 10
        if len(buffer) < start:
            return None
        length = int.from_bytes(buffer[2:start], "big")
    if len(buffer) < start + length:
        return None
    data = bytes(buffer[start : start + length])
    del buffer[: start + length]
    return data


class Person:
    """One user's client: the real core, and a shell that notes everything."""

    def __init__(self, world: World, user: str) -> None:
        self.world, self.user = world, user
        self.random = Random(f"{user}{world.random.random()}")
        self.core = ClientCore(rejoins=True)
        self.room: RoomCore | None = None
        self.line: Line | None = None
        self.gone: list[Line] = []  # cut, and the server has not noticed
        self.received, self.arrived = bytearray(), bytearray()
        self.results: dict[str, Any] = {}
        self.quiet: set[str] = set()
        self.urgent: list[Any] = []
        self.heard: list[str] = []
        self.recovered: list[bool] = []
        self.urgent_from = 0
        self.keys = itertools.count()
        self.resends: list[RoomCore] = []

    # --- the connection
    def connect(self) -> None:
        self.line = Line(self.world, self.user)
        self.received, self.arrived = bytearray(), bytearray()
        if self.room is None:
            self.send(self.core.join("match", self.world.hosted.match_id, JoinDetails(), "join"))
        for room in self.core.away:
            self.send(self.core.rejoin(room, None))

    def send(self, data: bytes) -> None:
        if self.line is not None:
            self.line.up += ws_frame(data)

    def move(self, most: int | None = None) -> None:
        """Some bytes arrive at either end."""
        if self.line is None:
            return
        line = self.line
        for source, target in ((line.up, self.arrived), (line.down, self.received)):
            count = len(source) if most is None else self.random.randint(0, min(most, len(source)))
            target += source[:count]
            del source[:count]
        self.read(line)

    def read(self, line: Line) -> None:
        while (data := take_frame(self.arrived)) is not None:
            line.serve(data)
        while (data := take_frame(self.received)) is not None:
            self.perform(self.core.receive(data))

    def cut(self) -> None:
        """The connection ends, after any number of the bytes that were under way."""
        line = self.line
        if line is None:
            return
        self.move(1 << 20)
        line.dead, self.line = True, None
        self.gone.append(line)
        self.perform(self.core.cut(ConnectionLost("cut")))

    def notice(self) -> None:
        while self.gone:
            self.gone.pop(0).noticed()

    # --- what happens
    def perform(self, outcomes: Any) -> None:
        for outcome in outcomes:
            match outcome:
                case Write(data):
                    self.send(data)
                case Answered("join", RoomCore() as room):
                    assert self.room is None
                    self.room = room
                    self.urgent_from = room._events_position[1]
                case Refused("join", _):
                    pass
                case Answered(ticket, value):
                    self.settle(ticket, value)
                case Refused(ticket, error):
                    self.settle(ticket, error)
                case ActionFailed(_, _, error):
                    self.settle(f"quiet {error.message}", error)
                case Happened(_, "heard", key):
                    self.heard.append(key)
                case Happened(_, name, key):
                    self.urgent.append([name, key])
                case ResendLater(room, _):
                    self.resends.append(room)
                case Reconnected(_, recovered):
                    self.recovered.append(recovered)
                case Disconnected():
                    pass
                case Ended():
                    raise AssertionError(outcome)

    def settle(self, key: str, result: Any) -> None:
        assert key not in self.results, f"{key} was answered twice"
        self.results[key] = result

    def act(self) -> None:
        if self.room is None:
            return
        key = f"{self.user}{next(self.keys)}"
        name = self.random.choice(["add", "note", "note", "switch", "refuse"])
        args = {"key": key, "who": self.random.choice(["ann", "bob"])} if name == "switch" else {"key": key}
        quiet = self.random.random() < 0.4
        if quiet:
            self.quiet.add(key)
        self.perform(self.room.act(name, args, None if quiet else key))

    def resend(self) -> None:
        resends, self.resends = self.resends, []
        for room in resends:
            self.perform(room.resend())

    def expected_urgent(self) -> list[Any]:
        return [
            event
            for version, receivers, events in self._by_version()
            for event in events
            if version > self.urgent_from and (receivers is None or self.user in receivers)
        ]

    def _by_version(self) -> list[tuple[int, frozenset[str] | None, list[list[Any]]]]:
        return sorted(self.world.urgent, key=lambda row: row[0])

"""Nodes with real hosts, journal writers and crossings on a bus and a store in memory, and clients with real mirrors.

Only what lies between processes is a double: the wire of the bus, the store's server, and sockets that never fill.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from gameserver import Entity, Game, Map, Player, Priority, action, owner_only
from gameserver.client.outcomes import Answered, ResendLater, Write
from gameserver.client.outcomes import Refused as ActionRefused
from gameserver.client.room_core import RoomCore
from gameserver.cluster import ClusterNode, GameRegistry, LoopClock, NoEffects, Receiver, Surroundings, User
from gameserver.cluster.hosted import HostedMatch
from gameserver.cluster.member import Member
from gameserver.config import Settings
from gameserver.errors import GameServerError
from gameserver.metrics import Metrics
from gameserver.protocol import Ack, Closed, Events, Frame, Joined, Part, StateMessage, decode_client, pack
from gameserver.state import to_plain
from gameserver.storage import NodeInfo
from tests.cluster.kit import unframed
from tests.simulation.memory_bus import MemoryBus, MemoryWire
from tests.simulation.memory_journal import MemoryJournal, MemoryServer


class Bag(Entity):
    """What a player did, and what only they may see."""

    done: list
    secret: int = owner_only(0)


class Ledger(Game):
    """Each action leaves its number: what is missing or there twice shows."""

    batch_ms = 20
    players_max = 50
    seat_hold_seconds = 60
    empty_seconds = None

    bags: Map[str, Bag]
    total: int = 0

    def on_join(self, player: Player) -> None:
        self.bags[player.id] = Bag(owner=player, done=[])

    def on_leave(self, player: Player, reason: str) -> None:
        del self.bags[player.id]

    @action
    def put(self, player: Player, number: int) -> int:
        bag = self.bags[player.id]
        bag.done.append(number)
        bag.secret += number
        self.total += 1
        return number

    @action(priority=Priority.HIGH)
    def shout(self, player: Player, number: int) -> int:
        self.put(player, number)
        self.emit("shout", [player.id, number], priority=Priority.HIGH)
        self.emit("echo", number, to=player, priority=Priority.HIGH)
        return number


class Ticking(Ledger):
    """The same with a clock."""

    tick_hz = 20
    ticks: int = 0

    def on_tick(self, dt: float) -> None:
        self.ticks += 1


class StrictLedger(Ledger):
    """Everything waits for the journal."""

    durability = "strict"


class LooseLedger(Ledger):
    """Only snapshots: a crash takes what came after the last one."""

    durability = "snapshot"


GAMES = [Ledger, Ticking, StrictLedger, LooseLedger]


class World:
    """The wire, the store, nodes and clients."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.loss = 0.0
        self.delay = (0.0002, 0.002)
        self.wire = MemoryWire(self._fate)
        self.loop = asyncio.get_running_loop()
        self.server = MemoryServer(self.loop.time, seed=seed)
        self.nodes: dict[str, Node] = {}
        self.clients: list[SimClient] = []

    def _fate(self, sender: MemoryBus, receiver: MemoryBus, channel: str) -> float | None:
        if self.random.random() < self.loss:
            return None
        return self.random.uniform(*self.delay)

    async def node(self, name: str, **options: Any) -> Node:
        node = self.nodes[name] = Node(self, name, **options)
        await node.begin()
        return node

    async def stop(self) -> None:
        for client in self.clients:
            client.stop()
        for node in self.nodes.values():
            await node.kill()


class Renewals(MemoryJournal):
    """The way of the lease's own client."""

    async def close(self) -> None:
        """Nothing to close."""


class Node(ClusterNode):
    """One process. Who runs which match is up to the tests, so takeovers do not begin by themselves."""

    def __init__(self, world: World, name: str, *, roles: Sequence[str] = ("edge", "owner"), games: Any = None) -> None:
        self.world = world
        self.alive = False
        self.bus = MemoryBus(world.wire, name)
        self.store = MemoryJournal(world.server)
        clock = LoopClock()
        clock.wall = lambda: world.loop.time() + 1e9
        around = Surroundings(
            journal=self.store, open_renewals=lambda: Renewals(world.server), bus=self.bus, records=NoEffects(),
            documents=None, clock=clock, lease_clock=world.loop.time, wall=world.loop.time, perf=world.loop.time,
            threaded=False,
            new_seed=lambda: world.random.getrandbits(63),
        )  # fmt: skip
        settings = Settings(
            cluster={"roles": list(roles)}, limits={"send_buffer_bytes_max": 100_000}, match={"journal_interval_ms": 50}
        )
        super().__init__(name, GameRegistry(GAMES if games is None else games), settings, around, Metrics())
        self.address = f"ws://{name}"

    async def begin(self) -> None:
        self.writer.start()
        await self.membership.start()
        await self.crossing.start()
        self.alive = True

    def live_nodes(self) -> list[NodeInfo]:
        return self.world.server.live_nodes()

    async def kill(self) -> None:
        """Gone in the middle of whatever; its sockets too."""
        if not self.alive:
            return
        self.alive = False
        await self.bus.close()
        for hosted in self.host:
            hosted.freeze()
        for remote in list(self.crossing.edges.remotes.values()):
            for seat in remote.seats.values():
                seat.kept.clear()
        await self.crossing.stop()
        membership = self.membership
        writer = self.writer
        for handle in (writer._soon, writer._timer, writer._again):
            if handle is not None:
                handle.cancel()
        for task in (writer._watch, *writer._creating, membership._beating, membership._renewing):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for client in self.world.clients:
            if client.node is self:
                client.cut()

    async def take_over(self, match_id: str) -> HostedMatch:
        """What a takeover does in the end."""
        [owned] = await self.store.find([match_id])
        assert owned is not None
        claimed = await self.store.claim(match_id, self.name, expect_epoch=owned.epoch)
        recovered = await self.store.recover(match_id)
        hosted = self.host.run_recovered(recovered, claimed.token)
        assert hosted is not None
        return hosted

    async def client(self, user: str, match_id: str, *, spectate: bool = False) -> SimClient:
        client = SimClient(self.world, user, match_id, spectate=spectate)
        self.world.clients.append(client)
        await client.connect(self)
        return client


class SimClient(Receiver):
    """A player's SDK on a socket that loses nothing while it lives."""

    def __init__(self, world: World, user: str, match_id: str, *, spectate: bool) -> None:
        self.world = world
        self.user = User(user, user.title(), "player")
        self.match_id = match_id
        self.spectate = spectate
        self.node: Node | None = None
        self.member: Member | None = None
        self.room: RoomCore | None = None
        self.events: Counter[tuple[str, Any]] = Counter()
        self.results: dict[int, Any] = {}
        self.sent: list[int] = []
        self.kinds: Counter[str] = Counter()
        self.epochs: list[int] = []
        self.buffered = 0
        self.closed: list[Closed] = []
        self.aborted = False
        self.joins = 0
        self.stopped = False
        self.raw: list[bytes] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- Receiver -----------------------------------------------------------------------------------------------------
    def write(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self.raw.append(frame)
            for message in unframed(frame):
                self._on_message(message)

    def buffered_bytes(self) -> int:
        return self.buffered

    def detached(self, channel: int) -> None:
        self.member = None

    def abort(self, close_code: int, reason: str) -> None:
        self.aborted = True

    # --- connection ---------------------------------------------------------------------------------------------------
    async def connect(self, node: Node) -> None:
        self.node = node
        self.joins += 1
        resume = None if self.room is None else self.room.details().resume
        member = await node.host.join(
            "match", self.match_id, self.user, self, self.joins, spectate=self.spectate, resume=resume
        )
        if self.stopped or self.node is not node:
            member.lost()
            return
        self.member = member
        for _ in range(50):
            if self.room is not None and self.room.connected:
                break
            await asyncio.sleep(0.01)
        if self.room is not None:
            for action in list(self.room._outgoing.pending.values()):
                self._send(action)

    def cut(self) -> None:
        """The socket is gone."""
        member, self.member, self.node = self.member, None, None
        if self.room is not None:
            self.room.connected = False
        if member is not None:
            member.lost()

    async def come_back(self, node: Node) -> None:
        """Like the SDK: until it works."""
        while not self.stopped:
            try:
                await self.connect(node)
            except GameServerError:
                await asyncio.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        self.stopped = True
        for task in self._tasks:
            task.cancel()

    def spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- play ---------------------------------------------------------------------------------------------------------
    def act(self, name: str, number: int, *, quiet: bool = False) -> None:
        assert self.room is not None
        self.sent.append(number)
        self._carry_out(self.room.act(name, [number], None if quiet else number))

    def _send(self, pending: Any) -> None:
        from gameserver.protocol import encode_action

        assert self.room is not None
        name = self.room.numbers.get(pending.name, pending.name)
        self._out(encode_action(self.room.channel, pending.seq, name, pending.args, 0))

    def _out(self, data: bytes) -> None:
        message: Any = decode_client(data)
        if self.member is not None:
            args = self.member.hosted.pass_on(pack(message.args)) or message.args
            self.member.receive(message.seq, message.name, args, quiet=bool(message.flags))

    def _carry_out(self, outcomes: Any) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Write):
                self._out(outcome.data)
            elif isinstance(outcome, Answered):
                assert outcome.ticket not in self.results
                self.results[outcome.ticket] = outcome.value
            elif isinstance(outcome, ActionRefused):
                self.results[outcome.ticket] = outcome.error
            elif isinstance(outcome, ResendLater):
                self.world.loop.call_later(0.05, self._resend)

    def _resend(self) -> None:
        if self.room is not None and self.room.ended is None and self.member is not None:
            self._carry_out(self.room.resend())

    def _on_message(self, message: Any) -> None:
        self.kinds[type(message).__name__] += 1
        room = self.room
        if isinstance(message, Joined):
            if room is None:
                self.room = room = RoomCore(message)
            else:
                self._carry_out(room.rejoined(message))
            self.epochs.append(room.epoch)
            return
        assert room is not None, message
        assert message.channel == room.channel
        if isinstance(message, Closed):
            self.closed.append(message)
            room.connected = False
            if message.reconnect and self.node is not None and not self.stopped:
                self.spawn(self.come_back(self.node))
            return
        before = room.position
        if isinstance(message, Frame):
            self._carry_out(room.frame(message))
        elif isinstance(message, Part):
            room.part(message)
        elif isinstance(message, StateMessage):
            assert (message.epoch, message.version) >= before, "a state from before what the client has"
            room.full_state(message)
        elif isinstance(message, Ack):
            assert message.refused or message.version <= room.version, message
            self._carry_out(room.acknowledged(message))
        elif isinstance(message, Events):
            assert message.version <= room.version, "an event before its patch"
            for happened in room.events(message):
                self.events[happened.name, str(happened.data)] += 1
        assert room.position >= before, "a client never goes back"
        if room.epoch != self.epochs[-1]:
            self.epochs.append(room.epoch)

    # --- invariants ---------------------------------------------------------------------------------------------------
    def check_mirror(self, hosted: HostedMatch) -> None:
        assert self.room is not None
        viewer = "*spectators" if self.spectate else self.user.id
        assert self.room.version <= hosted.match.version
        assert to_plain(self.room.mirror.root) == hosted.match.tree.view(viewer), self.user.id

    def check_exactly_once(self, hosted: HostedMatch) -> None:
        done = list(hosted.match.game.bags[self.user.id].done)
        assert len(done) == len(set(done)), f"{self.user.id}: twice {[k for k, v in Counter(done).items() if v > 1]}"
        answered = [number for number, value in self.results.items() if value == number]
        missing = set(answered) - set(done)
        assert not missing, f"{self.user.id}: acknowledged and lost {missing}"
        for number, value in self.results.items():
            assert value == number, value


async def settled(world: World, hosted: HostedMatch, seconds: float = 30.0) -> None:
    """Until every connected client has what the owner has, and every action its outcome."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        hosted.flush()
        await asyncio.sleep(0.013)
        waiting = [client for client in world.clients if not client.stopped and not _is_settled(client, hosted)]
        if not waiting:
            return
        if loop.time() > deadline:
            for client in waiting:
                client.check_mirror(hosted)
            raise AssertionError(
                [(client.user.id, client.room and client.room.unacknowledged, client.member) for client in waiting]
            )


def _is_settled(client: SimClient, hosted: HostedMatch) -> bool:
    room = client.room
    if room is None or client.member is None or room.epoch != hosted.match.epoch or room.unacknowledged or room.waiting:
        return False
    viewer = "*spectators" if client.spectate else client.user.id
    return bool(to_plain(room.mirror.root) == hosted.match.tree.view(viewer))

"""Players and spectators: the SDK itself, on sockets of the simulation, acting at random and noting what it is told."""

from __future__ import annotations

import asyncio
import random
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gameserver.access import issue_token
from gameserver.client import Client
from gameserver.client.address import Address
from gameserver.client.reconnect import ReconnectPolicy
from gameserver.errors import ActionRefused, GameServerError, MatchNotFound
from tests.simulation.diary import HIDDEN, mark
from tests.simulation.network import Socket, connected
from tests.simulation.servers import WALL

if TYPE_CHECKING:
    from gameserver.client.link import Link
    from gameserver.client.room import Room
    from tests.simulation.world import World

MARKS = re.compile(rb"<only:(\w+)>")
POLICY = ReconnectPolicy(delay_seconds_min=0.1, delay_seconds_max=1.0, give_up_seconds=60.0)


class SimClient(Client):
    """The SDK, whose sockets are the simulation's."""

    def __init__(self, player: User, *, direct: bool = False) -> None:
        world = player.world
        token = issue_token(world.secret, player.name, now=world.timeline.now + WALL, ttl_seconds=86_400)
        super().__init__("ws://anywhere", token=token, timeout_seconds=4.0, reconnect=POLICY, direct=direct)
        self.player = player

    async def connect(self) -> None:
        await self._open(0)

    async def _open_link(self, address: Address) -> Any:
        player, world = self.player, self.player.world
        name = urlsplit(address.websocket).hostname
        server = world.door(player.random) if name == "anywhere" else world.servers.get(str(name))
        socket = await connected(server, world.players_loop, player.random, player.check_bytes)
        player.socket = socket
        return socket

    def _received(self, link: Link, data: bytes) -> None:
        before = [(room, room.position) for room in self.rooms]
        super()._received(link, data)
        for room, position in before:
            self.player.check_position(room, position)


class User:
    """Somebody with a client."""

    def __init__(self, world: World, name: str, *, spectates: bool = False) -> None:
        self.world = world
        self.name = name
        self.spectates = spectates
        self.random = random.Random(f"{world.seed}:{name}")
        self.socket: Socket | None = None
        self.own = name.encode()

    # --- what must hold at every moment -------------------------------------------------------------------------------
    def check_bytes(self, data: bytes) -> None:
        """All that a server sends us."""
        if HIDDEN.encode() in data:
            self.world.fail(f"{self.name} was sent what no client may see")
        for found in MARKS.findall(data):
            if found != self.own or self.spectates:
                self.world.fail(f"{self.name} was sent what only {found.decode()} may see")

    def check_position(self, room: Room, before: tuple[int, int]) -> None:
        """A client never goes back, unless its server forgot what it had seen."""
        if room.position < before:
            self.world.fail(f"{self.name}: {room.match_id} went back from {before} to {room.position}")


class Maker(User):
    """Creates matches."""

    async def create(self, game: str) -> str:
        """A new match; tries until there is one."""
        while True:
            client = SimClient(self)
            try:
                await client.connect()
                room = await client.create(game)
                await room.leave()
                return room.match_id
            except GameServerError as error:
                self.world.note(f"{self.name}: {error.code}")
                await asyncio.sleep(0.3)
            finally:
                await client.close()


class Player(User):
    """One user, in one match at a time."""

    def __init__(self, world: World, name: str, number: int, *, spectates: bool) -> None:
        super().__init__(world, name, spectates=spectates)
        self.client: SimClient | None = None
        self.room: Room | None = None
        self.acting = True
        self.shouts: set[int] = set()
        self._number = number * 100_000
        self._tasks: set[asyncio.Task[None]] = set()
        self._life = world.players_loop.create_task(self._live())

    # --- life ---------------------------------------------------------------------------------------------------------
    async def _live(self) -> None:
        while True:
            try:
                await self._visit()
            except GameServerError as error:
                self.world.note(f"{self.name}: {error.code}")
                await asyncio.sleep(self.random.uniform(0.1, 0.5))

    async def _visit(self) -> None:
        """One connection, from one match to the next."""
        world = self.world
        client = self.client = SimClient(self, direct=self.random.random() < 0.3)
        await client.connect()
        try:
            while not client._ended:
                match_id = world.some_match(self.random)
                if match_id is None:
                    await asyncio.sleep(0.1)
                    continue
                try:
                    room = await client.join(match_id, spectate=self.spectates)
                except MatchNotFound:
                    world.not_found(match_id)
                    await asyncio.sleep(0.3)
                    continue
                await self._play(room)
                if self.random.random() < 0.3:
                    return
        finally:
            self.room = None
            await client.close()

    async def _play(self, room: Room) -> None:
        """In one match, until something ends it."""
        self.room = room
        self.shouts.clear()
        room.on_event("shout", self._shouted)
        room.on_event("echo", self._echoed)
        while not room.closed and not (self.acting and self.random.random() < 0.01):
            if self.acting and not self.spectates and len(self._tasks) < 40:
                self._act(room)
            await asyncio.sleep(self.random.choice((0.001, 0.02, 0.05, 0.2, 0.6)))
        if not room.closed:
            self.room = None
            await room.leave()

    def _act(self, room: Room) -> None:
        self._number += 1
        name = self.random.choice(("put", "put", "put", "shout", "shout", "later", "refuse"))
        self.world.sent(room.match_id, name, self._number)
        if name != "refuse" and self.random.random() < 0.2:
            room.on_error(lambda name, error: None)
            try:
                room.send(name, self._number)
            except GameServerError:
                pass
            return
        task = asyncio.create_task(self._ask(room, name, self._number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, room: Room, name: str, number: int) -> None:
        try:
            answer = await room.action(name, number)
        except ActionRefused:
            if name != "refuse":
                self.world.fail(f"{self.name}: {name} {number} was refused")
        except GameServerError as error:
            self.world.unanswered(error.code)
        else:
            if answer != number or name == "refuse":
                self.world.fail(f"{self.name}: {name} {number} was answered with {answer!r}")
            self.world.acknowledged(room.match_id, name, number)

    # --- what it is told ----------------------------------------------------------------------------------------------
    def _shouted(self, number: int) -> None:
        if self.room is not None and self.world.was_refused(self.room.match_id, number):
            self.world.fail(f"{self.name} heard of {number}, which was refused")
        if number in self.shouts:
            self.world.twice(self.room.match_id if self.room else "", f"{self.name} heard of {number} twice")
        self.shouts.add(number)

    def _echoed(self, data: str) -> None:
        if data != mark(self.name):
            self.world.fail(f"{self.name} heard {data!r}")

    @property
    def unsettled(self) -> bool:
        """Does anything of it wait? Of what nobody waits for, every sixteenth is acknowledged."""
        room = self.room
        return room is None or room.closed or not room.connected or room.unacknowledged > 15 or bool(self._tasks)

    def describe(self) -> str:
        room = self.room
        if room is None:
            return f"{self.name}: no room"
        return (
            f"{self.name}: {room.match_id} at {room.position} connected={room.connected} closed={room.closed} "
            f"unacknowledged={room.unacknowledged} tasks={len(self._tasks)} "
            f"server={self.socket.server if self.socket else None}"
        )

    async def stop(self) -> None:
        """It goes."""
        for task in (self._life, *self._tasks):
            task.cancel()
        await asyncio.gather(self._life, *self._tasks, return_exceptions=True)

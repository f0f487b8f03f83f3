"""Players who act all the time through the SDK, and keep books of what they were told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from gameserver.access import Role, issue_token
from gameserver.client import Client, CloseReason, ConnectionClosed, ReconnectPolicy, Room
from gameserver.client.address import Address
from gameserver.client.link import Link
from gameserver.config import DEVELOPMENT_SECRET
from gameserver.errors import GameServerError
from tests.chaos.fleet import Fleet, Node

UNDER_WAY_MAX = 16
CONNECT_SECONDS = 3.0  # a node that is stopped takes connections and says nothing: the next one is tried soon
# Faults come every few seconds here: with the pauses of an unlucky day in between, nothing would be seen of the server.
IMPATIENT = ReconnectPolicy(delay_seconds_min=0.2, delay_seconds_max=2.0)
TOKEN_SECONDS = 6 * 3600
OUTCOME_UNKNOWN = b"outcome_unknown"


class Balanced(Client):
    """A client whose address stands for several nodes: each connection goes to the next of them.

    That is what a load balancer does that knows nothing. With one node it is a client of that node. `direct=True`: it
    goes on from there to the node that runs the match.
    """

    def __init__(self, nodes: Sequence[Node], fleet: Fleet, **options: Any) -> None:
        super().__init__(nodes[0].url, **options)
        self._nodes = itertools.cycle(nodes)
        self._by_address = {Address.parse(node.url).websocket: node for node in fleet.nodes}
        self.at: Node | None = None
        """Where the last connection was made to."""
        self.drops: list[str] = []
        """The nodes whose connection to this client was lost."""
        self.unknown = 0

    async def _open_link(self, address: Address) -> Link:
        node = next(self._nodes) if address in self._addresses else self._by_address[address.websocket]
        link = await super()._open_link(Address.parse(node.url))
        self.at = node
        return link

    def _lost(self, link: Link, error: GameServerError, reconnect: bool) -> None:
        if link is self._link and self._ended is None and self.at is not None:
            self.drops.append(self.at.name)
        super()._lost(link, error, reconnect)

    async def vanish(self) -> None:
        """Gone like a process that is killed: the sockets are closed, and nothing is said."""
        self._ended = ConnectionClosed()
        assert self._http is not None
        await self._http.close()
        await self.close()

    def _received(self, link: Link, data: bytes) -> None:
        # The SDK sends such actions again and says nothing: only here it can be seen.
        self.unknown += data.count(OUTCOME_UNKNOWN)
        super()._received(link, data)


@dataclass(slots=True)
class Books:
    """What one player knows. `sent` to `shouts` is since the last reckoning, the rest is for ever."""

    sent: list[int] = field(default_factory=list)
    """In the order in which the SDK took them."""
    acknowledged: set[int] = field(default_factory=set)
    shouted: list[int] = field(default_factory=list)
    """Those of them that made a HIGH event."""
    shouts: Counter[tuple[str, int]] = field(default_factory=Counter)
    """HIGH events that arrived."""
    errors: list[str] = field(default_factory=list)
    """What game code on the client saw go wrong."""
    went_back: int = 0
    """Times the position did not grow."""
    forks: int = 0
    """Times the state differed from what another client had at the same position."""
    not_recovered: int = 0
    room_drops: int = 0
    """Times the match was out of reach while the connection stood."""


class Watcher:
    """A spectator, and what all who are in a match have in common.

    `history` is shared by all of a match: what anyone saw at which position.
    """

    spectate = True

    def __init__(self, user: str, nodes: Sequence[Node], fleet: Fleet, *, direct: bool = False) -> None:
        token = issue_token(
            DEVELOPMENT_SECRET, user, Role.PLAYER, name=user, now=time.time(), ttl_seconds=TOKEN_SECONDS
        )
        self.user = user
        self._make_client = partial(
            Balanced, fleet=fleet, token=token, timeout_seconds=CONNECT_SECONDS, reconnect=IMPATIENT, direct=direct
        )
        self.client = self._make_client(nodes)
        self.books = Books()
        self.pause_seconds = 0.0
        """The longest time without a change in the match, since `watch_anew`."""
        self.epoch_at: float | None = None
        """When the match went on under another owner, since `watch_anew`."""
        self.acked_at: float | None = None
        """When the first action was acknowledged there."""
        self.watching = False
        """Are pauses measured?"""
        self._position = (0, 0)
        self._changed_at = 0.0

    async def enter(self, match_id: str, history: dict[tuple[int, int], int]) -> None:
        await self.client.connect()
        self._entered(await self.client.join(match_id, spectate=self.spectate), history)

    def _entered(self, room: Room, history: dict[tuple[int, int], int]) -> None:
        self.room = room
        self._history = history
        self._position, self._changed_at = room.position, time.monotonic()
        room.on_event("shout", self._heard)
        room.on_change(self._changed)
        room.on_disconnect(self._disconnected)
        room.on_reconnect(self._reconnected)
        room.on_close(self._closed)
        room.on_error(lambda name, error: self._note(f"{name}: {error.code}: {error.message}"))

    async def close(self) -> None:
        await self.client.close()

    def _closed(self, reason: CloseReason) -> None:
        self._note(f"room closed: {reason.code}: {reason.message}")

    def _note(self, error: str) -> None:
        self.books.errors.append(error)

    def watch_anew(self) -> None:
        """Measure from now on."""
        self.watching = True
        self.pause_seconds = 0.0
        self.epoch_at = self.acked_at = None
        self._changed_at = time.monotonic()

    def _heard(self, shout: list[Any]) -> None:
        self.books.shouts[shout[0], shout[1]] += 1

    def _changed(self, _changes: Any) -> None:
        now = time.monotonic()
        if self.watching:
            self.pause_seconds = max(self.pause_seconds, now - self._changed_at)
        self._changed_at = now
        self._look(now)

    def _look(self, now: float) -> None:
        position = self.room.position
        if position < self._position:
            self.books.went_back += 1
        if position[0] > self._position[0]:
            self.epoch_at, self.acked_at = now, None
        self._position = position
        puts = self.room.state.puts
        if self._history.setdefault(position, puts) != puts:
            self.books.forks += 1

    def _disconnected(self, error: GameServerError) -> None:
        if self.client.connected:
            self.books.room_drops += 1

    def _reconnected(self, recovered: bool) -> None:
        if not recovered:
            self.books.not_recovered += 1
            self._look(time.monotonic())


class Player(Watcher):
    """One who acts, while `acting` is set."""

    spectate = False

    def __init__(
        self, user: str, nodes: Sequence[Node], fleet: Fleet, random: Random, interval_seconds: float, **options: Any
    ) -> None:
        super().__init__(user, nodes, fleet, **options)
        self.acting = asyncio.Event()
        self.under_way: set[asyncio.Task[None]] = set()
        self.wait_seconds = 0.0
        """The longest time that an acknowledgement took, since `watch_anew`."""
        self.all_shouts: list[int] = []
        self.all_shouts_acknowledged: list[int] = []
        self._random = random
        self._interval_seconds = interval_seconds
        self._number = 0
        self._task: asyncio.Task[None] | None = None

    async def create(self, game: str, history: dict[tuple[int, int], int]) -> str:
        await self.client.connect()
        self._entered(await self.client.create(game), history)
        return self.room.match_id

    def _entered(self, room: Room, history: dict[tuple[int, int], int]) -> None:
        super()._entered(room, history)
        self._task = asyncio.create_task(self._act_always(), name=f"player {self.user}")

    async def close(self) -> None:
        await self.stop_acting()
        await super().close()

    async def stop_acting(self) -> None:
        """What is under way has no outcome, as far as this player knows."""
        tasks = [*self.under_way, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def watch_anew(self) -> None:
        super().watch_anew()
        self.wait_seconds = 0.0

    async def _act_always(self) -> None:
        while True:
            await self.acting.wait()
            await asyncio.sleep(self._interval_seconds * self._random.uniform(0.5, 1.5))
            if len(self.under_way) >= UNDER_WAY_MAX or not self.acting.is_set():
                continue
            kind = self._random.random()
            if kind < 0.2:
                self._put_quietly()
            else:
                self._start("put" if kind < 0.6 else "shout")

    def _put_quietly(self) -> None:
        number = self._number + 1
        try:
            self.room.send("put", number)
        except GameServerError as error:
            self._note(f"send: {error.code}: {error.message}")
            return
        self._number = number
        self.books.sent.append(number)

    def _start(self, name: str) -> None:
        task = asyncio.create_task(self.act(name))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    def _failed(self, name: str, error: GameServerError) -> None:
        self._note(f"{name}: {error.code}: {error.message}")

    async def act(self, name: str) -> None:
        """One action with the next number, to its outcome."""
        self._number = number = self._number + 1
        self.books.sent.append(number)
        if name == "shout":
            self.books.shouted.append(number)
            self.all_shouts.append(number)
        started = time.monotonic()
        try:
            answer = await self.room.action(name, number)
        except GameServerError as error:
            self._failed(name, error)
            return
        if answer != number:
            self._note(f"{name}: {number} was answered with {answer}")
            return
        now = time.monotonic()
        self.books.acknowledged.add(number)
        if name == "shout":
            self.all_shouts_acknowledged.append(number)
        self.wait_seconds = max(self.wait_seconds, now - started)
        if self.acked_at is None and self.epoch_at is not None:
            self.acked_at = now

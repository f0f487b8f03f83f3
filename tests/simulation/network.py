"""What lies between processes: the store's wire, the bus, and sockets. All of it can be slow, lossy or cut.

Whatever is on its way is nobody's: it arrives though who sent it was killed meanwhile, and waits for one who is paused.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gameserver.client.errors import ConnectionLost, ServerUnreachable, error_from_close
from gameserver.cluster.frames import payloads
from gameserver.errors import GameServerError, StoreUnavailable, should_reconnect
from gameserver.protocol import PING_FRAME
from gameserver.storage import Append, Outcome, Token
from gameserver.web.link import Link
from tests.simulation.loops import ProcessLoop
from tests.simulation.memory_bus import MemoryBus, MemoryWire
from tests.simulation.memory_journal import HeldMatch, MemoryJournal, MemoryServer

T = TypeVar("T")
Check = Callable[[bytes], None]

HIGH_WATER_BYTES = 4096  # what a transport buffers before it says that it is full
NEAR = (0.0002, 0.002)


@dataclass(slots=True)
class Weather:
    """How bad the network is."""

    slow: float = 0.0
    """This part of what is sent to the store and back takes as long as `slow_seconds`."""
    slow_seconds: tuple[float, float] = (0.05, 2.5)
    lost: float = 0.0
    """This part of what is sent to the store and back never arrives."""
    bus_lost: float = 0.0
    bus_slow: float = 0.0
    refused: bool = False
    """Nobody listens where the store was."""


Told = Callable[[list[Outcome] | StoreUnavailable], None]


class Line:
    """A connection to the store: all arrives in order, nothing after what was lost, and nothing once it is closed."""

    def __init__(self, way: StoreWay) -> None:
        self._way = way
        self._loop = asyncio.get_running_loop()
        self._session = way.process.world.store_session
        self._asked: deque[Told] = deque()
        self._there_at = self._back_at = 0.0
        self._lost = False
        self.closed = False

    def send(self, run: Callable[[], list[Outcome]], told: Told) -> None:
        self._asked.append(told)
        if self._way.refused:
            self._lost = True
            self._loop.call_later(NEAR[1], self.close)
        self._loop.call_later(self._way.deadline_seconds, self._look, told)
        seconds = self._way.seconds()
        self._lost = self._lost or seconds is None
        if not self._lost and seconds is not None:
            self._there_at = max(self._there_at + 1e-9, self._loop.time() + seconds)
            self._way.store_loop.call_at(self._there_at, self._arrived, run)

    def _arrived(self, run: Callable[[], list[Outcome]]) -> None:
        world = self._way.process.world
        if world.store_session != self._session:
            self._loop.call_later(0.001, self.close)  # a store that was started since knows nothing of it
            return
        outcomes = run()
        seconds = self._way.seconds()
        self._lost = self._lost or seconds is None
        if not self._lost and seconds is not None:
            self._back_at = max(self._back_at + 1e-9, self._loop.time() + seconds)
            self._loop.call_at(self._back_at, self._answered, outcomes)
        world.examine(self._way.process)

    def _answered(self, outcomes: list[Outcome]) -> None:
        if not self.closed:
            self._asked.popleft()(outcomes)

    def _look(self, told: Told) -> None:
        if told in self._asked:
            self.close()

    def close(self) -> None:
        self.closed = True
        while self._asked:
            self._asked.popleft()(StoreUnavailable("the connection was lost"))


class StoreWay(MemoryJournal):
    """The way of one process to the store."""

    def __init__(
        self, server: MemoryServer, process: Any, weather: Weather, rng: random.Random, *, deadline_seconds: float
    ) -> None:
        super().__init__(server)
        self.process = process
        self._weather = weather
        self._random = rng
        self.deadline_seconds = deadline_seconds
        self._line: Line | None = None
        self.store_loop: ProcessLoop = process.world.store_loop

    async def _call(self, run: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ProcessLoop)
        if self.refused:
            await asyncio.sleep(self._random.uniform(*NEAR))
            raise StoreUnavailable("nobody listens there")
        answer: asyncio.Future[T] = loop.create_future()
        there, back = self.seconds(), self.seconds()
        session = self.process.world.store_session

        def arrive() -> None:
            if self.process.world.store_session != session:
                return  # that store is gone
            try:
                result = run()
            except GameServerError as error:
                failure = error
                reply(lambda: answer.done() or answer.set_exception(failure))
            else:
                reply(lambda: answer.done() or answer.set_result(result))
            self.process.world.examine(self.process)

        def reply(call: Callable[[], Any]) -> None:
            if back is not None:
                loop.call_at(loop.time() + back, call)

        if there is not None:
            self.store_loop.call_at(loop.time() + there, arrive)
        try:
            async with asyncio.timeout(self.deadline_seconds):
                return await answer
        except TimeoutError:
            raise StoreUnavailable("no answer in time") from None

    def send(self, batch: Sequence[Append], told: Told) -> None:
        if self._line is None or self._line.closed:
            self._line = Line(self)
        self._line.send(lambda: [self._append(entry) for entry in batch], told)

    @property
    def refused(self) -> bool:
        """Does nobody listen there?"""
        return bool(self._weather.refused or self.process.cut_off)

    def seconds(self) -> float | None:
        """How long something takes to the store, or back; None: it is lost."""
        weather, rng = self._weather, self._random
        if rng.random() < weather.lost:
            return None
        return rng.uniform(*(weather.slow_seconds if rng.random() < weather.slow else NEAR))

    def _append(self, entry: Append) -> Outcome:
        held = self.server.get(entry.token.match_id)
        before = 0 if held is None else held.version
        outcome = super()._append(entry)
        self.process.world.appended(entry, outcome, before)
        return outcome

    def _fenced(self, token: Token) -> HeldMatch | None:
        held = super()._fenced(token)
        if held is not None:
            self.process.world.wrote(self.process, token.match_id, token.epoch)
        return held

    async def close(self) -> None:
        """Nothing to close."""


class SimWire(MemoryWire):
    """Carries messages by way of the store's process, to the loops of the buses on it."""

    def __init__(self, store_loop: ProcessLoop, weather: Weather, rng: random.Random) -> None:
        super().__init__()
        self._store_loop = store_loop
        self._weather = weather
        self._random = rng

    def carry(self, sender: MemoryBus, channel: str, payload: bytes) -> None:
        self.published[channel] += 1
        self._in_order(sender, self, self._store_loop, self._forward, channel, payload)

    def _forward(self, channel: str, payload: bytes) -> None:
        for receiver in list(self.buses):
            if receiver.connected and receiver.listens(channel) and self._random.random() >= self._weather.bus_lost:
                assert isinstance(receiver, SimBus)
                self._in_order(self, receiver, receiver.loop, receiver.arrived, channel, payload, receiver.session)

    def _in_order(self, one: object, other: object, loop: ProcessLoop, call: Callable[..., None], *args: Any) -> None:
        seconds = self._random.uniform(*((0.05, 0.8) if self._random.random() < self._weather.bus_slow else NEAR))
        due = loop.time() + seconds
        if not self.reorder:
            key = (id(one), id(other))
            due = self._latest[key] = max(due, self._latest.get(key, 0.0) + 1e-9)
        loop.call_at(due, call, *args)


class SimBus(MemoryBus):
    """The bus of one process."""

    def __init__(self, wire: SimWire, name: str, loop: ProcessLoop) -> None:
        super().__init__(wire, name)
        self.loop = loop


class Socket:
    """One WebSocket. The server's end is a socket and its transport; the client's is an SDK's link."""

    def __init__(self, server: Any, client_loop: ProcessLoop, rng: random.Random, check: Check) -> None:
        self.server = server
        self.server_loop: ProcessLoop = server.loop
        self.client_loop = client_loop
        self.connection: Any = None
        self.stalled_until = 0.0
        self._check = check
        self._random = rng
        self._waiting_bytes = 0
        self._down_at = self._up_at = 0.0
        self._closing = False  # the server's end
        self._over = False  # the client's end
        self._on_message: Callable[[bytes], None] | None = None
        self._on_end: Callable[[GameServerError, bool], None] | None = None
        self._early: list[bytes] = []

    # --- the server's end ---------------------------------------------------------------------------------------------
    @property
    def transport(self) -> Socket:
        return self

    @property
    def writing_paused(self) -> bool:
        return self._waiting_bytes > HIGH_WATER_BYTES

    def get_write_buffer_size(self) -> int:
        return self._waiting_bytes

    def is_closing(self) -> bool:
        return self._closing

    def write(self, *args: Any, **kwargs: Any) -> None:
        """Bytes, from whichever end: the running process tells."""
        if asyncio.get_running_loop() is self.client_loop:
            self._up(*args)
        else:
            self.writelines(args)

    def writelines(self, frames: Sequence[bytes]) -> None:
        if self._closing:
            return
        for data in frames:
            self._check(data)
            self._waiting_bytes += len(data)
            self._down(self._arrived, data)

    def _down(self, call: Callable[..., None], *args: Any) -> None:
        now = self.client_loop.time()
        self._down_at = max(self._down_at + 1e-9, now + self._random.uniform(*NEAR), self.stalled_until)
        self.client_loop.call_at(self._down_at, call, *args)

    async def close(self, code: int = 1000, message: bytes = b"") -> None:
        """Of both ends."""
        if asyncio.get_running_loop() is self.client_loop:
            self._over = True
            self._up_later(self.server_closed)
        elif not self._closing:
            self._closing = True
            self._down(self._ended, error_from_close(code, message.decode()), should_reconnect(code))
            await asyncio.sleep(0.002)

    def abort(self, error: GameServerError | None = None) -> None:
        """Of both ends."""
        if asyncio.get_running_loop() is self.client_loop:
            self._ended(error or ConnectionLost("given up"), True)
            self._up_later(self.server_closed)
        else:
            self.cut()
            self.server_loop.call_soon(self.server_closed)

    def cut(self) -> None:
        """The connection is gone; the client notices."""
        self._closing = True
        self._down(self._ended, ConnectionLost("the connection was lost"), True)

    def server_closed(self) -> None:
        """The server has noticed that it is gone."""
        self._closing = True
        connection, self.connection = self.connection, None
        if connection is not None:
            self.server.connections.closed(connection, None)
            self.server.sockets.discard(self)

    def _heard(self, data: bytes) -> None:
        if self.connection is not None and not self._closing:
            self.connection.heard_at = self.server_loop.time()
            if data:
                self.connection.feed(data)

    # --- the client's end ---------------------------------------------------------------------------------------------
    def start(self, on_message: Callable[[bytes], None], on_end: Callable[[GameServerError, bool], None]) -> None:
        self._on_message, self._on_end = on_message, on_end

    def pace(self, messages_per_second: float) -> None:
        """Players here are never that quick."""

    def _up(self, data: bytes) -> None:
        if not self._over:
            self._up_later(self._heard, data)

    def _up_later(self, call: Callable[..., None], *args: Any) -> None:
        self._up_at = max(self._up_at + 1e-9, self.client_loop.time() + self._random.uniform(*NEAR))
        self.server_loop.call_at(self._up_at, call, *args)

    def _arrived(self, data: bytes) -> None:
        self._waiting_bytes -= len(data)
        if self._over or self._on_message is None:
            return
        if data == PING_FRAME:
            self._up(b"")
            return
        for payload in payloads(data):
            if not self._over:
                self._on_message(payload)

    def _ended(self, error: GameServerError, reconnect: bool) -> None:
        if not self._over:
            self._over = True
            if self._on_end is not None:
                self._on_end(error, reconnect)


class SocketLink(Link):
    """The server's way to a socket."""

    def __init__(self, socket: Socket) -> None:
        super().__init__(socket)  # type: ignore[arg-type] # a transport as far as a link needs one
        self._simulated = socket

    def buffered_bytes(self) -> int:
        return self._simulated.get_write_buffer_size() if self._simulated.writing_paused else 0

    async def close(self, close_code: int, reason: bytes) -> None:
        await self._simulated.close(close_code, reason)


async def connected(server: Any, client_loop: ProcessLoop, rng: random.Random, check: Check) -> Socket:
    """Open a socket from a client's process to a server, through its handshake. Raises `ServerUnreachable`."""
    await asyncio.sleep(rng.uniform(*NEAR))
    if server is None or server.loop.killed or not server.listening:
        raise ServerUnreachable("nobody listens there")
    socket = Socket(server, client_loop, rng, check)
    accepted: asyncio.Future[bool] = client_loop.create_future()

    def shake() -> None:
        done = server.accept(socket)
        client_loop.call_later(rng.uniform(*NEAR), lambda: accepted.done() or accepted.set_result(done))

    server.loop.call_later(rng.uniform(*NEAR), shake)
    try:
        async with asyncio.timeout(3.0):
            if await accepted:
                return socket
    except TimeoutError:
        pass
    raise ServerUnreachable("no handshake")

"""Whole servers on virtual time: a production `ClusterNode` and its connections, in a process of their own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gameserver.cluster import ClusterNode, GameRegistry, LoopClock, RecordEffects, Surroundings
from gameserver.errors import ConfigError, GameServerError, ServerDraining, StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.web.connections import Connections
from gameserver.web.context import Authenticator, SocketLimits
from tests.simulation.diary import GAMES
from tests.simulation.network import SimBus, Socket, SocketLink, StoreWay

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")

WALL = 1e9  # the time of day when the simulation's clock shows 0
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


class InOrder(dict[T, None]):
    """A set that keeps its order."""

    def add(self, item: T) -> None:
        self[item] = None

    def discard(self, item: T) -> None:
        self.pop(item, None)


class Seen:
    """What the sockets' server notes about users: nothing."""

    def seen(self, user: str, name: str) -> None:
        """A user has come."""


class Records:
    """The document store's end: takes records after a moment, each key once."""

    def __init__(self, world: World, process: ServerProcess) -> None:
        self._world = world
        self._process = process

    def record(
        self, kind: str, match_id: str, data: Mapping[str, Any], priority: int = 1, *, key: str | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> bool:  # fmt: skip
        seconds = self._process.random.uniform(0.01, 0.6)
        self._process.loop.call_later(seconds, self._store, match_id, dict(data), key, on_done)
        return True

    def _store(
        self, match_id: str, data: dict[str, Any], key: str | None, on_done: Callable[[], None] | None
    ) -> None:
        if key not in self._world.record_keys:
            self._world.record_keys.add(key)
            self._world.recorded(match_id, data["number"])
        if on_done is not None:
            on_done()


class ServerProcess:
    """One process that runs a node. Started again it is another one."""

    def __init__(self, world: World, name: str, roles: Sequence[str]) -> None:
        self.world = world
        self.name = name
        self.roles = tuple(roles)
        world.processes += 1
        self.id = f"{name}.{world.processes}"
        self.random = random.Random(f"{world.seed}:{self.id}")
        self.loop = world.timeline.process(self.id)
        self.bus = SimBus(world.wire, self.id, self.loop)
        self.cut_off = False
        self.listening = False
        self.stopping = False
        self.stopped = False
        self.sockets = InOrder[Socket]()
        self.node: ClusterNode
        self.connections: Connections
        self.started = world.timeline.within(self.loop, lambda: self.loop.create_task(self._start()))
        self.ended: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return self.id

    @property
    def alive(self) -> bool:
        """Is there such a process, paused or not?"""
        return not (self.loop.killed or self.stopped)

    @property
    def running(self) -> bool:
        """Is it a server that does something?"""
        return self.alive and self.listening and not self.loop.paused

    # --- life ---------------------------------------------------------------------------------------------------------
    async def _start(self) -> None:
        """As often as it takes: whoever supervises processes starts one again that has ended."""
        while True:
            node = self._build()
            try:
                await node.start()
            except (ConfigError, StoreUnavailable):
                await node.stop_claiming()
                await node.stop()
                await node.writer.stop(0.0)
                await node.snapshotter.stop(10.0)
                await asyncio.sleep(0.5)
                continue
            self.connections._heartbeat.start()
            node.address = f"ws://{self.name}"
            self.listening = True
            return

    def _build(self) -> ClusterNode:
        world, loop = self.world, self.loop
        clock = LoopClock()
        clock.wall = lambda: loop.time() + WALL
        around = Surroundings(
            journal=self._way(1.0), open_renewals=lambda: self._way(0.5), bus=self.bus,
            records=RecordEffects(Records(world, self)), documents=None, clock=clock, lease_clock=loop.time,
            wall=clock.wall, perf=loop.time, threaded=False, new_id=self._new_id,
            new_seed=lambda: self.random.getrandbits(63),
        )  # fmt: skip
        settings = world.settings(self.roles)
        self.node = ClusterNode(self.name, GameRegistry(GAMES), settings, around, Metrics())
        self.connections = Connections(
            self.node.host, Seen(), Authenticator(settings.auth, clock.wall), Metrics(),  # type: ignore[arg-type]
            SocketLimits.from_settings(settings),
        )  # fmt: skip
        # Sets of objects have another order in each run.
        self.connections._open = self.connections._heartbeat._connections = InOrder()  # type: ignore[assignment]
        return self.node

    def _way(self, deadline_seconds: float) -> StoreWay:
        world = self.world
        return StoreWay(world.server, self, world.weather, self.random, deadline_seconds=deadline_seconds)

    def _new_id(self) -> str:
        return "".join(self.random.choice(LETTERS) for _ in range(12))

    # --- what happens to it -------------------------------------------------------------------------------------------
    def crash(self) -> None:
        """Gone, in the middle of whatever."""
        self.loop.kill()
        self._vanish()

    def _vanish(self) -> None:
        self.listening = False
        if self.bus in self.world.wire.buses:
            self.world.wire.buses.remove(self.bus)
        for socket in self.sockets:
            socket.cut()
        self.sockets.clear()

    def pause(self) -> None:
        """SIGSTOP."""
        self.loop.pause()

    def go_on(self) -> None:
        """SIGCONT."""
        self.loop.go_on()

    def terminate(self) -> None:
        """SIGTERM."""
        if not self.stopping:
            self.stopping = True
            self.ended = self.world.timeline.within(self.loop, lambda: self.loop.create_task(self._stop()))

    async def _stop(self) -> None:
        """As `Application.stop` does it, without its stores."""
        await self.started
        node, seconds, began = self.node, 8.0, self.loop.time()
        await node.stop_claiming()
        await node.hand_over(seconds * 0.4)
        left = seconds - (self.loop.time() - began)
        saving = asyncio.create_task(node.host.stop(left * 0.5), name="final snapshots")
        await asyncio.sleep(0)
        await self.connections.close_all(ServerDraining(), 1.0)
        await asyncio.gather(saving, return_exceptions=True)
        self.connections.stop()
        await node.stop()
        await self.bus.close()
        await asyncio.sleep(1.0)  # what was told to stop has stopped by now
        self.stopped = True
        left_over = [task.get_name() for task in self.loop.unfinished() if task is not asyncio.current_task()]
        if left_over:
            self.world.fail(f"{self} has left tasks behind: {left_over}")
        self._vanish()
        self.loop.kill()

    # --- sockets ------------------------------------------------------------------------------------------------------
    def accept(self, socket: Socket) -> bool:
        """The handshake; runs in this process."""
        try:
            self.connections.check_room()
        except GameServerError:
            return False
        socket.connection = self.connections.open(socket, SocketLink(socket))  # type: ignore[arg-type]
        self.sockets.add(socket)
        return True

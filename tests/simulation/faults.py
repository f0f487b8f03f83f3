"""What goes wrong, drawn from the seed: servers crash, stand still and leave, the network and the store fail."""

from __future__ import annotations

import asyncio
import copy
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.network import Weather

if TYPE_CHECKING:
    from tests.simulation.servers import ServerProcess
    from tests.simulation.world import World

POINT_SECONDS = 0.4
POINTS_MAX = 6


class Faults:
    """One fault after the other; `mend` ends them all."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random.Random(f"{world.seed}:faults")
        self._points: deque[object] = deque(maxlen=POINTS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._roles = {name: server.roles for name, server in world.servers.items()}
        draw = self._random.random
        kinds: list[tuple[float, Callable[[], None]]] = [
            (3, self.crash), (2, self.pause_shortly), (2, self.pause_long), (2, self.terminate), (1, self.cut_off),
            (1, self.store_slow), (1, self.store_lossy), (1, self.store_refuses), (1, self.store_hangs),
            (1, self.store_restarts), (1, self.bus_lossy), (1, self.bus_slow), (1, self.bus_reorders),
            (1, self.bus_cut), (2, self.socket_cut), (2, self.socket_stalls), (1, self.store_rewinds),
            (0.5, self.store_wiped),
        ]  # fmt: skip
        # A seed has some kinds and not others: what is rare elsewhere is common there.
        self._kinds = [(weight * draw(), kind) for weight, kind in kinds if draw() < 0.6] or kinds

    async def run(self, seconds: float) -> None:
        """Let things go wrong for so long."""
        world, until = self._world, self._world.timeline.now + seconds
        keeping = asyncio.create_task(self._keep_points())
        while world.timeline.now < until:
            await asyncio.sleep(self._random.uniform(0.05, 1.2))
            [(_, kind)] = self._random.choices(self._kinds, [weight for weight, _ in self._kinds])
            kind()
            world.raise_broken()
        keeping.cancel()

    async def mend(self) -> None:
        """Everything works again, soon."""
        world = self._world
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._clear()
        if world.store_loop.paused:
            world.store_loop.go_on()
        for server in list(world.servers.values()):
            if server.loop.paused:
                server.go_on()
            server.cut_off = False
            if not server.bus.connected and server.alive and not server.stopping:
                world.timeline.within(server.loop, server.bus.mend)
        for name in list(self._roles):
            server = world.servers[name]
            if server.stopping and server.alive:
                await asyncio.sleep(10.0)
            if not server.alive:
                self._restart(name)
        world.note("all is well again")

    def _clear(self) -> None:
        clear = Weather()
        for name in clear.__slots__:
            setattr(self._world.weather, name, getattr(clear, name))
        self._world.wire.reorder = False

    # --- helpers ------------------------------------------------------------------------------------------------------
    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            call()

        task = asyncio.create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _server(self) -> ServerProcess | None:
        found = [server for server in self._world.servers.values() if server.running and not server.stopping]
        return self._random.choice(found) if found else None

    def _note(self, text: str) -> None:
        self._world.note(f"FAULT {text}")

    def _restart(self, name: str) -> None:
        """The same id, or another one in its place."""
        world = self._world
        before = world.servers[name]
        if before.alive:
            return
        roles = self._roles.pop(name)
        if self._random.random() < 0.3:
            del world.servers[name]
            name = f"{name[0]}{world.processes}"
        self._roles[name] = roles
        world.start_server(name, roles)
        self._note(f"{world.servers[name]} starts")

    # --- servers ------------------------------------------------------------------------------------------------------
    def crash(self) -> None:
        server = self._server()
        if server is not None:
            self._note(f"{server} crashes")
            self._world.hurt(server)
            server.crash()
            self._later(self._random.choice((0.05, 0.5, 1.5, 3.0, 5.0)), lambda: self._restart(server.name))

    def pause_shortly(self) -> None:
        self._pause(self._random.uniform(0.05, 0.9))

    def pause_long(self) -> None:
        self._pause(self._random.uniform(1.5, 9.0))

    def _pause(self, seconds: float) -> None:
        server = self._server()
        if server is not None:
            self._note(f"{server} stands still for {seconds:.2f} s")
            self._world.hurt(server)
            server.pause()
            self._later(seconds, lambda: server.loop.paused and server.go_on())

    def terminate(self) -> None:
        server = self._server()
        if server is None:
            return
        self._note(f"{server} is told to stop")
        self._world.hurt(server)
        server.terminate()

        def again() -> None:
            if server.alive:
                self._later(0.5, again)
            else:
                self._restart(server.name)

        self._later(2.0, again)

    def cut_off(self) -> None:
        server = self._server()
        if server is not None:
            self._note(f"{server} cannot reach the store")
            self._world.hurt(server)
            server.cut_off = True
            self._later(self._random.uniform(0.2, 6.0), lambda: setattr(server, "cut_off", False))

    # --- the store and its wire ---------------------------------------------------------------------------------------
    def _weather(self, name: str, value: object, calm: object, seconds: float) -> None:
        self._note(f"{name} {value} for {seconds:.2f} s")
        self._world.hurt()
        setattr(self._world.weather, name, value)
        self._later(seconds, lambda: setattr(self._world.weather, name, calm))

    def store_slow(self) -> None:
        self._weather("slow", self._random.choice((0.02, 0.3)), 0.0, self._random.uniform(0.5, 4.0))

    def store_lossy(self) -> None:
        self._weather("lost", self._random.choice((0.02, 0.3)), 0.0, self._random.uniform(0.5, 4.0))

    def store_refuses(self) -> None:
        seconds = self._random.choice((0.1, 1.0, 3.0, 7.0))
        self._cut_buses(seconds)
        self._weather("refused", True, False, seconds)

    def _cut_buses(self, seconds: float) -> None:
        for server in self._world.servers.values():
            self._cut_bus(server, seconds)

    def _cut_bus(self, server: ServerProcess, seconds: float) -> None:
        if server.alive and server.bus.connected:
            server.bus.cut()
            self._later(seconds, lambda: self._mend_bus(server))

    def _mend_bus(self, server: ServerProcess) -> None:
        if server.alive and not server.bus.connected and server.bus in self._world.wire.buses:
            server.loop.call_soon(server.bus.mend)

    def store_hangs(self) -> None:
        loop, seconds = self._world.store_loop, self._random.uniform(0.2, 5.0)
        if not loop.paused:
            self._note(f"the store stands still for {seconds:.2f} s")
            self._world.hurt()
            loop.pause()
            self._later(seconds, lambda: loop.paused and loop.go_on())

    def store_restarts(self) -> None:
        self._note("the store is restarted")
        self._world.hurt()
        self._world.store_session += 1
        self._world.server.restart()
        self._cut_buses(0.3)

    async def _keep_points(self) -> None:
        server = self._world.server
        while True:
            self._points.append(server.save_point())
            await asyncio.sleep(POINT_SECONDS)

    def store_rewinds(self) -> None:
        if self._points:
            self._note("the store is restarted with an older copy")
            self._replace(lambda: self._world.server.rewind(self._random.choice(self._points)))

    def store_wiped(self) -> None:
        self._note("the store comes back empty")
        self._replace(self._world.server.wipe)

    def _replace(self, change: Callable[[], None]) -> None:
        world = self._world
        before = copy.copy(world.server.matches)
        kept = {name: copy.copy(held) for name, held in before.items()}
        world.store_session += 1
        change()
        world.store_lost(kept)
        self._points.clear()
        self._cut_buses(0.2)

    # --- the bus ------------------------------------------------------------------------------------------------------
    def bus_lossy(self) -> None:
        self._weather("bus_lost", self._random.choice((0.02, 0.2)), 0.0, self._random.uniform(0.5, 4.0))

    def bus_slow(self) -> None:
        self._weather("bus_slow", self._random.choice((0.02, 0.2)), 0.0, self._random.uniform(0.5, 4.0))

    def bus_reorders(self) -> None:
        wire, seconds = self._world.wire, self._random.uniform(0.5, 4.0)
        self._note(f"the bus loses its order for {seconds:.2f} s")
        wire.reorder = True
        self._later(seconds, lambda: setattr(wire, "reorder", False))

    def bus_cut(self) -> None:
        server = self._server()
        if server is not None:
            self._note(f"the bus of {server} is cut")
            self._cut_bus(server, self._random.uniform(0.05, 3.0))

    # --- sockets ------------------------------------------------------------------------------------------------------
    def socket_cut(self) -> None:
        player = self._random.choice(self._world.players)
        socket = player.socket
        if socket is not None and socket.connection is not None:
            self._note(f"the socket of {player.name} is cut")
            socket.cut()
            socket.server_loop.call_later(self._random.choice((0.01, 1.0)), socket.server_closed)

    def socket_stalls(self) -> None:
        player, seconds = self._random.choice(self._world.players), self._random.choice((0.3, 2.0, 6.0))
        if player.socket is not None:
            self._note(f"{player.name} does not read for {seconds} s")
            player.socket.stalled_until = self._world.timeline.now + seconds

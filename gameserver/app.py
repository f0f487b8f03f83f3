"""The composition root: every object of a server is built here, once, and started and stopped in order.

Start: stores → bus → the node (its lease, its matches: `cluster/node.py`) → web (the port opens last).
Stop:  refuse newcomers → hand over or save matches, and close connections meanwhile → web → node → bus → stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import structlog

from gameserver import __version__
from gameserver.cluster import (
    ClusterNode,
    DrainState,
    GameRegistry,
    LoopClock,
    Pace,
    Presence,
    RecordEffects,
    Stuck,
    Surroundings,
    Watchdog,
    lease_store,
)
from gameserver.errors import ConfigError
from gameserver.logs import configure_logging
from gameserver.match import engine
from gameserver.metrics import Metrics
from gameserver.storage import RedisBus, RedisPresence, mark_suspect, open_stores
from gameserver.web import Admin, PresenceRoutes, WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gameserver.cluster import Host
    from gameserver.config import Settings
    from gameserver.match import Game
    from gameserver.storage import Stores

log = structlog.get_logger("gameserver")

COMPILED = not engine.__file__.endswith(".py")  # `make compile`: the same code for less CPU
LAG_PROBE_SECONDS = 0.25
REPEATED_SIGNAL_SECONDS = 1.0
GC_THRESHOLDS = (20_000, 20, 50)  # matches free what they use by counting references; cycles are rare and small
EXIT_GRACE_SECONDS = 1.5
WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
CLOSE_SECONDS = 3.0  # how long clients have to answer the close; they are told at the same time


def default_node_id(settings: Settings) -> str:
    """The same after a restart, so that a node may claim at once what it ran before it was killed."""
    if settings.redis.url is None:
        return "local"  # an embedded store has one user
    port = settings.server.port or secrets.token_hex(4)  # a port of its own each time: no name to come back to
    return f"{socket.gethostname()}:{port}"


def direct_address(settings: Settings, port: int) -> str:
    """Where clients reach this very process, for those who may go around the load balancer."""
    if settings.cluster.address is not None:
        return settings.cluster.address
    host = settings.server.host
    shown = socket.gethostname() if host in WILDCARDS else host
    return f"ws://{bracketed(shown)}:{settings.server.direct_port or port}"


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[None]:
    """Say what is wrong with the address, and what to do."""
    server = settings.server
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {server.host}:{server.port}: {error.strerror or error}. "
            "Stop what uses it, or choose another port (--port, server.port or GAMESERVER__SERVER__PORT)."
        ) from None


def try_port(settings: Settings) -> None:
    """Raises OSError if the port is taken, unless it is shared."""
    server = settings.server
    if server.port == 0 or server.reuse_port:
        return
    for family, kind, protocol, _, address in socket.getaddrinfo(
        server.host or None, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)


class Application:
    """One server in this process. `start` it, `stop` it; not again after that."""

    def __init__(self, settings: Settings, games: Iterable[type[Game]]) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.registry = GameRegistry(games)
        if not len(self.registry):
            raise ConfigError("There is no game to run.")
        self.name = settings.server.node_id or default_node_id(settings)
        self.stores: Stores | None = None
        self.bus: RedisBus | None = None
        self.web: WebServer | None = None
        self._node: ClusterNode | None = None
        self._draining: asyncio.Task[None] | None = None
        self._presence: Presence | None = None
        self._lag_probe: asyncio.Task[None] | None = None

    @property
    def node(self) -> ClusterNode:
        """What runs the matches, once the server has started."""
        assert self._node is not None, "start() makes the node"  # noqa: S101 - an invariant
        return self._node

    @property
    def host(self) -> Host:
        """The matches of this node."""
        return self.node.host

    @property
    def url(self) -> str:
        """Where it can be reached from this machine."""
        host = self.settings.server.host
        port = self.web.port if self.web is not None else self.settings.server.port
        return f"http://{bracketed('127.0.0.1' if host in WILDCARDS else host)}:{port}"

    async def start(self) -> None:
        """Open the stores, restore the matches, open the port. When anything fails, what was started is stopped."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings, metrics = self.settings, self.metrics
        started = time.monotonic()
        with listening(settings):  # found out at once, not after everything has been started
            try_port(settings)
        stores = self.stores = await open_stores(settings, metrics)
        self.bus = RedisBus(stores.redis_url, settings.redis)
        node = self._node = ClusterNode(
            self.name, self.registry, settings, self._surroundings(stores, self.bus), metrics
        )
        running = await node.start()
        self._lag_probe = asyncio.create_task(self._probe_lag(), name="loop lag probe")
        admin = Admin(self.name, self.begin_drain, lambda: self.drain_state, stores.journal.nodes)
        presence = RedisPresence(stores.redis, prefix=settings.redis.prefix)
        self.web = WebServer(
            settings,
            node.host,
            metrics,
            documents=stores.documents,
            check=self._check,
            update_metrics=node.update_metrics,
            version=__version__,
            more_routes=(*admin.routes(), *PresenceRoutes(presence).routes()),
        )
        seconds = settings.server.presence_seconds
        moved = self.web.connections.take_moved
        self._presence = Presence(presence, self.name, moved, LoopClock(), ttl_seconds=seconds)
        self._presence.start()
        with listening(settings):
            await self.web.start()
        node.address = direct_address(settings, self.web.port)
        log.info(
            "server_started",
            url=self.url,
            node=self.name,
            games=list(self.registry),
            restored=running,
            mode=settings.server.mode,
            compiled=COMPILED,
            seconds=round(time.monotonic() - started, 2),
        )

    def _surroundings(self, stores: Stores, bus: RedisBus) -> Surroundings:
        settings, clock = self.settings, LoopClock()
        url, pace = stores.redis_url, Pace.of(settings.cluster)
        return Surroundings(
            journal=stores.journal,
            open_renewals=lambda: lease_store(url, settings.redis, pace),
            bus=bus,
            records=RecordEffects(stores.records),
            documents=stores.documents,
            clock=clock,
            sole=settings.redis.url is None,
        )

    async def _check(self) -> dict[str, str | None]:
        """For readiness: each thing that players need, and what is wrong with it."""
        assert self.stores is not None  # noqa: S101 - asked by the web server, which stops first
        return {**await self.stores.check(), **self.node.problems()}

    @property
    def drain_state(self) -> DrainState:
        """How far this node is with handing over its matches."""
        return self._node.drain.state if self._node is not None else DrainState()

    def begin_drain(self) -> None:
        """Hand everything over, in the background. The process goes on: it answers that it is not ready."""
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self.drain(self.settings.server.drain_seconds), name="draining")

    async def drain(self, seconds: float) -> None:
        """Matches go to other nodes, or wait in the store for one; then their players are sent after them."""
        if self._node is None or self.web is None:
            return
        self.host.draining = True
        await self.web.leave_shared_port()
        state = await self._node.hand_over(seconds)
        if state.left == 0:
            await self.web.close_connections(CLOSE_SECONDS)

    async def stop(self) -> None:
        """Stop in order, within `server.drain_seconds`. What was acknowledged is saved before clients are sent away."""
        seconds = self.settings.server.drain_seconds
        started = time.monotonic()
        node = self._node
        if self._lag_probe is not None:
            self._lag_probe.cancel()
        if node is not None and self.stores is not None:
            await node.stop_claiming()
            if self.web is not None:
                await self.web.leave_shared_port()
                await node.hand_over(seconds * 0.4)
            # What could not be handed over is frozen, so that nothing is acknowledged after the last snapshot.
            seconds_left = seconds - (time.monotonic() - started)
            saving = asyncio.gather(
                node.host.stop(seconds_left * 0.5),
                self.stores.records.flush(self.settings.records.close_seconds),  # ended matches wait for their records
                return_exceptions=True,
            )
            await asyncio.sleep(0)
            if self.web is not None:
                await self.web.close_connections(min(CLOSE_SECONDS, seconds_left * 0.4))
            await saving
        if self.web is not None:
            await self.web.stop()
        if self._presence is not None:
            await self._presence.stop()
        if node is not None:
            await node.stop()
        if self.bus is not None:
            await self.bus.close()
        stores, self.stores = self.stores, None
        if stores is not None:
            try:
                async with asyncio.timeout(max(1.0, seconds - (time.monotonic() - started))):
                    await stores.close()
            except TimeoutError:
                log.error("stores_not_closed", reason="they do not answer; embedded ones are killed with the server")
            log.info("server_stopped", seconds=round(time.monotonic() - started, 2))

    def mark_suspect(self, stuck: Stuck) -> None:
        """Called by the watchdog, in a thread of its own, while the loop stands still."""
        if self.stores is not None:
            reason = f"{stuck.method} did not return for {stuck.seconds:.1f} s"
            prefix = self.settings.redis.prefix
            mark_suspect(self.stores.redis_url, prefix, stuck.match_id, self.name, stuck.epoch, reason)

    async def _probe_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PROBE_SECONDS
            await asyncio.sleep(LAG_PROBE_SECONDS)
            self.metrics.loop_lag_seconds.set(max(0.0, loop.time() - due))


async def serve(application: Application, on_started: Callable[[Application], None] | None = None) -> None:
    """Run until SIGTERM or Ctrl-C; a second signal is not waited for."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    task = asyncio.current_task()

    asked_at = 0.0

    def on_signal(number: signal.Signals) -> None:
        nonlocal asked_at
        if stop.is_set():
            # A terminal or `make` sends one signal twice: only somebody who asks again means it.
            if loop.time() - asked_at > REPEATED_SIGNAL_SECONDS:
                sys.exit(128 + number)
            return
        asked_at = loop.time()
        log.info("stopping", signal=number.name)
        stop.set()
        exit_at_the_latest(application.settings.server.drain_seconds + EXIT_GRACE_SECONDS)
        if application.web is None and task is not None:
            task.cancel()  # still starting: give that up

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    watchdog = Watchdog(application.settings.server.watchdog_seconds, application.mark_suspect)
    watchdog.start(loop)
    try:
        await application.start()
        spare_the_collector()
        if on_started is not None:
            on_started(application)
        await stop.wait()
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        await application.stop()
        watchdog.stop()


def spare_the_collector() -> None:
    """What is there after the start stays: a full collection that walks it all again stops every match meanwhile."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def exit_at_the_latest(seconds: float) -> None:
    """Whatever hangs (a store, a thread of a driver, a game that never returns): the process ends by then, with 1."""

    def leave() -> None:
        log.error("stop_took_too_long", seconds=seconds)
        logging.shutdown()
        os._exit(1)

    watchdog = threading.Timer(seconds, leave)
    watchdog.daemon = True
    watchdog.start()


def run(
    settings: Settings, games: Iterable[type[Game]], on_started: Callable[[Application], None] | None = None
) -> None:
    """Run a server in this process until it is told to stop."""
    configure_logging(settings.log)
    if settings.server.node_id is not None:  # several nodes may write to one log
        structlog.contextvars.bind_contextvars(node=settings.server.node_id)

    async def main() -> None:
        await serve(Application(settings, games), on_started)

    try:
        import uvloop
    except ImportError:  # no wheel for this platform: the standard loop is slower, not different
        asyncio.run(main())
    else:
        uvloop.run(main())

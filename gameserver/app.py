"""The composition root: every object of a server is built here, once, and started and stopped in order.

Start: stores → snapshotter, archive, host → restored matches → web (the port opens last).
Stop:  refuse newcomers → freeze and save matches, and close connections meanwhile → web → stores.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import structlog

from gameserver import __version__
from gameserver.cluster import (
    Archive,
    ArrivalPolicy,
    Arrivals,
    Drain,
    DrainState,
    Fanout,
    FanoutLimits,
    GameRegistry,
    Handover,
    Hibernator,
    Host,
    HostLimits,
    JournalPolicy,
    JournalWriter,
    LoopClock,
    Meters,
    OpenGate,
    Presence,
    RecentLimits,
    RecordEffects,
    RoutedEffects,
    Services,
    SnapshotPolicy,
    Snapshotter,
    Stuck,
    Topics,
    Watchdog,
    claim_all,
    load_all,
)
from gameserver.errors import ConfigError
from gameserver.logs import configure_logging
from gameserver.metrics import Metrics
from gameserver.storage import RedisBus, RedisPresence, mark_suspect, open_stores
from gameserver.web import Admin, PresenceRoutes, WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gameserver.config import Settings
    from gameserver.match import Game
    from gameserver.storage import Stores

log = structlog.get_logger("gameserver")

LAG_PROBE_SECONDS = 0.25
REPEATED_SIGNAL_SECONDS = 1.0
GC_THRESHOLDS = (20_000, 20, 50)  # matches free what they use by counting references; cycles are rare and small
EXIT_GRACE_SECONDS = 1.5
CLOSE_SECONDS = 3.0  # how long clients have to answer the close; they are told at the same time


def default_node_id(settings: Settings) -> str:
    """The same after a restart, so that a node may claim at once what it ran before it was killed."""
    if settings.redis.url is None:
        return "local"  # an embedded store has one user
    return f"{socket.gethostname()}:{settings.server.port}"


class Application:
    """One server in this process. `start` it, `stop` it; not again after that."""

    def __init__(self, settings: Settings, games: Iterable[type[Game]]) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.registry = GameRegistry(games)
        if not len(self.registry):
            raise ConfigError("There is no game to run.")
        self.host = Host(self.registry, HostLimits(matches_max=settings.limits.matches_max))
        self.node = settings.server.node_id or default_node_id(settings)
        self.stores: Stores | None = None
        self.web: WebServer | None = None
        self._hosting = False
        self._drain: Drain | None = None
        self._draining: asyncio.Task[None] | None = None
        self._arrivals: Arrivals | None = None
        self._hibernator: Hibernator | None = None
        self.bus: RedisBus | None = None
        self._presence: Presence | None = None
        self._lag_probe: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it can be reached from this machine."""
        host = self.settings.server.host
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - shown, not bound
        port = self.web.port if self.web is not None else self.settings.server.port
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"

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
        stores = self.stores = await open_stores(settings, metrics)
        clock = LoopClock()
        policy = SnapshotPolicy(settings.match.snapshot_interval_seconds, settings.match.snapshot_idle_seconds)
        match = settings.match
        writer = JournalWriter(
            stores.journal,
            clock,
            JournalPolicy(
                interval_seconds=match.journal_interval_ms / 1000,
                gate_timeout_seconds=match.gate_timeout_seconds,
                unjournaled_seconds_max=match.unjournaled_ms_max / 1000,
            ),
        )
        snapshotter = Snapshotter(stores.snapshots, clock, policy, writer)
        archive = Archive(stores.documents, snapshotter, clock)
        limits = settings.limits
        self.bus = RedisBus(stores.redis_url, settings.redis)
        topics = self.host.topics = Topics(self.bus, prefix=settings.redis.prefix)
        services = Services(
            clock=clock,
            fanout=Fanout(FanoutLimits(limits.send_buffer_bytes_max, limits.slow_consumer_seconds_max)),
            gate=OpenGate(),
            effects=RoutedEffects(RecordEffects(stores.records, clock), topics),
            meters=Meters(metrics),
            keeper=self.host,
            recent=RecentLimits(match.resume_frames_max, match.resume_bytes_max),
        )
        self.host.attach(services, snapshotter, archive, writer, self.node)
        self._hosting = True
        handover = Handover(writer, clock)
        self._drain = Drain(self.host, handover, clock)
        cluster = settings.cluster
        arrivals = ArrivalPolicy(
            attempts_max=cluster.takeover_attempts_max, suspects_max=cluster.takeover_suspects_max
        )
        self._arrivals = Arrivals(stores.journal, self.host, handover, clock, self.node, arrivals)
        self._hibernator = Hibernator(self.host, handover, clock)
        self.host.bring = self._arrivals.bring
        writer.start()
        found = await load_all(stores.snapshots)
        restored = sum(self.host.restore_match(one) is not None for one in found)
        restored += await claim_all(stores.journal, self.host, self.node)
        snapshotter.start()
        self._arrivals.start()
        self._hibernator.start()
        self._lag_probe = asyncio.create_task(self._probe_lag(), name="loop lag probe")
        admin = Admin(self.node, self.begin_drain, lambda: self.drain_state, stores.journal.nodes)
        presence = RedisPresence(stores.redis, prefix=settings.redis.prefix)
        self.web = WebServer(
            settings,
            self.host,
            metrics,
            documents=stores.documents,
            check_stores=stores.check,
            version=__version__,
            more_routes=(*admin.routes(), *PresenceRoutes(presence).routes()),
        )
        seconds = settings.server.presence_seconds
        self._presence = Presence(presence, self.node, self.web.connections.present, clock, ttl_seconds=seconds)
        self._presence.start()
        try:
            await self.web.start()
        except OSError as error:
            server = settings.server
            raise ConfigError(
                f"Cannot listen on {server.host}:{server.port}: {error.strerror or error}. "
                "Stop what uses it, or choose another port (--port, server.port or GAMESERVER__SERVER__PORT)."
            ) from None
        log.info(
            "server_started",
            url=self.url,
            games=list(self.registry),
            restored=restored,
            mode=settings.server.mode,
            seconds=round(time.monotonic() - started, 2),
        )

    @property
    def drain_state(self) -> DrainState:
        """How far this node is with handing over its matches."""
        return self._drain.state if self._drain is not None else DrainState()

    def begin_drain(self) -> None:
        """Hand everything over, in the background. The process goes on: it answers that it is not ready."""
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self.drain(self.settings.server.drain_seconds), name="draining")

    async def drain(self, seconds: float) -> None:
        """Matches go to other nodes, or wait in the store for one; then their players are sent after them."""
        if self._drain is None or self.web is None:
            return
        self.host.draining = True
        await self.web.leave_shared_port()
        state = await self._drain.run(seconds)
        if state.left == 0:
            await self.web.close_connections(CLOSE_SECONDS)

    async def stop(self) -> None:
        """Stop in order, within `server.drain_seconds`. What was acknowledged is saved before clients are sent away."""
        seconds = self.settings.server.drain_seconds
        started = time.monotonic()
        self.host.draining = True
        if self._lag_probe is not None:
            self._lag_probe.cancel()
        if self._hibernator is not None:
            await self._hibernator.stop()
        if self._arrivals is not None:
            await self._arrivals.stop()
        if self._hosting:
            if self._drain is not None and self.web is not None:
                await self.web.leave_shared_port()
                await self._drain.run(seconds * 0.4)
            # What could not be handed over is frozen, so that nothing is acknowledged after the last snapshot.
            seconds_left = seconds - (time.monotonic() - started)
            saving = asyncio.create_task(self.host.stop(seconds_left * 0.5), name="final snapshots")
            await asyncio.sleep(0)
            if self.web is not None:
                await self.web.close_connections(min(CLOSE_SECONDS, seconds_left * 0.4))
            await asyncio.gather(saving, return_exceptions=True)
        if self.web is not None:
            await self.web.stop()
        if self._presence is not None:
            await self._presence.stop()
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
            mark_suspect(self.stores.redis_url, prefix, stuck.match_id, self.node, stuck.epoch, reason)

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

"""This node's membership: one lease for all its matches, renewed from a thread of its own.

The thread has its own event loop and its own client, so that nothing the server does makes a renewal late. It watches
the server's loop: when that stands still the thread stops renewing, because a node whose matches do not run must lose
them. Before this node writes to sockets as owner it asks `valid()`, which is a look at the clock.

When the lease is lost (a pause, a stall, an id that is someone else's) `on_lost` drops the matches and the node begins
anew as another incarnation. When the store answers nobody the node is adrift: it was awake and asked all along, so its
matches run on for `adrift_seconds_max`; when it answers again `on_reunited` has them compared with what it says.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from gameserver.cluster.lease import Lease, LeaseState
from gameserver.errors import ConfigError, StoreUnavailable
from gameserver.storage import NodeInfo, make_journal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gameserver.config import ClusterSettings, RedisSettings
    from gameserver.metrics import Metrics

log = structlog.get_logger("gameserver.cluster")

STOP_SECONDS = 2.0  # how long a stopping thread may take to give the lease up


class RenewalStore(Protocol):
    """What the renewing thread needs of the store; opened and closed in that thread."""

    async def renew(self, node: NodeInfo, ttl_ms: int) -> bool:
        """See `LeaseStore.renew`."""

    async def retire(self, node_id: str) -> None:
        """See `LeaseStore.retire`."""

    async def close(self) -> None:
        """Close its connections."""


@dataclass(frozen=True, slots=True)
class Pace:
    """All intervals, from the length of the lease."""

    lease_seconds: float = 2.0
    stall_seconds_max: float = 1.0
    adrift_seconds_max: float = 30.0

    @classmethod
    def of(cls, settings: ClusterSettings) -> Pace:
        """As configured."""
        return cls(settings.lease_seconds, settings.stall_ms_max / 1000, settings.adrift_seconds_max)

    @property
    def renew_seconds(self) -> float:
        """Between two renewals."""
        return self.lease_seconds / 4

    @property
    def deadline_seconds(self) -> float:
        """For one renewal; the store's client is made with it."""
        return self.lease_seconds / 4

    @property
    def retry_seconds(self) -> float:
        """After one that failed."""
        return self.lease_seconds / 20

    @property
    def beat_seconds(self) -> float:
        """Between two signs of life of the server's loop."""
        return min(self.stall_seconds_max / 5, self.lease_seconds / 10)


def lease_clock() -> float:
    """Seconds that go on while the process is stopped, and while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def lease_store(url: str, settings: RedisSettings, pace: Pace) -> RenewalStore:
    """What `open_store` of a `Membership` returns: one connection, and answers soon enough to try again."""
    own = {"journal_timeout_seconds": pace.deadline_seconds, "journal_pool_max": 2, "pool_min": 0, "wait_replicas": 0}
    return make_journal(url, settings.model_copy(update=own))


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Membership:
    """The lease of this node. Made and started in the server's loop, which then is the one that is watched."""

    def __init__(
        self,
        describe: Callable[[], NodeInfo],
        open_store: Callable[[], RenewalStore],
        pace: Pace,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = lease_clock,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        threaded: bool = True,
    ) -> None:
        """`describe` is called in the server's loop at each of its beats. The rest is for simulations."""
        self.on_lost: Callable[[], None] = _nothing
        """Drop all matches, at once and synchronously: this node owns nothing any more."""
        self.on_gained: Callable[[], None] = _nothing
        self.on_reunited: Callable[[Callable[[], None]], None] = _confirm_at_once
        """The store answers again. Others may have claimed matches meanwhile: look, then call what is passed."""
        self.pace = pace
        self._describe = describe
        self._open_store = open_store
        self._metrics = metrics
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self._threaded = threaded
        self._lease = Lease(pace.lease_seconds, adrift_seconds_max=pace.adrift_seconds_max)
        self._lock = threading.Lock()
        self._started = 0.0
        self._beat_at = -math.inf
        self._beats = 0
        self._info = describe()
        self._taken = False
        self._failing = False
        self._retiring = False
        self._sole = False
        self._published: tuple[int, bool, int] = (0, False, 0)
        self._loop: asyncio.AbstractEventLoop
        self._beating: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._renewing_loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # --- asking -------------------------------------------------------------------------------------------------------
    def valid(self) -> bool:
        """May this node write to sockets as the owner of its matches? Cheap, and true to this very moment."""
        if self._clock() < self._lease.until:
            return True
        with self._lock:
            valid = self._lease.valid(self._clock())
        if not valid and self._lease.incarnation == self._published[0] and self._published[1]:
            self._notify()
        return valid

    @property
    def state(self) -> LeaseState:
        """How this node stands to its lease right now."""
        with self._lock:
            return self._lease.state(self._clock())

    @property
    def incarnation(self) -> int:
        """Changes when the lease was lost."""
        return self._lease.incarnation

    @property
    def info(self) -> NodeInfo:
        """What this node says about itself."""
        return replace(self._info, started=self._started)

    # --- life ---------------------------------------------------------------------------------------------------------
    async def start(self, *, sole: bool = False) -> None:
        """Return with a lease. `sole`: the store is this process's own, so a lease in it is left from a dead one.

        Raises `ConfigError` when another process lives under this node's id, `StoreUnavailable` without an answer.
        """
        self._loop = asyncio.get_running_loop()
        self._started = self._wall()
        self._sole = sole
        self._beat()
        self._beating = asyncio.create_task(self._watch(), name="lease heartbeat")
        if self._threaded:
            self._thread = threading.Thread(target=self._run_thread, name="lease", daemon=True)
            self._thread.start()
        else:
            self._renewing = asyncio.create_task(self._renew(), name="lease")
        # Whoever had the id before and did not give it up is outlived.
        deadline = self._clock() + 2 * self.pace.lease_seconds + 2 * self.pace.deadline_seconds
        while not self.valid():
            if self._clock() > deadline:
                taken = self._taken
                await self.stop()
                if taken:
                    raise ConfigError(f"Another process runs as node {self._info.id!r}: set another server.node_id.")
                raise StoreUnavailable("The store did not grant this node a lease.")
            await self._sleep(self.pace.retry_seconds / 4)
        self._publish()

    async def stop(self) -> None:
        """Give the lease up. Release the matches first."""
        self._retiring = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        if self._renewing is not None and self._threaded:
            if self._renewing_loop is not None and not self._renewing_loop.is_closed():
                self._renewing_loop.call_soon_threadsafe(self._renewing.cancel)
        elif self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)
        with self._lock:
            self._lease.retire()
        self._metrics.lease_valid.set(0)

    # --- the server's loop --------------------------------------------------------------------------------------------
    async def _watch(self) -> None:
        while True:
            await self._sleep(self.pace.beat_seconds)
            self._beat()
            self._publish()

    def _beat(self) -> None:
        self._beat_at = self._clock()
        try:
            self._info = self._describe()
        except Exception as failure:
            log.error("node_not_described", exc_info=failure)

    def _notify(self) -> None:
        """Have `_publish` run in the server's loop, from whatever thread this is."""
        try:
            self._loop.call_soon_threadsafe(self._publish)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to be told

    def _publish(self) -> None:
        """Tell of what has changed since the last time, in order. Runs in the server's loop only."""
        with self._lock:
            valid = self._lease.valid(self._clock())
            now = (self._lease.incarnation, valid, self._lease.drifts)
        before, self._published = self._published, now
        self._metrics.lease_valid.set(valid)
        if before[0] == now[0] and before[1] and not valid and not self._retiring:
            self._lost()
        elif valid and (not before[1] or before[0] != now[0]):
            log.info("lease_gained", node=self._info.id, incarnation=now[0])
            self._call(self.on_gained)
        elif valid and before[2] != now[2]:
            log.info("lease_renewed_again", node=self._info.id)
            self._call(partial(self.on_reunited, partial(self._confirm, now[2])))

    def _lost(self) -> None:
        log.error("lease_lost", node=self._info.id, reason="taken" if self._taken else "not renewed in time")
        self._metrics.leases_lost_total.inc()
        self._call(self.on_lost)
        with self._lock:
            self._lease.dropped()
            self._started = max(self._wall(), self._started + 0.001)
            self._published = (self._lease.incarnation, False, self._lease.drifts)

    def _confirm(self, drifts: int) -> None:
        with self._lock:
            self._lease.confirm(drifts)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as failure:
            log.error("lease_callback_failed", exc_info=failure)

    # --- the renewing thread ------------------------------------------------------------------------------------------
    def _run_thread(self) -> None:
        async def main() -> None:
            self._renewing_loop = asyncio.get_running_loop()
            self._renewing = asyncio.current_task()
            if not self._retiring:
                await self._renew()

        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            pass  # that is how it is stopped
        except Exception as failure:
            log.error("lease_thread_ended", exc_info=failure)

    async def _renew(self) -> None:
        store = self._open_store()
        try:
            if self._sole:
                await self._retire(store)
            while not self._retiring:
                try:
                    pause = await self._renew_once(store)
                except Exception as failure:
                    log.error("lease_renewal_broke", exc_info=failure)
                    pause = self.pace.renew_seconds
                await self._sleep(pause)
        finally:
            if self._retiring and self.valid():
                await self._retire(store)
            await store.close()

    async def _renew_once(self, store: RenewalStore) -> float:
        """Try once; the pause until the next time."""
        pace, lease = self.pace, self._lease
        now = self._clock()
        with self._lock:
            lost = lease.state(now) is LeaseState.LOST
            incarnation, started = lease.incarnation, self._started
        if lost:
            self._notify()  # nothing more for this incarnation; the next one begins when the matches are dropped
            return pace.retry_seconds
        if now - self._beat_at > pace.stall_seconds_max:
            self._count("stalled")
            return pace.retry_seconds
        self._beats += 1
        info = replace(self._info, started=started, beat=self._beats)
        sent_at = self._clock()
        try:
            granted = await store.renew(info, int(pace.lease_seconds * 1000))
        except StoreUnavailable as error:
            with self._lock:
                lease.failed(incarnation, sent_at, self._clock())
            self._fails(error.message)
            return pace.retry_seconds
        with self._lock:
            if granted:
                lease.granted(incarnation, sent_at, self._clock())
            else:
                lease.taken(incarnation, self._clock())
        return self._answered(granted=granted)

    def _answered(self, *, granted: bool) -> float:
        self._failing = False
        if not granted and not self._taken:
            log.warning("lease_taken", node=self._info.id, reason="another process, or one before, holds it")
        self._taken = not granted
        self._count("granted" if granted else "taken")
        if self._news():
            self._notify()
        return self.pace.renew_seconds if granted else self.pace.retry_seconds

    def _news(self) -> bool:
        with self._lock:
            now = (self._lease.incarnation, self._lease.valid(self._clock()), self._lease.drifts)
        return now != self._published

    def _fails(self, problem: str) -> None:
        self._count("failed")
        if not self._failing:
            self._failing = True
            log.warning("lease_not_renewed", node=self._info.id, error=problem)

    def _count(self, outcome: str) -> None:
        self._metrics.lease_renewals_total.labels(outcome).inc()

    async def _retire(self, store: RenewalStore) -> None:
        try:
            await store.retire(self._info.id)
        except StoreUnavailable as error:
            log.warning("lease_not_given_up", node=self._info.id, error=error.message, until="it runs out")


def _nothing() -> None:
    """Nobody listens."""


def _confirm_at_once(confirm: Callable[[], None]) -> None:
    """There is nothing that others could have claimed."""
    confirm()

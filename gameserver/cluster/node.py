"""One node: all that runs matches here and keeps this node's place among the others, built once and started in order.

`app.py` gives it the real stores, the simulation ones in memory and a clock of its own; what is built is the same.

Start: journal writer → lease → putting back → bus → matches that wait for an owner → snapshots, sleepers.
Stop:  nothing new is claimed → matches are handed over → what is left is saved → bus → lease.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from gameserver.cluster.archive import Archive
from gameserver.cluster.arrivals import Arrivals
from gameserver.cluster.crossing import Crossing, policy_for
from gameserver.cluster.drain import Drain, DrainState
from gameserver.cluster.effects import RoutedEffects
from gameserver.cluster.fanout import Fanout, FanoutLimits
from gameserver.cluster.handover import Handover
from gameserver.cluster.hibernation import Hibernator
from gameserver.cluster.host import Host
from gameserver.cluster.journal import JournalPolicy, JournalWriter
from gameserver.cluster.matches import HostLimits
from gameserver.cluster.membership import Membership, Pace, RenewalStore, lease_clock
from gameserver.cluster.meters import Meters
from gameserver.cluster.node_meters import NodeMeters
from gameserver.cluster.ports import new_id, random_seed
from gameserver.cluster.reassert import Reassertion
from gameserver.cluster.recent import RecentLimits
from gameserver.cluster.services import Services
from gameserver.cluster.snapshots import SnapshotPolicy, Snapshotter
from gameserver.cluster.takeover import Takeover, TakeoverPolicy
from gameserver.cluster.tenure import Tenure
from gameserver.cluster.topics import Topics
from gameserver.storage import NodeInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gameserver.cluster.games import GameRegistry
    from gameserver.cluster.ports import Clock, EffectSink
    from gameserver.config import Settings
    from gameserver.metrics import Metrics
    from gameserver.storage import Bus, DocumentStore, JournalStore


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a node needs from the outside."""

    journal: JournalStore
    open_renewals: Callable[[], RenewalStore]
    """A way to the same store for the lease alone, opened and closed in the thread that renews."""
    bus: Bus
    records: EffectSink
    """Carries out what is not a message to other matches."""
    documents: DocumentStore | None
    clock: Clock
    lease_clock: Callable[[], float] = lease_clock
    wall: Callable[[], float] = time.time
    perf: Callable[[], float] = time.perf_counter
    """How long things take."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    threaded: bool = True
    """Renew the lease in a thread of its own."""
    sole: bool = False
    """The store is this process's own: a lease in it is left from a process that is dead."""
    new_id: Callable[[], str] = field(default=new_id)
    new_seed: Callable[[], int] = field(default=random_seed)


class ClusterNode:
    """The parts of one node. `start` it, `stop_claiming`, `stop` it; not again after that."""

    def __init__(
        self, name: str, registry: GameRegistry, settings: Settings, around: Surroundings, metrics: Metrics
    ) -> None:
        cluster, limits = settings.cluster, settings.limits
        clock, journal = around.clock, around.journal
        self.name = name
        self.roles = tuple(cluster.roles)
        self._around = around
        self.host = Host(registry, HostLimits(matches_max=limits.matches_max))
        self.membership = Membership(
            self.describe, around.open_renewals, Pace.of(cluster), metrics, clock=around.lease_clock,
            wall=around.wall, sleep=around.sleep, threaded=around.threaded,
        )  # fmt: skip
        self.writer = JournalWriter(journal, clock, _journal_policy(settings))
        self.snapshotter = Snapshotter(self.writer, clock, _snapshot_policy(settings))
        self.archive = None
        if around.documents is not None:
            self.archive = Archive(around.documents, self.snapshotter, clock)
        topics = self.host.topics = Topics(around.bus, prefix=settings.redis.prefix)
        services = Services(
            clock=clock,
            fanout=Fanout(FanoutLimits(limits.send_buffer_bytes_max, limits.slow_consumer_seconds_max)),
            effects=RoutedEffects(around.records, topics),
            meters=Meters(metrics),
            keeper=self.host,
            valid=self.membership.valid,
            perf=around.perf,
            recent=RecentLimits(settings.match.resume_frames_max, settings.match.resume_bytes_max),
            new_match_id=around.new_id,
            new_session_id=around.new_id,
            new_seed=around.new_seed,
        )
        self.host.attach(services, self.snapshotter, self.archive, self.writer, name)
        tenure = Tenure(self.host, self.writer, self.archive)
        self.reassertion = Reassertion(journal, self.membership.valid, tenure, metrics, sleep=around.sleep)
        self.takeover = Takeover(
            journal, self.membership, tenure, TakeoverPolicy.of(cluster), metrics,
            reassertion=self.reassertion, clock=clock.now, sleep=around.sleep,
        )  # fmt: skip
        self.crossing = Crossing(
            around.bus, journal, self.host, services, name, self.live_nodes, prefix=settings.redis.prefix,
            roles=self.roles, policy=policy_for(cluster.lease_seconds), is_owner=self.takeover.is_owner,
        )  # fmt: skip
        self._meters = NodeMeters(metrics, self.writer, around.bus, self.crossing.edges)
        self.handover = Handover(self.writer, clock, announce=self.crossing.announce_free)
        self.drain = Drain(self.host, self.handover, clock)
        order = Random(around.new_seed())
        self.arrivals = Arrivals(journal, self.host, self.handover, clock, self.takeover.claim, order=order)
        self.hibernator = Hibernator(self.host, self.handover, clock)
        self.crossing.questions.answers["look"] = self._look
        self.host.bring = self.arrivals.bring
        self.host.is_owner = self.takeover.is_owner
        self.host.doubted = self.reassertion.look_at
        self.writer.on_refused = self.reassertion.refused
        services.wakes.after_hurry = self.writer.write_now
        self.membership.on_lost = tenure.drop_all
        self.membership.on_reunited = self.reassertion.look_at_all
        self.membership.on_gained = self.takeover.hint

    @property
    def address(self) -> str:
        """Where clients and other nodes reach this node; empty until it is known."""
        return self.crossing.owners.address

    @address.setter
    def address(self, address: str) -> None:
        self.crossing.owners.address = address

    @property
    def owns(self) -> bool:
        """Does it run matches, or only carry players to those of others?"""
        return self.crossing.owns

    def describe(self) -> NodeInfo:
        """What the node says about itself with each renewal of its lease."""
        host = self.host
        games = tuple(host.registry) if "owner" in self.roles else ()
        return NodeInfo(
            self.name,
            self.address if host.crossing is not None else "",
            self.roles,
            games,
            len(host),
            draining=host.draining,
            state_versions=tuple(host.registry.get(game).state_version for game in games),
        )

    def live_nodes(self) -> Iterable[NodeInfo]:
        """All nodes, as this one saw them a moment ago."""
        return self.takeover.fleet.nodes.values()

    async def start(self) -> int:
        """Become one of the nodes, and run what waits for an owner; how many matches run.

        Raises `ConfigError` when another process lives under this node's name, `StoreUnavailable` without a store.
        """
        self.writer.start()
        await self.membership.start(sole=self._around.sole)
        self.reassertion.start()
        await self.crossing.start()
        running = await self.takeover.start(sole=self._around.sole)
        self.snapshotter.start()
        self.arrivals.start()
        if self.owns:
            self.hibernator.start()
        return running

    async def hand_over(self, seconds: float) -> DrainState:
        """Give all matches away, trying for so long; other nodes are told that there is something to claim."""
        before = self.drain.state.handed_over
        state = await self.drain.run(seconds)
        if state.handed_over > before:
            await self.crossing.placement.ask_others("look", {})
        return state

    async def _look(self, body: dict[str, Any]) -> None:
        self.takeover.hint()

    async def stop_claiming(self) -> None:
        """Run nothing more that does not run here already."""
        self.host.draining = True
        await self.hibernator.stop()
        await self.arrivals.stop()
        await self.takeover.stop()

    async def stop(self) -> None:
        """Leave the other nodes; matches that are still here are theirs from now on."""
        await self.crossing.stop()
        await self.reassertion.stop()
        await self.membership.stop()

    def update_metrics(self) -> None:
        """Bring the metrics up to date: what is there is counted when somebody looks."""
        self.host.update_metrics()
        self._meters.update()

    def problems(self) -> dict[str, str | None]:
        """For readiness: what keeps this node from its place among the others, by check."""
        state = str(self.membership.state)
        return {"lease": None if state == "held" else f"the lease is {state}"}


def _journal_policy(settings: Settings) -> JournalPolicy:
    match = settings.match
    return JournalPolicy(
        interval_seconds=match.journal_interval_ms / 1000,
        gate_timeout_seconds=match.gate_timeout_seconds,
        unjournaled_seconds_max=match.unjournaled_ms_max / 1000,
    )


def _snapshot_policy(settings: Settings) -> SnapshotPolicy:
    return SnapshotPolicy(settings.match.snapshot_interval_seconds, settings.match.snapshot_idle_seconds)

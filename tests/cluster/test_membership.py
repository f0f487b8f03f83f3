"""A node's judgement of its own lease, an observer's of the others, and the thread that renews: tables, properties,
and a real process that is stopped and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameserver.cluster.lease import Fleet, Lease, LeaseState
from gameserver.cluster.membership import Membership, Pace, lease_store
from gameserver.config import RedisSettings
from gameserver.errors import ConfigError
from gameserver.metrics import Metrics
from gameserver.storage import NodeInfo, make_journal

LEASE = 2.0  # its term is 1.8: the margin is a tenth
VACANT, HELD, ADRIFT, LOST = LeaseState.VACANT, LeaseState.HELD, LeaseState.ADRIFT, LeaseState.LOST


def lease_in(state: LeaseState) -> Lease:
    """A lease in this state at 10.0."""
    lease = Lease(LEASE, adrift_seconds_max=30.0)
    if state is HELD:
        lease.granted(1, 9.5, 9.6)
    elif state is ADRIFT:
        lease.granted(1, 8.0, 8.1)
        lease.failed(1, 9.0, 9.5)
    elif state is LOST:
        lease.granted(1, 5.0, 5.1)
        assert not lease.valid(9.9)
    assert lease.state(10.0) is state
    return lease


@pytest.mark.parametrize(
    ("before", "event", "after"),
    [
        (VACANT, "granted", HELD), (VACANT, "late", VACANT), (VACANT, "failed", VACANT), (VACANT, "taken", VACANT),
        (HELD, "granted", HELD), (HELD, "late", HELD), (HELD, "failed", HELD), (HELD, "taken", LOST),
        (ADRIFT, "granted", ADRIFT), (ADRIFT, "granted, confirmed", HELD), (ADRIFT, "granted, confirmed late", ADRIFT),
        (ADRIFT, "confirmed", ADRIFT), (LOST, "confirmed", LOST), (HELD, "confirmed", HELD),
        (ADRIFT, "late", ADRIFT), (ADRIFT, "failed", ADRIFT), (ADRIFT, "taken", LOST),
        (LOST, "granted", LOST), (LOST, "late", LOST), (LOST, "failed", LOST), (LOST, "taken", LOST),
        (VACANT, "foreign", VACANT), (HELD, "foreign", HELD), (ADRIFT, "foreign", ADRIFT), (LOST, "foreign", LOST),
        (LOST, "dropped", VACANT), (HELD, "dropped", VACANT), (ADRIFT, "dropped", VACANT),
        (HELD, "retire", LeaseState.RETIRED), (LOST, "retire", LeaseState.RETIRED),
    ],
)  # fmt: skip
def test_every_transition(before: LeaseState, event: str, after: LeaseState) -> None:
    """The table in the class, line by line."""
    lease = lease_in(before)
    events: dict[str, Callable[[], None]] = {
        "granted": lambda: lease.granted(1, 9.95, 10.0),
        "late": lambda: lease.granted(1, 8.1, 10.0),
        "failed": lambda: lease.failed(1, 9.95, 10.0),
        "taken": lambda: lease.taken(1, 10.0),
        "foreign": lambda: (lease.granted(7, 9.9, 10.0), lease.failed(7, 9.9, 10.0), lease.taken(7, 10.0))[0],
        "granted, confirmed": lambda: (lease.granted(1, 9.95, 10.0), lease.confirm(1))[0],
        "granted, confirmed late": lambda: (lease.granted(1, 9.95, 10.0), lease.confirm(0))[0],
        "confirmed": lambda: lease.confirm(0),
        "dropped": lease.dropped,
        "retire": lease.retire,
    }
    events[event]()
    assert lease.state(10.0) is after


def test_a_lease_counts_from_before_it_was_asked_for() -> None:
    """However long the answer took."""
    lease = Lease(LEASE)
    lease.granted(1, 10.0, 11.5)
    assert lease.valid(11.79)
    assert not lease.valid(11.81)


def test_what_was_invalid_once_stays_so() -> None:
    """A renewal that comes back too late revives nothing: some frames may have been left out already."""
    lease = Lease(LEASE)
    lease.granted(1, 10.0, 10.0)
    assert not lease.valid(11.9)
    lease.granted(1, 11.7, 11.95)
    assert not lease.valid(11.96)
    lease.dropped()
    lease.granted(1, 12.0, 12.0)
    assert not lease.valid(12.1), "an answer for the incarnation before"
    lease.granted(2, 12.0, 12.0)
    assert lease.valid(12.1)


def test_adrift_ends_when_the_process_sleeps_or_the_time_is_up() -> None:
    """Matches run on only while the process is awake and asks, and only for so long."""
    asleep, awake = Lease(LEASE, adrift_seconds_max=5.0), Lease(LEASE, adrift_seconds_max=5.0)
    for lease in (asleep, awake):
        lease.granted(1, 0.0, 0.0)
        lease.failed(1, 1.0, 1.5)
        assert lease.state(2.5) is ADRIFT
    assert asleep.state(2.9) is LOST
    for at in range(2, 7):
        awake.failed(1, float(at), at + 0.5)
    assert awake.state(6.7) is ADRIFT
    assert awake.state(6.9) is LOST, "1.8 of the lease and 5 more"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["granted", "failed", "taken", "dropped", "look"]), st.floats(0, 1.5))))
def test_valid_means_granted_within_the_term(events: list[tuple[str, float]]) -> None:
    """Without a time adrift: valid only within the term of a grant to this incarnation, and never again once not."""
    lease, now, grants, over = Lease(LEASE), 0.0, [-99.0], False
    for event, seconds in events:
        sent, now = now, now + seconds
        was_valid = lease.valid(now)
        incarnation = lease.incarnation
        if event == "granted":
            lease.granted(incarnation, sent, now)
            grants.append(sent)
        elif event == "failed":
            lease.failed(incarnation, sent, now)
        elif event == "taken":
            lease.taken(incarnation, now)
        elif event == "dropped":
            lease.dropped()
            grants, over = [-99.0], False
        if lease.valid(now):
            assert now < max(grants) + lease.term_seconds
            assert not over
        over = over or (was_valid and not lease.valid(now) and event != "dropped")


# --- the others -------------------------------------------------------------------------------------------------------
def node(id_: str, beat: int = 0) -> NodeInfo:
    return NodeInfo(id_, "", started=1.0, beat=beat)


def test_dead_is_who_did_not_renew_for_a_lease_and_is_gone() -> None:
    """Both: gone from the store, and quiet for a whole lease by the observer's clock."""
    fleet = Fleet(LEASE)
    for tick in range(9):  # it renews up to 10.5, then it is killed; its key is there until 12.5
        at = 10 + tick * 0.25
        fleet.observe([node("a", beat=min(tick // 2, 1))], at, at)
    for at in (12.25, 12.5):
        fleet.observe([], at, at)
        assert fleet.is_dead("a") is (at == 12.5)
    assert list(fleet.missing()) == ["a"]


def test_a_clock_of_the_store_kills_nobody() -> None:
    """It jumps, and all leases are gone at once: the nodes renew before anybody concludes anything."""
    fleet = Fleet(LEASE)
    fleet.observe([node("a", 1), node("b", 1)], 10.0, 10.0)
    fleet.observe([], 10.25, 10.25)
    assert not fleet.is_dead("a")
    fleet.observe([node("a", 2), node("b", 2)], 10.5, 10.5)
    fleet.observe([], 10.75, 10.75)
    assert not fleet.is_dead("b")
    assert fleet.dead_at("b") == 12.5


def test_after_a_gap_the_observer_begins_anew() -> None:
    """It slept, or the store was away: what it knew is old, and the others had no way to renew either."""
    fleet = Fleet(LEASE)
    fleet.observe([node("a", 1)], 10.0, 10.0)
    fleet.observe([], 20.0, 20.0)
    assert not fleet.is_dead("a")
    assert not fleet.is_dead("never seen")
    for at in range(81, 88):
        fleet.observe([], at / 4, at / 4)
    assert not fleet.is_dead("a")
    fleet.observe([], 22.0, 22.0)
    assert fleet.is_dead("a")
    assert fleet.is_dead("never seen")


# --- the thread, on a real store --------------------------------------------------------------------------------------
FAST = Pace(lease_seconds=0.6, stall_seconds_max=0.3, adrift_seconds_max=0.0)


class Started:
    """A membership and what it told."""

    def __init__(self, url: str, id_: str = "n1", pace: Pace = FAST) -> None:
        self.events: list[str] = []
        self.metrics = Metrics()
        self.membership = Membership(
            lambda: NodeInfo(id_, "here"), lambda: lease_store(url, RedisSettings(), pace), pace, self.metrics
        )
        self.membership.on_lost = lambda: self.events.append("lost")
        self.membership.on_gained = lambda: self.events.append("gained")
        self.membership.on_reunited = self.reunited

    def reunited(self, confirm: Callable[[], None]) -> None:
        assert self.membership.state is ADRIFT, "until it is confirmed"
        self.events.append("reunited")
        confirm()


@pytest.fixture
async def started(redis_url: str) -> AsyncIterator[Started]:
    one = Started(redis_url)
    await one.membership.start()
    yield one
    await one.membership.stop()


@pytest.fixture
async def journal(redis_url: str) -> AsyncIterator[Any]:
    store = make_journal(redis_url, RedisSettings())
    yield store
    await store.close()


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_node_is_listed_and_renews(started: Started, journal: Any) -> None:
    """Its beat goes on; it says who it is."""
    assert started.events == ["gained"]
    [first] = await journal.nodes()
    assert (first.id, first.address) == ("n1", "here")
    await asyncio.sleep(0.7)
    [later] = await journal.nodes()
    assert later.beat > first.beat
    assert started.membership.valid()
    assert started.metrics.value("lease_valid") == 1


async def test_stopping_gives_the_lease_up(redis_url: str, journal: Any) -> None:
    """Nobody has to wait for it to run out."""
    one = Started(redis_url)
    await one.membership.start()
    await one.membership.stop()
    assert await journal.nodes() == []
    assert not one.membership.valid()
    assert one.events == ["gained"], "a node that stops has lost nothing"


async def test_a_loop_that_stands_still_loses_the_lease(started: Started) -> None:
    """The thread lives, the matches do not: they belong to others now. The node goes on as another incarnation."""
    time.sleep(0.45)  # noqa: ASYNC251 - shorter than the stall and the lease together
    assert started.membership.valid()
    await asyncio.sleep(0.1)
    time.sleep(1.2)  # noqa: ASYNC251
    assert not started.membership.valid(), "at once, before anything else runs"
    await until(lambda: started.events == ["gained", "lost", "gained"])
    assert started.membership.incarnation == 2
    assert started.membership.valid()
    assert started.metrics.value("lease_renewals_total", outcome="stalled") > 0
    assert started.metrics.value("leases_lost_total") == 1


async def test_a_second_process_of_one_id_is_refused(started: Started, redis_url: str) -> None:
    """Two nodes of one name would share each other's matches."""
    second = Started(redis_url)
    with pytest.raises(ConfigError, match="n1"):
        await second.membership.start()
    assert started.membership.valid()


async def test_the_store_of_ones_own_needs_no_waiting(redis_url: str, journal: Any) -> None:
    """A lease in it can only be that of a process that was killed."""
    await journal.renew(NodeInfo("n1", "", started=5.0), 60_000)
    one = Started(redis_url)
    began = time.monotonic()
    await one.membership.start(sole=True)
    assert time.monotonic() - began < 0.5
    await one.membership.stop()


async def test_a_store_that_is_away_leaves_the_node_adrift(own_store: Any) -> None:
    """It runs on for as long as it may, and is told when it has its lease again."""
    url, pause = own_store
    one = Started(url, pace=Pace(lease_seconds=0.6, stall_seconds_max=0.3, adrift_seconds_max=20.0))
    await one.membership.start()
    with pause():
        await until(lambda: one.membership.state is ADRIFT)
        await asyncio.sleep(1.0)
        assert one.membership.valid()
    await until(lambda: "reunited" in one.events)
    assert one.membership.state is HELD
    assert one.events == ["gained", "reunited"]
    await one.membership.stop()


async def test_without_time_adrift_the_lease_ends_with_the_store(own_store: Any) -> None:
    """For who would rather stand still than be wrong."""
    url, pause = own_store
    one = Started(url)
    await one.membership.start()
    with pause():
        await until(lambda: one.events == ["gained", "lost"])
        assert not one.membership.valid()
    await until(lambda: one.events == ["gained", "lost", "gained"])
    await one.membership.stop()


@pytest.fixture
async def own_store(tmp_path: Path) -> AsyncIterator[Any]:
    """A store for one test alone, and a way to make it hang."""
    from gameserver.config import DataSettings
    from gameserver.storage import EmbeddedStores

    stores = EmbeddedStores(DataSettings(dir=tmp_path / "own"), Metrics(), mongo=False)
    await stores.start(supervise=False)
    pid = stores.children["redis"].pid
    assert pid is not None

    @contextlib.contextmanager
    def hang() -> Any:
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    yield stores.redis_url, hang
    await stores.stop()


CHILD = """
import asyncio, sys, time
import structlog
from gameserver.cluster.membership import Membership, Pace, lease_store
from gameserver.config import RedisSettings
from gameserver.metrics import Metrics
from gameserver.storage import NodeInfo

structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))

async def main(url):
    pace = Pace(lease_seconds=0.6, stall_seconds_max=0.3, adrift_seconds_max=30.0)
    member = Membership(lambda: NodeInfo("child", ""), lambda: lease_store(url, RedisSettings(), pace), pace, Metrics())
    member.on_lost = lambda: print("lost", flush=True)
    member.on_gained = lambda: print("gained", member.incarnation, flush=True)
    await member.start()
    last = time.monotonic()
    while True:
        valid, now = member.valid(), time.monotonic()
        if now - last > 0.5:
            print("slept", valid, flush=True)
        last = now
        await asyncio.sleep(0.01)

asyncio.run(main(sys.argv[1]))
"""


def _child(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
async def test_a_process_that_was_stopped_knows_at_once(redis_url: str, journal: Any) -> None:
    """SIGSTOP past the lease, SIGCONT: the first look at the clock says no, then it begins as another incarnation."""
    child = _child(redis_url)
    assert child.stdout is not None
    try:
        assert await asyncio.to_thread(child.stdout.readline) == "gained 1\n"
        for incarnation in (2, 3):
            await asyncio.sleep(0.3)
            child.send_signal(signal.SIGSTOP)
            await asyncio.sleep(1.5)
            assert await journal.nodes() == []
            child.send_signal(signal.SIGCONT)
            lines = {await asyncio.to_thread(child.stdout.readline) for _ in range(3)}
            assert lines == {"slept False\n", "lost\n", f"gained {incarnation}\n"}
            assert [one.id for one in await journal.nodes()] == ["child"]
    finally:
        child.send_signal(signal.SIGCONT)
        child.kill()
        child.wait()
        child.stdout.close()

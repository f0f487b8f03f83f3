"""Who claims what: the pure choice by tables and properties, then several nodes on virtual time under faults, then real
nodes on a real store."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameserver.cluster.choice import Choice, ChoicePolicy, Here, Reason, rendezvous
from gameserver.cluster.lease import Fleet
from gameserver.cluster.membership import Membership, Pace, lease_store
from gameserver.cluster.takeover import Takeover, TakeoverPolicy
from gameserver.config import RedisSettings
from gameserver.errors import MatchNotFound
from gameserver.metrics import Metrics
from gameserver.storage import (
    Claimed,
    NodeInfo,
    OwnedMatch,
    Recovered,
    RedisJournal,
    SnapshotMeta,
    Token,
    encode_snapshot,
    make_journal,
)
from tests.simulation.fleet import SimNode, World, eventually, run_virtually
from tests.simulation.memory_journal import MemoryJournal

STEP = 0.5


def node(id_: str, **fields: Any) -> NodeInfo:
    return NodeInfo(id_, "", **{"started": 1.0, "games": ("arena",), **fields})


def owned(match_id: str, owner: str = "", **fields: Any) -> OwnedMatch:
    return OwnedMatch(match_id, owner, **{"epoch": 1, "game": "arena", "version": 7, **fields})


def fleet_of(*nodes: NodeInfo, dead: tuple[str, ...] = (), now: float = 100.0) -> Fleet:
    """As an observer sees it that has looked for a while."""
    fleet = Fleet(2.0)
    for step in range(13, -1, -1):
        at = now - step * 0.25
        gone = [node(id_) for id_ in dead] if step == 13 else []
        fleet.observe([*nodes, *gone], at, at)
    return fleet


def here(id_: str = "a", *kept: str, **fields: Any) -> Here:
    return Here(**{"node": node(id_), "keeps": kept.__contains__, **fields})


def claims(matches: list[OwnedMatch], fleet: Fleet, at: Here, *, later: float = 0.0) -> list[str]:
    """What is claimed `later` seconds after it was first seen."""
    choice = Choice(ChoicePolicy(STEP))
    plan = choice.plan(matches, fleet, at, 100.0)
    if later:
        plan = choice.plan(matches, fleet, at, 100.0 + later)
    return [orphan.match.match_id for orphan in plan.claims]


# --- tables -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("match", "at_once", "later"),
    [
        (owned("m", ""), True, True),
        (owned("m", "b"), False, False),
        (owned("m", "dead"), True, True),
        (owned("m", "a"), False, True),
        (owned("kept", "a"), False, False),
        (owned("kept", ""), False, False),
        (owned("m", "", asleep=True), False, False),
        (owned("m", "", game="chess"), False, False),
        (owned("m", "", state_version=3), False, False),
        (owned("m", "", state_version=2), True, True),
        (owned("m", "other-games"), False, True),
        (owned("m", "edge"), False, True),
        (owned("m", "", epoch=-1, game=""), False, True),
    ],
    ids=[
        "released", "alive", "dead", "ours of before", "ours", "let go of", "asleep", "another game", "too new",
        "not too new",
        "owner without the game", "owner without the role", "damaged",
    ],
)  # fmt: skip
def test_what_is_an_orphan(match: OwnedMatch, at_once: bool, later: bool) -> None:
    """Seen by the only node that could run it."""
    others = [
        node("b", draining=True),
        node("other-games", games=("chess",)),
        node("edge", roles=("edge",)),
    ]
    fleet = fleet_of(node("a"), *others, dead=("dead",))
    at = here("a", "kept", node=node("a", state_versions=(2,)))
    assert bool(claims([match], fleet, at)) is at_once
    assert bool(claims([match], fleet, at, later=2 * STEP)) is later


def test_a_new_lease_claims_its_own_at_once() -> None:
    """What the store calls ours belongs to an earlier incarnation; so does what was claimed and not read."""
    fleet = fleet_of(node("a"), node("b"))
    assert claims([owned("m", "a")], fleet, here(regained=True)) == ["m"]
    assert claims([owned("m", "a")], fleet, here(unread=["m"])) == ["m"]
    assert claims([owned("m", "a")], fleet, here("b", regained=True)) == []


def test_connected_matches_come_first_and_suspicious_ones_last() -> None:
    """People wait there; and what took nodes down before must not keep the others from being taken over."""
    matches = [
        owned("quiet"),
        owned("full", connected=9),
        owned("some", connected=2),
        owned("bad", connected=9, attempts=1),
    ]
    assert claims(matches, fleet_of(node("a")), here()) == ["full", "some", "quiet", "bad"]


def test_a_node_takes_only_what_it_has_room_for() -> None:
    """The others step in for the rest."""
    matches = [owned(f"m{number}", connected=number) for number in range(5)]
    assert claims(matches, fleet_of(node("a")), here(room=2)) == ["m4", "m3"]
    assert claims(matches, fleet_of(node("a")), here(room=-1)) == []


def test_the_others_step_in_one_after_the_other() -> None:
    """If the first in the ranking does not act, the second does, then the third."""
    fleet = fleet_of(node("a"), node("b"), node("c"))
    for rank, id_ in enumerate(rendezvous("m", ["a", "b", "c"])):
        choice = Choice(ChoicePolicy(STEP))
        plan = choice.plan([owned("m")], fleet, here(id_), 100.0)
        assert bool(plan.claims) is (rank == 0)
        if rank:
            assert plan.look_again_at == 100.0 + rank * STEP
            assert not choice.plan([owned("m")], fleet, here(id_), 99.99 + rank * STEP).claims
        assert choice.plan([owned("m")], fleet, here(id_), 100.0 + rank * STEP).claims


def test_a_match_that_takes_its_nodes_down_is_set_aside() -> None:
    """By the limit of attempts, or of watchdogs that named it."""
    choice = Choice(ChoicePolicy(STEP, attempts_max=3, suspects_max=2))
    matches = [owned("fine", attempts=2, suspects=1), owned("loops", attempts=3), owned("hangs", suspects=2)]
    plan = choice.plan(matches, fleet_of(node("a")), here(), 100.0)
    assert [orphan.match.match_id for orphan in plan.claims] == ["fine"]
    assert {orphan.match.match_id for orphan in plan.quarantines} == {"loops", "hangs"}


def test_what_this_node_could_not_run_it_leaves_to_others() -> None:
    """Until somebody else had it."""
    fleet = fleet_of(node("a"))
    assert claims([owned("m", epoch=4)], fleet, here(unable={"m": 4}), later=9.0) == []
    assert claims([owned("m", epoch=6)], fleet, here(unable={"m": 4})) == ["m"]


def test_who_claims_is_alive() -> None:
    """It came back, claimed its own, and its lease was wiped again before anybody saw it."""
    choice, fleet = Choice(ChoicePolicy(STEP)), fleet_of(node("a"), dead=("b",))
    choice.plan([owned("m", "b", epoch=1)], fleet, here(room=0), 100.0)
    for step in range(9):
        at = 100.0 + step * 0.25
        fleet.observe([node("a", beat=step)], at, at)
        assert bool(choice.plan([owned("m", "b", epoch=2)], fleet, here(), at).claims) is (step == 8)


def test_a_claim_of_a_node_that_was_seen_after_the_last_look_says_nothing_new() -> None:
    """A look may be seconds ago: its matches wait one lease from its last renewal, not one more from the next look."""
    choice, fleet = Choice(ChoicePolicy(STEP)), fleet_of(node("a"), node("b"))
    choice.plan([owned("m", "c", epoch=1)], fleet, here(room=0), 100.0)
    for step in range(1, 9):
        fleet.observe([node("a", beat=step), node("b", beat=step)], 100.0 + step * 0.25, 100.0 + step * 0.25)
    for step in range(9, 17):  # b has claimed the match meanwhile, and stands still
        at = 100.0 + step * 0.25
        fleet.observe([node("a", beat=step)], at, at)
        assert bool(choice.plan([owned("m", "b", epoch=2)], fleet, here(), at).claims) is (step == 16)


# --- properties -------------------------------------------------------------------------------------------------------
@settings(max_examples=150, deadline=None)
@given(
    survivors=st.integers(1, 6), count=st.integers(0, 60), chunk=st.integers(1, 20), dumb=st.integers(0, 5),
    salt=st.integers(0, 10**6),
)  # fmt: skip
def test_every_orphan_is_claimed_by_exactly_one(survivors: int, count: int, chunk: int, dumb: int, salt: int) -> None:
    """In the limit, with a store that gives each to the quickest, and some nodes that never act; chunks are bounded."""
    ids = [f"n{number}" for number in range(survivors)]
    acting = ids[min(dumb, survivors - 1) :]
    fleet = fleet_of(*(node(id_) for id_ in ids), dead=("dead",))
    matches = {f"{salt}-{number}": owned(f"{salt}-{number}", "dead", connected=number % 4) for number in range(count)}
    choices = {id_: Choice(ChoicePolicy(STEP)) for id_ in acting}
    claimed: dict[str, list[str]] = {}
    for step in range(2 * survivors + 1):
        for id_ in acting:
            at = here(id_, *[match_id for match_id, owner in claimed.items() if owner[-1] == id_])
            plan = choices[id_].plan(list(matches.values()), fleet, at, 100.0 + step * STEP / 2)
            chunks = list(plan.chunks(chunk))
            assert all(1 <= len(one) <= chunk for one in chunks)
            for orphan in (orphan for one in chunks for orphan in one):
                claimed.setdefault(orphan.match.match_id, []).append(id_)
                matches[orphan.match.match_id] = owned(orphan.match.match_id, id_, epoch=2)
    assert {match_id: len(owners) for match_id, owners in claimed.items()} == dict.fromkeys(matches, 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10**6))
def test_survivors_share_evenly(nodes: int, salt: int) -> None:
    """No survivor gets twice its share, and one that dies leaves the others' ranking as it was."""
    ids = [f"node-{number}:8000" for number in range(nodes)]
    firsts = Counter(rendezvous(f"{salt}-{number}", ids)[0] for number in range(2000))
    assert max(firsts.values()) < 2 * 2000 / nodes
    for number in range(50):
        ranking = rendezvous(f"{salt}-{number}", ids)
        without = rendezvous(f"{salt}-{number}", [id_ for id_ in ids if id_ != ids[0]])
        assert without == [id_ for id_ in ranking if id_ != ids[0]]


# --- several nodes, on virtual time -----------------------------------------------------------------------------------
SEED = int(os.environ.get("SEED", "0"))


async def with_nodes(seed: int, count: int, matches: int, play: Callable[[World], Any], **pace: Any) -> None:
    print("SEED", seed)  # noqa: T201 - shown when the test fails
    world = World(seed, **{"adrift_seconds_max": 0.0, **pace})
    for number in range(count):
        await world.node(f"n{number}").start()
    try:
        await world.create(matches, world.nodes[0])
        await asyncio.sleep(0.5)
        await play(world)
        world.check_epochs()
    finally:
        await world.stop()


def all_run(world: World) -> bool:
    return sum(len(one.matches) for one in world.nodes if one.awake) >= len(world.acknowledged)


def test_survivors_share_what_a_dead_node_leaves() -> None:
    """Quickly after its lease has run out, and nothing acknowledged is missing."""

    async def play(world: World) -> None:
        first, *others = world.nodes
        await first.crash()
        seconds = await eventually(lambda: all_run(world), 4.0)
        assert seconds < 2.0 + 0.5
        assert all(len(one.matches) > 15 for one in others)
        await asyncio.sleep(1.0)
        world.check_settled()

    run_virtually(lambda: with_nodes(1, 3, 60, play))


def test_a_paused_owner_never_writes_again() -> None:
    """Its matches went on elsewhere; it drops its own at once and serves on."""

    async def play(world: World) -> None:
        first = world.nodes[0]
        first.pause()
        await eventually(lambda: all_run(world), 4.0)
        incarnation = first.membership.incarnation
        first.go_on()
        assert not first.membership.valid()
        await asyncio.sleep(5.0)
        assert first.membership.incarnation == incarnation + 1
        assert first.membership.valid()
        assert not first.matches
        world.check_settled()

    run_virtually(lambda: with_nodes(2, 3, 20, play))


def test_a_process_that_comes_back_claims_its_own() -> None:
    """Alone, or before anybody else has noticed: all that it ran before."""

    async def play(world: World) -> None:
        [only] = world.nodes
        await only.crash()
        await only.start()
        assert len(only.matches) == 20
        await asyncio.sleep(1.0)
        world.check_settled()

    run_virtually(lambda: with_nodes(3, 1, 20, play))


def test_a_draining_node_is_relieved_without_delay() -> None:
    """Each match is released, and taken by the one the ranking names."""

    async def play(world: World) -> None:
        first = world.nodes[0]
        first.draining = True
        await asyncio.sleep(0.6)
        for match_id, match in list(first.matches.items()):
            del first.matches[match_id]
            while True:
                append = match.flying
                if append is None or (await first.journal.append([append]))[0]:
                    break
            world.acknowledged[match_id] = list(match.log)
            await first.journal.release(match.token)
        seconds = await eventually(lambda: all_run(world), 2.0)
        assert seconds < 0.6
        assert not first.matches
        await asyncio.sleep(1.0)
        world.check_settled()

    run_virtually(lambda: with_nodes(4, 3, 30, play))


def test_what_one_node_cannot_run_another_takes() -> None:
    """And the one that cannot does not try again and again."""

    async def play(world: World) -> None:
        first, unable, able = world.nodes
        unable.refuses.update(world.acknowledged)
        await first.crash()
        await eventually(lambda: all_run(world), 6.0)
        assert len(able.matches) == 20
        assert all(world.server.matches[match_id].attempts <= 2 for match_id in world.acknowledged)

    run_virtually(lambda: with_nodes(5, 3, 20, play))


def test_a_node_adrift_runs_on_and_is_fenced_when_it_returns() -> None:
    """Cut off from the store alone: others have claimed its matches meanwhile, and the store knows."""

    async def play(world: World) -> None:
        first = world.nodes[0]
        first.cut_off = True
        await eventually(lambda: sum(len(one.matches) for one in world.nodes[1:]) == 20, 5.0)
        assert len(first.matches) == 20
        first.cut_off = False
        await eventually(lambda: not first.matches, 2.0)
        assert first.membership.incarnation == 1, "it goes on, without them"
        world.check_settled()

    run_virtually(lambda: with_nodes(6, 3, 20, play, adrift_seconds_max=30.0))


def test_a_store_that_is_away_changes_no_owner() -> None:
    """Nobody could renew; when it is back everybody does, and nobody claims anything."""

    async def play(world: World) -> None:
        world.down = True
        await asyncio.sleep(15.0)
        assert len(world.nodes[0].matches) == 20
        world.server.leases.clear()
        world.down = False
        await asyncio.sleep(5.0)
        assert len(world.nodes[0].matches) == 20
        assert all(held.epoch == 1 for held in world.server.matches.values())
        world.check_settled()

    run_virtually(lambda: with_nodes(7, 3, 20, play, adrift_seconds_max=30.0))


@pytest.mark.parametrize("how", ["empty", "rewound", "rewound before a takeover"])
def test_a_store_that_forgot_is_told_by_the_owners(how: str) -> None:
    """Nothing is lost, each match has one owner and one history, and the owners of before stay where they can."""

    async def play(world: World) -> None:
        first = world.nodes[0]
        point = world.server.save_point()
        if how == "rewound before a takeover":
            await first.crash()
            await eventually(lambda: all_run(world), 5.0)
        await asyncio.sleep(2.0)
        before = {one.id: set(one.matches) for one in world.nodes}
        if how == "empty":
            world.server.wipe()
        else:
            world.server.rewind(point)
        await asyncio.sleep(8.0)
        world.check_settled()
        assert {one.id: set(one.matches) for one in world.nodes} == before
        for match_id, held in world.server.matches.items():
            assert held.version > 40, f"{match_id} goes on"

    run_virtually(lambda: with_nodes(8, 3, 20, play, adrift_seconds_max=30.0))


def test_a_node_that_starts_when_the_store_comes_back_waits_for_the_owners() -> None:
    """The store is back as it was when the matches were its own; the one that runs them since puts them back."""

    async def play(world: World) -> None:
        first, second = world.nodes
        point = world.server.save_point()
        await first.crash()
        await eventually(lambda: all_run(world), 5.0)
        await asyncio.sleep(2.0)
        second.cut_off = True
        world.server.rewind(point)
        await first.start()
        second.cut_off = False
        await asyncio.sleep(8.0)
        assert not first.matches
        assert len(second.matches) == 20
        world.check_settled()

    run_virtually(lambda: with_nodes(10, 2, 20, play, adrift_seconds_max=30.0))


async def crash(world: World, one: SimNode) -> None:
    await one.crash()
    await asyncio.sleep(world.random.uniform(0.0, 5.0))
    if not one.alive:
        one.boot()


async def pause(world: World, one: SimNode) -> None:
    one.pause()
    await asyncio.sleep(world.random.uniform(0.1, 6.0))
    one.go_on()


async def cut(world: World, one: SimNode) -> None:
    one.cut_off = True
    await asyncio.sleep(world.random.uniform(0.1, 6.0))
    one.cut_off = False


async def store_restarts(world: World, one: SimNode) -> None:
    world.server.restart()


async def store_clock_jumps(world: World, one: SimNode) -> None:
    world.server.leases.clear()


async def store_stops(world: World, one: SimNode) -> None:
    world.down = True
    await asyncio.sleep(world.random.uniform(0.1, 4.0))
    world.down = False


async def storm(world: World, seconds: float) -> None:
    """Faults at random; at the end all is well again."""
    loop, dice = asyncio.get_running_loop(), world.random
    until = loop.time() + seconds

    async def watch() -> None:
        while True:
            world.check_epochs()
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    troubles = []
    while loop.time() < until and not watching.done():
        await asyncio.sleep(dice.uniform(0.0, 2.0))
        one = dice.choice(world.nodes)
        if one.awake:
            troubles.append(asyncio.create_task(dice.choice(FAULTS)(world, one)))
    await asyncio.gather(*troubles)
    world.loss = 0.0
    await asyncio.sleep(15.0)
    watching.cancel()
    [outcome] = await asyncio.gather(watching, return_exceptions=True)
    if not isinstance(outcome, asyncio.CancelledError):
        raise outcome
    for task in (task for one in world.nodes for task in one._tasks):
        if task.done():
            task.result()
    world.check_settled()


FAULTS = [crash, crash, pause, pause, cut, store_restarts, store_clock_jumps, store_stops]


@pytest.mark.parametrize("seed", [SEED] if SEED else range(100, 105))
def test_whatever_happens_each_match_has_one_owner(seed: int) -> None:
    """Crashes, pauses, cuts, lost answers, a store that stops: never two owners with a lease, nothing lost."""

    async def play(world: World) -> None:
        world.loss = world.random.choice([0.0, 0.05])
        await storm(world, 40.0)

    run_virtually(lambda: with_nodes(seed, 4, 12, play))


@pytest.mark.parametrize("seed", [SEED] if SEED else range(200, 203))
def test_so_it_is_with_nodes_adrift(seed: int) -> None:
    """With time adrift two nodes may run a match for a while, but only one of them with a lease, or with an epoch."""

    async def play(world: World) -> None:
        world.loss = 0.05
        await storm(world, 40.0)

    run_virtually(lambda: with_nodes(seed, 4, 12, play, adrift_seconds_max=30.0))


def test_a_claim_on_demand() -> None:
    """A join finds a match that sleeps, one that runs elsewhere, one that is not there."""

    async def play(world: World) -> None:
        first, second = world.nodes
        token = first.matches.pop("m0").token
        assert not await second.takeover.claim("m1")
        await first.journal.release(token, asleep=True)
        await asyncio.sleep(6.0)
        assert "m0" not in {**first.matches, **second.matches}, "it sleeps"
        assert await asyncio.gather(*(second.takeover.claim("m0") for _ in range(3))) == [True] * 3
        assert await second.takeover.claim("m0")
        assert world.server.matches["m0"].epoch == second.matches["m0"].token.epoch > 1
        with pytest.raises(MatchNotFound):
            await second.takeover.claim("nothing")

    run_virtually(lambda: with_nodes(9, 2, 3, play))


def test_who_comes_back_while_its_matches_are_looked_at_keeps_them() -> None:
    """Its lease had run out when it was read who lives; it has claimed its own when it is read who owns what."""

    async def play(world: World) -> None:
        first, second = world.nodes
        second.takeover._policy = replace(second.takeover._policy, scan_seconds=60.0)
        second.takeover.hint()
        await asyncio.sleep(1.0)
        await first.crash()
        claims = []

        async def come_back() -> list[OwnedMatch]:
            second.journal.owned = owned  # type: ignore[method-assign]
            journal = MemoryJournal(world.server)
            assert await journal.renew(NodeInfo(first.id, "", started=world.loop.time()), 10_000)
            claims.append(await journal.claim("m0", first.id, expect_epoch=1))
            return await owned()

        owned, second.journal.owned = second.journal.owned, come_back  # type: ignore[method-assign]
        await asyncio.sleep(4.0)
        assert len(claims) == 1
        assert not second.matches
        assert world.server.matches["m0"].epoch == claims[0].token.epoch

    run_virtually(lambda: with_nodes(11, 2, 3, play))


def test_who_comes_back_while_its_match_is_asked_for_keeps_it() -> None:
    """A join elsewhere reads that a dead node owns the match: it has come back since, and claimed it."""

    async def play(world: World) -> None:
        first, second = world.nodes
        await second.takeover.stop()
        await first.crash()
        while not second.takeover.fleet.is_dead(first.id):
            await asyncio.sleep(0.5)
            await second.takeover._see_nodes()
        claims = []

        async def come_back(match_ids: Sequence[str]) -> list[OwnedMatch | None]:
            journal = MemoryJournal(world.server)
            assert await journal.renew(NodeInfo(first.id, "", started=world.loop.time()), 10_000)
            claims.append(await journal.claim("m0", first.id, expect_epoch=1))
            return await journal.find(match_ids)

        second.journal.find = come_back  # type: ignore[method-assign]
        assert not await second.takeover.claim("m0")
        assert world.server.matches["m0"].epoch == claims[0].token.epoch

    run_virtually(lambda: with_nodes(11, 2, 3, play))


def test_a_match_is_claimed_before_it_is_read() -> None:
    """What is read before could still be added to by the owner before."""

    async def play(world: World) -> None:
        first, second = world.nodes
        await first.journal.release(first.matches.pop("m0").token, asleep=True)
        calls = []
        for name in ("claim", "recover"):
            call = getattr(second.journal, name)

            def noted(*args: Any, call: Any = call, name: str = name, **kwargs: Any) -> Any:
                calls.append(name)
                return call(*args, **kwargs)

            setattr(second.journal, name, noted)
        assert await second.takeover.claim("m0")
        assert calls == ["claim", "recover"]

    run_virtually(lambda: with_nodes(9, 2, 1, play))


def test_nobody_claims_what_its_owner_is_about_to_put_back() -> None:
    """The store was rewound to when a match slept that runs again: a join elsewhere does not make two of it."""

    async def play(world: World) -> None:
        first, second, third = world.nodes
        await first.journal.release(first.matches.pop("m0").token, asleep=True)
        point = world.server.save_point()
        assert await second.takeover.claim("m0")
        await asyncio.sleep(1.0)
        world.server.rewind(point)
        assert not await third.takeover.claim("m0")
        await asyncio.sleep(3.0)
        assert world.server.matches["m0"].node == second.id
        assert "m0" in second.matches
        assert "m0" not in third.matches

    run_virtually(lambda: with_nodes(9, 3, 3, play))


# --- real nodes, on a real store --------------------------------------------------------------------------------------
class CountingHost:
    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}

    def keeps(self, match_id: str) -> bool:
        return match_id in self.tokens

    def room(self) -> int:
        return 10_000

    def run(self, recovered: Recovered, token: Token) -> bool:
        assert token.match_id not in self.tokens
        self.tokens[token.match_id] = token
        return True


class WatchedJournal:
    """A journal's store that notes what is claimed, and how much of it at the same time."""

    def __init__(self, store: RedisJournal) -> None:
        self.claimed: list[str] = []
        self.at_once_max = 0
        self._store = store
        self._under_way = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim(self, match_id: str, node_id: str, **options: Any) -> Claimed:
        self.claimed.append(match_id)
        self._under_way += 1
        self.at_once_max = max(self.at_once_max, self._under_way)
        try:
            return await self._store.claim(match_id, node_id, **options)
        finally:
            self._under_way -= 1


@pytest.mark.slow
async def test_200_matches_are_shared_in_chunks_with_the_connected_ones_first(redis_url: str) -> None:
    """Two survivors, snapshots of 20 kB, the default lease. (How long it takes: `python -m tests.chaos.takeover`.)"""
    pace, policy = Pace(), TakeoverPolicy()
    store = make_journal(redis_url, RedisSettings())
    snapshot = encode_snapshot({"state": os.urandom(20_000)})
    for number in range(200):
        meta = SnapshotMeta("arena", 1, 0, 1)
        await store.create(f"m{number}", "dead", meta=meta, snapshot=snapshot, connected=number % 2)
    await store.renew(NodeInfo("dead", "", started=1.0), 2000)
    hosts, journals = {"a": CountingHost(), "b": CountingHost()}, {}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        for id_, host in hosts.items():
            metrics = Metrics()
            journal = journals[id_] = WatchedJournal(make_journal(redis_url, RedisSettings()))
            stack.push_async_callback(journal.close)
            member = Membership(
                lambda id_=id_: NodeInfo(id_, "", games=("arena",)),  # type: ignore[misc]
                lambda: lease_store(redis_url, RedisSettings(), pace),
                pace,
                metrics,
            )
            await member.start()
            stack.push_async_callback(member.stop)
            takeover = Takeover(journal, member, host, policy, metrics, clock=time.monotonic)
            await takeover.start()
            stack.push_async_callback(takeover.stop)
            await store.renew(NodeInfo("dead", "", started=1.0, beat=len(journals)), 2000)
        async with asyncio.timeout(30.0):
            while sum(len(host.tokens) for host in hosts.values()) < 200:
                await asyncio.sleep(0.01)
        assert {one.node for one in await store.owned()} == {"a", "b"}
    for id_, journal in journals.items():
        own = [match_id for match_id in journal.claimed if rendezvous(match_id, list(hosts))[0] == id_]
        assert 60 < len(own) < 140
        connected = [int(match_id[1:]) % 2 for match_id in own]
        assert connected == sorted(connected, reverse=True)
        assert journal.at_once_max == policy.chunk


async def test_the_store_tells_which_state_version_a_match_has(redis_url: str) -> None:
    """A node with an older game leaves it alone, before it has claimed it."""
    store = make_journal(redis_url, RedisSettings())
    meta = SnapshotMeta("arena", 1, 0, 2)
    token = await store.create("m", "dead", meta=meta, snapshot=encode_snapshot({}))
    assert [one.state_version for one in await store.owned()] == [2]
    await store.save(token, 1, SnapshotMeta("arena", 1, 1, 3), encode_snapshot({}))
    [found] = await store.find(["m"])
    assert found is not None
    assert found.state_version == 3
    fleet = fleet_of(dead=("dead",))
    for version, taken in ((2, []), (3, ["m"])):
        at = here(node=node("a", state_versions=(version,)))
        assert claims(await store.owned(), fleet, at) == taken
    assert Choice(ChoicePolicy()).plan([found], fleet, here(), 100.0).claims[0].reason is Reason.DEAD
    await store.close()

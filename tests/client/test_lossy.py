"""Whatever a connection loses, the client ends up where the server is: nothing lost, nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from gameserver.cluster import RecentLimits
from gameserver.errors import ActionRefused
from gameserver.state import to_plain
from tests.client.lossy import Person, World


def play(seed: int, *, recent: RecentLimits, crashes: bool, steps: int = 400) -> tuple[World, list[Person]]:
    """Two players act while their connections are cut at random bytes; at the end everything comes to rest."""
    world = World(seed, recent)
    people = [Person(world, user) for user in ("ann", "bob")]
    random = world.random
    positions: dict[str, Any] = {}
    for _ in range(steps):
        misbehave(world, people, crashes=crashes)
        for person in people:
            person.move(random.choice([20, 300, 300, 5000]))
        world.run(random.random() * 0.03)
        for person in people:
            if person.room is not None:
                assert person.room.position >= positions.get(person.user, (0, 0))
                positions[person.user] = person.room.position
    settle(world, people)
    return world, people


def misbehave(world: World, people: list[Person], *, crashes: bool) -> None:
    """One thing that can happen."""
    random = world.random
    person = random.choice(people)
    chance = random.random()
    if chance < 0.50:
        person.act()
    elif chance < 0.58:
        person.cut()
    elif chance < 0.75:
        if person.line is None:
            person.connect()
    elif chance < 0.80:
        person.notice()
    elif chance < 0.93:
        if world.snapshot is None:  # otherwise nothing is let out until the crash
            world.gate_open = random.random() < 0.5
            world.let_out(random.randint(0, 4))
    elif chance < 0.96 and crashes:
        if any(one.room is None for one in people):
            return  # a seat that was taken and lost in the same moment is no seat
        if world.snapshot is None:
            world.save()
        else:
            for one in people:
                one.cut()
                one.gone.clear()
            world.crash()
    else:
        person.resend()


def settle(world: World, people: list[Person]) -> None:
    world.gate_open, world.snapshot = True, None
    for _ in range(60):
        world.let_out(len(world.held))
        for person in people:
            if person.line is None:
                person.connect()
            person.notice()
            person.move()
            person.resend()
        world.run(0.05)


def check(world: World, people: list[Person]) -> None:
    match = world.hosted.match
    applied = list(match.game.done)  # type: ignore[attr-defined]
    assert len(applied) == len(set(applied)), "an action was applied twice"
    for person in people:
        assert person.room is not None
        assert person.room.connected
        assert to_plain(person.room.mirror.root) == match.tree.view(person.user)
        assert person.room.waiting == 0
        assert person.urgent == person.expected_urgent()
        sent = {f"{person.user}{number}" for number in range(next(person.keys))}
        for key in sent - person.quiet:
            result = person.results.pop(key)
            assert (result == key) == (key in applied), (key, result)
            assert result == key or (isinstance(result, ActionRefused) and result.message == key)
        for key in person.quiet:
            refused = person.results.pop(f"quiet {key}", None)
            assert (refused is None) == (key in applied), (key, refused)
        assert person.results == {}


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_lost_and_nothing_comes_twice(seed: int) -> None:
    world, people = play(seed, recent=RecentLimits(frames_max=1000, bytes_max=1 << 24), crashes=False)
    check(world, people)
    for person in people:
        assert all(person.recovered)
        assert len(person.heard) == len(set(person.heard))
        done = list(world.hosted.match.game.done)  # type: ignore[attr-defined]
        assert person.heard == [key for key in done if key in set(person.heard)]
        first = done.index(person.heard[0]) if person.heard else len(done)
        missing = [key for key in done[first:] if key not in set(person.heard)]
        assert missing == [key for key in missing if not emits_heard(world, key)]


def emits_heard(world: World, key: str) -> bool:
    return key not in world.hosted.match.game.switched  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(60))
def test_with_little_kept_full_states_stand_in(seed: int) -> None:
    world, people = play(seed, recent=RecentLimits(frames_max=4, bytes_max=2000), crashes=False)
    check(world, people)
    for person in people:
        assert len(person.heard) == len(set(person.heard))


@pytest.mark.parametrize("seed", range(80))
def test_crashes_take_back_only_what_was_not_let_out(seed: int) -> None:
    world, people = play(seed, recent=RecentLimits(), crashes=True)
    check(world, people)


def test_both_ways_of_coming_back_are_taken() -> None:
    """The tests above would prove little if one of them never happened."""
    ways = [
        way
        for seed in range(20)
        for person in play(seed, recent=RecentLimits(frames_max=4), crashes=False)[1]
        for way in person.recovered
    ]
    assert ways.count(True) > 10
    assert ways.count(False) > 10

"""The arena's rules, on a virtual clock."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gameserver.errors import ActionInvalid, ActionRefused, RateLimited
from gameserver.examples import Arena
from gameserver.examples.arena import AMMO_MAX, DAMAGE, HP_MAX, RELOAD_SECONDS, RESPAWN_SECONDS, SPEED
from gameserver.testing import FakePlayer, MatchTester


@pytest.fixture
def tester() -> MatchTester:
    return MatchTester(Arena)


@pytest.fixture
def alice(tester: MatchTester) -> FakePlayer:
    return tester.join("alice")


@pytest.fixture
def bob(tester: MatchTester, alice: FakePlayer) -> FakePlayer:
    bob = tester.join("bob")
    put(tester, "alice", 50, 50)
    put(tester, "bob", 60, 50)
    return bob


def put(tester: MatchTester, player: str, x: float, y: float) -> None:
    ship = tester.game.ships[player]
    ship.x, ship.y = float(x), float(y)


def ship(player: FakePlayer, name: str) -> Any:
    return player.state.ships[name]


def destroy(tester: MatchTester, shooter: FakePlayer, target: str) -> None:
    for _ in range(HP_MAX // DAMAGE):
        assert shooter.act("fire", target=target) is True


def test_ships_move_at_their_speed_and_stop_at_the_edge(tester: MatchTester, alice: FakePlayer) -> None:
    put(tester, "alice", 50, 50)
    alice.act("steer", dx=30.0, dy=40.0)
    before = ship(alice, "alice").x, ship(alice, "alice").y
    tester.advance(1.0)
    moved = math.hypot(ship(alice, "alice").x - before[0], ship(alice, "alice").y - before[1])
    assert moved == pytest.approx(SPEED, abs=0.05)
    tester.advance(60.0)
    assert ship(alice, "alice").y == 100.0


def test_a_ship_at_rest_sends_nothing(tester: MatchTester, alice: FakePlayer) -> None:
    version = tester.match.version
    tester.advance(10.0)
    assert tester.match.version == version


@pytest.mark.parametrize("bad", [{"dx": "left", "dy": 0}, {"dx": 1.0}, {"dx": math.nan, "dy": 0.0}, {}])
def test_bad_steering_is_refused(alice: FakePlayer, bad: dict[str, Any]) -> None:
    with pytest.raises(ActionInvalid):
        alice.act("steer", **bad)


def test_a_hit_costs_hit_points_and_is_told_at_once(tester: MatchTester, alice: FakePlayer, bob: FakePlayer) -> None:
    before = tester.now
    assert alice.act("fire", target="bob") is True
    assert tester.now == before
    assert ship(bob, "bob").hp == HP_MAX - DAMAGE
    assert ("hit", {"by": "alice", "target": "bob", "hp": HP_MAX - DAMAGE}) in bob.events


def test_too_far_is_a_miss(tester: MatchTester, alice: FakePlayer, bob: FakePlayer) -> None:
    put(tester, "bob", 99, 99)
    assert alice.act("fire", target="bob") is False
    assert alice.act("fire", target="nobody") is False
    assert alice.act("fire", target="alice") is False
    assert ship(alice, "bob").hp == HP_MAX


def test_only_the_owner_sees_the_ammunition(alice: FakePlayer, bob: FakePlayer) -> None:
    alice.act("fire", target="bob")
    assert ship(alice, "alice").ammo == AMMO_MAX - 1
    assert not hasattr(ship(bob, "alice"), "ammo")
    assert not hasattr(ship(alice, "alice"), "dx")


def test_ammunition_runs_out_and_comes_back(tester: MatchTester, alice: FakePlayer, bob: FakePlayer) -> None:
    put(tester, "bob", 99, 99)
    for _ in range(AMMO_MAX):
        alice.act("fire", target="bob")
    with pytest.raises((ActionRefused, RateLimited)):
        alice.act("fire", target="bob")
    assert ship(alice, "alice").ammo == 0
    tester.advance(RELOAD_SECONDS * 2 + 0.1)
    assert ship(alice, "alice").ammo == 2
    tester.advance(RELOAD_SECONDS * 20)
    assert ship(alice, "alice").ammo == AMMO_MAX


def test_a_destroyed_ship_waits_and_comes_back(tester: MatchTester, alice: FakePlayer, bob: FakePlayer) -> None:
    destroy(tester, alice, "bob")
    assert not ship(bob, "bob").alive
    assert ship(bob, "alice").kills == 1
    with pytest.raises(ActionRefused, match="destroyed"):
        bob.act("fire", target="alice")
    assert alice.act("fire", target="bob") is False
    tester.advance(RESPAWN_SECONDS + 0.1)
    assert (ship(bob, "bob").alive, ship(bob, "bob").hp) == (True, HP_MAX)
    assert ("respawned", {"player": "bob"}) in alice.events


def test_timers_of_players_who_left_do_nothing(tester: MatchTester, alice: FakePlayer, bob: FakePlayer) -> None:
    destroy(tester, alice, "bob")
    bob.leave()
    alice.leave()
    carol = tester.join("carol")
    tester.advance(10.0)
    assert list(carol.view["ships"]) == ["carol"]


def test_the_respawn_timer_survives_a_restart(tester: MatchTester, alice: FakePlayer, bob: FakePlayer) -> None:
    destroy(tester, alice, "bob")
    tester.advance(RESPAWN_SECONDS / 2)
    tester.restart()
    assert not ship(bob, "bob").alive
    tester.advance(RESPAWN_SECONDS / 2 + 0.1)
    assert ship(bob, "bob").alive


def test_the_size_is_an_option_within_reason() -> None:
    assert MatchTester(Arena, {"size": 50}).game.size == 50.0
    assert MatchTester(Arena, {"size": 10**9}).game.size == 1000.0

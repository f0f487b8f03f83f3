"""Battleship's rules, what each player can know, and its clock."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gameserver.errors import ActionRefused, MatchFull
from gameserver.examples import Battleship
from gameserver.examples.battleship import CELLS, MISSED_TURNS_MAX, check_fleet
from gameserver.match import MatchOutput
from gameserver.testing import FakePlayer, MatchTester

FLEET = {
    "destroyer": ["A1", "A2"],
    "cruiser": ["C1", "C2", "C3"],
    "submarine": ["E1", "F1", "G1"],
    "battleship": ["J7", "J8", "J9", "J10"],
    "carrier": ["D10", "E10", "F10", "G10", "H10"],
}


def named(fleet: dict[str, list[str]], prefix: str) -> dict[str, list[str]]:
    return {f"{prefix} {name}": cells for name, cells in fleet.items()}


class Spy(MatchTester):
    """Keeps the raw bytes that each viewer's connection would carry."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.wire: dict[str, bytearray] = {}
        super().__init__(*args, **kwargs)

    def join(self, user_id: str, **kwargs: Any) -> FakePlayer:
        player = super().join(user_id, **kwargs)
        self.wire.setdefault(player.viewer, bytearray()).extend(self.match.full_state(player.viewer))
        return player

    def restart(self, *args: Any, **kwargs: Any) -> None:
        super().restart(*args, **kwargs)
        for viewer, wire in self.wire.items():
            wire += self.match.full_state(viewer)

    def _deliver(self, output: MatchOutput) -> None:
        for player in {player.viewer: player for player in self.players.values()}.values():
            wire = self.wire.setdefault(player.viewer, bytearray())
            wire += output.patch.everyone
            for part in output.patch.parts:
                if player.viewer in part.receivers:
                    wire += part.ops
            for batch in output.events + output.gated_events:
                if batch.receivers is None or player.viewer in batch.receivers:
                    wire += msgspec.msgpack.encode(batch.events)
            for ack in output.acks:
                if ack.session_id == player.session_id:
                    wire += msgspec.msgpack.encode(ack)
        super()._deliver(output)


@pytest.fixture
def tester() -> Spy:
    return Spy(Battleship, {"turn_seconds": 20})


@pytest.fixture
def alice(tester: Spy) -> FakePlayer:
    return tester.join("alice")


@pytest.fixture
def bob(tester: Spy, alice: FakePlayer) -> FakePlayer:
    return tester.join("bob")


@pytest.fixture
def turns(tester: Spy, alice: FakePlayer, bob: FakePlayer) -> tuple[FakePlayer, FakePlayer]:
    """A game that has begun: whose turn it is, and the other one."""
    alice.act("place", ships=named(FLEET, "alices"))
    bob.act("place", ships=named(FLEET, "bobs"))
    return (alice, bob) if alice.state.turn == "alice" else (bob, alice)


def sink_everything(shooter: FakePlayer) -> str:
    result = ""
    for cells in FLEET.values():
        for cell in cells:
            result = shooter.act("shoot", cell=cell)
    return result


class TestPlacing:
    def test_the_game_begins_when_both_fleets_are_placed(self, alice: FakePlayer, bob: FakePlayer) -> None:
        alice.act("place", ships=FLEET)
        assert alice.state.phase == "placing"
        bob.act("place", ships=FLEET)
        assert alice.state.phase == "playing"
        assert bob.state.turn in ("alice", "bob")

    def test_a_fleet_may_be_placed_again_before_the_first_shot_only(
        self, alice: FakePlayer, bob: FakePlayer
    ) -> None:
        alice.act("place", ships=FLEET)
        alice.act("place", ships=named(FLEET, "new"))
        assert alice.state.boards["alice"].fleet.ships[0].name == "new destroyer"
        bob.act("place", ships=FLEET)
        with pytest.raises(ActionRefused):
            alice.act("place", ships=FLEET)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"destroyer": ["A1"]}, "each of these lengths"),
            ({"destroyer": ["A1", "A3"]}, "side by side"),
            ({"destroyer": ["A1", "B2"]}, "side by side"),
            ({"destroyer": ["A1", "A1"]}, "side by side"),
            ({"destroyer": ["A10", "A11"]}, "side by side"),
            ({"destroyer": ["J10", "K10"]}, "side by side"),
            ({"destroyer": ["", ""]}, "side by side"),
            ({"destroyer": ["C1", "D1"]}, "share a cell"),
            ({"destroyer": [], "": ["A1", "A2"]}, "each of these lengths"),
        ],
    )
    def test_a_fleet_that_breaks_the_rules_is_refused(self, change: dict[str, list[str]], reason: str) -> None:
        with pytest.raises(ActionRefused, match=reason):
            check_fleet({**FLEET, **change})

    def test_names_have_bounds(self) -> None:
        for name in ("", "x" * 25):
            fleet = {**FLEET, name: FLEET["destroyer"]}
            del fleet["destroyer"]
            with pytest.raises(ActionRefused, match="characters"):
                check_fleet(fleet)

    def test_there_are_two_seats(self, tester: Spy, bob: FakePlayer) -> None:
        with pytest.raises(MatchFull):
            tester.join("carol")

    def test_who_leaves_before_the_game_makes_room(self, tester: Spy, alice: FakePlayer, bob: FakePlayer) -> None:
        alice.act("place", ships=FLEET)
        bob.leave()
        tester.join("carol").act("place", ships=FLEET)
        assert alice.state.phase == "playing"


class TestShooting:
    def test_turns_are_kept(self, turns: tuple[FakePlayer, FakePlayer]) -> None:
        first, second = turns
        with pytest.raises(ActionRefused, match="not your turn"):
            second.act("shoot", cell="A1")
        assert first.act("shoot", cell="B1") == "miss"
        assert first.state.turn == second.id
        with pytest.raises(ActionRefused, match="not your turn"):
            first.act("shoot", cell="B2")

    def test_hit_sunk_and_seen_by_both(self, turns: tuple[FakePlayer, FakePlayer]) -> None:
        first, second = turns
        assert first.act("shoot", cell="A1") == "hit"
        assert first.act("shoot", cell="A2") == "sunk"
        for player in turns:
            board = player.view["boards"][second.id]
            assert board["shots"] == {"A1": "sunk", "A2": "sunk"}
            assert board["sunk"] == [f"{second.id}s destroyer"]
            assert board["afloat"] == 4
        assert ("shot", {"by": first.id, "cell": "A2", "result": "sunk"}) in second.events

    @pytest.mark.parametrize("cell", ["", "A0", "A11", "K1", "a1", "A1 "])
    def test_only_cells_can_be_shot_at(self, turns: tuple[FakePlayer, FakePlayer], cell: str) -> None:
        with pytest.raises(ActionRefused):
            turns[0].act("shoot", cell=cell)

    def test_no_cell_twice(self, turns: tuple[FakePlayer, FakePlayer]) -> None:
        turns[0].act("shoot", cell="A1")
        with pytest.raises(ActionRefused):
            turns[0].act("shoot", cell="A1")

    def test_the_last_ship_wins_the_game(self, tester: Spy, turns: tuple[FakePlayer, FakePlayer]) -> None:
        first, second = turns
        assert sink_everything(first) == "won"
        assert (second.state.phase, second.state.winner) == ("over", first.id)
        assert tester.ended == "won"
        (record,) = tester.records
        assert record.payload["winner"] == first.id

    def test_who_leaves_loses(self, tester: Spy, turns: tuple[FakePlayer, FakePlayer]) -> None:
        turns[0].leave()
        assert tester.game.winner == turns[1].id


class TestWhatIsHidden:
    def test_the_opponents_ships_are_in_no_byte_until_the_game_is_over(
        self, tester: Spy, turns: tuple[FakePlayer, FakePlayer]
    ) -> None:
        first, second = turns
        watcher = tester.spectate()
        assert first.act("shoot", cell="A1") == "hit"
        assert first.act("shoot", cell="B5") == "miss"
        second.act("shoot", cell="B5")
        tester.restart()
        late = tester.join(first.id)
        for viewer, others in ((first.id, second.id), (second.id, first.id)):
            wire = bytes(tester.wire[viewer])
            assert f"{viewer}s carrier".encode() in wire
            assert f"{others}s ".encode() not in wire
        assert b"carrier" not in tester.wire[watcher.viewer]
        assert late.view["boards"][second.id]["fleet"] is None
        sink_everything_left = [cell for cells in FLEET.values() for cell in cells if cell != "A1"]
        for cell in sink_everything_left:
            late.act("shoot", cell=cell)
        assert f"{first.id}s carrier".encode() in tester.wire[second.id]
        assert f"{second.id}s carrier".encode() in tester.wire[first.id]
        assert b"carrier" in tester.wire[watcher.viewer]

    def test_a_sunk_ship_tells_its_name_and_no_others(
        self, tester: Spy, turns: tuple[FakePlayer, FakePlayer]
    ) -> None:
        first, second = turns
        first.act("shoot", cell="A1")
        first.act("shoot", cell="A2")
        assert f"{second.id}s destroyer".encode() in tester.wire[first.id]
        assert f"{second.id}s c".encode() not in tester.wire[first.id]


class TestClock:
    def test_a_missed_turn_goes_to_the_opponent(self, tester: Spy, turns: tuple[FakePlayer, FakePlayer]) -> None:
        first, second = turns
        tester.advance(19.9)
        assert second.state.turn == first.id
        tester.advance(0.2)
        assert second.state.turn == second.id
        assert ("turn_missed", {"player": first.id}) in second.events

    def test_every_shot_winds_the_clock(self, tester: Spy, turns: tuple[FakePlayer, FakePlayer]) -> None:
        first, second = turns
        tester.advance(15)
        first.act("shoot", cell="A1")
        tester.advance(15)
        assert first.state.turn == first.id
        tester.advance(5.1)
        assert first.state.turn == second.id

    def test_three_missed_turns_in_a_row_lose_the_game(
        self, tester: Spy, turns: tuple[FakePlayer, FakePlayer]
    ) -> None:
        _sleeper, awake = turns
        free = sorted(CELLS - {cell for cells in FLEET.values() for cell in cells})
        for n in range(MISSED_TURNS_MAX):
            tester.advance(20.1)
            if tester.ended is None:
                awake.act("shoot", cell=free[n])
        assert tester.game.winner == awake.id
        assert tester.ended == "won"

    def test_the_turn_timer_is_still_pending_after_a_restart(
        self, tester: Spy, turns: tuple[FakePlayer, FakePlayer]
    ) -> None:
        first, second = turns
        first.act("shoot", cell="A1")
        tester.advance(15)
        tester.restart()
        assert second.state.turn == first.id
        assert second.view["boards"][second.id]["shots"] == {"A1": "hit"}
        tester.advance(4.9)
        assert second.state.turn == first.id
        tester.advance(0.2)
        assert second.state.turn == second.id
        assert second.act("shoot", cell="C1") == "hit"

    def test_nothing_ticks_while_everyone_thinks(self, tester: Spy, alice: FakePlayer, bob: FakePlayer) -> None:
        assert tester.match.next_wake(tester.now) is None

"""Coming, going, losing the connection, coming back."""

from __future__ import annotations

from typing import Any

import pytest

from gameserver import ActionRefused, Game, List, Player, Priority, User, action
from gameserver.errors import (
    GameCodeError,
    JoinRefused,
    LimitReached,
    MatchEnded,
    MatchFull,
    NotJoined,
    RequestInvalid,
)
from gameserver.testing import MatchTester
from tests.match.games import Boom


class Club(Game):
    players_max = 3
    spectators_max = 2
    seat_hold_seconds = 10
    empty_seconds = 60
    lines: List[Any]

    def can_join(self, user: User) -> bool | str | None:
        if user.id == "banned":
            return "you are banned"
        if user.id == "unwanted":
            return False
        return None if user.id == "unclear" else True

    def on_join(self, player: Player) -> None:
        self.lines.append(["join", player.id])
        self.group("all").add(player)
        if player.id == "unlucky":
            raise Boom
        if player.id == "late":
            raise ActionRefused("too late")
        if player.id == "last":
            self.end("last one in")

    def on_leave(self, player: Player, reason: str) -> None:
        self.lines.append(["leave", player.id, reason, player.id in self.players, player in self.group("all")])

    def on_disconnect(self, player: Player) -> None:
        self.lines.append(["lost", player.id, player.connected])

    def on_reconnect(self, player: Player) -> None:
        self.lines.append(["back", player.id, player.connected, player.role])

    @action
    def say(self, player: Player, text: str) -> None:
        self.lines.append(["say", player.id, text])

    @action(priority=Priority.HIGH)
    def bye(self, player: Player) -> None:
        self.end("bye")


@pytest.fixture
def tester():
    return MatchTester(Club)


def lines(tester: MatchTester) -> list[Any]:
    return [list(line) for line in tester.game.lines]


def test_slots_are_small_and_used_again(tester):
    players = {name: tester.join(name) for name in ("a", "b", "c")}
    assert {p.id: p.slot for p in tester.game.players.values()} == {"a": 0, "b": 1, "c": 2}
    with pytest.raises(MatchFull):
        tester.join("d")
    players["b"].leave()
    tester.join("d")
    assert {p.id: p.slot for p in tester.game.players.values()} == {"a": 0, "c": 2, "d": 1}


def test_the_game_may_refuse(tester):
    for user, hint in (("banned", "you are banned"), ("unwanted", "refused the join"), ("late", "too late")):
        with pytest.raises(JoinRefused, match=hint):
            tester.join(user)
    tester.join("unclear")
    assert lines(tester) == [["join", "unclear"]]
    assert not tester.failures


def test_a_failing_join_leaves_nothing(tester):
    version = tester.match.version
    with pytest.raises(GameCodeError):
        tester.join("unlucky")
    assert tester.match.version == version
    assert lines(tester) == []
    assert not tester.game.players
    assert not tester.match.tree.group("all")
    assert "unlucky" not in tester.match.tree.viewers
    assert [what for what, _error in tester.failures] == ["on_join"]


def test_leaving_runs_what_was_queued_first(tester):
    alice, bob = tester.join("alice"), tester.join("bob")
    alice.send("say", "last words")
    alice.leave()
    assert lines(tester)[2:] == [["say", "alice", "last words"], ["leave", "alice", "left", False, False]]
    assert bob.view["lines"] == lines(tester)
    assert tester.match.leave("session-1", "again", tester.now, tester.wall) is False


def test_a_lost_connection_keeps_the_seat_for_a_while(tester):
    alice, bob = tester.join("alice"), tester.join("bob")
    alice.disconnect()
    tester.advance(9)
    assert "alice" in tester.game.players
    alice.reconnect()
    assert alice.view == bob.view
    tester.advance(20)
    alice.disconnect()
    alice.disconnect()
    tester.advance(10)
    assert lines(tester)[2:] == [
        ["lost", "alice", False],
        ["back", "alice", True, "player"],
        ["lost", "alice", False],
        ["leave", "alice", "timeout", False, False],
    ]
    with pytest.raises(NotJoined):
        alice.reconnect()


def test_held_seats_survive_a_restart(tester):
    alice, bob = tester.join("alice"), tester.join("bob")
    alice.disconnect()
    tester.advance(6)
    tester.restart()
    tester.advance(3.9)
    assert "alice" in tester.game.players
    tester.advance(0.2)
    assert "alice" not in tester.game.players
    assert bob.view["lines"][-1][:3] == ["leave", "alice", "timeout"]


def test_no_seat_is_held_where_the_game_wants_none():
    class Strict(Club):
        seat_hold_seconds = 0

    tester = MatchTester(Strict)
    tester.join("alice").disconnect()
    assert lines(tester)[-1] == ["leave", "alice", "disconnected", False, False]


def test_joining_again_takes_the_seat_over(tester):
    first = tester.join("alice")
    first.send("say", "queued")
    second = tester.join("alice", role="moderator", name="Al")
    player = tester.game.players["alice"]
    assert (player.slot, player.role, player.name) == (0, "moderator", "Al")
    assert tester.match.session(second.session_id).replaced == first.session_id
    assert not tester.match.has_session(first.session_id)
    assert lines(tester) == [["join", "alice"], ["say", "alice", "queued"], ["back", "alice", True, "moderator"]]
    second.act("say", "numbering starts anew")
    with pytest.raises(NotJoined):
        first.send("say", "I am gone")
    assert tester.match.disconnect(first.session_id, tester.now, tester.wall) is False
    assert player.connected


def test_session_ids_are_never_used_twice(tester):
    tester.join("alice")
    with pytest.raises(RequestInvalid):
        tester.match.join(User("bob"), "session-1", tester.now, tester.wall)


@pytest.mark.parametrize("user", ["", "*spectators", "*"])
def test_ids_that_stand_for_something_else_are_refused(tester, user):
    with pytest.raises(RequestInvalid):
        tester.join(user)


def test_spectators(tester):
    watcher = tester.spectate("w1")
    assert lines(tester) == []
    tester.spectate("w2")
    with pytest.raises(LimitReached):
        tester.spectate("w3")
    assert tester.match.info()["spectators"] == 2
    tester.join("alice").act("say", "hi")
    assert watcher.view["lines"][-1] == ["say", "alice", "hi"]
    watcher.disconnect()
    assert tester.match.info()["spectators"] == 1
    tester.restart()
    assert tester.match.info()["spectators"] == 1


def test_an_empty_match_ends(tester):
    tester.advance(59)
    watcher = tester.spectate()
    tester.advance(100)
    assert tester.ended is None
    watcher.leave()
    tester.advance(59)
    tester.restart()
    tester.advance(0.9)
    assert tester.ended is None
    tester.advance(0.2)
    assert tester.ended == "empty"
    assert tester.match.next_wake(tester.now) is None
    with pytest.raises(MatchEnded):
        tester.join("alice")


def test_a_game_that_ends_when_someone_joins(tester):
    tester.join("last")
    assert tester.ended == "last one in"
    assert tester.match.next_wake(tester.now) is None


def test_what_is_queued_when_the_match_ends_gets_an_answer(tester):
    alice, bob = tester.join("alice"), tester.join("bob")
    seq = alice.send("say", "never said")
    bob.act("bye")
    with pytest.raises(MatchEnded):
        alice.result(seq)
    assert tester.ended == "bye"
    with pytest.raises(MatchEnded):
        alice.send("say", "again")
    tester.restart()
    assert tester.match.ended == "bye"
    alice.leave()

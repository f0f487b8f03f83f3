"""The test kit, used as an author would, on the example games."""

import pytest

from gameserver import ActionRefused
from gameserver.examples.arena import Arena
from gameserver.examples.battleship import Battleship
from gameserver.examples.chatroom import Chatroom
from gameserver.testing import MatchTester


def test_arena():
    tester = MatchTester(Arena)
    alice, bob = tester.join("alice"), tester.join("bob")
    start = alice.view["ships"]["alice"]["x"], alice.view["ships"]["alice"]["y"]
    assert alice.act("steer", dx=0.0, dy=0.0) is None
    assert alice.act("steer", 1, 0) is None
    tester.advance(1.0)
    assert alice.state.ships["alice"].x > start[0] or start[0] > 90
    assert "ammo" in alice.view["ships"]["alice"]
    assert "ammo" not in bob.view["ships"]["alice"]
    assert alice.act("fire", target="bob") in (True, False)
    tester.restart()
    assert alice.view["ships"]["alice"]["ammo"] == 9
    tester.advance(5.0)
    assert alice.view["ships"]["alice"]["ammo"] == 10


def place(player):
    player.act("place", ships={
        "a": ["A1", "A2"], "b": ["B1", "B2", "B3"], "c": ["C1", "C2", "C3"],
        "d": ["D1", "D2", "D3", "D4"], "e": ["E1", "E2", "E3", "E4", "E5"],
    })


def test_battleship_with_a_restart_in_the_middle():
    tester = MatchTester(Battleship, {"turn_seconds": 10})
    alice, bob = tester.join("alice"), tester.join("bob")
    watcher = tester.spectate()
    place(alice)
    place(bob)
    assert alice.view["phase"] == "playing"
    assert bob.view["boards"]["alice"]["fleet"] is None
    assert watcher.view["boards"]["alice"]["fleet"] is None
    assert alice.view["boards"]["alice"]["fleet"] is not None
    turn = alice.view["turn"]
    other = bob if turn == "alice" else alice
    with pytest.raises(ActionRefused, match="not your turn"):
        other.act("shoot", "A1")
    tester.advance(6.0)
    tester.restart()
    tester.advance(3.9)
    assert alice.view["turn"] == turn
    tester.advance(0.2)
    assert alice.view["turn"] == other.id, "the turn timer survived the restart"
    shooter = other
    for cell in [f"{c}{r}" for c, n in zip("ABCDE", (2, 3, 3, 4, 5), strict=True) for r in range(1, n + 1)]:
        result = shooter.act("shoot", cell)
    assert result == "won"
    assert tester.ended == "won"
    assert watcher.view["boards"]["alice"]["fleet"] is not None
    assert [(record.kind, record.payload["winner"]) for record in tester.records] == [("result", shooter.id)]


def test_chatroom():
    tester = MatchTester(Chatroom)
    alice, bob = tester.join("alice"), tester.join("bob")
    message = alice.act("say", "hello")
    assert bob.view["history"][0]["text"] == "hello"
    assert bob.act("react", message, "heart") == 1
    bob.act("whisper", to="alice", text="psst")
    assert ("whisper", {"from": "bob", "name": "Bob", "text": "psst"}) in alice.events
    assert not [e for e in bob.events if e[0] == "whisper"]
    bob.disconnect()
    assert alice.view["members"]["bob"]["away"] is True
    bob.reconnect()
    assert alice.view["members"]["bob"]["away"] is False
    bob.disconnect()
    tester.advance(31)
    assert "bob" not in alice.view["members"]
    assert tester.match.next_wake(tester.now) is None, "an idle match wants no wake"

"""The chatroom: plain data in the state, and who may do what."""

from __future__ import annotations

import pytest

from gameserver.errors import ActionInvalid, ActionRefused
from gameserver.examples import Chatroom
from gameserver.examples.chatroom import HISTORY_MAX, TEXT_LENGTH_MAX
from gameserver.testing import FakePlayer, MatchTester


@pytest.fixture
def tester() -> MatchTester:
    return MatchTester(Chatroom, {"topic": "cats"})


@pytest.fixture
def alice(tester: MatchTester) -> FakePlayer:
    return tester.join("alice")


@pytest.fixture
def bob(tester: MatchTester, alice: FakePlayer) -> FakePlayer:
    return tester.join("bob")


def test_what_is_said_is_there_for_who_comes_later(tester: MatchTester, alice: FakePlayer) -> None:
    assert alice.act("say", text="  hello  ") == 1
    carol = tester.join("carol")
    (message,) = carol.view["history"]
    assert (message["from"], message["name"], message["text"]) == ("alice", "Alice", "hello")
    assert carol.view["topic"] == "cats"


def test_the_history_is_bounded(tester: MatchTester, alice: FakePlayer) -> None:
    for n in range(HISTORY_MAX + 20):
        alice.act("say", text=f"line {n}")
        tester.advance(0.25)
    history = alice.view["history"]
    assert len(history) == HISTORY_MAX
    assert (history[0]["text"], history[-1]["text"]) == ("line 20", f"line {HISTORY_MAX + 19}")


@pytest.mark.parametrize("text", ["", "   ", "x" * (TEXT_LENGTH_MAX + 1)])
def test_what_is_no_line_is_refused(alice: FakePlayer, text: str) -> None:
    with pytest.raises(ActionRefused):
        alice.act("say", text=text)
    with pytest.raises(ActionInvalid):
        alice.act("say", text=5)


def test_reactions_count_each_player_once(alice: FakePlayer, bob: FakePlayer) -> None:
    message_id = alice.act("say", text="hello")
    assert alice.act("react", message_id=message_id, reaction="heart") == 1
    assert alice.act("react", message_id=message_id, reaction="heart") == 1
    assert bob.act("react", message_id=message_id, reaction="heart") == 2
    assert bob.view["history"][0]["reactions"] == {"heart": ["alice", "bob"]}
    with pytest.raises(ActionRefused):
        bob.act("react", message_id=message_id, reaction="tomato")
    with pytest.raises(ActionRefused):
        bob.act("react", message_id=99, reaction="heart")


def test_typing_is_an_event_and_not_state(alice: FakePlayer, bob: FakePlayer) -> None:
    before = bob.view
    alice.act("typing")
    assert bob.take_events() == [("typing", {"player": "alice"})]
    assert bob.view == before


def test_a_whisper_is_for_one_player(tester: MatchTester, alice: FakePlayer, bob: FakePlayer) -> None:
    carol = tester.join("carol")
    alice.act("whisper", to="bob", text="psst")
    assert bob.take_events() == [("whisper", {"from": "alice", "name": "Alice", "text": "psst"})]
    assert carol.take_events() == []
    assert alice.take_events() == []
    with pytest.raises(ActionRefused):
        alice.act("whisper", to="nobody", text="psst")


def test_only_moderators_set_the_topic(tester: MatchTester, alice: FakePlayer) -> None:
    with pytest.raises(ActionRefused, match="moderator"):
        alice.act("set_topic", topic="dogs")
    tester.join("mod", role="moderator").act("set_topic", topic="dogs")
    assert alice.view["topic"] == "dogs"


def test_who_is_away_is_shown(tester: MatchTester, alice: FakePlayer, bob: FakePlayer) -> None:
    bob.disconnect()
    assert alice.view["members"]["bob"]["away"] is True
    bob.reconnect()
    assert alice.view["members"]["bob"]["away"] is False
    bob.leave()
    assert list(alice.view["members"]) == ["alice"]


def test_the_room_outlives_its_last_member_and_a_restart(tester: MatchTester, alice: FakePlayer) -> None:
    alice.act("say", text="hello")
    alice.leave()
    tester.advance(100_000)
    tester.restart()
    assert tester.ended is None
    assert tester.join("bob").act("say", text="anybody here?") == 2

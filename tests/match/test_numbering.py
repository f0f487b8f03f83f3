"""Exactly once per seq, in order per session, whatever the network and the priorities do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import decode as unpack
from msgspec.msgpack import encode as pack

from gameserver import Player, action
from gameserver.errors import (
    LimitReached,
    MatchEnded,
    NotJoined,
    PermissionDenied,
    SeqGap,
    SeqReused,
    SeqTooOld,
)
from gameserver.match import Match, MatchLimits
from gameserver.match.player import Session
from tests.match.games import WALL, Harness, Log

KINDS = ("write", "shout")


def lines(harness: Harness) -> list[Any]:
    return [list(line) for line in harness.match.game.lines]


def acks(harness: Harness) -> list[Any]:
    return [ack for output in harness.outputs for ack in output[8]]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=12),
    st.lists(st.one_of(st.integers(1, 14), st.just("advance"), st.just("restart")), max_size=60),
)
def test_every_action_is_applied_exactly_once_and_in_order(kinds, deliveries):
    """Deliveries repeat, reorder and skip; at the end the client resends everything in order, as clients do."""
    harness = Harness(Log)
    session = harness.join("ann")
    for delivery in [*deliveries, *range(1, len(kinds) + 1), "advance"]:
        if delivery == "advance":
            harness.advance(0.06)
        elif delivery == "restart":
            outputs = harness.outputs
            harness = harness.restored(Log)
            harness.outputs[:0] = outputs
        elif delivery <= len(kinds):
            received = harness.match.sessions["s1"].received
            try:
                harness.send(session.id, delivery, kinds[delivery - 1], [delivery])
            except SeqGap:
                assert delivery > received + 1
            else:
                assert delivery <= received + 1
            harness.settle()
    assert lines(harness) == [["ann", kind, index + 1] for index, kind in enumerate(kinds)]
    by_seq: dict[int, list[Any]] = {}
    for session_id, seq, version, error, result in acks(harness):
        assert session_id == "s1"
        assert by_seq.setdefault(seq, [version, error, result]) == [version, error, result], "a repeat says the same"
        assert result == seq
        assert not error
    assert sorted(by_seq) == list(range(1, len(kinds) + 1))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(st.tuples(st.sampled_from(["ann", "bob", "cy"]), st.sampled_from(KINDS)), st.just("advance")),
        max_size=40,
    )
)
def test_per_session_order_with_mixed_priorities(steps):
    """A HIGH action overtakes what others have queued, never what its own session has."""
    harness = Harness(Log)
    sessions = {user: harness.join(user) for user in ("ann", "bob", "cy")}
    sent: dict[str, list[Any]] = {user: [] for user in sessions}
    for step in steps:
        if step == "advance":
            harness.advance(0.03)
            continue
        user, kind = step
        sent[user].append([user, kind, len(sent[user]) + 1])
        harness.send(sessions[user].id, len(sent[user]), kind, [len(sent[user])])
        if kind == "shout":
            assert harness.match.urgent
            assert [line for line in lines(harness) if line[0] == user] == sent[user], "it ran at once"
        harness.settle()
    harness.advance(0.1)
    for user, expected in sent.items():
        assert [line for line in lines(harness) if line[0] == user] == expected


@pytest.fixture
def harness():
    made = Harness(Log)
    made.join("ann")
    return made


def test_a_duplicate_gets_the_stored_result_without_a_new_version(harness):
    harness.send("s1", 1, "shout", [5])
    first = harness.flush()
    version = harness.match.version
    harness.send("s1", 1, "shout", [5])
    assert harness.match.urgent
    again = harness.flush()
    assert again.acks == first.acks
    assert not again.committed
    assert again.version == harness.match.version == version
    assert harness.flush() is None
    assert lines(harness) == [["ann", "shout", 5]]


def test_a_duplicate_of_an_error_is_that_error(harness):
    harness.send("s1", 1, "shout", ["x"])
    first = harness.flush()
    harness.send("s1", 1, "shout", ["x"])
    assert harness.flush().acks == first.acks
    assert first.acks[0].error


def test_a_duplicate_of_a_queued_action_is_applied_once(harness):
    harness.send("s1", 1, "write", [5], quiet=True)
    harness.send("s1", 1, "write", [5])
    harness.advance(0.1)
    assert lines(harness) == [["ann", "write", 5]]
    assert [ack[1] for ack in acks(harness)] == [1], "whoever asks again wants to know"


@pytest.mark.parametrize("applied", [True, False])
def test_a_seq_with_another_body_is_refused(harness, applied):
    harness.send("s1", 1, "write", [5])
    if applied:
        harness.advance(0.1)
    for name, args in (("write", [6]), ("shout", [5]), ("write", {"value": 5})):
        with pytest.raises(SeqReused):
            harness.send("s1", 1, name, args)
    harness.advance(0.1)
    assert lines(harness) == [["ann", "write", 5]]


def test_name_and_number_are_the_same_action(harness):
    harness.send("s1", 1, "write", [5])
    harness.send("s1", 1, harness.match.actions().index("write"), [5])


@pytest.mark.parametrize("applied", [True, False])
def test_what_was_encoded_alike_is_the_same_action_however_it_was_decoded(harness, applied):
    """By its own types here, as plain data when it came through another node."""
    harness.send("s1", 1, "write", (5,), crc=77)
    if applied:
        harness.advance(0.1)
    harness.send("s1", 1, "write", [5], crc=77)
    for name, crc in (("write", 78), ("shout", 77), ("nothing like it", 77)):
        with pytest.raises(SeqReused):
            harness.send("s1", 1, name, [5], crc=crc)
    harness.advance(0.1)
    assert lines(harness) == [["ann", "write", 5]]


def test_a_gap_applies_and_consumes_nothing(harness):
    with pytest.raises(SeqGap, match="1 is next"):
        harness.send("s1", 2, "write", [5])
    assert harness.match.sessions["s1"].received == 0
    harness.send("s1", 1, "write", [5])


def test_results_are_kept_for_a_window(harness):
    for seq in range(1, 71):
        harness.send("s1", seq, "shout", [seq])
    harness.flush()
    harness.send("s1", 7, "shout", [7])
    assert harness.flush().acks[0].seq == 7
    for seq in (6, 1, 0, -3):
        with pytest.raises(SeqTooOld):
            harness.send("s1", seq, "shout", [seq])


def test_the_queue_of_a_session_has_a_limit(harness):
    other = harness.join("bob")
    for seq in range(1, 65):
        harness.send("s1", seq, "write", [seq])
    with pytest.raises(LimitReached):
        harness.send("s1", 65, "write", [65])
    harness.send(other.id, 1, "write", [1])
    harness.advance(0.1)
    harness.send("s1", 65, "write", [65])
    harness.advance(0.1)
    assert len(lines(harness)) == 66


def test_quiet_actions_are_acknowledged_now_and_then_and_when_they_fail(harness):
    for seq in range(1, 41):
        harness.send("s1", seq, "crash" if seq == 20 else "write", [] if seq == 20 else [seq], quiet=True)
        harness.advance(0.1)
    assert [ack[1] for ack in acks(harness)] == [16, 20, 32]


def test_who_may_act(harness):
    harness.join("eve", spectate=True)
    with pytest.raises(PermissionDenied):
        harness.send("s2", 1, "write", [1])
    with pytest.raises(NotJoined):
        harness.send("s99", 1, "write", [1])
    harness.match.leave("s1", "left", harness.now, harness.wall)
    with pytest.raises(NotJoined):
        harness.send("s1", 1, "write", [1])


def test_after_the_end_old_results_can_still_be_asked_for(harness):
    harness.send("s1", 1, "shout", [1])
    harness.send("s1", 2, "write", [2])
    harness.match.request_end("over")
    harness.match.finish()
    output = harness.flush()
    assert [(ack.seq, ack.error and ack.result[0]) for ack in output.acks] == [(1, False), (2, "match_ended")]
    assert output.ended == "over"
    with pytest.raises(MatchEnded):
        harness.send("s1", 3, "write", [3])
    harness.send("s1", 1, "shout", [1])
    assert harness.flush().acks[0].result == 1
    assert harness.match.next_wake(harness.now) is None


class Finish(Log):
    """An action ends the match."""

    @action
    def finish(self, player: Player) -> None:
        self.add(player, "finish", 0)
        self.end("won")


def test_each_queued_action_is_settled_once_when_one_of_them_ends_the_match():
    """A HIGH action drains its session's queue, and in the middle of that the match ends and settles everything."""
    harness = Harness(Finish)
    harness.join("ann")
    harness.send("s1", 1, "finish", [])
    harness.send("s1", 2, "write", [2])
    harness.send("s1", 3, "write", [3])
    harness.send("s1", 4, "shout", [4])
    output = harness.flush()
    assert output.ended == "won"
    assert [(ack.seq, ack.error and ack.result[0]) for ack in output.acks] == [
        (1, False), *((seq, "match_ended") for seq in (2, 3, 4)),
    ]  # fmt: skip
    assert lines(harness) == [["ann", "finish", 0]]


@pytest.mark.parametrize("how", ["leaves", "watcher leaves", "is replaced", "times out"])
def test_a_session_that_is_over_takes_no_actions(how):
    """Connections hold the session itself: it has to know that it is not in the match any more."""
    harness = Harness(Log)
    session = harness.join("ann", spectate=how == "watcher leaves")
    if how == "is replaced":
        harness.join("ann")
    elif how == "times out":
        harness.match.disconnect(session.id, harness.now, WALL)
        harness.advance(Log.seat_hold_seconds + 1)
    else:
        harness.match.leave(session.id, "left", harness.now, WALL)
    spec = harness.match.spec.by_key["write"]
    with pytest.raises(NotJoined):
        harness.match.accept(session, 1, spec, "write", [1], harness.now, WALL, False, None)
    harness.advance(1)
    assert lines(harness) == []


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([1, 2**31 - 1, 2**31, 2**40]), st.booleans(),
                       st.sampled_from([None, 0, "done", ["code", "text", False]])), max_size=20),
    st.integers(1, 8),
    st.integers(1, 8),
)  # fmt: skip
def test_outcomes_come_back_as_they_were(outcomes, kept, kept_later):
    """The last `kept` of them, however they are held, and through a snapshot into a match that keeps more or fewer."""
    session = Session("s1", "ann", None)
    for seq, outcome in enumerate(outcomes, 1):
        session.settle(seq, *outcome, kept)
    after = Session("s1", "ann", None)
    after.applied = session.applied
    after.load_outcomes(unpack(pack(session.dump_outcomes())), kept_later)
    for seq in range(-1, len(outcomes) + 3):
        known = 0 < seq <= len(outcomes)
        assert session.outcome(seq, kept) == (outcomes[seq - 1] if known and seq > len(outcomes) - kept else None)
        both = min(kept, kept_later)
        assert after.outcome(seq, kept_later) == (outcomes[seq - 1] if known and seq > len(outcomes) - both else None)
    after.settle(len(outcomes) + 1, 7, 8, True, "new", kept_later)
    assert after.outcome(len(outcomes) + 1, kept_later) == (7, 8, True, "new")
    if kept_later > 1 and outcomes:
        assert after.outcome(len(outcomes), kept_later) == outcomes[-1]


def test_limits_are_settings():
    match = Match.create(Log, "m", seed=1, now=0, wall=WALL, limits=MatchLimits(results_kept=2, queued_actions_max=1))
    harness = Harness(Log, match=match, now=0)
    harness.join("ann")
    harness.send("s1", 1, "write", [1])
    with pytest.raises(LimitReached):
        harness.send("s1", 2, "write", [2])


def test_applied_names_the_last_seq_of_each_slot(harness):
    bob = harness.join("bob")
    harness.send("s1", 1, "write", [1])
    harness.send("s1", 2, "write", [2])
    harness.send(bob.id, 1, "nonsense", [])
    harness.advance(0.1)
    assert harness.outputs[-1][5] == [0, 2, 1, 1]

"""A snapshot and the records since are the match, exactly, at every version."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameserver.errors import StateError
from gameserver.match import Match, MatchOutput, User, decode_records, encode_records
from tests.match.games import WALL, Harness, chaos
from tests.match.test_exactness import Player, _quiet, histories  # noqa: F401 - a fixture

GAMES = {hz: chaos(tick_hz=hz) for hz in (0, 20)}


class Journaled(Harness):
    """A harness that keeps what a journal would have."""

    def __init__(self, game: Any) -> None:
        self.records: list[bytes] = []
        self.clock_us = 0
        match = Match.create(game, "m", seed=7, now=50.0, wall=WALL, journaled=True)
        match.take_output()
        self.first = msgspec.msgpack.encode(match.snapshot(50.0))
        super().__init__(game, match=match)

    def flush(self) -> MatchOutput | None:
        output = self.match.take_output()
        if output is not None and output.committed:
            assert output.journal is not None
            self.records.append(output.journal)
            self.clock_us = self.match.clock_us
        return output

    def recovered(self, game: Any) -> Match:
        records = decode_records(encode_records(self.records))
        return Match.restore(
            game, msgspec.msgpack.decode(self.first), now=self.now, wall=WALL, epoch=1, journal=records, journaled=True
        )


def lasting(match: Match) -> dict[str, Any]:
    """What a journal keeps: not what is queued, who watches, an idle clock, or failures that changed nothing."""
    snapshot = match.snapshot(0)
    for name in (
        "failures",
        "queue",
        "batch_due_us",
        "time_us",
        "clock_us",
        "tick_due_us",
        "watchers",
        "empty_since_us",
    ):
        del snapshot[name]
    for player in snapshot["players"]:
        player[6][1] = player[6][2]
    return snapshot


@settings(max_examples=200, deadline=None)
@given(histories, st.sampled_from([0, 20]))
def test_records_lead_to_the_same_match(history, tick_hz):
    """After any history, with any failures in it, the recovered match is the one that was lost."""
    game = GAMES[tick_hz]
    player = Player(game, Journaled(game))
    player.play([("join", "ann"), ("join", "bob"), *history])
    harness = player.harness
    harness.flush()
    recovered = harness.recovered(game)
    assert lasting(recovered) == lasting(harness.match)
    assert recovered.clock_us == harness.clock_us
    assert msgspec.msgpack.encode(recovered.tree.dump()) == msgspec.msgpack.encode(harness.match.tree.dump())


@settings(max_examples=60, deadline=None)
@given(histories)
def test_a_recovered_match_goes_on(history):
    """Its next records follow on those before: a second loss is survived like the first."""
    game = GAMES[20]
    player = Player(game, Journaled(game))
    player.play([("join", "ann"), ("join", "bob"), *history])
    harness = player.harness
    harness.flush()
    harness.match = harness.recovered(game)
    player.play([("edit", "ann", [(5, 1, 2), (16, 1, 1)], False), ("advance", 1.7), ("join", "cy"), *history])
    harness.flush()
    assert lasting(harness.recovered(game)) == lasting(harness.match)


def test_a_gap_is_refused():
    """A record that is missing is an error, never a match that looks whole."""
    game = GAMES[0]
    harness = Journaled(game)
    for user in ("ann", "bob", "cy"):
        harness.join(user)
    del harness.records[1]
    with pytest.raises(StateError, match="the journal goes from version"):
        harness.recovered(game)


def test_rubbish_is_refused():
    """Bytes that are no entry are an error of ours, not one of a library."""
    for rubbish in (b"", b"\xc1", b"\x01", b"\x91\x01"):
        with pytest.raises(StateError, match="not a journal entry"):
            decode_records(rubbish)


def test_duplicates_are_known_after_a_recovery():
    """The results of a session's last actions are in the journal: a resent action gets its old answer."""
    game = GAMES[0]
    harness = Journaled(game)
    session = harness.join("ann")
    harness.send(session.id, 1, "urgent", [[[0, 5, 0]], False])
    first = harness.flush()
    match = harness.recovered(game)
    match.receive(session.id, 1, "urgent", [[[0, 5, 0]], False], harness.now, WALL)
    again = match.take_output()
    assert first is not None
    assert again is not None
    assert not again.committed
    assert (again.acks[0].seq, again.acks[0].result) == (1, first.acks[0].result)


def test_effects_wait_until_they_are_settled():
    """What was asked of the world and is not known to be done is issued again by whoever recovers the match."""
    game = GAMES[0]
    harness = Journaled(game)
    session = harness.join("ann")
    harness.send(session.id, 1, "urgent", [[[20, 1, 2], [20, 2, 2]], False])
    output = harness.flush()
    assert output is not None
    match = harness.recovered(game)
    assert [(key, effect.payload) for key, effect in match.unsettled.items()] == [
        ((output.version, effect.index), effect.payload) for effect in output.effects
    ]
    match.settle_effect(output.version, 0)
    assert list(match.unsettled) == [(output.version, 1)]


def test_high_events_are_kept_for_those_who_come_back():
    """They are in the journal, with their audience."""
    game = GAMES[0]
    harness = Journaled(game)
    session = harness.join("ann")
    harness.send(session.id, 1, "urgent", [[[18, 1, 2]], False])
    harness.flush()
    match = harness.recovered(game)
    version, batch = match.high_events[-1]
    assert (version, batch.receivers, batch.events) == (match.version, None, [["e", {"a": 1, "b": [2]}]])


def test_who_left_is_gone():
    """A seat that was given up is not there after a recovery."""
    game = GAMES[0]
    harness = Journaled(game)
    harness.join("ann")
    bob = harness.join("bob")
    harness.match.leave(bob.id, "left", harness.now, WALL)
    harness.flush()
    match = harness.recovered(game)
    assert list(match.players) == ["ann"]
    assert match.join(User("bob"), "new", harness.now, WALL).slot == 1

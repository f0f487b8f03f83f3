"""What never happened leaves no trace, and a restored match is the match: byte for byte, over random histories."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameserver.errors import GameServerError
from gameserver.match import Game
from tests.match.games import Harness, chaos

numbers = st.integers(0, 9)
scripts = st.lists(st.tuples(st.integers(0, 31), numbers, numbers), max_size=8)
users = st.sampled_from(["ann", "bob", "cy"])
steps = st.one_of(
    st.tuples(st.just("edit"), users, scripts, st.booleans()),
    st.tuples(st.just("urgent"), users, scripts, st.booleans()),
    st.tuples(st.just("advance"), st.sampled_from([0.01, 0.06, 0.3, 1.7, 5.0])),
    st.tuples(st.just("join"), users),
    st.tuples(st.just("watch"), users),
    st.tuples(st.sampled_from(["leave", "disconnect", "reconnect"]), users),
    st.tuples(st.just("repeat"), users, scripts),
)
histories = st.lists(steps, max_size=25)


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Player:
    """Drives a harness through a history; the same history does the same to every harness."""

    def __init__(self, game: type[Game], harness: Harness | None = None) -> None:
        self.game = game
        self.harness = harness or Harness(game)
        self.seqs: dict[str, int] = {}

    def play(self, history: list[Any]) -> None:
        for step in history:
            self.step(*step)

    def step(self, kind: str, *args: Any) -> None:
        harness = self.harness
        if kind == "advance":
            harness.advance(args[0])
            return
        user = args[0]
        session = harness.match.session_of.get(user)
        try:
            if kind in ("join", "watch"):
                harness.join(user, spectate=kind == "watch")
                return
            if session is None:
                return
            if kind in ("edit", "urgent"):
                harness.send(session.id, session.received + 1, kind, [list(map(list, args[1])), args[2]])
            elif kind == "repeat":
                harness.send(session.id, session.received, "edit", [list(map(list, args[1])), False])
            elif kind == "leave":
                harness.match.leave(session.id, "left", harness.now, harness.wall)
            elif kind == "disconnect":
                harness.match.disconnect(session.id, harness.now, harness.wall)
            else:
                harness.match.reconnect(session.id, harness.now, harness.wall)
        except GameServerError as error:
            harness.outputs.append([type(error).__name__, str(error)])
        harness.settle()

    def copy(self, **kwargs: Any) -> Player:
        return Player(self.game, self.harness.restored(self.game, **kwargs))


GAMES = {hz: (chaos(tick_hz=hz), chaos(tick_hz=hz, skips=True)) for hz in (0, 20)}


@settings(max_examples=150, deadline=None)
@given(histories, st.sampled_from([0, 20]))
def test_a_failed_action_equals_one_that_never_ran(history, tick_hz):
    """The twin raises before it does anything where the other raises after its edits: no difference may be left."""
    ran, never_ran = (Player(game) for game in GAMES[tick_hz])
    for step in [("join", "ann"), ("join", "bob"), *history]:
        ran.step(*step)
        never_ran.step(*step)
        assert ran.harness.outputs == never_ran.harness.outputs
    assert ran.harness.saved() == never_ran.harness.saved()


@settings(max_examples=150, deadline=None)
@given(histories, histories, st.sampled_from([0, 20]), st.booleans())
def test_a_restored_match_behaves_like_the_match(before, after, tick_hz, elsewhere):
    """Whatever comes next: outputs and snapshots are the same, also on a host with another clock."""
    original = Player(GAMES[tick_hz][0])
    original.play([("join", "ann"), ("join", "bob"), *before])
    restored = original.copy(now=original.harness.now + 1234.5 if elsewhere else None)
    assert restored.harness.saved() == original.harness.saved()
    start = len(original.harness.outputs)
    for step in after:
        original.step(*step)
        restored.step(*step)
    assert original.harness.outputs[start:] == restored.harness.outputs
    assert original.harness.saved() == restored.harness.saved()


@settings(max_examples=60, deadline=None)
@given(histories)
def test_a_failed_tick_and_a_failed_join_leave_nothing(history):
    """`on_join` and `on_tick` that fail after their work: the state is that of a match in which they did not run."""

    def game_of(skips: bool) -> type[Game]:
        class Fragile(GAMES[20][0]):  # type: ignore[misc]
            name = "fragile"

            def on_tick(self, dt):
                if not skips:
                    for op in range(32):
                        self.step_quietly(op)
                raise ValueError

            def on_join(self, player):
                super().on_join(player)
                if player.id == "cy":
                    if not skips:
                        self.run(player, [(op, op, 1) for op in range(28)], False)
                    raise ValueError

            def step_quietly(self, op):
                for player in self.players.values():
                    self.step(player, op, 4, 4)

        return Fragile

    ran, never_ran = Player(game_of(False)), Player(game_of(True))
    for step in [("join", "ann"), ("join", "bob"), ("join", "cy"), *history]:
        ran.step(*step)
        never_ran.step(*step)
        assert ran.harness.outputs == never_ran.harness.outputs
    assert ran.harness.saved() == never_ran.harness.saved()

"""What a flush holds: patch, events by audience, acknowledgements, effects; and what it never holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameserver import Game, List, Map, Player, Priority, StateError, action
from gameserver.errors import GameCodeError
from gameserver.match import MatchLimits
from gameserver.testing import MatchTester
from tests.match.games import Boom

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW


class Radio(Game):
    batch_ms = 100
    count: int = 0
    seen: Map[str, int]
    lines: List[Any]

    def on_join(self, player: Player) -> None:
        if player.id.startswith("red"):
            self.group("red").add(player)

    @action
    def send(self, player: Player, name: str, data: Any, to: str | None = None, priority: int = 1) -> None:
        self.emit(name, data, to=to, priority=Priority(priority))

    @action(priority=Priority.HIGH)
    def send_now(self, player: Player, name: str, data: Any, to: str | None = None, priority: int = 2) -> None:
        self.emit(name, data, to=to, priority=Priority(priority))

    @action
    def count_slowly(self, player: Player, priority: int) -> int:
        return self.count_up(priority)

    @action(priority=Priority.HIGH)
    def count_fast(self, player: Player, priority: int) -> int:
        return self.count_up(priority)

    def count_up(self, priority: int) -> int:
        self.count += 1
        self.emit("count", self.count, priority=Priority(priority))
        return self.count

    @action(priority=Priority.HIGH)
    def emit_odd(self, player: Player, what: str) -> None:  # noqa: C901 - a list of mistakes
        match what:
            case "player":
                self.emit("x", player)
            case "set":
                self.emit("x", {1})
            case "huge":
                self.emit("x", [2**64])
            case "surrogate":
                self.emit("x", {"a": "\udfff"})
            case "name":
                self.emit("")
            case "long name":
                self.emit("n" * 65)
            case "odd name":
                self.emit("\ud800")
            case "to player id":
                self.emit("x", to=player.id)
            case "to number":
                self.emit("x", to=5)  # type: ignore[arg-type]
            case "many":
                for _ in range(11):
                    self.emit("x")
            case "record":
                self.record("doc", [1])  # type: ignore[arg-type]
            case "record kind":
                self.record("", {})
            case "record data":
                self.record("doc", {"x": object()})
            case "summary":
                self.set_summary(x=object())
            case "wide summary":
                self.set_summary(**{f"x{i}": i for i in range(33)})
            case "end":
                self.end("")

    @action(priority=Priority.HIGH)
    def emit_and_change(self, player: Player) -> None:
        data = {"list": [1]}
        self.emit("frozen", data, to=player)
        self.emit("group", None, to=self.group("red"))
        self.emit("watchers", None, to=self.spectators)
        data["list"].append(2)

    @action(priority=Priority.HIGH)
    def write(self, player: Player, priority: int, fail: bool) -> None:
        self.record("doc", {"by": player.id}, priority=Priority(priority))
        self.record("doc2", {})
        self.set_summary(by=player.id, gone=None)
        if fail:
            raise Boom


def names(events: list[Any]) -> list[str]:
    return [name for name, _data in events]


def test_events_go_to_their_audience():
    tester = MatchTester(Radio)
    ann, red1, red2, watcher = tester.join("ann"), tester.join("red1"), tester.join("red2"), tester.spectate()
    ann.act("send", "all", 1)
    ann.act("send", "reds", 2, "red")
    ann.act("send", "direct", 3, "player:red1")
    ann.act("send", "nobody", 4, "no such group")
    assert ann.take_events() == [("all", 1)]
    assert red1.take_events() == [("all", 1), ("reds", 2), ("direct", 3)]
    assert red2.take_events() == [("all", 1), ("reds", 2)]
    assert watcher.take_events() == [("all", 1)]
    red1.act("emit_and_change")
    assert ann.take_events() == []
    assert red1.take_events() == [("frozen", {"list": [1]}), ("group", None)]
    assert red2.take_events() == [("group", None)]
    assert watcher.take_events() == [("watchers", None)]


def test_events_are_sorted_by_priority_and_high_ones_are_gated():
    tester = MatchTester(Radio)
    ann = tester.join("ann")
    for priority in (0, 1, 2, 1):
        ann.send("send", f"p{priority}", None, None, priority)
    tester.now += 1
    tester.match.wake(tester.now, tester.wall)
    output = tester.flush()
    assert [(batch.priority, names(batch.events)) for batch in output.events] == [(LOW, ["p0"]), (NORMAL, ["p1", "p1"])]
    assert [(batch.priority, names(batch.events)) for batch in output.gated_events] == [(HIGH, ["p2"])]
    assert output.high


def test_only_high_things_are_urgent():
    tester = MatchTester(Radio)
    ann = tester.join("ann")
    ann.send("send", "x", 1)
    assert not tester.match.urgent
    tester.advance(0.1)
    assert ann.take_events() == [("x", 1)]
    ann.send("send_now", "x", 1, None, 0)
    assert ann.take_events() == [("x", 1)], "it left with the flush of the action"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.booleans(), st.integers(0, 2)), st.just("advance")), max_size=30))
def test_an_event_never_precedes_the_patch_it_belongs_to(steps):
    """Whoever hears the event has a state that is at least as new."""
    tester = MatchTester(Radio)
    players = [tester.join("ann"), tester.join("bob"), tester.spectate()]
    counts: list[Any] = []
    for player in players:
        hear = player._hear

        def checked(batches: Any, player: Any = player, hear: Any = hear) -> None:
            for batch in batches:
                for name, data in batch.events:
                    counts.append(data)
                    assert name == "count"
                    assert player.state.count >= data
            hear(batches)

        player._hear = checked  # type: ignore[method-assign]
    for step in steps:
        if step == "advance":
            tester.advance(0.07)
        else:
            players[0].send("count_fast" if step[0] else "count_slowly", step[1])
    tester.advance(1)
    sent = sum(step != "advance" for step in steps)
    assert len(counts) == 3 * sent
    for player in players:
        assert sorted(data for _name, data in player.events) == list(range(1, sent + 1))


@pytest.mark.parametrize(
    "what",
    [
        "player",
        "set",
        "huge",
        "surrogate",
        "name",
        "long name",
        "odd name",
        "to player id",
        "to number",
        "many",
        "record",
        "record kind",
        "record data",
        "summary",
        "wide summary",
        "end",
    ],
)
def test_what_cannot_be_sent_fails_where_it_is_said(what):
    tester = MatchTester(Radio, limits=MatchLimits(events_max=10))
    ann = tester.join("ann")
    with pytest.raises(GameCodeError) as caught:
        ann.act("emit_odd", what)
    assert isinstance(caught.value.__cause__, StateError | TypeError)
    assert not ann.events
    assert not tester.records
    assert tester.ended is None


def test_records_and_summary():
    tester = MatchTester(Radio)
    ann = tester.join("ann")
    with pytest.raises(GameCodeError):
        ann.act("write", 2, True)
    assert not tester.records
    assert tester.summary == {}
    tester.join("bob").act("write", 2, False)
    assert [(e.kind, e.payload, e.priority, e.index) for e in tester.records] == [
        ("doc", {"by": "bob"}, HIGH, 0),
        ("doc2", {}, NORMAL, 1),
    ]
    assert tester.summary == {"by": "bob"}
    assert tester.match.info()["summary"] == {"by": "bob"}
    tester.restart()
    assert tester.summary == {"by": "bob"}


def test_nothing_happened_is_no_version():
    tester = MatchTester(Radio)
    tester.join("ann")
    version = tester.match.version
    assert tester.flush() is None
    tester.advance(100)
    assert tester.match.version == version


def test_full_state_and_snapshot_wait_for_the_output():
    tester = MatchTester(Radio)
    ann = tester.join("ann")
    state = tester.match.full_state("ann")
    assert tester.match.full_state("ann") is state, "kept while nothing changes"
    tester.match.receive(ann.session_id, 1, "count_fast", [1], tester.now, tester.wall)
    with pytest.raises(StateError):
        tester.match.full_state("ann")
    with pytest.raises(StateError, match="take the output"):
        tester.match.snapshot(tester.now)
    tester.flush()
    assert tester.match.full_state("ann") != state
    tester.match.snapshot(tester.now)

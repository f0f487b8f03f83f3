"""What players send is checked against the method's annotations before it runs."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameserver import Entity, Game, Player, Priority, action
from gameserver.errors import ActionInvalid, ActionRefused, ActionUnknown, GameCodeError, RateLimited
from gameserver.match import compile_game
from gameserver.testing import MatchTester


class Point(msgspec.Struct):
    x: float
    y: float


class Typed(Game):
    batch_ms = 0
    failures_max = 1000
    calls: int = 0

    @action
    def numbers(self, player: Player, a: int, b: float = 0.5) -> Any:
        self.calls += 1
        return [a, b]

    @action
    def rich(
        self,
        player: Player,
        names: list[str],
        mode: Literal["fast", "slow"] = "fast",
        level: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1,
        at: Point | None = None,
        extra: dict[str, list[int]] = {"a": [1]},  # noqa: B006 - each call must get its own
    ) -> Any:
        extra["b"] = [2]
        return [names, mode, level, None if at is None else [at.x, at.y], extra]

    @action
    def anything(self, player: Player, value: Any, untyped=None) -> Any:  # type: ignore[no-untyped-def]
        return value

    @action
    def nothing(self, player: Player) -> None:
        """Takes no arguments."""

    @action(name="renamed", rate="3/s")
    def original(self, player: Player) -> None:
        """Known to clients by another name."""

    @action
    def refuse(self, player: Player) -> None:
        self.calls += 1
        raise ActionRefused("not today \ud800")

    @action
    def returns(self, player: Player, what: str) -> Any:
        self.calls += 100
        return {
            "set": {1},
            "huge": 2**63,
            "surrogate": "\ud800",
            "player": player,
            "key": {1.5: 1},
            "long": "x" * 70_000,
            "deep": _nested(40),
            "wide": [0] * 20_000,
            "enum": Priority.HIGH,
            "tuple": (1, (2,)),
        }[what]


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture
def alice():
    return MatchTester(Typed).join("alice")


def test_arguments_by_position_and_by_name(alice):
    assert alice.act("numbers", 1, 2.0) == [1, 2.0]
    assert alice.act("numbers", 1) == [1, 0.5]
    assert alice.act("numbers", b=3, a=2) == [2, 3.0]
    assert alice.act("nothing") is None
    assert alice.act("rich", ["x"], "slow", 9, {"x": 1, "y": 2.5}, {}) == [["x"], "slow", 9, [1.0, 2.5], {"b": [2]}]


def test_defaults_are_not_shared_between_calls(alice):
    first = alice.act("rich", names=[])
    assert first == alice.act("rich", names=[]) == [[], "fast", 1, None, {"a": [1], "b": [2]}]


def test_an_action_by_number(alice):
    number = alice._tester.match.actions().index("numbers")
    assert alice.act(number, 5) == [5, 0.5]


@pytest.mark.parametrize(
    ("name", "args", "hint"),
    [
        ("numbers", [], "at least length 1"),
        ("numbers", [1, 2.0, 3], "at most length 2"),
        ("numbers", ["1"], "Expected `int`, got `str`"),
        ("numbers", [1.0], "got `float`"),
        ("numbers", [True], "got `bool`"),
        ("numbers", [None], "got `null`"),
        ("numbers", [2**63], "64 bits"),
        ("numbers", [1, float("nan")], "finite"),
        ("numbers", [1, float("-inf")], "finite"),
        ("numbers", {"b": 1.0}, "missing required field `a`"),
        ("numbers", {"a": 1, "c": 1}, "unknown field `c`"),
        ("numbers", {"a": 1, "b": float("inf")}, r"\$\.b must be a finite number"),
        ("numbers", {1: 1}, "Expected `str`"),
        ("numbers", "abc", "array or a map"),
        ("numbers", None, "array or a map"),
        ("rich", [["x"], "medium"], "Invalid enum value 'medium'"),
        ("rich", [["x"], "fast", 10], "<= 9"),
        ("rich", [["x"], "fast", 1, {"x": 1}], "missing required field `y`"),
        ("rich", [["x"], "fast", 1, {"x": float("nan"), "y": 1}], "finite"),
        ("rich", [[1]], r"at `\$\[0\]\[0\]`"),
        ("anything", [{"a": [float("nan")]}], r"\$\.a\[0\] must be a finite number"),
        ("anything", [[2**64 - 1]], "64 bits"),
    ],
)
def test_wrong_arguments_get_an_error_and_do_not_run(alice, name, args, hint):
    seq = alice.resend(1, name, args)
    alice._tester.advance(0.1)
    with pytest.raises(ActionInvalid, match=hint):
        alice.result(seq)
    assert alice.view["calls"] == 0
    assert not alice._tester.failures, "a wrong argument is the player's mistake, not the game's"


class Plain(Game):
    """Each action of a kind that is decoded in one step, or just not."""

    @action
    def numbers(self, player: Player, a: int, b: float) -> None: ...

    @action
    def texts(self, player: Player, a: str, b: bytes, c: bool) -> None: ...

    @action
    def choices(self, player: Player, a: Literal["x", 1], b: int | str | None) -> None: ...

    @action
    def bounded(
        self, player: Player, a: Annotated[int, "above", msgspec.Meta(ge=1)], b: Annotated[float, msgspec.Meta(le=5)]
    ) -> None: ...

    @action
    def nothing(self, player: Player) -> None: ...

    @action
    def untyped(self, player: Player, a: Any, b: list[float]) -> None: ...

    @action
    def below(
        self, player: Player, a: Annotated[float, msgspec.Meta(lt=5)], b: Annotated[str, msgspec.Meta(max_length=1)]
    ) -> None: ...


PLAIN = compile_game(Plain).by_key
INTEGERS = st.sampled_from([0, 1, -1, 5, 2**63 - 1, 2**63, -(2**63)]) | st.integers(-(2**63), 2**64 - 1)
FLOATS = st.sampled_from([0.5, 5.0, -0.0, float("nan"), float("inf"), float("-inf")]) | st.floats()
SENT = INTEGERS | FLOATS | st.sampled_from(["x", "", b"x", True, False, None, [], [0.5]])


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from([spec.name for spec in compile_game(Plain).actions]), st.data())
def test_reading_encoded_arguments_gives_what_checking_decoded_ones_gives(name, data):
    """In one step where the kinds allow it; then only an integer past 64 bits may also be taken for a float.

    (Bytes may come as a text in base64, as from JSON: the decoder does not know that, and says None.)
    """
    spec = PLAIN[name]
    size = len(inspect.signature(spec.method).parameters) - 2 + data.draw(st.sampled_from([0, 0, 0, 0, -1, 1]))
    args = [data.draw(SENT) for _ in range(size)]
    encoded = msgspec.msgpack.encode(args)
    read = spec.read(msgspec.Raw(encoded))
    assert repr(spec.read(encoded)) == repr(read), "compiled, bytes that are numbers are read by hand"
    try:
        values = spec.values([float(arg) if arg.__class__ is int and arg > 2**63 - 1 else arg for arg in args])
    except ActionInvalid:
        values = None
    if name == "untyped":
        assert read is None
    elif read is None and name == "texts":
        assert values is None or isinstance(args[1], str)
    else:
        assert repr(read) == repr(values), "types too, and -0.0"


@pytest.mark.parametrize(
    "sent", [b"", b"\xc1", b"\x92\x01", b"\x92\x01\xa1\xff", b"\x93\xa1\xff\xc4\x00\xc2", b"\x80", b"\x92\x01\xcb"]
)
def test_what_cannot_be_read_is_left_to_others(sent):
    for name in ("numbers", "texts"):
        assert PLAIN[name].read(msgspec.Raw(sent)) is None
        assert PLAIN[name].read(sent) is None


def test_unknown_actions(alice):
    for name in ("calls", "on_join", "_match", "end", "original", 99, -1):
        with pytest.raises(ActionUnknown):
            alice.act(name)
    assert alice.act("renamed") is None


def test_refusals_reach_the_player_with_their_reason_and_leave_nothing(alice):
    with pytest.raises(ActionRefused, match=r"not today \?"):
        alice.act("refuse")
    assert alice.view["calls"] == 0
    assert not alice._tester.failures


@pytest.mark.parametrize("what", ["set", "huge", "surrogate", "player", "key", "long", "deep", "wide"])
def test_results_that_cannot_be_sent_fail_in_the_game(alice, what):
    with pytest.raises(GameCodeError) as caught:
        alice.act("returns", what)
    assert caught.value.__cause__ is not None
    assert "the result of returns" in str(caught.value.__cause__)
    assert alice.view["calls"] == 0, "the call is undone"


def test_results_are_made_plain(alice):
    assert alice.act("returns", "enum") == 2
    assert alice.act("returns", "tuple") == [1, [2]]


def test_the_rate_is_a_bucket(alice):
    tester = alice._tester
    for _ in range(3):
        alice.act("renamed")
    with pytest.raises(RateLimited):
        alice.act("renamed")
    tester.advance(0.34)
    alice.act("renamed")
    with pytest.raises(RateLimited):
        alice.act("renamed")
    bob = tester.join("bob")
    bob.act("renamed")
    tester.restart()
    with pytest.raises(RateLimited):
        alice.act("renamed")
    tester.advance(10)
    for _ in range(3):
        alice.act("renamed")
    with pytest.raises(RateLimited):
        alice.act("renamed")


class Ghost(Entity):
    x: int = 0


def test_types_that_no_client_can_send_are_refused_when_the_game_is_compiled():
    class Bad(Game):
        @action
        def haunt(self, player: Player, ghost: Ghost | None) -> None: ...

    with pytest.raises(TypeError, match=r"Bad\.haunt: ghost: Ghost cannot come from a client"):
        compile_game(Bad)


def test_parameters_that_are_not_single_ones_are_refused():
    class Stars(Game):
        @action
        def many(self, player: Player, *rest: int) -> None: ...

    class Keyword(Game):
        @action
        def many(self, player: Player, *, x: int) -> None: ...

    class NoPlayer(Game):
        @action
        def many(self) -> None: ...

    for game in (Stars, Keyword, NoPlayer):
        with pytest.raises(TypeError, match="many"):
            compile_game(game)


def test_overriding_an_action_without_marking_it_is_refused():
    class Base(Game):
        @action
        def go(self, player: Player) -> None: ...

    class Sub(Base):
        def go(self, player: Player) -> None: ...

    class Fine(Base):
        @action(priority=Priority.HIGH)
        def go(self, player: Player) -> None: ...

    with pytest.raises(TypeError, match="mark it with @action too"):
        compile_game(Sub)
    assert [spec.priority for spec in compile_game(Fine).actions] == [Priority.HIGH]


@pytest.mark.parametrize("rate", ["10", "0/s", "1/d", "x/s", "1.5/s", ""])
def test_rates_are_checked(rate):
    with pytest.raises(ValueError, match="a rate is written like"):
        action(rate=rate)(lambda self, player: None)

"""The small parts: plain data, dice, timers."""

from __future__ import annotations

from enum import StrEnum
from statistics import mean, pstdev
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver import List, Map, StateError
from gameserver.match.dice import Dice
from gameserver.match.plain import DEPTH_MAX, find_unstorable, plain
from gameserver.match.timers import NEVER, Timers


class Suit(StrEnum):
    HEARTS = "hearts"


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-9, 9), inner),
    max_leaves=20,
)


@given(plain_values)
def test_plain_data_is_copied_and_always_encodable(value):
    copied = plain(value, "it")
    assert copied == value
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(copied), strict=False) == value
    assert not isinstance(value, list | dict) or copied is not value


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def test_limits_of_plain_data():
    assert plain(nested(DEPTH_MAX), "it") == nested(DEPTH_MAX)
    loop: list[Any] = []
    loop.append(loop)
    for bad in (
        nested(DEPTH_MAX + 1),
        loop,
        [0] * 10_001,
        "é" * 40_000,
        b"x" * 70_000,
        {True: 1},
        {None: 1},
        1j,
        print,
    ):
        with pytest.raises(StateError, match="it"):
            plain(bad, "it")


def test_what_is_nearly_plain():
    assert plain(Suit.HEARTS, "it") == "hearts"
    assert type(plain(Suit.HEARTS, "it")) is str
    assert plain((1, (2,)), "it") == [1, [2]]
    assert plain(bytearray(b"x"), "it") == b"x"
    assert plain(List([1, Map({"a": 2})]), "it") == [1, {"a": 2}]


@pytest.mark.parametrize("value", [float("nan"), [1, float("inf")], {"a": (2**63,)}, -(2**63) - 1])
def test_unstorable(value):
    assert find_unstorable(value, "$")
    assert find_unstorable({"a": [1, 2.5, "x", None, True, b""]}, "$") is None


def test_dice_are_splitmix64():
    dice = Dice(1234567)
    assert [dice.getrandbits(64) for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ], "the published test vector"


def test_all_methods_draw_from_the_one_state():
    dice = Dice(1)
    dice.gauss(0, 1)
    state = dice.state
    drawn = (dice.random(), dice.gauss(0, 1), dice.choice("abc"), dice.sample(range(9), 3), dice.randbytes(9))
    dice.state = state
    assert drawn == (dice.random(), dice.gauss(0, 1), dice.choice("abc"), dice.sample(range(9), 3), dice.randbytes(9))
    again = Dice()
    again.setstate(dice.getstate())
    assert again.random() == dice.random()


def test_dice_are_fair_enough():
    dice = Dice(42)
    rolls = [dice.randint(1, 6) for _ in range(6000)]
    assert all(900 < rolls.count(n) < 1100 for n in range(1, 7))
    floats = [dice.random() for _ in range(5000)]
    assert abs(mean(floats) - 0.5) < 0.02
    assert abs(pstdev(floats) - 0.2887) < 0.01
    assert 0 <= min(floats) <= max(floats) < 1


def test_dice_do_not_take_the_systems_entropy():
    for seed in (None, "x", 1.5):
        with pytest.raises(TypeError):
            Dice(1).seed(seed)
    with pytest.raises(ValueError, match="negative"):
        Dice(1).getrandbits(-1)
    assert Dice(1).getrandbits(0) == 0
    assert Dice(1).getrandbits(200) < 2**200


def test_timers_undo():
    undo: list[Any] = []
    timers = Timers(undo.append)
    first = timers.add(100, "a", ())
    before = timers.dump()
    undo.clear()
    timers.cancel(first)
    timers.add(50, "b", (1,))
    for step in reversed(undo):
        step()
    timers.next_id = 2
    assert timers.dump() == before
    assert timers.next_due_us() == 100
    assert timers.pop().method == "a"
    assert timers.next_due_us() == NEVER
    assert len(timers) == 0

"""Arguments that are passed on as they came are some that would have been let through."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver.errors import GameServerError
from gameserver.protocol import decode_args, plain

is_plain = getattr(plain, "_is_plain", None)
pack = msgspec.msgpack.encode
HEAD = b"\x96\x03\x01\x01\x00"


def asked(args: bytes) -> bool:
    """Interpreted it is not asked, so that what is asked there is looked at."""
    return plain.is_plain(args) if is_plain is None else is_plain(args, len(args))


def message(args: bytes) -> bytes:
    return HEAD + args + b"\x00"


numbers = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.floats(width=32)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=40) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(values, max_size=18).map(pack) | values.map(pack) | st.binary(max_size=40))
def test_what_is_plain_would_have_been_let_through(args: bytes) -> None:
    if asked(args):
        assert isinstance(decode_args(message(args)), list)


@given(st.binary(max_size=12).map(lambda tail: bytes((0x90 + len(tail) % 4,)) + tail))
def test_nonsense_is_not_plain(args: bytes) -> None:
    try:
        decode_args(message(args))
    except GameServerError:
        assert not asked(args)


@pytest.mark.parametrize(
    "args", [[], [1, -1, 2**40, -(2**63), 2**63 - 2**62], [1.5, True, False, None], ["fire", "x" * 31], [0.1] * 15]
)
def test_what_games_take_is_plain(args: list[object]) -> None:
    assert asked(pack(args))


@pytest.mark.parametrize(
    "args", [{}, [[1]], ["é"], ["x" * 32], [b"x"], [float("nan")], [float("inf")], [2**64 - 1], [1] * 16, 1, None]
)
def test_what_has_to_be_looked_at_is_not(args: object) -> None:
    assert not asked(pack(args))


def test_nothing_is_not_plain() -> None:
    assert not asked(b"")

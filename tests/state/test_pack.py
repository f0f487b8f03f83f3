"""What is packed piece by piece: to the bit what the encoder makes of the same values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gameserver.state.pack import Gatherer, Packer, array_head

encode = msgspec.msgpack.encode
EDGES = [at + by for power in (5, 7, 8, 15, 16, 31, 32, 63) for at in (2**power, -(2**power)) for by in (-1, 0, 1)]
ints = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([n for n in EDGES if -(2**63) <= n < 2**63])
values = ints | st.floats() | st.none() | st.booleans() | st.text(max_size=5) | st.lists(ints, max_size=3)


@pytest.mark.parametrize("kind", [Packer, Gatherer])
@given(st.lists(st.tuples(ints, st.lists(values, max_size=20)), max_size=20))
@example([(1, [0.5] * 15), (2, [2] * 14), (3, [None] * 300)])
@example([(2**63 - 1, [1.5] * 200)] * 20)  # more than there is memory for at first
@example([(number, [number]) for number in EDGES if -(2**63) <= number < 2**63])
def test_arrays_are_what_the_encoder_makes_of_them(kind: Any, arrays: list[tuple[int, list[Any]]]) -> None:
    """Those with nothing behind their first element are not there."""
    packer = kind()
    for _ in range(2):  # the second time in memory that was used before
        packer.clear()
        for first, rest in arrays:
            packer.begin(first)
            for value in rest:
                packer.put(value)
            assert packer.end() is bool(rest)
        there = [[first, *rest] for first, rest in arrays if rest]
        assert packer.arrays == len(there)
        assert packer.taken() == b"".join(map(encode, there))


@pytest.mark.parametrize("number", [0, 127, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_numbers_without_a_sign(number: int) -> None:
    packer = Packer()
    packer.put_uint(number)
    packer.put_raw(b"\xc0")
    packer.put_raw(b"")
    assert packer.taken() == encode(number) + encode(None)


@pytest.mark.parametrize("kind", [Packer, Gatherer])
def test_what_ends_a_flush_in_the_journal(kind: Any) -> None:
    packer = kind()
    packer.begin(7)
    packer.put(0.5)
    packer.end()
    packer.put_next(300)
    assert (packer.arrays, packer.taken()) == (2, encode([7, 0.5]) + encode(["next", 300]))


def test_memory_is_given_back() -> None:
    """After one large flush the next ones start small again, and right."""
    packer = Packer()
    for number in range(10_000):
        packer.begin(number)
        packer.put("x" * 20)
        packer.end()
    assert packer.size > 200_000
    packer.clear()
    packer.begin(7)
    packer.put(None)
    packer.end()
    assert packer.taken() == encode([7, None])


def test_heads_of_arrays() -> None:
    for count in (0, 15, 16, 65_535, 65_536):
        assert encode([None] * count).startswith(array_head(count) + b"\xc0" * min(count, 1))

"""Rows of the journal, written byte by byte where this is compiled: they are what the encoder would write."""

from __future__ import annotations

import gc

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gameserver.match import rows
from gameserver.match.player import Session
from gameserver.match.queued import Queued
from gameserver.match.rows import outcome_row, row_head

SEQS = st.one_of(
    st.integers(1, 2**53), st.sampled_from([127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1])
)
CRCS = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1]))


@given(st.text(max_size=150), SEQS, CRCS)
def test_a_success_is_the_row_that_the_encoder_writes(session_id: str, seq: int, crc: int) -> None:
    row = [session_id, seq, crc, False, None, None]
    assert outcome_row(row_head(session_id), seq, crc, False, None, None) == msgspec.msgpack.encode(row)


@given(SEQS, CRCS, st.sampled_from([(True, ["refused", "no", False], None), (False, 7, None), (False, None, ["a", 9])]))
def test_so_is_what_has_more_to_tell(seq: int, crc: int, rest: tuple[bool, object, object]) -> None:
    assert outcome_row(row_head("s"), seq, crc, *rest) == msgspec.msgpack.encode(["s", seq, crc, *rest])


def test_no_collector_walks_over_what_waits_for_a_tick() -> None:
    item = Queued(Session("s", "u", None), 1, 0, None, "move", [], False, 0)
    assert gc.is_tracked(item) is rows.__file__.endswith(".py"), "the compiler has not taken the directives of setup.py"

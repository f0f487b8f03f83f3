"""Snapshots as bytes: whatever is damaged is told, never half read."""

from __future__ import annotations

import struct
import zlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver.errors import SnapshotCorrupt, SnapshotTooNew, StateError
from gameserver.storage import decode_snapshot, encode_snapshot

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
plain = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-9, 9), inner), max_leaves=20
)
snapshots = st.dictionaries(st.text(), plain)


@given(snapshots)
def test_decode_gives_back_what_was_encoded(snapshot: dict[str, object]) -> None:
    """Exactly, with text and bytes kept apart."""
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot


@given(snapshots, st.data())
def test_any_flipped_bit_is_noticed(snapshot: dict[str, object], data: st.DataObject) -> None:
    """In the header as in the body."""
    encoded = bytearray(encode_snapshot(snapshot))
    position = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[position // 8] ^= 1 << position % 8
    with pytest.raises((SnapshotCorrupt, SnapshotTooNew)):
        decode_snapshot(bytes(encoded))


@given(snapshots, st.data())
def test_any_cut_is_noticed(snapshot: dict[str, object], data: st.DataObject) -> None:
    """Wherever the bytes end."""
    encoded = encode_snapshot(snapshot)
    with pytest.raises(SnapshotCorrupt):
        decode_snapshot(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(st.binary())
def test_noise_is_corrupt(noise: bytes) -> None:
    """No other error escapes."""
    with pytest.raises((SnapshotCorrupt, SnapshotTooNew)):
        decode_snapshot(noise)


@pytest.mark.parametrize(
    "body", [b"\xc1", b"\x81\xa1", msgpack.packb([1]), msgpack.packb({}) + b"x", b"\xd9\x02\xff\xff"]
)
def test_a_right_checksum_over_a_wrong_body(body: bytes) -> None:
    """Not msgpack, not a map, or more than one value."""
    with pytest.raises(SnapshotCorrupt):
        decode_snapshot(struct.pack(">3sBII", b"GSS", 1, len(body), zlib.crc32(body)) + body)


def test_a_newer_format_is_not_damage() -> None:
    """An old server in a rolling deploy leaves it alone."""
    encoded = bytearray(encode_snapshot({}))
    encoded[3] += 1
    with pytest.raises(SnapshotTooNew):
        decode_snapshot(bytes(encoded))


@pytest.mark.parametrize("value", [object(), 2**64, 1j, "\ud800"])
def test_what_cannot_be_stored_is_refused(value: object) -> None:
    """With an error of ours."""
    with pytest.raises(StateError):
        encode_snapshot({"value": value})

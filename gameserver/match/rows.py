"""What became of an action, as a row of the journal: see `gameserver.match.journal`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

COMPILED: Final = not __file__.endswith(".py")
_encode: Final = msgspec.msgpack.Encoder().encode
ARRAY_OF_SIX: Final = b"\x96"
_HEAD_BYTES_MAX: Final = 100
_BYTES_MAX: Final = 128
"""A head, two integers of nine bytes, and three bytes."""
_FALSE: Final = 0xC2
_NIL: Final = 0xC0
_UINT8: Final = 0xCC


def row_head(session_id: str) -> bytes:
    """What all rows of a session begin with."""
    return ARRAY_OF_SIX + _encode(session_id)


def outcome_row(head: bytes, seq: int, crc: int, error: bool, result: Any, rate: Any) -> bytes:
    """The row `[session, seq, crc, error, result, rate]`, encoded; `head` is its session's `row_head`."""
    if COMPILED and not error and result is None and rate is None and len(head) <= _HEAD_BYTES_MAX:
        return _success(head, seq, crc)
    return head + _encode((seq, crc, error, result, rate))[1:]


def _success(head: bytes, seq: int, crc: int) -> bytes:
    """Nearly every row: what `outcome_row` gives for it, written without an object for each part."""
    begin, out, at = head, _out, len(head)
    for place in range(at):
        out[place] = begin[place]
    at = _put_uint(out, at, seq)
    at = _put_uint(out, at, crc)
    out[at], out[at + 1], out[at + 2] = _FALSE, _NIL, _NIL
    return out[: at + 3]  # type: ignore[return-value] # of a pointer, that is `bytes`


def _put_uint(out: bytearray, at: int, value: int) -> int:
    """The shortest form of an integer that is not negative; where the next one begins."""
    if value < 0x80:
        out[at] = value
        return at + 1
    width = 0  # as a power of two, in bytes
    while width < 3 and value >> (8 << width):
        width += 1
    out[at] = _UINT8 + width
    at += 1
    shift = 8 << width
    while shift:
        shift -= 8
        out[at] = value >> shift & 0xFF
        at += 1
    return at


_out = bytearray(_BYTES_MAX)  # where a row lies for a moment

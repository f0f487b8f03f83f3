"""WebSocket frames, built once and written to every receiver.

A server's frames are not masked, so one frame serves all connections; RFC 6455 section 5.2 has the layout.
"""

from __future__ import annotations

from typing import Final

PING_FRAME: Final = b"\x89\x00"
"""A server's ping without a payload."""
_SHORT_HEADS: Final = [bytes((0x82, length)) for length in range(126)]


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping: its payload (which has at most 125 bytes) again."""
    return bytes((0x8A, len(payload))) + payload


def close_frame(close_code: int, reason: bytes) -> bytes:
    """The beginning or the end of a closing handshake; the reason has at most 123 bytes."""
    return bytes((0x88, 2 + len(reason))) + close_code.to_bytes(2, "big") + reason


def ws_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked binary frame: FIN and opcode 2, the length in its shortest form, the payload."""
    length = len(payload)
    if length < 126:
        return _SHORT_HEADS[length] + payload
    if length < 65_536:
        return b"\x82\x7e" + length.to_bytes(2, "big") + payload
    return b"\x82\x7f" + length.to_bytes(8, "big") + payload

"""WebSocket frames, built once and written to every receiver.

A server's frames are not masked, so one frame serves all connections; RFC 6455 section 5.2 has the layout.
"""

from __future__ import annotations

from typing import Final

PING_FRAME: Final = b"\x89\x00"
"""A server's ping without a payload."""


def ws_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked binary frame: FIN and opcode 2, the length in its shortest form, the payload."""
    length = len(payload)
    if length < 126:
        return bytes((0x82, length)) + payload
    if length < 65_536:
        return b"\x82\x7e" + length.to_bytes(2, "big") + payload
    return b"\x82\x7f" + length.to_bytes(8, "big") + payload

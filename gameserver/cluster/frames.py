"""Frames that another node made, put on a channel of this one: pure."""

from __future__ import annotations

from typing import Final

from gameserver.protocol import pack, ws_frame

JOINED: Final = 2
ACK: Final = 6
CLOSED: Final = 10
EVENTS: Final = 5
_UINT_BYTES: Final = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9}


def payloads(run: bytes) -> list[bytes]:
    """The payloads in a run of WebSocket frames that a server made."""
    found = []
    at, end = 0, len(run)
    while at < end:
        length, start = run[at + 1], at + 2
        if length == 126:
            length, start = int.from_bytes(run[at + 2 : at + 4], "big"), at + 4
        elif length == 127:
            length, start = int.from_bytes(run[at + 2 : at + 10], "big"), at + 10
        at = start + length
        found.append(run[start:at])
    return found


def kind_of(payload: bytes) -> int:
    """The type of a server message."""
    return payload[1]


def readdress(payload: bytes, channel: int, request: int | None = None) -> bytes:
    """The same message on another channel (and for JOINED, which answers a request, to another request)."""
    start = 2
    head = payload[:2]
    if payload[1] == JOINED:
        start += _uint_bytes(payload, start)
        head += pack(0 if request is None else request)
    return b"".join((head, pack(channel), payload[start + _uint_bytes(payload, start) :]))


def reframe(run: bytes, channel: int) -> bytes:
    """A run of frames on another channel."""
    return b"".join([ws_frame(readdress(payload, channel)) for payload in payloads(run)])


def _uint_bytes(data: bytes, at: int) -> int:
    return 1 if data[at] < 0x80 else _UINT_BYTES[data[at]]

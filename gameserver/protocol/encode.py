"""Messages to bytes. Parts that many receivers share (ops, events, state, schema) come in encoded and are spliced in.

An envelope is encoded as an array without the spliced parts, then its first byte (the array's length) is replaced:
one call into the encoder and one join, however large the parts are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gameserver.protocol.server_messages import DONE, FAILED, REFUSED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gameserver.errors import GameServerError
    from gameserver.protocol.client_messages import ClientMessage

EMPTY_ARRAY: Final = b"\x90"
"""The encoded empty array: no ops, no events."""
NIL: Final = b"\xc0"

_encoder: Final = msgspec.msgpack.Encoder()
_encode: Final = _encoder.encode


def pack(value: Any) -> bytes:
    """Plain data (or a message of either side) as msgpack."""
    return _encode(value)


def encode_client(message: ClientMessage) -> bytes:
    """A client's message, for SDKs."""
    return _encode(message)


def encode_action(channel: int, seq: int, name: str | int, args: bytes, flags: int = 0) -> bytes:
    """ACTION with arguments that are encoded already: what is sent again on another channel is the same to the bit."""
    return b"".join((b"\x96", _encode((3, channel, seq, name))[1:], args, _encode(flags)))


def encode_welcome(info: Mapping[str, Any] | msgspec.Struct) -> bytes:
    """WELCOME: `info` as in `WelcomeInfo`."""
    return _encode((1, info))


def encode_joined(request: int, channel: int, info: Mapping[str, Any], *, schema: bytes, state: bytes = NIL) -> bytes:
    """JOINED: `info` as in `JoinedInfo` without schema and state, which are encoded already (state nil: recovered)."""
    head = b"\x94" + _encode((2, request, channel))[1:]
    # The info map is encoded without the two, then its length is rewritten and they follow as last entries.
    entries = _encode(dict(info))
    body = entries[1:] if len(info) < 16 else entries[3:]
    return b"".join((head, _map_header(len(info) + 2), body, b"\xa6schema", schema, b"\xa5state", state))


def encode_frame(
    channel: int,
    epoch: int,
    version: int,
    time_ms: int,
    applied: Sequence[int],
    ops: bytes,
    events: bytes = EMPTY_ARRAY,
) -> bytes:
    """FRAME: the segment for everyone; commits the version. `applied` is flat: slot, seq, slot, seq, …"""
    return b"\x98" + _encode((3, channel, epoch, version, time_ms, applied))[1:] + ops + events


def encode_part(channel: int, epoch: int, version: int, ops: bytes, events: bytes = EMPTY_ARRAY) -> bytes:
    """PART: a segment for a narrower audience; send it before the frame of its version."""
    return b"\x96" + _encode((4, channel, epoch, version))[1:] + ops + events


def encode_events(channel: int, epoch: int, version: int, events: bytes) -> bytes:
    """EVENTS: of HIGH priority; send them after the frame of their version."""
    return b"\x95" + _encode((5, channel, epoch, version))[1:] + events


def encode_event_list(events: Sequence[Sequence[Any]]) -> bytes:
    """The shared part of events: `[[name, data], …]`."""
    return _encode(events) if events else EMPTY_ARRAY


def encode_ack(channel: int, seq: int, version: int, result: Any = None, *, error: bool = False) -> bytes:
    """ACK: what the action returned, or with `error` `[code, message, retryable]`."""
    return _encode((6, channel, seq, version, FAILED if error else DONE, result))


def encode_refusal(channel: int, seq: int, version: int, error: GameServerError) -> bytes:
    """ACK of an action that has no outcome (yet), which settles nothing: the same `seq` may be sent again.

    For what has no place in the order of actions: a gap before it, a full queue, no such channel, an outcome that the
    server cannot be sure of.
    """
    return _encode((6, channel, seq, version, REFUSED, (error.code, error.message, error.retryable)))


def encode_error(request: int | None, code: str, message: str, retryable: bool) -> bytes:
    """ERROR: to a request, or (None) about the connection, which then closes."""
    return _encode((7, request, code, message, retryable))


def encode_failure(request: int | None, error: GameServerError) -> bytes:
    """ERROR from one of our exceptions."""
    return _encode((7, request, error.code, error.message, error.retryable))


def encode_reply(request: int, result: Any = None) -> bytes:
    """REPLY to a request or a leave."""
    return _encode((8, request, result))


def encode_moved(channel: int, address: str) -> bytes:
    """MOVED: a more direct address for this match."""
    return _encode((9, channel, address))


def encode_closed(channel: int, code: str, message: str, reconnect: bool) -> bytes:
    """CLOSED: the channel is over."""
    return _encode((10, channel, code, message, reconnect))


def encode_pong(nonce: Any, server_time_ms: int) -> bytes:
    """PONG."""
    return _encode((11, nonce, server_time_ms))


def encode_state(
    channel: int, epoch: int, version: int, time_ms: int, state: bytes, events_lost: int = 0, schema: bytes = NIL
) -> bytes:
    """STATE: the whole state, in place of everything before; with the schema where that may have grown meanwhile."""
    head = b"\x98" + _encode((12, channel, epoch, version, time_ms))[1:]
    return b"".join((head, state, _encode(events_lost), schema))


def _map_header(length: int) -> bytes:
    return bytes((0x80 | length,)) if length < 16 else b"\xde" + length.to_bytes(2, "big")

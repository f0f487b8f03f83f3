"""What nodes say to each other over the bus, as bytes: pure.

A message is a version byte and a msgpack array `[type, field, …]`. What clients get travels as the very frames that the
owner made; an edge only puts its own channel number into them (`frames.py`), once for all who get them.

Channels: `<prefix>:bus:node:<id>` for what concerns one node, `<prefix>:bus:match:<id>` for what everyone sees of a
match. Everything on a match's channel is numbered (`serial`), and so is what concerns the members behind one edge
(`link`), so that a loss shows with the next message, or with the next pulse.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gameserver.cluster.frames import JOINED
from gameserver.errors import GameServerError, InternalError, ProtocolError

VERSION: Final = 1
_PREFIX: Final = bytes((VERSION,))


class LinkMessage(msgspec.Struct, array_like=True, gc=False):
    """Base of them all."""


Action = tuple[str, str, int, str | int, Any, bool, int | None]
"""Match, session, seq, name, arguments, quiet, checksum of the arguments."""


# --- from an edge to an owner -----------------------------------------------------------------------------------------
class Attach(LinkMessage, tag=1):
    """A user behind this edge wants in, or is in already and wants to be told again where the match stands."""

    match: str
    edge: str
    seat: int
    """The edge's own number for this place in the match; the same when it asks again."""
    attempt: int
    request: int
    user: str
    name: str
    role: str
    spectate: bool
    resume: tuple[str, int, int, int | None, int | None] | None
    """Session, epoch, version, events_version, attempt: a client's resume, or the edge's own for that client."""
    again: bool
    """The session was attached before: it goes on, or it is over; no new one is made in its place."""
    watchers: int


class Acts(LinkMessage, tag=2):
    """Actions of sessions behind this edge, in the order in which they came."""

    edge: str
    actions: list[tuple[str, str, int, str | int, msgspec.Raw, bool, int | None]]
    """Each an `Action`, its arguments still encoded when it arrives: they are best decoded by the action's types."""


class Leave(LinkMessage, tag=3):
    """The player gives up the seat."""

    match: str
    edge: str
    session: str
    reason: str


class Lost(LinkMessage, tag=4):
    """The player's connection is gone."""

    match: str
    edge: str
    session: str
    unheard: bool = False
    """Nobody waited any more to hear that they are in: a seat that was new with it is given up."""


class Beat(LinkMessage, tag=5):
    """The edge lives, and carries these: (match, checksum of the sessions, watchers)."""

    edge: str
    matches: list[tuple[str, int, int]]


class Roll(LinkMessage, tag=6):
    """All sessions that the edge carries for a match."""

    match: str
    edge: str
    sessions: list[str]


class Ask(LinkMessage, tag=7):
    """Something outside of any match."""

    edge: str
    number: int
    what: str
    body: dict[str, Any]


# --- from an owner to an edge -----------------------------------------------------------------------------------------
class Said(LinkMessage, tag=20):
    """Frames for one seat; the first one tells what it is about. A JOINED comes with where the stream stands."""

    match: str
    node: str
    seat: int
    attempt: int
    session: str
    viewer: str
    slot: int
    epoch: int
    version: int
    serial: int
    link: int
    events_version: int
    """All HIGH events up to this version have been let out."""
    events_total: int
    frames: list[bytes]


class Refused(LinkMessage, tag=21):
    """The attach was refused."""

    match: str
    node: str
    seat: int
    attempt: int
    code: str
    message: str
    retryable: bool


class Private(LinkMessage, tag=22):
    """What only some behind this edge may see of one flush: frames by viewer, acknowledgements by session."""

    match: str
    epoch: int
    version: int
    link: int
    serial: int
    """What had been published on the match's channel before: it belongs on top of that."""
    alone: bool
    """Nothing on the match's channel belongs to it; otherwise it waits for that."""
    parts: dict[str, bytes]
    low: dict[str, bytes]
    events: dict[str, bytes]
    acks: dict[str, bytes]


class Pulse(LinkMessage, tag=23):
    """The answer to a beat: (match, epoch, serial, link), epoch 0: not here; and for which a roll is wanted."""

    node: str
    matches: list[tuple[str, int, int, int]]
    rolls: list[str]


class Unknown(LinkMessage, tag=24):
    """The owner has no such sessions (any more)."""

    match: str
    node: str
    sessions: list[str]


class Answer(LinkMessage, tag=25):
    """What became of an ask: the result, or [code, message, retryable]."""

    number: int
    ok: bool
    result: Any


# --- on a match's channel ---------------------------------------------------------------------------------------------
class Shared(LinkMessage, tag=40):
    """What everyone sees of one flush, once however many edges there are."""

    match: str
    node: str
    epoch: int
    version: int
    previous: int
    serial: int
    needs: dict[str, int]
    """Edge → the `link` number of what must have arrived there before this."""
    everyone: bool
    slots: list[int]
    """Where not everyone needs the frame, these do."""
    events: int
    low: int
    events_total: int
    """Events for everyone since the owner began to count."""
    frame: bytes | None
    without_low: bytes | None
    urgent: bytes | None


class Owner(LinkMessage, tag=41):
    """Another node runs the match now (or will in a moment: empty)."""

    match: str
    node: str
    epoch: int


ToOwner = Attach | Acts | Leave | Lost | Beat | Roll | Ask
ToEdge = Said | Refused | Private | Pulse | Unknown | Answer
ToMatch = Shared | Owner

_encoder: Final = msgspec.msgpack.Encoder()
_node_decoder: Final = msgspec.msgpack.Decoder(ToOwner | ToEdge)
_match_decoder: Final = msgspec.msgpack.Decoder(ToMatch)


class LinkInvalid(ProtocolError):
    """A node said something that this one does not understand: they are of different versions."""

    code = "link_invalid"


def encode_link(message: ToOwner | ToEdge | ToMatch) -> bytes:
    """A message as bytes."""
    return _PREFIX + _encoder.encode(message)


def decode_node(data: bytes) -> ToOwner | ToEdge:
    """What came on a node's channel; raises LinkInvalid."""
    message: ToOwner | ToEdge = _decode(_node_decoder, data)
    return message


def decode_match(data: bytes) -> ToMatch:
    """What came on a match's channel; raises LinkInvalid."""
    message: ToMatch = _decode(_match_decoder, data)
    return message


def _decode(decoder: Any, data: bytes) -> Any:
    if data[:1] != _PREFIX:
        raise LinkInvalid(f"a message of version {data[0] if data else None}, not {VERSION}")
    try:
        return decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise LinkInvalid(str(error)) from None


def node_channel(prefix: str, node: str) -> str:
    """Where a node listens."""
    return f"{prefix}:bus:node:{node}"


def match_channel(prefix: str, match_id: str) -> str:
    """Where the edges of a match listen."""
    return f"{prefix}:bus:match:{match_id}"


# --- where the match stands -------------------------------------------------------------------------------------------
class RawJoined(msgspec.Struct, array_like=True, tag=JOINED):
    """A JOINED whose parts are not looked into."""

    request: int
    channel: int
    info: dict[str, msgspec.Raw]


_joined_decoder: Final = msgspec.msgpack.Decoder(RawJoined)


def open_joined(payload: bytes) -> dict[str, msgspec.Raw]:
    """The entries of a JOINED message, still encoded."""
    return _joined_decoder.decode(payload).info


def plain_of(raw: msgspec.Raw) -> Any:
    """What such an entry says, or arguments."""
    return msgspec.msgpack.decode(raw)


# --- errors -----------------------------------------------------------------------------------------------------------
def error_from(code: str, message: str, *, retryable: bool) -> GameServerError:
    """The error that another node told of, of the class that it had there."""
    pending: list[type[GameServerError]] = [GameServerError]
    while pending:
        known = pending.pop()
        if known.code == code and known is not GameServerError:
            return known(message)
        pending.extend(known.__subclasses__())
    error = InternalError(message)
    error.__dict__.update(code=code, retryable=retryable)
    return error

"""What the client's core asks its shell to do, in the order in which it is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gameserver.client.errors import error_from

if TYPE_CHECKING:
    from gameserver.client.room_core import RoomCore
    from gameserver.errors import GameServerError


class Answered(NamedTuple):
    """A request, join or action has its result."""

    ticket: Any
    value: Any


class Refused(NamedTuple):
    """A request, join or action failed."""

    ticket: Any
    error: GameServerError


class Write(NamedTuple):
    """Bytes for the server."""

    data: bytes


class Changed(NamedTuple):
    """The mirror of a match has changed; `room.mirror.changes` says where, until the next message."""

    room: RoomCore


class Happened(NamedTuple):
    """An event arrived."""

    room: RoomCore
    name: str
    data: Any


class ActionFailed(NamedTuple):
    """An action that nobody waits for was refused."""

    room: RoomCore
    name: str
    error: GameServerError


class ResendLater(NamedTuple):
    """The server could not take actions in now: call `room.resend()` after a while, longer with each attempt."""

    room: RoomCore
    attempt: int


class Disconnected(NamedTuple):
    """The match is out of reach; the room waits to be joined again."""

    room: RoomCore
    error: GameServerError


class Reconnected(NamedTuple):
    """The room is joined again; `recovered`: nothing was missed."""

    room: RoomCore
    recovered: bool


class Offered(NamedTuple):
    """The match can be reached more directly at this WebSocket address; staying is always right."""

    room: RoomCore
    address: str


class Ended(NamedTuple):
    """Nothing more will come from this match."""

    room: RoomCore
    error: GameServerError
    reconnect: bool


Outcome = (
    Answered
    | Refused
    | Write
    | Changed
    | Happened
    | ActionFailed
    | ResendLater
    | Disconnected
    | Reconnected
    | Offered
    | Ended
)


def error_of(result: Any) -> GameServerError:
    """The exception in a negative acknowledgement's result."""
    code, message, retryable = result
    return error_from(code, message, retryable=bool(retryable))

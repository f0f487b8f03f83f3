"""What a client sends: one class per message type, decoded straight from its msgpack array.

The classes are msgspec structs: `array_like` with a number as `tag` is exactly the wire form `[type, field, …]`, so
types and ranges are checked while decoding and no dict is built. Fields with a default may be left out at the end.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gameserver.protocol.limits import (
    CHANNEL_MAX,
    INT_MIN,
    NAME_CHARS_MAX,
    NONCE_CHARS_MAX,
    NUMBER_MAX,
    PROTOCOL_VERSION,
    REQUEST_MAX,
    TOKEN_CHARS_MAX,
)

Request_ = Annotated[int, Meta(ge=0, le=REQUEST_MAX)]
Channel = Annotated[int, Meta(ge=0, le=CHANNEL_MAX)]
Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Seq = Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
ActionNumber = Annotated[int, Meta(ge=0, le=65_535)]
Nonce = Annotated[int, Meta(ge=INT_MIN, le=2**63 - 1)] | Annotated[str, Meta(max_length=NONCE_CHARS_MAX)] | float | None

QUIET: Final = 1
"""Action flag: no acknowledgement wanted, except for errors and now and then one to move the window."""


class Hello(msgspec.Struct, array_like=True, tag=1, forbid_unknown_fields=True, frozen=True):
    """The first message: who is there, and which protocol version it speaks."""

    version: Annotated[int, Meta(ge=0, le=REQUEST_MAX)] = PROTOCOL_VERSION
    token: Annotated[str, Meta(max_length=TOKEN_CHARS_MAX)] | None = None
    info: dict[str, Any] = {}

    def __repr__(self) -> str:  # the token must not reach a log by way of a repr
        return f"Hello(version={self.version}, token={'…' if self.token else None}, info={self.info})"


class Resume(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Where a client that lost its connection wants to go on: `[session, epoch, version, events_version, attempt]`."""

    session: Name
    epoch: Number
    version: Number
    events_version: Number | None = None
    """The version of the last EVENTS message it has; None: it has all up to its position."""
    attempt: Number | None = None
    """Counts the client's attempts with this session: one that was overtaken on its way takes the seat from nobody."""


class JoinDetails(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The options map of a join."""

    options: dict[str, Any] = {}
    spectate: bool = False
    resume: Resume | None = None


class Join(msgspec.Struct, array_like=True, tag=2, forbid_unknown_fields=True, frozen=True):
    """Enter a match: `match` (name = match id), `game` (join or create one of this game), `create` (a new one)."""

    request: Request_
    kind: Literal["match", "game", "create"]
    name: Name
    details: JoinDetails = JoinDetails()

    @property
    def options(self) -> dict[str, Any]:
        """Options for the game, when the match is made by this join."""
        return self.details.options

    @property
    def spectate(self) -> bool:
        """Watch only."""
        return self.details.spectate

    @property
    def resume(self) -> Resume | None:
        """Session and position to go on from."""
        return self.details.resume


class Action(msgspec.Struct, array_like=True, tag=3, forbid_unknown_fields=True, frozen=True, gc=False):
    """Call a method of the game: by name or by its number in the `actions` of the joined message."""

    channel: Channel
    seq: Seq
    name: Name | ActionNumber
    args: list[Any] | dict[str, Any] = []
    flags: Annotated[int, Meta(ge=0, le=1)] = 0

    @property
    def quiet(self) -> bool:
        """No acknowledgement wanted."""
        return bool(self.flags & QUIET)


class RawAction(msgspec.Struct, array_like=True, tag=3, forbid_unknown_fields=True, frozen=True, gc=False):
    """An `Action` whose arguments are still encoded, and nothing about them is checked."""

    channel: Channel
    seq: Seq
    name: Name | ActionNumber
    args: msgspec.Raw = msgspec.Raw(b"\x90")
    flags: Annotated[int, Meta(ge=0, le=1)] = 0


class Leave(msgspec.Struct, array_like=True, tag=4, forbid_unknown_fields=True, frozen=True):
    """Give up the seat in a match."""

    request: Request_
    channel: Channel


class Request(msgspec.Struct, array_like=True, tag=5, forbid_unknown_fields=True, frozen=True):
    """Ask the server, not a match: `method` with named parameters."""

    request: Request_
    method: Name
    params: dict[str, Any] = {}


class Ping(msgspec.Struct, array_like=True, tag=6, forbid_unknown_fields=True, frozen=True):
    """Answered at once with the same nonce."""

    nonce: Nonce = None


ClientMessage = Hello | Join | Action | Leave | Request | Ping

CLIENT_MESSAGES: Final[dict[int, type[ClientMessage]]] = {
    1: Hello,
    2: Join,
    3: Action,
    4: Leave,
    5: Request,
    6: Ping,
}
"""Message classes by their type number."""

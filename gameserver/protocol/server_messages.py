"""What the server sends, as a client decodes it: one class per message type.

Unlike the client's messages these may grow fields at the end within one protocol version: a decoder skips what it
does not know. Large messages are not made from these classes: `encode` splices parts that are encoded already.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

DONE: Final = 0
FAILED: Final = 1
REFUSED: Final = 2
"""How an action ended: it ran; it failed and its `seq` is used up; it has no outcome and may be sent again."""


class WelcomeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a client learns about its connection."""

    connection: str
    user: str
    role: str
    name: str
    server_time_ms: int
    protocol: int
    limits: dict[str, Any] = {}


class Welcome(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """The hello was accepted."""

    info: WelcomeInfo


class JoinedInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A match as its new member finds it."""

    match: str
    game: str
    session: str
    slot: int
    """The player's place in `applied`; -1 for a spectator."""
    epoch: int
    version: int
    time_ms: int
    schema: list[Any]
    actions: list[str]
    state: Any = None
    """The root literal; nil when `recovered`: the frames after this one continue the position of the resume."""
    recovered: bool = False
    spectator: bool = False
    tick_hz: float = 0
    window: int = 64
    seq: int = 0
    """The last `seq` of this session that the match has: a new action carries the one after it. No acknowledgement."""
    events_version: int = 0
    """EVENTS of higher versions follow, lower ones do not: what the client names when it comes back."""
    address: str | None = None
    """Where the node that runs the match can be reached directly, if this one only carries it. May be ignored."""


class Joined(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """A join was accepted; from now on `channel` stands for this match on this connection."""

    request: int
    channel: int
    info: JoinedInfo


class Frame(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """One version of a match: the segment for everyone. Commits the version."""

    channel: int
    epoch: int
    version: int
    time_ms: int
    applied: list[int]
    ops: list[Any]
    events: list[Any]


class Part(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """A segment for a narrower audience: held until the frame of the same version, applied after it."""

    channel: int
    epoch: int
    version: int
    ops: list[Any]
    events: list[Any]


class Events(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """Events of HIGH priority."""

    channel: int
    epoch: int
    version: int
    events: list[Any]


class Ack(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """What became of an action; unless it was refused, all before it are settled too."""

    channel: int
    seq: int
    version: int
    status: int
    result: Any = None

    @property
    def ok(self) -> bool:
        """The action ran; `result` is what it returned. Otherwise `result` is `[code, message, retryable]`."""
        return self.status == DONE

    @property
    def refused(self) -> bool:
        """The action has no outcome: the same `seq` may be sent again, and nothing is said about those before it."""
        return self.status == REFUSED


class ErrorMessage(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """A request failed (`request` is its number), or the connection did (`request` is None)."""

    request: int | None
    code: str
    message: str
    retryable: bool


class Reply(msgspec.Struct, array_like=True, tag=8, frozen=True):
    """The answer to a request or a leave."""

    request: int
    result: Any = None


class Moved(msgspec.Struct, array_like=True, tag=9, frozen=True):
    """The match can be reached more directly at this address."""

    channel: int
    address: str


class Closed(msgspec.Struct, array_like=True, tag=10, frozen=True):
    """The channel is over; the connection goes on."""

    channel: int
    code: str
    message: str
    reconnect: bool


class Pong(msgspec.Struct, array_like=True, tag=11, frozen=True):
    """The answer to a ping."""

    nonce: Any
    server_time_ms: int


class StateMessage(msgspec.Struct, array_like=True, tag=12, frozen=True):
    """The whole state: replaces the mirror, and parts held for it."""

    channel: int
    epoch: int
    version: int
    time_ms: int
    state: Any
    events_lost: int
    schema: list[Any] | None = None
    """Replaces the schema, unless nil."""


ServerMessage = (
    Welcome | Joined | Frame | Part | Events | Ack | ErrorMessage | Reply | Moved | Closed | Pong | StateMessage
)

SERVER_MESSAGES: Final[dict[int, type[ServerMessage]]] = {
    1: Welcome,
    2: Joined,
    3: Frame,
    4: Part,
    5: Events,
    6: Ack,
    7: ErrorMessage,
    8: Reply,
    9: Moved,
    10: Closed,
    11: Pong,
    12: StateMessage,
}
"""Message classes by their type number."""

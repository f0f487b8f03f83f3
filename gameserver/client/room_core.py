"""One match as its client sees it, without a socket: mirror, position, and the actions that are not acknowledged yet.

Pure: messages in, outcomes out. What the server guarantees and what is done with it here:

* A frame commits a version. Parts (what only some may see) come before the frame of their version and are held until
  it arrives; the frame's patch is applied first, then the parts in order, then all their events are handed on.
* A position is `(epoch, version)`. What does not go forward is old (or from a server that lost the match) and dropped.
* Actions are numbered from 1. An acknowledgement answers its own action and settles all before it; a refusal says that
  the number was not used, and the same action is sent again under it. No more than `window` are ever unsettled, because
  the server keeps that many results; further ones wait here, in order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gameserver.client.errors import error_from
from gameserver.errors import (
    ActionInvalid,
    ActionUnknown,
    GameServerError,
    LimitReached,
    PermissionDenied,
    ProtocolError,
    SeqReused,
    SeqTooOld,
)
from gameserver.protocol import QUIET, Ack, Action, Events, Frame, Joined, Part, StateMessage, encode_client
from gameserver.state import Mirror

if TYPE_CHECKING:
    from collections.abc import Iterable

WAITING_MAX = 1024  # actions that wait for the window; the next one is refused
PARTS_MAX = 4096  # parts held for one frame; a server that sends more does not speak the protocol


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


class Ended(NamedTuple):
    """Nothing more will come from this match."""

    room: RoomCore
    error: GameServerError
    reconnect: bool


Outcome = Answered | Refused | Write | Changed | Happened | ActionFailed | ResendLater | Ended


@dataclass(slots=True)
class PendingAction:
    """An action without its acknowledgement; `ticket` is None when nobody waits for the result."""

    seq: int
    name: str
    data: bytes
    ticket: Any


class RoomCore:
    """A joined match. `owner` is whatever the shell wants to find here again."""

    def __init__(self, joined: Joined) -> None:
        info = joined.info
        self.owner: Any = None
        self.channel = joined.channel
        self.match_id = info.match
        self.game = info.game
        self.session = info.session
        self.slot = info.slot
        self.spectator = info.spectator
        self.tick_hz = info.tick_hz
        self.actions = info.actions
        self.window = info.window
        self.epoch = info.epoch
        self.version = info.version
        self.time_ms = info.time_ms
        self.applied = 0  # the last of our actions that the state we hold contains: what prediction reconciles on
        self.events_lost = 0
        self.ended: GameServerError | None = None
        self.mirror = Mirror(info.schema)
        self.mirror.load_full(info.state)
        self._numbers = {name: number for number, name in enumerate(self.actions)}
        self._parts: list[Part] = []
        self._seq = info.seq
        self._pending: dict[int, PendingAction] = {}
        self._waiting: deque[PendingAction] = deque()
        self._refused: set[int] = set()
        self._attempts = 0

    # --- actions ------------------------------------------------------------------------------------------------------
    @property
    def unacknowledged(self) -> int:
        """How many actions are under way."""
        return len(self._pending)

    @property
    def waiting(self) -> int:
        """How many actions wait for the window to open."""
        return len(self._waiting)

    def act(self, name: str, args: list[Any] | dict[str, Any], ticket: Any = None) -> list[Outcome]:
        """Number an action and send it, or keep it until the window has room. Without a ticket it is a quiet one.

        Raises what the caller should know at once: the match is over, there is no such action, the arguments are not
        plain data, too many wait already. Then no number is used.
        """
        if self.ended is not None:
            raise self.ended
        if self.spectator:
            raise PermissionDenied("you only watch this match: join it to act in it")
        if len(self._waiting) >= WAITING_MAX:
            raise LimitReached(f"{WAITING_MAX} actions wait to be sent: act less often than the server answers")
        if self._numbers and name not in self._numbers:
            raise ActionUnknown(f"{self.game} has no action {name!r}; it has: {', '.join(sorted(self.actions))}")
        flags = QUIET if ticket is None else 0
        seq = self._seq + 1
        try:
            data = encode_client(Action(self.channel, seq, self._numbers.get(name, name), args, flags))
        except (TypeError, ValueError, OverflowError) as failure:
            raise ActionInvalid(f"{name}: arguments are plain data (numbers, text, lists, dicts): {failure}") from None
        self._seq = seq
        self._waiting.append(PendingAction(seq, name, data, ticket))
        return self._fill_window()

    def acknowledged(self, ack: Ack) -> list[Outcome]:
        """What an acknowledgement settles: its own action, and all before it. A refusal settles nothing."""
        if ack.refused:
            return self._refusal(ack)
        self._attempts = 0
        outcomes: list[Outcome] = []
        for seq in [seq for seq in self._pending if seq <= ack.seq]:
            action = self._pending.pop(seq)
            self._refused.discard(seq)
            if seq == ack.seq:
                outcomes += self._settled(action, ack)
            elif action.ticket is not None:
                outcomes.append(Refused(action.ticket, SeqTooOld()))
        return outcomes + self._fill_window()

    def resend(self) -> list[Outcome]:
        """Send what was refused again, in order and under the same numbers."""
        refused, self._refused = sorted(self._refused), set()
        return [Write(self._pending[seq].data) for seq in refused]

    def _refusal(self, ack: Ack) -> list[Outcome]:
        if ack.seq not in self._pending:
            return []
        error = error_of(ack.result)
        if not error.retryable:
            # Its number will never be used, so nothing after it can be applied: this session is over.
            return self.end(error, reconnect=isinstance(error, SeqReused | SeqTooOld))
        self._refused.add(ack.seq)
        if len(self._refused) > 1:
            return []
        self._attempts += 1
        return [ResendLater(self, self._attempts)]

    def _settled(self, action: PendingAction, ack: Ack) -> list[Outcome]:
        if ack.ok:
            return [] if action.ticket is None else [Answered(action.ticket, ack.result)]
        error = error_of(ack.result)
        if action.ticket is None:
            return [ActionFailed(self, action.name, error)]
        return [Refused(action.ticket, error)]

    def _fill_window(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while self._waiting and len(self._pending) < self.window:
            action = self._waiting.popleft()
            self._pending[action.seq] = action
            outcomes.append(Write(action.data))
        return outcomes

    # --- state --------------------------------------------------------------------------------------------------------
    @property
    def position(self) -> tuple[int, int]:
        """How far this client is: `(epoch, version)`."""
        return (self.epoch, self.version)

    def part(self, part: Part) -> list[Outcome]:
        """Hold what only we may see until the frame of its version commits it."""
        if (part.epoch, part.version) > self.position:
            if len(self._parts) >= PARTS_MAX:
                raise ProtocolError("the server sent parts without their frame")
            self._parts.append(part)
        return []

    def frame(self, frame: Frame) -> list[Outcome]:
        """Apply one version: patch, parts, then their events."""
        position = (frame.epoch, frame.version)
        if position <= self.position:
            return []
        parts = [part for part in self._parts if (part.epoch, part.version) == position]
        self._parts.clear()
        self.mirror.apply(frame.ops, [part.ops for part in parts])
        self._committed(frame)
        self._note_applied(frame.applied)
        outcomes: list[Outcome] = []
        if frame.ops or any(part.ops for part in parts):
            outcomes.append(Changed(self))
        outcomes += self._happened(frame.events)
        for part in parts:
            outcomes += self._happened(part.events)
        return outcomes

    def full_state(self, state: StateMessage) -> list[Outcome]:
        """Replace the mirror: the server could not, or need not, tell what changed in between."""
        if (state.epoch, state.version) < self.position:
            return []
        self._parts.clear()
        if state.schema is not None:
            self.mirror = Mirror(state.schema)
        self.mirror.load_full(state.state)
        self._committed(state)
        self.events_lost += int(state.events_lost)
        return [Changed(self)]

    def events(self, events: Events) -> list[Outcome]:
        """Urgent events: their patch is already here, so they are handed on at once."""
        return self._happened(events.events) if events.epoch >= self.epoch else []

    def end(self, error: GameServerError, *, reconnect: bool) -> list[Outcome]:
        """Nothing more will come: fail what waits, once."""
        if self.ended is not None:
            return []
        self.ended = error
        failed = [*self._pending.values(), *self._waiting]
        self._pending.clear()
        self._refused.clear()
        self._waiting.clear()
        outcomes: list[Outcome] = [Refused(action.ticket, error) for action in failed if action.ticket is not None]
        return [*outcomes, Ended(self, error, reconnect)]

    def _committed(self, message: Frame | StateMessage) -> None:
        self.epoch, self.version, self.time_ms = message.epoch, message.version, message.time_ms

    def _note_applied(self, applied: list[int]) -> None:
        for slot, seq in zip(applied[::2], applied[1::2], strict=True):
            if slot == self.slot:
                self.applied = seq

    def _happened(self, events: Iterable[Any]) -> list[Outcome]:
        return [Happened(self, name, data) for name, data in events]


def error_of(result: Any) -> GameServerError:
    """The exception in a negative acknowledgement's result."""
    code, message, retryable = result
    return error_from(code, message, retryable=bool(retryable))

"""A room's actions on their way out: numbered, never more than the window under way, sent again when in doubt. Pure.

Actions are numbered from 1. An acknowledgement answers its own action and settles all before it; a refusal says that
the number has no outcome (yet), and the same action is sent again under it. No more than `window` are ever unsettled,
because the server keeps that many results; further ones wait here, in order, and so do all while the match is out of
reach. After a resume everything unsettled is sent again under its number, none of it quietly: each has its own answer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gameserver.client.outcomes import (
    ActionFailed,
    Answered,
    Outcome,
    Refused,
    ResendLater,
    Write,
    error_of,
)
from gameserver.errors import (
    ActionInvalid,
    ActionUnknown,
    GameServerError,
    LimitReached,
    OutcomeUnknown,
    SeqReused,
    SeqTooOld,
)
from gameserver.protocol import QUIET, encode_action, pack

if TYPE_CHECKING:
    from gameserver.client.room_core import RoomCore
    from gameserver.protocol import Ack

WAITING_MAX = 1024  # actions that wait for the window or the connection; the next one is refused


@dataclass(slots=True)
class PendingAction:
    """An action without its acknowledgement; `ticket` is None when nobody waits for the result."""

    seq: int
    name: str
    args: bytes
    ticket: Any
    again: bool = False
    """Sent on an earlier connection too: only its own answer settles it."""


class Outgoing:
    """The actions of one room that are not settled."""

    def __init__(self, room: RoomCore, seq: int) -> None:
        self.pending: dict[int, PendingAction] = {}
        self.waiting: deque[PendingAction] = deque()
        self._room = room
        self._seq = seq
        self._refused: set[int] = set()
        self._attempts = 0

    def act(self, name: str, args: list[Any] | dict[str, Any], ticket: Any) -> list[Outcome]:
        """Number an action and send it, or keep it until it can be."""
        room = self._room
        if len(self.waiting) >= WAITING_MAX:
            raise LimitReached(f"{WAITING_MAX} actions wait to be sent: act less often than the server answers")
        if room.numbers and name not in room.numbers:
            raise ActionUnknown(f"{room.game} has no action {name!r}; it has: {', '.join(sorted(room.actions))}")
        try:
            encoded = pack(args)
        except (TypeError, ValueError, OverflowError) as failure:
            raise ActionInvalid(f"{name}: arguments are plain data (numbers, text, lists, dicts): {failure}") from None
        self._seq += 1
        self.waiting.append(PendingAction(self._seq, name, encoded, ticket))
        return self._fill_window()

    def acknowledged(self, ack: Ack) -> list[Outcome]:
        """What an acknowledgement settles: its own action, and all before it. A refusal settles nothing."""
        if ack.refused:
            return self._refusal(ack)
        self._attempts = 0
        outcomes: list[Outcome] = []
        own = self.pending.get(ack.seq)
        for seq in [seq for seq in self.pending if seq <= ack.seq]:
            action = self.pending[seq]
            if action is not own and action.again and (own is None or own.again):
                continue  # the answers of another connection may come in between: its own is still to come
            del self.pending[seq]
            self._refused.discard(seq)
            if action is own:
                outcomes += self._settled(action, ack)
            elif action.ticket is not None:
                outcomes.append(Refused(action.ticket, SeqTooOld()))
        return outcomes + self._fill_window()

    def resend(self) -> list[Outcome]:
        """Send what was refused again, in order and under the same numbers."""
        if not self._room.connected:
            return []
        refused, self._refused = sorted(self._refused), set()
        return [self._write(self.pending[seq]) for seq in refused]

    def resumed(self, seq: int) -> list[Outcome]:
        """The session goes on, and the match has everything up to `seq`: send again all that is not settled.

        What the match does not have takes the numbers after that one. They are what they were before, unless a crash
        lost what had been settled.
        """
        self._forget_refusals()
        sent, waiting = list(self.pending.values()), self.waiting
        self.pending = {}
        self._seq = seq
        for action in [*sent, *waiting]:
            if action.seq > seq:
                self._seq = action.seq = self._seq + 1
        outcomes: list[Outcome] = []
        for action in sent:
            action.again = True
            self.pending[action.seq] = action
            outcomes.append(self._write(action))
        return outcomes + self._fill_window()

    def restarted(self, seq: int) -> list[Outcome]:
        """It is another session: nobody can say what became of what was sent; what was not is sent now."""
        self._forget_refusals()
        sent = list(self.pending.values())
        self.pending = {}
        error = OutcomeUnknown("Your seat was given up before the server could say whether this action was done.")
        outcomes = [self._failed(action, error) for action in sent]
        self._seq = seq
        for action in self.waiting:
            self._seq = action.seq = self._seq + 1
        return outcomes + self._fill_window()

    def fail_all(self, error: GameServerError) -> list[Outcome]:
        """The room is over: whoever waits learns why."""
        failed = [*self.pending.values(), *self.waiting]
        self.pending.clear()
        self._refused.clear()
        self.waiting.clear()
        return [Refused(action.ticket, error) for action in failed if action.ticket is not None]

    def is_over(self, ack: Ack) -> GameServerError | None:
        """The error, if the numbering cannot go on after this acknowledgement: its number will never be used."""
        if not ack.refused or ack.seq not in self.pending:
            return None
        error = error_of(ack.result)
        return None if error.retryable else error

    def _forget_refusals(self) -> None:
        self._refused.clear()
        self._attempts = 0

    def _refusal(self, ack: Ack) -> list[Outcome]:
        if ack.seq not in self.pending:
            return []
        is_first = not self._refused
        self._refused.add(ack.seq)
        if not is_first:
            return []  # it goes with those that are to be sent again already
        self._attempts += 1
        return [ResendLater(self._room, self._attempts)]

    def _settled(self, action: PendingAction, ack: Ack) -> list[Outcome]:
        if ack.ok:
            return [] if action.ticket is None else [Answered(action.ticket, ack.result)]
        return [self._failed(action, error_of(ack.result))]

    def _failed(self, action: PendingAction, error: GameServerError) -> Outcome:
        if action.ticket is None:
            return ActionFailed(self._room, action.name, error)
        return Refused(action.ticket, error)

    def _fill_window(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while self.waiting and self._room.connected:
            # Counted from the oldest, settled ones in between included: that is how far back results are kept.
            if self.waiting[0].seq - next(iter(self.pending), self.waiting[0].seq) >= self._room.window:
                break
            action = self.waiting.popleft()
            self.pending[action.seq] = action
            outcomes.append(self._write(action))
        return outcomes

    def _write(self, action: PendingAction) -> Outcome:
        room = self._room
        flags = QUIET if action.ticket is None and not action.again else 0
        key = room.numbers.get(action.name, action.name)
        return Write(encode_action(room.channel, action.seq, key, action.args, flags))


def ends_session(error: GameServerError) -> bool:
    """Would a new session help?"""
    return isinstance(error, SeqReused | SeqTooOld)

"""Actions on their way in: exactly once per `seq`, in order per session whatever their priority."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from gameserver.errors import (
    ActionInvalid,
    ActionRefused,
    ActionUnknown,
    GameCodeError,
    GameServerError,
    LimitReached,
    MatchEnded,
    NotJoined,
    PermissionDenied,
    RateLimited,
    SeqGap,
    SeqReused,
    SeqTooOld,
)
from gameserver.match.actions import name_crc
from gameserver.match.core import MatchCore
from gameserver.match.player import Player, Session
from gameserver.match.queued import Args, Queued
from gameserver.match.rows import outcome_row
from gameserver.match.timers import NEVER
from gameserver.match.values import Ack, MatchLimits

if TYPE_CHECKING:
    from gameserver.match.actions import ActionSpec
    from gameserver.match.checks import GameSpec

_encode = msgspec.msgpack.Encoder().encode
_OUTCOMES = (ActionRefused, ActionInvalid, ActionUnknown, RateLimited, MatchEnded)
"""What is an answer to the player rather than a failure of the game."""
_MESSAGE_LENGTH_MAX = 1_000


class MatchInbox(MatchCore):
    """Numbering, the queue, and applying what is in it."""

    __slots__ = (
        "_queued_max",
        "_quiet_ack_every",
        "_results_kept",
        "acks",
        "acted",
        "batch_due_us",
        "consumed",
        "high",
        "journaling",
        "queue",
        "repeats",
        "sessions",
        "watchers",
    )  # fmt: skip

    def __init__(self, spec: GameSpec, match_id: str, epoch: int, seed: int, limits: MatchLimits) -> None:
        super().__init__(spec, match_id, epoch, seed, limits)
        self._results_kept = limits.results_kept
        self._queued_max = limits.queued_actions_max
        self._quiet_ack_every = limits.quiet_ack_every
        self.sessions: dict[str, Session] = {}
        """The sessions of the players."""
        self.watchers: dict[str, Session] = {}
        """The sessions of the spectators."""
        self.queue: list[Queued] = []
        """All that waits, in order of arrival: of each session what it has `received` and is not `applied`."""
        self.batch_due_us = NEVER
        self.acted: list[Session] = []
        """Those with outcomes since the last flush."""
        self.acks: list[Ack] = []
        self.repeats: list[Ack] = []
        self.consumed: list[bytes] = []
        """For the journal: what became of each seq since the last flush, encoded."""
        self.journaling = False
        self.high = False

    def receive(
        self,
        session_id: str,
        seq: int,
        name: str | int,
        args: Args,
        now: float,
        wall: float,
        quiet: bool = False,
        crc: int | None = None,
    ) -> None:
        """Take one action of the session of this id in: see `accept`."""
        session = self.sessions.get(session_id) or self.watchers.get(session_id)
        self.accept(session, seq, self.spec.by_key.get(name), name, args, now, wall, quiet, crc)

    def accept(
        self,
        session: Session | None,
        seq: int,
        spec: ActionSpec | None,
        name: str | int,
        args: Args,
        now: float,
        wall: float,
        quiet: bool,
        crc: int | None,
    ) -> None:
        """Take one action in. Its outcome comes as an `Ack` in some output.

        `spec`: what the game has under this name. `crc` is that of the encoded arguments, if they came so: what is sent
        again has to be the same.

        HIGH: runs now, after what its session has queued. Otherwise it is queued. `quiet`: no `Ack` is wanted, except
        now and then and for errors. What does not consume the seq is raised instead: NotJoined, PermissionDenied,
        MatchEnded, SeqGap, SeqReused, SeqTooOld, LimitReached.
        """
        if session is None or session.left:
            raise NotJoined("This session is not in the match (any more).")
        if session.player is None:
            raise PermissionDenied("Spectators watch: they have no actions.")
        body = _args_crc(args) if crc is None else crc
        if spec is None:
            body ^= name_crc(name)
        else:
            body ^= spec.crc
        if seq != session.received + 1:
            self._repeat(session, seq, body, quiet)
            return
        if self.ended is not None:
            raise MatchEnded(f"The match has ended: {self.ended}.")
        waiting = session.received - session.applied
        if waiting >= self._queued_max:
            raise LimitReached(f"{waiting} actions wait already: send the same seq again a little later.")
        session.received = seq
        at_us = self.enter(now, wall)
        item = Queued.__new__(Queued)  # `__init__` would take as long as all else here
        item.session, item.seq, item.crc, item.spec, item.name = session, seq, body, spec, name
        item.args, item.quiet, item.at_us, item.done = args, quiet, at_us, False
        if spec is not None and spec.high:
            self.high = self.urgent = True
            if waiting:
                self.drain(session)
            self.apply(item)
            return
        self.queue.append(item)
        if not self.spec.tick_hz and self.batch_due_us == NEVER:
            self.batch_due_us = at_us + self.spec.batch_us

    def _repeat(self, session: Session, seq: int, crc: int, quiet: bool) -> None:
        """A seq that was seen before gets its outcome again, or will get it in its turn."""
        if seq > session.received:
            raise SeqGap(f"Got seq {seq} where {session.received + 1} is next: send that one first.")
        kept = session.outcome(seq, self._results_kept)
        if kept is None and seq <= session.applied:
            raise SeqTooOld(f"The result of seq {seq} is no longer kept; the last {self._results_kept} are.")
        waiting = None if kept is not None else next(item for item in self._queued(session) if item.seq == seq)
        if crc != (waiting.crc if waiting is not None else kept[0] if kept is not None else 0):
            raise SeqReused(f"Seq {seq} was used for another action: every new action takes a new seq.")
        if waiting is not None:
            waiting.quiet = waiting.quiet and quiet
        elif kept is not None:
            _, version, error, result = kept
            self.repeats.append(Ack(session.id, seq, version, error, result))
            self.urgent = True

    def _queued(self, session: Session) -> list[Queued]:
        """What a session has waiting, in order."""
        return [item for item in self.queue if item.session is session and not item.done]

    def drain(self, session: Session) -> None:
        """Apply what a session has queued, ahead of the others'."""
        for item in self._queued(session):
            if not item.done:  # the one before may have ended the match, which settles all that waits
                self.apply(item)

    def apply(self, item: Queued) -> None:
        """Apply the next action of its session: its seq is used up, and what became of it is told and kept."""
        item.done = True
        session, spec, seq, crc, args = item.session, item.spec, item.seq, item.crc, item.args
        if item.at_us > self.clock_us:
            self.clock_us = item.at_us
        error, result, rate = False, None, None
        try:
            if self.ended is not None:
                raise MatchEnded(f"The match has ended: {self.ended}.")
            if spec is None:
                raise ActionUnknown(f"There is no action {item.name!r:.80} in {self.spec.name}.")
            values = args if type(args) is tuple else spec.values(args)
            if spec.interval_us and not session.take_rate(spec, self.clock_us):
                raise RateLimited(f"{spec.name} comes too often: slow down.")
            result = self.call(spec.name, spec.method, (self.game, session.player) + values, returns=True)  # noqa: RUF005 - quicker
            self.failures = 0
            self.counts.actions += 1
        except _OUTCOMES as refused:
            self.counts.refused += 1
            error, result = True, _error_result(refused)
        except Exception as failure:  # noqa: BLE001 - author code may raise anything; it is logged and counted
            self.failed(spec.name if spec is not None else "?", failure)
            error, result = True, _error_result(GameCodeError())
        version = self.version + 1
        session.settle(seq, crc, version, error, result, self._results_kept)
        if not session.acted:
            session.acted = True
            self.acted.append(session)
        if self.journaling:
            if spec is not None and spec.interval_us:
                rate = [spec.name, session.rates.get(spec.name, 0)]
            self.consumed.append(outcome_row(session.row_head, seq, crc, error, result, rate))
        if not item.quiet or error or seq % self._quiet_ack_every == 0:
            self.acks.append(Ack(session.id, seq, version, error, result))
        if self.ending is not None:
            self.finish()

    def finish(self) -> None:
        """Carry out the end, if one was asked for: a last hook, and an outcome for everything that still waits."""
        reason, self.ending = self.ending, None
        if reason is None or self.ended is not None:
            return
        self.ended = reason
        self.touched = self.urgent = True
        self.attempt("on_end", self.game.on_end, (reason,))
        self.ending = None
        self.timers.clear()
        waiting, self.queue = self.queue, []
        for item in waiting:
            if not item.done:
                self.apply(item)
        self.batch_due_us = NEVER

    def player_of(self, session: Session) -> Player:
        """The player of a player's session."""
        assert session.player is not None, "spectators' sessions are in `watchers`"  # noqa: S101 - an invariant
        return session.player


def _args_crc(args: Any) -> int:
    try:
        return crc32(_encode(args))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return 0  # no client can send it: `ActionSpec.values` refuses it in its turn


def _error_result(error: GameServerError) -> list[Any]:
    message = error.message[:_MESSAGE_LENGTH_MAX].encode(errors="replace").decode()
    return [error.code, message, error.retryable]

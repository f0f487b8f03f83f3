"""What a match on this node commits and sends: commit → gate → release, and states for those who have none."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from gameserver.cluster.delivery import Gated, add_acks
from gameserver.cluster.hosted_core import HostedCore
from gameserver.cluster.member import Flow, Member
from gameserver.cluster.receiver import RemoteReceiver
from gameserver.cluster.recent import RecentFrames
from gameserver.errors import (
    MatchMoved,
    OutcomeUnknown,
    StoreUnavailable,
)
from gameserver.protocol import encode_joined, encode_refusal, encode_state, pack, ws_frame
from gameserver.session import Answer, Returning, decide_resume
from gameserver.storage import SnapshotMeta, encode_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gameserver.match import Ack, Effect, MatchOutput
    from gameserver.protocol import Resume

log = structlog.get_logger("gameserver.cluster")

JOURNAL, RECORDS = "its journal", "its records"  # what a match waits for that stands still
HAND_ON_SECONDS = 1.0
RIDE_SECONDS_MAX = 0.1  # games that tick at least this often send acknowledgements with their ticks
HURRIED_ACTIONS = 16  # of one session in one flush: the rest of its window is no more than it sends until the next one


class HostedOutput(HostedCore):
    """A match, its flushes on the way out, and what the journal's writer tells it."""

    __slots__ = ()

    def _flush(self, now: float) -> None:
        """Commit what happened and send it; those who just arrived get the state it led to.

        Without a lease nothing is committed or sent any more: the match is about to be dropped here.
        """
        if self.closed or not self._services.valid():
            return
        self._hurried = False
        match = self.match
        try:
            output = match.take_output()
            if match.topics is not self._topics:
                self._topics = match.topics
                self._services.keeper.listens(self._whole)
            if output is not None:
                self._commit(output, now)
            elif self._riding is not None:
                self._let_riding_out()
            if self._arriving:
                self._welcome()
        except Exception as failure:  # noqa: BLE001 - see _wake
            self._failed("flush", failure)
        else:
            if self._engine_failures:
                self._works("flush")

    def _commit(self, output: MatchOutput, now: float) -> None:
        services = self._services
        if not output.committed:  # only stored answers, given again: nothing to save, nothing for anyone else
            if self._gate.commit(self.match_id, output):
                self._let_gated_out(output)
            else:
                self._hold(output)
            return
        self._time_ms = output.time_ms
        self.flushed_at = now
        if self.unsaved_since is None:
            self.unsaved_since = now
            services.keeper.unsaved(self._whole)
        # Commit, then the gate; the patch itself does not wait for it, unless the game says that all must last.
        open_now = self._gate.commit(self.match_id, output)
        if not open_now:
            self._hold(output)
        if open_now or not self._strict:
            self._deliver(output, open_now, now)
        if open_now:
            self._let_out(output)

    def _hold(self, output: MatchOutput) -> None:
        self._waiting.append(output)
        self._gate.hold(self.match_id, output, self._release)

    def _deliver(self, output: MatchOutput, gated: bool, now: float) -> None:
        riding, self._riding = self._riding, None
        segments = self._fanout.deliver(self._members(), self.channel, output, gated, now, riding)
        if self.edges is not None:
            self.edges.deliver(segments, output, gated=gated)
        self._meters.flushes += 1
        self._meters.flush_bytes += len(segments.shared())
        if self.match.players:
            self.recent.add(segments)
        else:
            self.recent.forget(output.version)  # nobody could come back
        if self._fanout.behind:
            self._services.keeper.lagging()

    def _release(self, output: MatchOutput) -> None:
        """The gate lets this output go, some time after its patch."""
        if not self._services.valid():
            return
        self._waiting.popleft()
        if self._strict and output.committed:
            self._deliver(output, True, self._clock.now())
        elif self._may_ride(output):
            if self._riding is None:
                self._riding = Gated()
            add_acks(self._riding, self.channel, output)
            if self.edges is not None:
                self.edges.release(output)
        else:
            self._let_gated_out(output)
        self._let_out(output)

    def _may_ride(self, output: MatchOutput) -> bool:
        """Is there nothing urgent in it, and a tick soon that writes to everyone anyway?"""
        if output.high or output.gated_events or output.ended is not None:
            return False
        if not 0.0 < self._interval <= RIDE_SECONDS_MAX or not self._alarm.is_set():
            return False
        return not output.acks or not _is_hurried(output.acks)

    def _let_riding_out(self) -> None:
        riding, self._riding = self._riding, None
        if riding is not None and self._services.valid():
            self._fanout.release_built(self._members(), riding)

    def _let_gated_out(self, output: MatchOutput) -> None:
        self._let_riding_out()  # acknowledgements and events stay in order
        self._fanout.release(self._members(), self.channel, output)
        if self.edges is not None:
            self.edges.release(output)

    def _let_out(self, output: MatchOutput) -> None:
        if output.effects:
            self._carry_out(output.version, output.effects)
        if output.ended is not None:
            self._end(output.ended)

    def _carry_out(self, version: int, effects: Sequence[Effect]) -> None:
        self._held.append((version, effects))
        if len(self._held) == 1:
            self._hand_on()

    def _hand_on(self) -> None:
        """Effects in order, as far as there is room for them: until all are taken, no more may be asked for."""
        while self._held:
            version, effects = self._held[0]
            taken = self._services.effects.carry_out(self.match_id, version, effects, self.match.settle_effect)
            if taken < len(effects):
                self._held[0] = (version, effects[taken:])
                self.stand_still(RECORDS)
                self._clock.call_at(self._clock.now() + HAND_ON_SECONDS, self._hand_on)
                return
            del self._held[0]
        self.go_on(RECORDS)

    def _end(self, reason: str) -> None:
        """The match is over: tell everyone."""
        raise NotImplementedError

    # --- the store ----------------------------------------------------------------------------------------------------
    def begin_journal(self, node: str) -> None:
        """The first snapshot of a new match, which its records follow on."""
        output = self.match.take_output()
        if output is None or self.journal is None:
            return
        self._time_ms = output.time_ms
        meta = SnapshotMeta(self.game, self.match.epoch, output.version, self.game_class.state_version)
        self.journal.create(self, node, meta, encode_snapshot(self.snapshot()), journaled=self.journaled)
        if not self.journaled:
            self._commit(output, self._clock.now())
            return
        self._waiting.append(output)
        self.journal.when_durable(self.match_id, output.version, partial(self._release, output))

    def reissue_effects(self) -> None:
        """After a recovery: what is not known to have been carried out is asked for again, under the same keys."""
        by_version: dict[int, list[Effect]] = {}
        for (version, _), effect in self.match.unsettled.items():
            by_version.setdefault(version, []).append(effect)
        for version, effects in by_version.items():
            self._carry_out(version, effects)

    def enter_epoch(self, epoch: int, version: int) -> None:
        """The store had lost the match and was given it back: it goes on under this epoch, all get the whole state."""
        self.match.epoch, self.base_version = epoch, version
        for output in self._waiting:  # what is still to come of them, clients would take for something old
            output.epoch = epoch
        self.recent = RecentFrames(self._services.recent, self.match.version)
        for member in self._members():
            if member.flow is Flow.LIVE:
                member.flow = Flow.BEHIND
                self.catch_up(member)

    # --- JournaledMatch: what the writer tells ------------------------------------------------------------------------
    @property
    def connected(self) -> int:
        """How many sessions are connected here."""
        return len(self.members)

    def fenced(self) -> None:
        """Another node owns the match now: nothing more of it is written or sent from here."""
        self.close(MatchMoved(), reconnect=True)
        self._services.keeper.fenced(self._whole)

    def overdue(self, version: int) -> None:
        """The journal does not answer: whoever waits for an outcome is told that it is not known yet."""
        unknown = OutcomeUnknown()
        for output in self._waiting:
            if output.version > version:
                break
            for ack in output.acks:
                member = self.members.get(ack.session_id)
                if member is not None and member.flow is Flow.LIVE:
                    payload = encode_refusal(self.channel, ack.seq, ack.version, unknown)
                    member.receiver.write((ws_frame(payload),))

    def stand_still(self, reason: str = JOURNAL) -> None:
        """More than may be lost, or than there is room for, is not written: time stops for this match until it is."""
        if reason in self._still:
            return
        self._let_riding_out()
        self._still |= {reason}
        log.error("match_stands_still", match=self.match_id, game=self.game, reason=f"{reason} cannot be written")
        self._alarm.clear()

    def go_on(self, reason: str = JOURNAL) -> None:
        """It is written again."""
        if reason in self._still:
            self._still -= {reason}
            log.info("match_goes_on", match=self.match_id, game=self.game)
            self._schedule(self._clock.now())

    def refuse_while_still(self) -> None:
        """Raises StoreUnavailable while nothing may happen in the match."""
        if self._still:
            raise StoreUnavailable(f"The match stands still until {min(self._still)} can be written: try again.")

    @property
    def still(self) -> bool:
        """Does it stand still?"""
        return bool(self._still)

    @property
    def effects_held(self) -> int:
        """How many effects there is no room for."""
        return sum(len(effects) for _, effects in self._held)

    @property
    def released_version(self) -> int:
        """The gate is open for all HIGH events up to this version."""
        # Stored answers that wait carry the version they were asked at, which may be out already.
        held = next((output.version for output in self._waiting if output.committed), None)
        return self.match.version if held is None else held - 1

    # --- states -------------------------------------------------------------------------------------------------------
    def _welcome(self) -> None:
        arriving, self._arriving = self._arriving, []
        schema = self._encoded_schema()
        for member in arriving:
            if member.flow is not Flow.ARRIVING:
                continue  # it left before it had arrived
            tail = self._tail(member)
            session = self.match.session(member.session_id)
            info = {
                "match": self.match_id,
                "game": self.game,
                "session": member.session_id,
                "slot": member.slot,
                "epoch": self.match.epoch,
                "version": self.match.version,
                "time_ms": self._time_ms,
                "actions": self.match.actions(),
                "recovered": tail is not None,
                "spectator": member.spectator,
                "tick_hz": self.game_class.tick_hz,
                "window": self._services.window,
                "seq": 0 if session is None else session.received,
                "events_version": member.events_version,
            }
            if isinstance(member.receiver, RemoteReceiver) and member.receiver.address:
                info["address"] = member.receiver.address
            if tail is not None:
                joined = ws_frame(encode_joined(member.request, self.channel, info, schema=schema))
                self._fanout.send_tail(member, [joined, *tail])
                continue
            state = self.match.full_state(member.viewer)
            payload = encode_joined(member.request, self.channel, info, schema=schema, state=state)
            self._send_state(member, ws_frame(payload))

    def _tail(self, member: Member) -> list[bytes] | None:
        """The frames that a member has missed; None if only a full state will do, or if it is new."""
        resume = member.resume
        if resume is None:
            return None
        row = decide_resume(self._returning(member.user_id, resume))
        log.debug("session_resumed", match=self.match_id, session=member.session_id, reason=row.reason.value)
        if row.answer is not Answer.TAIL:
            return None
        return self.recent.tail(resume.version, member.viewer, member.slot)

    def _returning(self, user_id: str, resume: Resume) -> Returning:
        session = self.match.sessions.get(resume.session)
        return Returning(
            session_user=None if session is None else session.user,
            user=user_id,
            epoch=resume.epoch,
            version=resume.version,
            match_epoch=self.match.epoch,
            base_version=self.base_version,
            sent_version=self.recent.version,
            oldest=self.recent.oldest,
        )

    def _send_state(self, member: Member, frame: bytes) -> None:
        """A full state shows what the patches lead to, so where those wait for the journal it does too."""
        version, journal = self.match.version, self.journal
        if journal is None or not self._strict or journal.is_durable(self.match_id, version):
            self._fanout.send_state(member, frame)
            return
        flow = member.flow

        def send() -> None:
            if member.flow is flow:
                self._fanout.send_state(member, frame)

        journal.when_durable(self.match_id, version, send)

    def _encoded_schema(self) -> bytes:
        version = self.match.version
        if self._schema[0] != version:
            self._schema = (version, pack(self.match.schema()))
        return self._schema[1]

    def catch_up(self, member: Member) -> None:
        """A member that lagged has drained: one full state stands for all it missed."""
        self.flush()  # the state must be that of a version: a patch on top of half of itself would apply twice
        if member.flow is not Flow.BEHIND or self.closed:
            return
        try:
            state = self.match.full_state(member.viewer)
            payload = encode_state(
                self.channel, self.match.epoch, self.match.version, self._time_ms, state, member.events_lost,
                schema=self._encoded_schema(),
            )  # fmt: skip
        except Exception as failure:  # noqa: BLE001 - see _wake
            self._failed("state", failure)
            return
        self._send_state(member, ws_frame(payload))


def _is_hurried(acks: Sequence[Ack]) -> bool:
    """Does somebody send so much at once that they soon wait for these to send more?"""
    first: dict[str, int] = {}
    return any(ack.seq - first.setdefault(ack.session_id, ack.seq) >= HURRIED_ACTIONS for ack in acks)

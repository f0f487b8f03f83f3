"""One match as this node runs it: its timer, its members, its flushes on the way out.

Everything here is synchronous and happens between two turns of the event loop. A match that fails, in its game's code
or in ours, is its own problem: nothing is raised into the loop or into another match's work.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from gameserver.cluster.delivery import build_missed_events
from gameserver.cluster.gate import JournalGate, SnapshotGate
from gameserver.cluster.member import Flow, Member
from gameserver.cluster.ports import RemoteReceiver
from gameserver.cluster.recent import RecentFrames
from gameserver.errors import (
    GameServerError,
    InternalError,
    MatchEnded,
    MatchMoved,
    OutcomeUnknown,
    SessionReplaced,
    StoreUnavailable,
)
from gameserver.match import MatchCounts, game_name
from gameserver.protocol import encode_closed, encode_joined, encode_refusal, encode_state, pack, ws_frame
from gameserver.session import Answer, Returning, decide_resume, events_position
from gameserver.storage import SnapshotMeta, encode_snapshot

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from gameserver.cluster.gate import Gate
    from gameserver.cluster.journal import JournalWriter
    from gameserver.cluster.owner import EdgeFan
    from gameserver.cluster.ports import Receiver
    from gameserver.cluster.services import Services
    from gameserver.match import Effect, Game, Match, MatchOutput, User
    from gameserver.protocol import Resume
    from gameserver.storage import Token

log = structlog.get_logger("gameserver.cluster")

ENGINE_RETRY_SECONDS = 0.05
ENGINE_FAILURES_MAX = 3  # in a row, of our own code around one match, before it is taken off this node
WAKE_SLACK_SECONDS = 0.0005  # a timer that is this much early is as good as on time
OVERRUN_LOG_SECONDS = 10.0


class HostedMatch:
    """A match, its connections and its next wake."""

    def __init__(
        self,
        match: Match,
        game: type[Game],
        channel: int,
        services: Services,
        *,
        options_key: str = "",
        journal: JournalWriter | None = None,
    ) -> None:
        self.match = match
        self.match_id = match.id
        self.game = game_name(game)
        self.game_class = game
        self.channel = channel
        self.options_key = options_key
        # A restored match does not know its birthday: its own time, which stands still with the server, is close.
        self.created_at = services.clock.wall() - match.clock_us / 1_000_000
        self.members: dict[str, Member] = {}
        self.edges: EdgeFan | None = None
        """The nodes that carry members of this match, if there are any."""
        self._reserved: dict[str, float] = {}  # user id → until when a seat is kept for a join that was promised
        self.saved_version = 0
        self.unsaved_since: float | None = None
        self.flushed_at = 0.0
        self.closed = False
        self.leaving = False
        """It stands still, and is about to be run elsewhere."""
        self._late: list[tuple[Member, int, str | int, list[Any] | dict[str, Any], bool]] = []
        self.journal = journal
        """Writes what the store has of it. None: there is no store, as in tests."""
        self.journaled = journal is not None and game.durability != "snapshot"
        """Each flush is written before anything that must last leaves; otherwise snapshots are all there is."""
        self.base_version = match.version  # what its epoch began with here
        self.recent = RecentFrames(services.recent, match.version)
        """What was sent lately, for players who come back."""
        self._strict = self.journaled and game.durability == "strict"
        self._waiting: deque[MatchOutput] = deque()  # what the gate holds
        self._still = False
        self._topics: list[str] | None = None  # as the keeper was told
        self.token: Token | None = None  # what it was written under, once it is not any more
        self._services = services
        self._gate = self._make_gate()
        self._clock = services.clock
        self._fanout = services.fanout
        self._everyone: tuple[Member, ...] | None = None
        self._arriving: list[Member] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._flush_handle: asyncio.Handle | None = None
        self._engine_failures: dict[str, int] = {}  # where → how often in a row
        self._schema: tuple[int, bytes] = (-1, b"")
        self._meters = services.meters.game(self.game)
        self._interval = 1.0 / game.tick_hz if game.tick_hz > 0 else 0.0
        self._overrun_told_at = -math.inf
        self._counted = MatchCounts()
        self._time_ms = 0

    def _make_gate(self) -> Gate:
        if self.journal is None:
            return self._services.gate
        return JournalGate(self.journal, strict=self._strict) if self.journaled else SnapshotGate(self.journal)

    # --- time --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to run: the first wake is put on the loop's clock."""
        self._after()

    def freeze(self) -> None:
        """Stop running: nothing happens in the match from here on (its last snapshot follows)."""
        self.closed = True
        for handle in (self._timer, self._flush_handle):
            if handle is not None:
                handle.cancel()
        self._timer = self._flush_handle = None

    def overdue_seconds(self, now: float) -> float:
        """How late the next wake is: what is overdue by seconds does not progress."""
        return 0.0 if self._timer is None else max(0.0, now - self._timer_at)

    def _schedule(self) -> None:
        if self.closed or self._still or self._flush_handle is not None:
            return  # a flush that is on its way comes here when it is done
        now = self._clock.now()
        due = self.match.next_wake(now)
        timer = self._timer
        if due is not None and self._engine_failures:
            due = max(due, now + ENGINE_RETRY_SECONDS)
        if due is None:
            if timer is not None:
                timer.cancel()
                self._timer = None
            return
        if timer is not None:
            # A timer that fires early finds nothing due and comes here again: cheaper than moving it for every action.
            if self._timer_at <= due + WAKE_SLACK_SECONDS:
                return
            timer.cancel()
        self._timer_at = due
        self._timer = self._clock.call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self.closed:
            return
        perf = self._services.perf
        started = perf()
        try:
            # The loop's clock counts in milliseconds and may fire a hair early: what was asked for is due.
            self.match.wake(max(self._clock.now(), self._timer_at), self._clock.wall())
        except Exception as failure:  # noqa: BLE001 - one match's failure must not end the loop's turn for the others
            self._failed("wake", failure)
        else:
            self._works("wake")
            self.flush()
        seconds = perf() - started
        self._meters.tick.observe(seconds)
        if self._interval and seconds > self._interval:
            self._overrun(seconds)
        self._schedule()

    def _overrun(self, seconds: float) -> None:
        """A tick took longer than there is time for it: the other matches of this process waited meanwhile."""
        self._meters.overruns.inc()
        now = self._clock.now()
        if now - self._overrun_told_at >= OVERRUN_LOG_SECONDS:
            self._overrun_told_at = now
            log.warning(
                "tick_overrun", match=self.match_id, game=self.game, took_ms=round(seconds * 1000, 1),
                interval_ms=round(self._interval * 1000, 1),
            )  # fmt: skip

    # --- members -----------------------------------------------------------------------------------------------------
    def join(
        self, user: User, receiver: Receiver, request: int, *, spectate: bool = False, resume: Resume | None = None
    ) -> Member:
        """Take a seat; the joined message goes out with the flush of this turn. Raises what the game answers.

        With `resume` the session it names goes on, if it is there and this user's.
        """
        if self.leaving:
            raise MatchMoved
        if self.closed or self.match.ended is not None:
            raise MatchEnded
        if resume is not None and not spectate:
            member = self._come_back(user, receiver, request, resume)
            if member is not None:
                return member
        session_id = self._services.new_session_id()
        try:
            session = self.match.join(user, session_id, self._clock.now(), self._clock.wall(), spectate=spectate)
        except GameServerError:
            raise
        except Exception as failure:  # noqa: BLE001 - ours: what a game raises comes out as one of our errors
            self._failed("join", failure)
            raise InternalError from None
        finally:
            self._after()  # a refused join may have ended the match
        self._reserved.pop(user.id, None)
        replaced = self.members.get(session.replaced) if session.replaced is not None else None
        if replaced is not None:
            self._detach(replaced, SessionReplaced(), reconnect=False)
        return self._arrive(Member(self, receiver, request, session, user.id, events_version=self.released_version))

    def _arrive(self, member: Member) -> Member:
        self.members[member.session_id] = member
        self._arriving.append(member)
        self._everyone = None
        self._after()
        return member

    def _come_back(self, user: User, receiver: Receiver, request: int, resume: Resume) -> Member | None:
        """The session of a client that lost its connection goes on; None if it is not there for this user."""
        match = self.match
        returning = self._returning(user.id, resume)
        if decide_resume(returning).answer is Answer.NO_SESSION:
            return None
        try:
            session = match.reconnect(resume.session, self._clock.now(), self._clock.wall())
        except GameServerError:
            return None
        except Exception as failure:  # noqa: BLE001 - see join
            self._failed("reconnect", failure)
            raise InternalError from None
        finally:
            self._after()
        self._reserved.pop(user.id, None)
        replaced = self.members.get(session.id)
        if replaced is not None:  # the server has not noticed yet that this connection is gone
            self._detach(replaced, SessionReplaced(), reconnect=False)
        after = events_position(returning, resume.events_version)
        member = Member(self, receiver, request, session, user.id, events_version=after, resume=resume)
        # Those that the gate still holds will find the member by themselves.
        until = self.released_version
        member.hold(build_missed_events(self.channel, match.epoch, match.high_events, member.viewer, after, until))
        return self._arrive(member)

    def take_in(self, member: Member, user: User, events_version: int) -> None:
        """A member that this node carried while another one ran the match stays on its connection. Raises like `join`.

        It gets the whole state of the new epoch, and the HIGH events after those that it has.
        """
        match, now, wall = self.match, self._clock.now(), self._clock.wall()
        if member.spectator:
            session = match.join(user, self._services.new_session_id(), now, wall, spectate=True)
        else:
            session = match.reconnect(member.session_id, now, wall)
        member.hosted, member.session_id = self, session.id
        self.members[session.id] = member
        self._everyone = None
        # What it saw of versions that were lost with the node before does not count.
        after, until = min(events_version, self.base_version), self.released_version
        member.hold(build_missed_events(self.channel, match.epoch, match.high_events, member.viewer, after, until))
        if member.flow is not Flow.BEHIND:
            member.flow = Flow.BEHIND
            self.catch_up(member)
        self._after()

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

    @property
    def released_version(self) -> int:
        """The gate is open for all HIGH events up to this version."""
        # Stored answers that wait carry the version they were asked at, which may be out already.
        held = next((output.version for output in self._waiting if output.committed), None)
        return self.match.version if held is None else held - 1

    def receive(
        self, member: Member, seq: int, name: str | int, args: list[Any] | dict[str, Any], *, quiet: bool
    ) -> None:
        """One action. Whatever is wrong with it is answered with an error acknowledgement by the engine."""
        if self.leaving:
            self._late.append((member, seq, name, args, quiet))  # at most a window per session
            return
        clock, match = self._clock, self.match
        try:
            if self.closed:
                raise MatchEnded
            if self._still:
                raise StoreUnavailable("The match stands still until its journal can be written: try again.")
            match.receive(member.session_id, seq, name, args, clock.now(), clock.wall(), quiet=quiet)
        except GameServerError as error:
            # Nothing was consumed, so there is no output that could carry the answer.
            payload = encode_refusal(self.channel, seq, match.version, error)
            member.receiver.write((ws_frame(payload),))
            self._meters.actions("rejected")
            return
        except Exception as failure:  # noqa: BLE001 - see _wake
            self._failed("receive", failure)
        else:
            self._works("receive")
        if match.urgent:
            self._flush_soon()
        elif not self._interval or self._timer is None:
            self._schedule()  # where there are ticks the next one is on the clock already

    def leave(self, member: Member, reason: str) -> None:
        """Give up the seat."""
        if self._remove(member):
            self._session_ended("leave", partial(self.match.leave, member.session_id, reason))

    def leave_held(self, session_id: str, reason: str) -> None:
        """Give up a seat that is held for a session without a connection."""
        if session_id in self.match.sessions and session_id not in self.members:
            self._session_ended("leave", partial(self.match.leave, session_id, reason))

    def lost(self, member: Member) -> None:
        """Its connection is gone; the engine keeps the seat for a while."""
        if self._remove(member):
            self._session_ended("disconnect", partial(self.match.disconnect, member.session_id))

    def _session_ended(self, what: str, change: Callable[[float, float], object]) -> None:
        if self.closed:
            return
        try:
            change(self._clock.now(), self._clock.wall())
        except Exception as failure:  # noqa: BLE001 - see _wake
            self._failed(what, failure)
        self._after()
        self._services.keeper.seat_freed(self)

    def has_room(self, user_id: str) -> bool:
        """Is there a seat for this user: their own, or one that nobody has taken or been promised?"""
        if self.closed or self.match.ended is not None:
            return False
        players = self.match.players
        if user_id in players:
            return True
        now = self._clock.now()
        self._reserved = {user: until for user, until in self._reserved.items() if until > now}
        promised = sum(user != user_id and user not in players for user in self._reserved)
        return len(players) + promised < self.game_class.players_max

    def reserve(self, user_id: str, seconds: float) -> None:
        """Keep a seat for a user who was told to come here."""
        self._reserved[user_id] = self._clock.now() + seconds

    def disconnect_all(self) -> None:
        """After a restore nobody is connected yet: seats are held from now on, spectators come back by joining."""
        match = self.match
        for session_id in [*match.watchers, *(session.id for session in match.session_of.values())]:
            self._session_ended("disconnect", partial(match.disconnect, session_id))

    def _remove(self, member: Member) -> bool:
        """Whether the session was on this member's connection until now, and not on a newer one."""
        self._fanout.gone(member)
        if self.members.get(member.session_id) is not member:
            return False
        del self.members[member.session_id]
        self._everyone = None
        return True

    def _detach(self, member: Member, error: GameServerError, *, reconnect: bool) -> None:
        """End the channel for this member; its connection goes on."""
        held = member.take_held()
        self._remove(member)
        closed = ws_frame(encode_closed(self.channel, error.code, error.message, reconnect))
        member.receiver.write((*held, closed))
        member.receiver.detached(self.channel)

    # --- output ------------------------------------------------------------------------------------------------------
    def _after(self) -> None:
        """Something came in from outside: flush if it is urgent, and see when the match wants to be woken."""
        if self._arriving or self.match.urgent:
            self._flush_soon()
        else:
            self._schedule()

    def _flush_soon(self) -> None:
        """Flush once in this turn of the loop, however many urgent things happen in it."""
        if self._flush_handle is None and not self.closed:
            self._flush_handle = self._clock.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_handle = None
        self.flush()
        self._schedule()

    def flush(self) -> None:
        """Commit what happened and send it; those who just arrived get the state it led to.

        Without a lease nothing is committed or sent any more: the match is about to be dropped here.
        """
        if self.closed or not self._services.valid():
            return
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        try:
            output = self.match.take_output()
            if self.match.topics is not self._topics:
                self._topics = self.match.topics
                self._services.keeper.listens(self)
            if output is not None:
                self._commit(output)
            if self._arriving:
                self._welcome()
        except Exception as failure:  # noqa: BLE001 - see _wake
            self._failed("flush", failure)
        else:
            self._works("flush")

    def _commit(self, output: MatchOutput) -> None:
        services = self._services
        now = self._clock.now()
        if not output.committed:  # only stored answers, given again: nothing to save, nothing for anyone else
            if self._gate.commit(self.match_id, output, self._release):
                self._let_gated_out(output)
            else:
                self._waiting.append(output)
            return
        self._time_ms = output.time_ms
        self.flushed_at = now
        if self.unsaved_since is None:
            self.unsaved_since = now
            services.keeper.unsaved(self)
        # Commit, then the gate; the patch itself does not wait for it, unless the game says that all must last.
        open_now = self._gate.commit(self.match_id, output, self._release)
        if not open_now:
            self._waiting.append(output)
        if open_now or not self._strict:
            self._deliver(output, gated=open_now)
        if open_now:
            self._let_out(output)

    def _deliver(self, output: MatchOutput, *, gated: bool) -> None:
        segments = self._fanout.deliver(self._members(), self.channel, output, gated=gated, now=self._clock.now())
        if self.edges is not None:
            self.edges.deliver(segments, output, gated=gated)
        self._meters.flushes.inc()
        self._meters.flush_bytes.inc(len(segments.shared()))
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
            self._deliver(output, gated=True)
        else:
            self._let_gated_out(output)
        self._let_out(output)

    def _let_gated_out(self, output: MatchOutput) -> None:
        self._fanout.release(self._members(), self.channel, output)
        if self.edges is not None:
            self.edges.release(output)

    def _let_out(self, output: MatchOutput) -> None:
        if output.effects:
            self._carry_out(output.version, output.effects)
        if output.ended is not None:
            self._end(output.ended)

    def _carry_out(self, version: int, effects: Sequence[Effect]) -> None:
        self._services.effects.carry_out(self.match_id, version, effects, self.match.settle_effect)

    def begin_journal(self, node: str) -> None:
        """The first snapshot of a new match, which its records follow on."""
        output = self.match.take_output()
        if output is None or self.journal is None:
            return
        self._time_ms = output.time_ms
        meta = SnapshotMeta(self.game, self.match.epoch, output.version, self.game_class.state_version)
        self.journal.create(self, node, meta, encode_snapshot(self.snapshot()), journaled=self.journaled)
        if not self.journaled:
            self._commit(output)
            return
        self._waiting.append(output)
        self.journal.when_durable(self.match_id, output.version, partial(self._release, output))

    def end_again(self, reason: str) -> None:
        """It ended just before its server did: what is left is to tell the world."""
        self._end(reason)

    def reissue_effects(self) -> None:
        """After a recovery: what is not known to have been carried out is asked for again, under the same keys."""
        by_version: dict[int, list[Effect]] = {}
        for (version, _), effect in self.match.unsettled.items():
            by_version.setdefault(version, []).append(effect)
        for version, effects in by_version.items():
            self._carry_out(version, effects)

    def snapshot(self) -> dict[str, Any]:
        """Everything, as it is at the last flush. Raises StateError while an output waits to be taken."""
        return self.match.snapshot(self._clock.now())

    def enter_epoch(self, epoch: int, version: int) -> None:
        """The store had lost the match and was given it back: it goes on under this epoch, all get the whole state."""
        self.match.epoch, self.base_version = epoch, version
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
        self._services.keeper.fenced(self)

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

    def stand_still(self) -> None:
        """More than may be lost is not written: time stops for this match until it is."""
        self._still = True
        log.error("match_stands_still", match=self.match_id, game=self.game, reason="its journal cannot be written")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def go_on(self) -> None:
        """The journal is written again."""
        self._still = False
        self._schedule()

    def _members(self) -> tuple[Member, ...]:
        if self._everyone is None:
            self._everyone = tuple(member for member in self.members.values() if not member.remote)
        return self._everyone

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

    # --- messages of other matches -----------------------------------------------------------------------------------
    def hear(self, topic: str, data: Any, sender: str, position: tuple[int, int]) -> None:
        """Something was published under a topic. While the match stands still, it does not hear."""
        if self.closed or self._still:
            return
        try:
            self.match.hear(topic, data, sender, position, self._clock.now(), self._clock.wall())
        except Exception as failure:  # noqa: BLE001 - see _wake
            self._failed("hear", failure)
        self._after()

    # --- leaving this node -------------------------------------------------------------------------------------------
    @property
    def idle(self) -> bool:
        """Nobody is connected or expected, and nothing of it is under way."""
        match = self.match  # it knows of those on other nodes, too
        if self.closed or self.members or self._arriving or self._waiting or match.unsettled or match.watchers:
            return False
        if any(player.connected for player in match.players.values()):
            return False
        now = self._clock.now()
        return all(until <= now for until in self._reserved.values())

    def begin_leaving(self) -> bool:
        """Stand still; what was done is on its way out, what comes in is neither done nor answered.

        False: there is nothing to hand over, because the match is over or has left.
        """
        self.flush()
        if self.closed or self.match.ended is not None or self.match.pending:
            return False
        self.freeze()
        self.leaving = True
        return True

    def leave_node(self) -> None:
        """Somebody else may run it now: members are told to come back, and nothing more is sent from here."""
        self.close(MatchMoved(), reconnect=True)
        self._services.keeper.moved(self)

    def stay(self) -> None:
        """It could not be handed over: go on as if nothing had been."""
        if not self.leaving:
            return
        self.leaving = self.closed = False
        late, self._late = self._late, []
        match = self.match
        for session_id in [*match.watchers, *match.sessions]:
            if session_id not in self.members:  # the connection was lost meanwhile
                self._session_ended("disconnect", partial(match.disconnect, session_id))
        for member, seq, name, args, quiet in late:
            if self.members.get(member.session_id) is member:
                self.receive(member, seq, name, args, quiet=quiet)
        self._after()

    # --- the end -----------------------------------------------------------------------------------------------------
    def _end(self, reason: str) -> None:
        """The match is over: tell everyone, and let the host put it away."""
        if self._arriving:
            self._welcome()
        self.close(MatchEnded(f"The match has ended: {reason}"), reconnect=False)
        self._services.keeper.ended(self, reason)

    def close(self, error: GameServerError, *, reconnect: bool) -> None:
        """Take the match off this node's loop and its channel from everyone."""
        self.freeze()
        self.leaving = False
        self._late.clear()
        if self.journal is not None:
            self.token = self.journal.token(self.match_id)
            self.journal.forget(self.match_id)
        self._waiting.clear()
        for member in list(self.members.values()):
            self._detach(member, error, reconnect=reconnect)

    def info(self) -> dict[str, Any]:
        """What listings show of this match."""
        info = {**self.match.info(), "created_at": self.created_at}
        if self.edges is not None:
            info["spectators"] += self.edges.watchers
        return info

    def collect_counts(self) -> None:
        """Move what the match counted into the metrics."""
        counts = self.match.counts
        self._meters.add_counts(counts, self._counted)
        self._counted = replace(counts)

    def _works(self, what: str) -> None:
        if self._engine_failures:
            self._engine_failures.pop(what, None)

    def _failed(self, what: str, failure: Exception) -> None:
        """Our own code failed around this match: the others go on, and this one does too unless it keeps failing."""
        in_a_row = self._engine_failures[what] = self._engine_failures.get(what, 0) + 1
        self._meters.failures.inc()
        log.error(
            "match_engine_failed", match=self.match_id, game=self.game, during=what, in_a_row=in_a_row,
            exc_info=failure,
        )  # fmt: skip
        if in_a_row >= ENGINE_FAILURES_MAX:
            self.close(InternalError("The match cannot go on; it was logged."), reconnect=False)
            self._services.keeper.broken(self, f"{what}: {type(failure).__name__}: {failure}")

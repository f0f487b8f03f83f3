"""One match as this node runs it: its members, what they send, and how it leaves.

Built on `hosted_core.py` (time) and `hosted_output.py` (what is sent); like those it never raises into the loop.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from gameserver.cluster.delivery import build_missed_events
from gameserver.cluster.hosted_output import HostedOutput
from gameserver.cluster.member import Flow, Member
from gameserver.errors import (
    GameServerError,
    InternalError,
    MatchEnded,
    MatchMoved,
    SessionReplaced,
)
from gameserver.protocol import encode_closed, encode_refusal, ws_frame
from gameserver.session import Answer, decide_resume, events_position

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.cluster.receiver import Receiver
    from gameserver.match import Args, User
    from gameserver.protocol import Resume

log = structlog.get_logger("gameserver.cluster")


class HostedMatch(HostedOutput):
    """A match, its connections and its next wake."""

    __slots__ = ()

    # --- members ------------------------------------------------------------------------------------------------------
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
        if self.is_behind(resume):
            raise MatchMoved  # it was elsewhere in the meantime: nobody is shown less than they have seen unasked
        if resume is not None and not spectate:
            member = self._come_back(user, receiver, request, resume)
            if member is not None:
                return member
        if not spectate:
            self.refuse_while_still()
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

    def is_behind(self, resume: Resume | None) -> bool:
        """Has the client seen a later epoch? Then the match may be another node's: see `LocalMatches.sure`."""
        return resume is not None and resume.epoch > self.match.epoch

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
        if self._overtaken(resume):
            raise SessionReplaced
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

    def _overtaken(self, resume: Resume) -> bool:
        """Whether the client has come back by a later attempt already: this one was on its way for longer."""
        there = self.members.get(resume.session)
        if there is None or there.resume is None or there.resume.attempt is None or resume.attempt is None:
            return False
        return resume.attempt < there.resume.attempt

    def take_in(self, member: Member, user: User, events_version: int, settled: int) -> None:
        """A member that this node carried while another one ran the match stays on its connection. Raises like `join`.

        It gets the whole state of the new epoch, and the HIGH events after those that it has. One that takes actions
        up to `settled` as done that the match has lost has to join again.
        """
        match, now, wall = self.match, self._clock.now(), self._clock.wall()
        if member.spectator:
            session = match.join(user, self._services.new_session_id(), now, wall, spectate=True)
        else:
            held = match.session(member.session_id)
            if held is not None and held.received < settled:
                raise MatchMoved
            session = match.reconnect(member.session_id, now, wall)
        member.hosted, member.session, member.session_id = self, session, session.id
        self.members[session.id] = member
        self._everyone = None
        # What it saw of versions that were lost with the node before does not count.
        after, until = min(events_version, self.base_version), self.released_version
        member.hold(build_missed_events(self.channel, match.epoch, match.high_events, member.viewer, after, until))
        if member.flow is not Flow.BEHIND:
            member.flow = Flow.BEHIND
            self.catch_up(member)
        self._after()

    def receive(
        self, member: Member, seq: int, name: str | int, args: Args, quiet: bool, crc: int | None = None,
        heard_at: float = 0.0,
    ) -> None:
        """One action. Whatever is wrong with it is answered with an error acknowledgement by the engine."""
        if self.leaving:
            self._late.append((member, seq, name, args, quiet, crc))  # at most a window per session
            return
        clock, match = self._clock, self.match
        try:
            if self.closed:
                raise MatchEnded
            if self._still:
                self.refuse_while_still()
            spec = self.actions.get(name)
            # What is queued is told the time of day by the tick.
            wall = clock.wall() if spec is not None and spec.high else match.wall
            now = heard_at if heard_at > 0.0 else clock.now()
            match.accept(member.session, seq, spec, name, args, now, wall, quiet, crc)
        except GameServerError as error:
            # Nothing was consumed, so there is no output that could carry the answer.
            payload = encode_refusal(self.channel, seq, match.version, error)
            member.receiver.write((ws_frame(payload),))
            self._meters.actions("rejected")
            return
        except Exception as failure:  # noqa: BLE001 - see _wake
            self._failed("receive", failure)
        else:
            if self._engine_failures:
                self._works("receive")
        if match.urgent:
            self._flush_soon()
        elif not self._interval or not self._alarm.is_set():
            self._schedule(clock.now())  # where there are ticks the next one is on the clock already

    def hear(self, topic: str, data: Any, sender: str, position: tuple[int, int]) -> None:
        """Something was published under a topic. While the match stands still, it does not hear."""
        if self.closed or self._still:
            return
        try:
            self.match.hear(topic, data, sender, position, self._clock.now(), self._clock.wall())
        except Exception as failure:  # noqa: BLE001 - see _wake
            self._failed("hear", failure)
        self._after()

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

    # --- leaving this node --------------------------------------------------------------------------------------------
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
        for member, seq, name, args, quiet, crc in late:
            if self.members.get(member.session_id) is member:
                self.receive(member, seq, name, args, quiet, crc)
        self._after()

    # --- the end ------------------------------------------------------------------------------------------------------
    def end_again(self, reason: str) -> None:
        """It ended just before its server did: what is left is to tell the world."""
        self._end(reason)

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
        if self.match.ended is None:
            self._held.clear()  # whoever runs it next asks for them
        for member in list(self.members.values()):
            self._detach(member, error, reconnect=reconnect)

    def info(self) -> dict[str, Any]:
        """What listings show of this match."""
        info = {**self.match.info(), "created_at": self.created_at}
        if self.edges is not None:
            info["spectators"] += self.edges.watchers
        return info

"""A match that another node runs, as this node carries it: what comes over the bus goes out to the members here.

To connections it looks like a match that is run here. Frames get this node's channel number once and go through the
ordinary fan-out, which treats slow clients as it treats them anywhere. What is lost on the bus shows in the numbers of
what comes after it: then members get nothing until the owner has told where the match stands, as a tail of frames or a
full state, exactly as to a client that comes back. Actions are kept until they have an outcome, and sent again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from msgspec import Raw

from gameserver.cluster.delivery import CarriedSegments, Gated
from gameserver.cluster.frames import ACK, CLOSED, EVENTS, kind_of, payloads, readdress, reframe
from gameserver.cluster.links import Attach, Leave, Lost, error_from, open_joined, plain_of
from gameserver.cluster.member import Flow, Member, Seating
from gameserver.cluster.owner import is_joined
from gameserver.cluster.seats import KEPT_MAX, Joining, Kept, Seat, View
from gameserver.errors import (
    GameServerError,
    LimitReached,
    MatchMoved,
    NotJoined,
    PermissionDenied,
)
from gameserver.protocol import (
    Ack,
    Closed,
    decode_server,
    encode_closed,
    encode_refusal,
    encode_state,
    ws_frame,
)
from gameserver.protocol.plain import is_plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gameserver.cluster.edge import Edges
    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.links import Private, Refused, Said, Shared, ToOwner
    from gameserver.cluster.receiver import Receiver
    from gameserver.match import Args, User
    from gameserver.protocol import Resume
    from gameserver.storage import Subscription

log = structlog.get_logger("gameserver.cluster")

NOBODY = View("", "", -1, spectator=False)
MOVED_CODES = frozenset({"match_moved", "server_draining"})
RESEND_SOON_SECONDS = 0.02


class RemoteMatch(Seating):
    """A match that runs elsewhere, and its members here."""

    __slots__ = (
        "_clock", "_edges", "_fanout", "_joined", "_live", "_pending", "_services", "by_session", "closed", "epoch",
        "events_total", "link", "next_owner", "numbered_by", "owner", "seats", "serial", "subscription", "version",
        "watch",
    )  # fmt: skip

    def __init__(self, edges: Edges, match_id: str, channel: int, owner: str) -> None:
        super().__init__(match_id, channel, {})  # the owner knows its actions
        self.owner = owner
        """The node that runs it, as far as we know; empty while nobody does."""
        self.next_owner = ("", 0)
        """Node and epoch that were heard of last: its seats are being attached there."""
        self.epoch = 0
        self.numbered_by = ""
        """Whose numbers these are: after a store forgot, two nodes can have had the same epoch."""
        self.serial = -1
        self.link = 0
        self.version = 0
        self.events_total = 0
        self.seats: dict[int, Seat] = {}
        self.by_session: dict[str, Seat] = {}
        self.watch: Seat | None = None
        self.closed = False
        self.subscription: Subscription | None = None
        self._edges = edges
        self._services = edges.services
        self._clock = edges.services.clock
        self._fanout = edges.services.fanout
        self._pending: dict[int, Private] = {}
        self._live: tuple[Member, ...] | None = None
        self._joined: tuple[int, int, int, bytes] | None = None  # position, JOINED for spectators

    # --- coming and going ---------------------------------------------------------------------------------------------
    async def join(
        self, user: User, receiver: Receiver, request: int, *, spectate: bool, resume: Resume | None, seconds: float
    ) -> Member:
        """A member here; returns when its joined message is out. Raises what the owner answers."""
        member = Member(self, receiver, request, NOBODY, user.id)
        seat = self._place(spectate=spectate, resume=resume)
        future = asyncio.get_running_loop().create_future()
        seat.joining[member] = Joining(user, future)
        try:
            async with asyncio.timeout(seconds):
                if self.subscription is not None:
                    await self.subscription.ready()
                if not self._joined_from_cache(seat) and seat.asked_at is None:
                    self.ask(seat)
                moved: Member | None = await future
        except TimeoutError:
            raise MatchMoved("The node that runs this match does not answer: try again.") from None
        finally:
            if not future.done() or future.cancelled() or future.exception() is not None:
                seat.unseat(member)
                self._left(seat)
        return moved or member

    def _place(self, *, spectate: bool, resume: Resume | None) -> Seat:
        watch = self.watch
        if spectate and watch is not None:
            if resume is not None and not watch.session and (watch.resume is None or watch.resume.epoch < resume.epoch):
                watch.resume, watch.asked_at = resume, None  # what it has seen is to be said, too
            return watch
        seat = Seat(self._edges.next_seat(), spectator=spectate, resume=resume)
        self.seats[seat.number] = seat
        if spectate:
            self.watch = seat
        return seat

    def _joined_from_cache(self, seat: Seat) -> bool:
        """A spectator who comes while nothing has happened gets the state that the one before them got."""
        if not seat.spectator or not seat.in_step or self._joined is None:
            return False
        epoch, serial, link, payload = self._joined
        if (epoch, serial, link) != (self.epoch, self.serial, self.link):
            self._joined = None
            return False
        self._let_in(seat, payload, ())
        return True

    def leave(self, member: Member, reason: str) -> None:
        """The player gives up the seat; said until the owner has heard it."""
        seat = self._take_away(member)
        if seat is None:
            return
        message = Leave(self.match_id, self._edges.node, seat.session, reason)
        if seat.empty and not seat.spectator and self._is_known(seat):
            self._edges.leaving[self.match_id, seat.session] = (self.owner, message)
        self._left(seat, message)

    def lost(self, member: Member) -> None:
        """Its connection is gone; the owner keeps the seat for a while."""
        seat = self._take_away(member)
        if seat is not None:
            self._left(seat)

    def _take_away(self, member: Member) -> Seat | None:
        """The seat that the member was on until now."""
        seat = self._seat_of(member)
        self._fanout.gone(member)
        if seat is None or not seat.unseat(member):
            return None
        self._live = None
        return seat

    def _left(self, seat: Seat, message: ToOwner | None = None) -> None:
        """Nobody may be on it any more: the owner hears this, or else that the connection is gone."""
        if not seat.empty:
            return
        if self._is_known(seat):
            self.to_owner(message or Lost(self.match_id, self._edges.node, seat.session))
        self._drop(seat)

    def _is_known(self, seat: Seat) -> bool:
        """Has it a session that is not another seat's by now?"""
        return bool(seat.session) and self.seats.get(seat.number) is seat

    def _drop(self, seat: Seat) -> None:
        self.seats.pop(seat.number, None)
        if self.by_session.get(seat.session) is seat:
            del self.by_session[seat.session]
        if self.watch is seat:
            self.watch = None
        self._live = None
        if not self.seats:
            self._edges.drop(self)

    def attached_sessions(self) -> list[str]:
        """The sessions that the owner knows as being here."""
        return [seat.session for seat in self.seats.values() if seat.attached]

    def _seat_of(self, member: Member) -> Seat | None:
        return self.by_session.get(member.session_id)

    # --- actions ------------------------------------------------------------------------------------------------------
    def receive(
        self, member: Member, seq: int, name: str | int, args: Args, quiet: bool, crc: int | None = None,
        heard_at: float = 0.0,
    ) -> None:
        """One action: kept until it has an outcome."""
        seat = self._seat_of(member)
        if seat is None or member.flow is Flow.GONE:
            self._refuse(member, seq, NotJoined("This session is not in the match (any more)."))
        elif seat.spectator:
            self._refuse(member, seq, PermissionDenied("Spectators watch: they have no actions."))
        elif len(seat.kept) >= KEPT_MAX and seq not in seat.kept:
            self._refuse(member, seq, LimitReached(f"{KEPT_MAX} actions have no outcome yet: send it again later."))
        else:
            seat.keep(Kept(seq, name, args, quiet, crc), self._clock.now())
            if seat.attached:
                self._act(seat, seat.kept[seq], quiet)

    def pass_on(self, args: Any) -> Any:
        """See `Seating.pass_on`. The owner knows best what the action takes."""
        return Raw(args) if type(args) is bytes and is_plain(args) else None

    def _refuse(self, member: Member, seq: int, error: GameServerError) -> None:
        member.receiver.write((ws_frame(encode_refusal(self.channel, seq, self.version, error)),))

    def resend(self, seat: Seat) -> None:
        """Everything without an outcome, in order, under the same numbers; answered even if it was quiet."""
        seat.resend_soon = False
        if not seat.attached:
            return
        for seq in sorted(seat.kept):
            self._act(seat, seat.kept[seq], False)

    def _act(self, seat: Seat, kept: Kept, quiet: bool) -> None:
        if self.owner:
            action = (self.match_id, seat.session, kept.seq, kept.name, kept.args, quiet, kept.crc)
            self._edges.act(self.owner, action)

    def to_owner(self, message: ToOwner) -> None:
        """Say something to the node that runs the match, if it is known."""
        if self.owner:
            self._edges.to_node(self.owner, message)

    # --- asking where the match stands --------------------------------------------------------------------------------
    def ask(self, seat: Seat) -> None:
        """Ask the owner for this seat's place, or where the match stands."""
        if not self.owner or self.closed:
            return
        seat.attempt += 1
        seat.asked_at = self._clock.now()
        who = next((joining.user for joining in seat.joining.values()), None) or next(iter(seat.users.values()), None)
        if who is None:
            return
        watchers = 0 if self.watch is None else len(self.watch.members) + len(self.watch.joining)
        request = next((member.request for member in seat.joining), 0)
        self.to_owner(
            Attach(
                self.match_id, self._edges.node, seat.number, seat.attempt, request, who.id, who.name, who.role,
                seat.spectator, seat.position(self.epoch), bool(seat.session), watchers,
            )
        )  # fmt: skip

    def catch_up(self, member: Member) -> None:
        """A member that lagged has drained: one full state stands for all it missed."""
        seat = self._seat_of(member)
        if seat is None or member.flow is not Flow.BEHIND:
            return
        if member not in seat.wanting:
            seat.wanting.add(member)
            if seat.asked_at is None:
                self.ask(seat)

    def ask_all(self) -> None:
        """Something may have been lost: every seat asks."""
        self.fall_out()
        for seat in list(self.seats.values()):
            if seat.asked_at is None and not self._all_lag(seat):
                self.ask(seat)

    def fall_out(self, but: Seat | None = None) -> None:
        """What came after this may be missing something: members get nothing until they know where it stands."""
        for seat in self.seats.values():
            if not seat.in_step or seat is but:
                continue
            seat.in_step = False
            seat.epoch, seat.version, seat.events_total = self.epoch, self.version, self.events_total
            for member in seat.members:
                if member.flow is Flow.LIVE:
                    member.flow = Flow.ARRIVING
        self._live = None
        self._joined = None

    def _gap(self, but: Seat | None = None) -> None:
        self._edges.gaps += 1
        self.fall_out(but)
        for seat in self.seats.values():
            if seat is not but and seat.asked_at is None and not self._all_lag(seat):
                self.ask(seat)

    def _all_lag(self, seat: Seat) -> bool:
        """Nobody could take a state now: they ask when they have drained."""
        return not seat.joining and all(member.flow is Flow.BEHIND for member in seat.members)

    # --- what the owner says ------------------------------------------------------------------------------------------
    def said(self, message: Said) -> None:
        """Frames for one seat."""
        seat = self.seats.get(message.seat)
        if message.epoch < self.epoch:
            return
        joined = is_joined(message.frames)
        if seat is None:
            if joined:  # it left while it was being let in
                lost = Lost(self.match_id, self._edges.node, message.session, unheard=True)
                self._edges.to_node(message.node, lost)
            return
        if not joined:
            for payload in message.frames:
                self._said_one(seat, payload)
        elif message.attempt == seat.attempt and seat.asked_at is not None:
            self._stands_at(seat, message)

    def _said_one(self, seat: Seat, payload: bytes) -> None:
        if kind_of(payload) == CLOSED:
            closed = decode_server(payload)
            if isinstance(closed, Closed):
                self._closed(seat, closed)
            return
        frame = ws_frame(readdress(payload, self.channel))
        if kind_of(payload) == ACK:
            ack = decode_server(payload)
            # A settled one waits for its patch; if that was missed it will be asked for again.
            if not isinstance(ack, Ack) or not (ack.refused or seat.in_step) or not self._settle(seat, ack):
                return
        for member in seat.members:
            self._fanout.write_gated(member, [frame])

    def _closed(self, seat: Seat, closed: Closed) -> None:
        if closed.code in MOVED_CODES:
            self._edges.gone(self)
        else:
            self._end_seat(seat, error_from(closed.code, closed.message, retryable=False), reconnect=closed.reconnect)

    def _settle(self, seat: Seat, ack: Ack) -> bool:
        before = seat.resend_soon
        wanted = seat.settle(ack, self._clock.now())
        if seat.resend_soon and not before:
            self._clock.call_at(self._clock.now() + RESEND_SOON_SECONDS, partial(self.resend, seat))
        return wanted

    def refused(self, message: Refused) -> None:
        """The owner does not take this seat (any more)."""
        seat = self.seats.get(message.seat)
        if seat is None or message.attempt != seat.attempt or message.node != self.owner:
            return
        seat.asked_at = None
        if message.code in MOVED_CODES:
            self._edges.gone(self)
            return
        error = error_from(message.code, message.message, retryable=message.retryable)
        if isinstance(error, NotJoined):
            error = MatchMoved()  # the session was lost with the node that had it: the client joins again
        self._end_seat(seat, error, reconnect=error.retryable)

    def unknown(self, sessions: Iterable[str]) -> None:
        """The owner has no such sessions: those that are here are attached again."""
        for session in sessions:
            seat = self.by_session.get(session)
            if seat is not None and seat.asked_at is None:
                seat.attached = False
                self.ask(seat)

    def _stands_at(self, seat: Seat, message: Said) -> None:
        """The answer to what was asked: from here on the seat gets what comes."""
        if message.epoch > self.epoch or message.node != self.numbered_by:
            self.fall_out()
            self._enter_epoch(message)
        elif message.serial < self.serial or message.link < self.link:
            # It was overtaken by what came after it.
            self.ask(seat)
            return
        elif message.serial > self.serial or message.link > self.link:
            self._gap(but=seat if not seat.in_step else None)
        self.serial, self.link, self.version = message.serial, message.link, message.version
        seat.asked_at = None
        info = open_joined(message.frames[0])
        recovered = plain_of(info["recovered"]) is True
        if seat.session != message.session:
            self.by_session.pop(seat.session, None)
        seat.session, seat.viewer, seat.slot, seat.attached = message.session, message.viewer, message.slot, True
        self.by_session[seat.session] = seat
        for member in seat.members:
            member.session_id = seat.session
        received = int(plain_of(info["seq"]))
        if seat.members and received < seat.settled:
            self._lost_what_was_settled(seat)
            return
        if not seat.members:
            seat.settled = received
        was_in_step, seat.in_step = seat.in_step, True
        rest: list[bytes] = []
        urgent: list[bytes] = []
        for payload in message.frames[1:]:
            kind = kind_of(payload)
            frames = self._acks(seat, [payload]) if kind == ACK else [ws_frame(readdress(payload, self.channel))]
            rest += frames
            urgent += frames if kind in (ACK, EVENTS) else []
        if not was_in_step:
            lost = message.events_total - seat.events_total if seat.epoch == message.epoch else 0
            self._catch_up_old(seat, None if recovered else self._state(info, max(0, lost)), rest, urgent)
            seat.events_version = max(message.events_version, 0)
        self.events_total = message.events_total
        if not recovered:
            self._send_wanted(seat, info)
        if seat.spectator:
            self._joined = (self.epoch, self.serial, self.link, message.frames[0])
        self._let_in(seat, message.frames[0], () if seat.spectator else rest, recovered=recovered)
        if recovered and seat.wanting:
            self.ask(seat)
        self.resend(seat)

    def _lost_what_was_settled(self, seat: Seat) -> None:
        """It goes on from before (no journal, or a store that forgot): the client joins again and numbers anew."""
        self.to_owner(Lost(self.match_id, self._edges.node, seat.session))
        self._end_seat(seat, MatchMoved(), reconnect=True)

    def _enter_epoch(self, message: Said) -> None:
        self.epoch, self.owner = message.epoch, message.node
        self.numbered_by = message.node
        self._pending.clear()
        self._edges.found(self)
        for seat in self.seats.values():
            if seat.number != message.seat and seat.asked_at is None and not self._all_lag(seat):
                self.ask(seat)

    def _catch_up_old(self, seat: Seat, state: bytes | None, rest: list[bytes], urgent: list[bytes]) -> None:
        """Members who were here before get what they missed: a state, or the frames in `rest` where there is none."""
        for member in seat.members:
            if member.flow is Flow.BEHIND:
                member.hold(urgent)
            elif state is None:
                self._fanout.send_tail(member, rest)
            else:
                member.hold(rest)
                self._fanout.send_state(member, state)

    def _state(self, info: dict[str, Any], lost: int) -> bytes:
        epoch, version, time_ms = (int(plain_of(info[name])) for name in ("epoch", "version", "time_ms"))
        state, schema = bytes(info["state"]), bytes(info["schema"])
        return ws_frame(encode_state(self.channel, epoch, version, time_ms, state, lost, schema=schema))

    def _send_wanted(self, seat: Seat, info: dict[str, Any]) -> None:
        wanting, seat.wanting = seat.wanting, set()
        for member in wanting:
            if member.flow is Flow.BEHIND:
                self._fanout.send_state(member, self._state(info, member.events_lost))

    def _let_in(self, seat: Seat, payload: bytes, rest: Iterable[bytes], *, recovered: bool = False) -> None:
        joining, seat.joining = seat.joining, {}
        for member, waiting in joining.items():
            if waiting.future.done():
                continue
            seat.seat(member, waiting.user)
            frame = ws_frame(readdress(payload, self.channel, member.request))
            if recovered:
                self._fanout.send_tail(member, [frame, *rest])
            else:
                member.hold(list(rest))
                self._fanout.send_state(member, frame)
            waiting.future.set_result(None)
        self._live = None

    # --- the stream ---------------------------------------------------------------------------------------------------
    def private(self, message: Private) -> None:
        """What only some here may see."""
        if message.epoch != self.epoch or message.link <= self.link:
            return
        gap = message.link != self.link + 1 or message.serial > self.serial
        if gap:
            self._gap()
        self.link = message.link
        if gap:
            return
        if message.alone:
            self._release(message, None)
        else:
            self._pending = {message.link: message}

    def shared(self, message: Shared) -> None:
        """What everyone sees of one flush."""
        if message.epoch != self.epoch:
            if message.epoch > self.epoch > 0:
                self._edges.owner_changed(self, message.node, message.epoch)
            elif self.epoch == 0:
                self.serial = message.serial
            return
        if message.serial <= self.serial:
            return
        needed = message.needs.get(self._edges.node)
        private = None if needed is None else self._pending.pop(needed, None)
        gap = message.serial != self.serial + 1 or (needed is not None and private is None)
        if message.frame is not None and message.previous != self.version:
            gap = True
        if gap:
            self._gap()
        self.serial, self.version, self.events_total = message.serial, message.version, message.events_total
        if gap:
            return
        if message.frame is None:
            self._release(private, message.urgent)
        else:
            self._deliver(message, message.frame, private)

    def _deliver(self, message: Shared, frame: bytes, private: Private | None) -> None:
        channel = self.channel
        segments = CarriedSegments(
            channel,
            reframe(frame, channel),
            None if message.without_low is None else reframe(message.without_low, channel),
            for_everyone=message.everyone,
            applied_slots=frozenset(message.slots),
            events_count=message.events,
            low_count=message.low,
            private={} if private is None else {who: [reframe(run, channel)] for who, run in private.parts.items()},
            private_low={} if private is None else {who: [reframe(run, channel)] for who, run in private.low.items()},
        )
        gated = self._gated(private, message.urgent)
        self._fanout.deliver_built(self._members(), segments, gated, self._clock.now())
        self._note_events(gated, message.version)
        if self._fanout.behind:
            self._services.keeper.lagging()

    def _release(self, private: Private | None, urgent: bytes | None) -> None:
        gated = self._gated(private, urgent)
        if gated is not None:
            self._fanout.release_built(self._members(), gated)
            self._note_events(gated, self.version if private is None else private.version)

    def _gated(self, private: Private | None, urgent: bytes | None) -> Gated | None:
        if urgent is None and (private is None or not (private.events or private.acks)):
            return None
        gated = Gated(everyone=None if urgent is None else reframe(urgent, self.channel))
        if private is not None:
            gated.private = {viewer: reframe(run, self.channel) for viewer, run in private.events.items()}
            for session, run in private.acks.items():
                seat = self.by_session.get(session)
                if seat is not None and seat.in_step:
                    gated.acks[session] = self._acks(seat, payloads(run))
        return gated

    def _acks(self, seat: Seat, found: Iterable[bytes]) -> list[bytes]:
        """Those that are for the client, framed."""
        frames = []
        for payload in found:
            ack = decode_server(payload)
            if isinstance(ack, Ack) and self._settle(seat, ack):
                frames.append(ws_frame(readdress(payload, self.channel)))
        return frames

    def _note_events(self, gated: Gated | None, version: int) -> None:
        if gated is None or (gated.everyone is None and not gated.private):
            return
        for seat in self.seats.values():
            if seat.in_step and (gated.everyone is not None or seat.viewer in gated.private):
                seat.events_version = max(seat.events_version, version)

    def _members(self) -> tuple[Member, ...]:
        if self._live is None:
            in_step = [member for seat in self.seats.values() if seat.in_step for member in seat.members]
            self._live = tuple(in_step)
        return self._live

    # --- the match comes here -----------------------------------------------------------------------------------------
    def move_in(self, hosted: HostedMatch) -> None:
        """This node runs the match now: its members stay on their connections and are members of the match itself.

        Unless they have seen a later epoch of it: they come back, and are told what holds.
        """
        if self.epoch > hosted.match.epoch:
            self.end(MatchMoved(), reconnect=True)
            return
        for seat in list(self.seats.values()):
            for member in list(seat.members):
                user = seat.users[member]
                seat.unseat(member)
                self._move_one(hosted, seat, member, user)
            for member, waiting in list(seat.joining.items()):
                seat.unseat(member)
                self._move_joining(hosted, seat, member, waiting)
            self._drop(seat)

    def _move_one(self, hosted: HostedMatch, seat: Seat, member: Member, user: User) -> None:
        try:
            hosted.take_in(member, user, seat.events_version, seat.settled)
        except GameServerError as error:
            log.info("member_not_taken_in", match=self.match_id, session=member.session_id, error=error.message)
            self._fanout.gone(member)
            moved = MatchMoved()
            frame = ws_frame(encode_closed(self.channel, moved.code, moved.message, True))
            member.receiver.write((*member.take_held(), frame))
            member.receiver.detached(self.channel)
            return
        for seq in sorted(seat.kept):
            kept = seat.kept[seq]
            args = plain_of(kept.args) if isinstance(kept.args, Raw) else kept.args
            hosted.receive(member, seq, kept.name, args, quiet=kept.quiet, crc=kept.crc)

    def _move_joining(self, hosted: HostedMatch, seat: Seat, member: Member, waiting: Joining) -> None:
        if waiting.future.done():
            return
        try:
            joined = hosted.join(
                waiting.user, member.receiver, member.request, spectate=seat.spectator, resume=seat.resume
            )
        except GameServerError as error:
            waiting.future.set_exception(error)
        else:
            waiting.future.set_result(joined)

    # --- the end ------------------------------------------------------------------------------------------------------
    def _end_seat(self, seat: Seat, error: GameServerError, *, reconnect: bool) -> None:
        for joining in list(seat.joining.values()):
            if not joining.future.done():
                joining.future.set_exception(error)
        seat.joining.clear()
        frame = ws_frame(encode_closed(self.channel, error.code, error.message, reconnect))
        for member in list(seat.members):
            held = member.take_held()
            seat.unseat(member)
            self._fanout.gone(member)
            member.receiver.write((*held, frame))
            member.receiver.detached(self.channel)
        self._drop(seat)

    def end(self, error: GameServerError, *, reconnect: bool) -> None:
        """Nothing more will come: tell everyone."""
        for seat in list(self.seats.values()):
            self._end_seat(seat, error, reconnect=reconnect)

"""The owner's side of the bus: matches that run here for players whose sockets are on other nodes.

A session behind an edge is an ordinary member of its match, with a receiver that puts what it is sent on the bus. Only
the fan-out differs: what everyone sees is published once, however many edges and spectators there are, and what only
some may see once per edge. All of it leaves when the gate lets it, because it is called where local members are served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import structlog

from gameserver.cluster.delivery import build_gated, build_missed_events
from gameserver.cluster.fanout import gated_frames
from gameserver.cluster.frames import JOINED, kind_of, payloads
from gameserver.cluster.links import (
    Acts,
    Attach,
    Beat,
    Leave,
    Lost,
    Private,
    Pulse,
    Refused,
    Roll,
    Said,
    Shared,
    Unknown,
    encode_link,
    match_channel,
    node_channel,
    plain_of,
)
from gameserver.cluster.member import Flow, Member
from gameserver.cluster.receiver import RemoteReceiver
from gameserver.errors import GameServerError, InternalError, MatchMoved, NotJoined
from gameserver.match import User
from gameserver.protocol import Resume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from msgspec import Raw

    from gameserver.cluster.delivery import Gated, Segments
    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.links import ToEdge, ToMatch
    from gameserver.cluster.ports import Clock
    from gameserver.match import Args, MatchOutput
    from gameserver.storage import Bus

log = structlog.get_logger("gameserver.cluster")

FULL_VERSION = 2**62  # a position that no match has: it is answered with the whole state
SETTLING_SECONDS = 3.0  # what was attached this recently may not be in the edge's roll yet


class EdgeSeat(RemoteReceiver):
    """The receiver of one session behind an edge; for spectators: of all of them behind that edge."""

    __slots__ = ("attached_at", "attempt", "link", "member", "muted", "new", "number")

    def __init__(self, link: EdgeLink, message: Attach, now: float, address: str) -> None:
        super().__init__(address)
        self.link = link
        self.number = message.seat
        self.attempt = message.attempt
        self.attached_at = now
        self.member: Member | None = None
        self.muted = False
        self.new = False
        """Did the player have no seat before this one?"""

    def write(self, frames: Sequence[bytes]) -> None:
        """Put them on the bus."""
        if not self.muted and self.member is not None:
            self.link.say(self, self.member, frames)

    def buffered_bytes(self) -> int:
        """The bus has a bound of its own, and drops."""
        return 0

    def detached(self, channel: int) -> None:
        """The match let go of the session."""
        self.link.drop(self)

    def abort(self, close_code: int, reason: str) -> None:
        """Its edge will find out."""
        self.link.drop(self)


class EdgeLink:
    """What one edge carries of one match."""

    __slots__ = ("_checksum", "by_session", "edge", "fan", "seats", "serial", "watchers")

    def __init__(self, fan: EdgeFan, edge: str) -> None:
        self.fan = fan
        self.edge = edge
        self.serial = fan.owner.serials_until
        self.watchers = 0
        self.seats: dict[int, EdgeSeat] = {}
        self.by_session: dict[str, EdgeSeat] = {}
        self._checksum: int | None = None

    @property
    def checksum(self) -> int:
        """Over the sessions; the edge makes the same of its own."""
        if self._checksum is None:
            self._checksum = sessions_checksum(self.by_session)
        return self._checksum

    def take(self, seat: EdgeSeat, member: Member) -> None:
        """The seat has its session."""
        seat.member = member
        self.seats[seat.number] = seat
        self.by_session[member.session_id] = seat
        self._checksum = None

    def drop(self, seat: EdgeSeat) -> None:
        """The session is not behind this edge any more."""
        seat.muted = True
        if self.seats.get(seat.number) is seat:
            del self.seats[seat.number]
        member = seat.member
        if member is not None and self.by_session.get(member.session_id) is seat:
            del self.by_session[member.session_id]
            self._checksum = None
        if not self.seats:
            self.fan.drop(self)

    def say(self, seat: EdgeSeat, member: Member, frames: Sequence[bytes]) -> None:
        """Frames for one seat."""
        fan = self.fan
        run = [payload for frame in frames for payload in payloads(frame)]
        self.fan.owner.to_edge(
            self.edge,
            Said(
                fan.hosted.match_id, fan.owner.node, seat.number, seat.attempt, member.session_id, member.viewer,
                member.slot, fan.hosted.match.epoch, fan.version, fan.serial, self.serial,
                fan.hosted.released_version,
                fan.events_total, run,
            ),
        )  # fmt: skip

    def private(self, segments: Segments | None, gated: Gated | None, version: int, alone: bool) -> bool:
        """Publish what only some behind this edge may see; whether there was anything."""
        viewers = {seat.member.viewer for seat in self.seats.values() if seat.member and seat.member.flow is Flow.LIVE}
        parts: dict[str, bytes] = {}
        low: dict[str, bytes] = {}
        events: dict[str, bytes] = {}
        acks: dict[str, bytes] = {}
        if segments is not None:
            parts = {viewer: b"".join(segments.private[viewer]) for viewer in segments.private.keys() & viewers}
            low = {viewer: b"".join(segments.private_low[viewer]) for viewer in segments.private_low.keys() & viewers}
        if gated is not None:
            events = {viewer: gated.private[viewer] for viewer in gated.private.keys() & viewers}
            sessions = gated.acks.keys() & self.by_session.keys()
            acks = {session: b"".join(gated.acks[session]) for session in sessions}
        if not (parts or low or events or acks):
            return False
        self.serial += 1
        fan = self.fan
        epoch = fan.hosted.match.epoch
        message = Private(fan.hosted.match_id, epoch, version, self.serial, fan.serial, alone, parts, low, events, acks)
        fan.owner.to_edge(self.edge, message)
        return True


class EdgeFan:
    """All edges of one match."""

    __slots__ = ("events_total", "hosted", "links", "owner", "serial", "version")

    def __init__(self, owner: Owners, hosted: HostedMatch) -> None:
        self.owner = owner
        self.hosted = hosted
        self.serial = owner.serials_until
        self.version = hosted.recent.version
        self.events_total = 0
        self.links: dict[str, EdgeLink] = {}

    @property
    def watchers(self) -> int:
        """Spectators behind edges, beyond the one session that each such edge has."""
        carried = {id(seat) for link in self.links.values() for seat in link.seats.values() if _watches(seat)}
        return sum(link.watchers for link in self.links.values()) - len(carried)

    def drop(self, link: EdgeLink) -> None:
        """Nothing is carried by that edge any more."""
        self.owner.serials_until = max(self.owner.serials_until, self.serial, link.serial)
        if self.links.get(link.edge) is link:
            del self.links[link.edge]
        if not self.links and self.hosted.edges is self:
            self.hosted.edges = None

    def deliver(self, segments: Segments, output: MatchOutput, *, gated: bool) -> None:
        """One flush, as the local members got it."""
        let_out = build_gated(self.hosted.channel, output) if gated and _has_gated(output) else None
        if let_out is not None:
            self._hold(let_out)
        needs = self._private(segments, let_out, output.version, False)
        self.events_total += len(segments.events)
        self._share(
            Shared(
                self.hosted.match_id, self.owner.node, output.epoch, output.version, self.version, self.serial + 1,
                needs, segments.for_everyone, list(segments.applied_slots), len(segments.events), segments.low_count,
                self.events_total, segments.shared(),
                segments.shared_without_low() if segments.low_count else None,
                None if let_out is None else let_out.everyone,
            )
        )  # fmt: skip
        self.version = output.version

    def release(self, output: MatchOutput) -> None:
        """What waited for the gate, after its patch."""
        if not _has_gated(output):
            return
        gated = build_gated(self.hosted.channel, output)
        self._hold(gated)
        needs = self._private(None, gated, output.version, gated.everyone is None)
        if gated.everyone is not None:
            self._share(
                Shared(
                    self.hosted.match_id, self.owner.node, output.epoch, output.version, self.version, self.serial + 1,
                    needs, False, [], 0, 0, self.events_total, None, None, gated.everyone,
                )
            )  # fmt: skip

    def _private(self, segments: Segments | None, gated: Gated | None, version: int, alone: bool) -> dict[str, int]:
        if not gated and (segments is None or not (segments.private or segments.private_low)):
            return {}
        return {
            link.edge: link.serial
            for link in self.links.values()
            if link.private(segments, gated, version, alone)
        }

    def _share(self, message: Shared) -> None:
        self.serial += 1
        self.owner.to_match(self.hosted.match_id, message)

    def _hold(self, gated: Gated) -> None:
        """Who is just arriving gets it after the state."""
        for link in self.links.values():
            for seat in link.seats.values():
                member = seat.member
                if member is not None and member.flow is Flow.ARRIVING:
                    member.hold(gated_frames(gated, member))


class Owners:
    """Everything this node's matches have to do with edges."""

    __slots__ = (
        "_bus", "_carried", "_clock", "_find", "_heard", "_silent_seconds_max", "address", "node", "prefix",
        "serials_until",
    )  # fmt: skip

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        node: str,
        prefix: str,
        find: Callable[[str], HostedMatch | None],
        *,
        silent_seconds_max: float,
    ) -> None:
        self.node = node
        self.prefix = prefix
        self.address = ""
        """Where this node can be reached directly; empty: not known."""
        self.serials_until = 0
        """As high as any number that was ever used: an edge that was given up and comes back must not see them anew."""
        self._bus = bus
        self._clock = clock
        self._find = find
        self._silent_seconds_max = silent_seconds_max
        self._heard: dict[str, float] = {}
        self._carried: dict[str, set[str]] = {}  # edge → matches

    def to_edge(self, edge: str, message: ToEdge) -> None:
        """Publish to one node."""
        self._bus.publish(node_channel(self.prefix, edge), encode_link(message))

    def to_match(self, match_id: str, message: ToMatch) -> None:
        """Publish to all that carry a match."""
        self._bus.publish(match_channel(self.prefix, match_id), encode_link(message))

    # --- what edges say -----------------------------------------------------------------------------------------------
    def attach(self, message: Attach) -> None:
        """A seat for a user behind an edge, or the same one again."""
        self._heard[message.edge] = self._clock.now()
        hosted = self._find(message.match)
        try:
            if hosted is None or hosted.closed:
                raise MatchMoved("The match is not run here.")
            self._attach(hosted, message)
        except GameServerError as error:
            self.refuse(message, error)
        except Exception as failure:
            log.error("attach_failed", match=message.match, edge=message.edge, exc_info=failure)
            self.refuse(message, InternalError())

    def refuse(self, message: Attach, error: GameServerError) -> None:
        """No seat: say why."""
        refused = Refused(
            message.match, self.node, message.seat, message.attempt, error.code, error.message, error.retryable
        )
        self.to_edge(message.edge, refused)

    def _attach(self, hosted: HostedMatch, message: Attach) -> None:
        fan = hosted.edges
        if fan is None:
            fan = hosted.edges = EdgeFan(self, hosted)
        link = fan.links.get(message.edge)
        if link is None:
            link = fan.links[message.edge] = EdgeLink(fan, message.edge)
        link.watchers = message.watchers
        before = link.seats.get(message.seat)
        if before is not None and message.attempt < before.attempt:
            return  # a later one has overtaken it: its answer would be for nobody
        try:
            member, seat = self._join(hosted, link, message, before)
        except BaseException:
            if not link.seats:
                fan.drop(link)
            raise
        if before is not None:
            before.muted = True
        # When the session was the only one here, replacing it has let go of these.
        hosted.edges, fan.links[message.edge] = fan, link
        link.take(seat, member)
        self._carried.setdefault(message.edge, set()).add(hosted.match_id)
        if before is not None and before.member is not None and message.spectate:
            # After the new one, so that the match is never without a spectator in between.
            link.by_session.pop(before.member.session_id, None)
            before.member.lost()

    def _join(
        self, hosted: HostedMatch, link: EdgeLink, message: Attach, before: EdgeSeat | None
    ) -> tuple[Member, EdgeSeat]:
        seat = EdgeSeat(link, message, self._clock.now(), self.address)
        resume = None if message.resume is None else Resume(*message.resume)
        if resume is None and before is not None and before.member is not None:
            # The answer was lost: the session is there already.
            resume = Resume(before.member.session_id, hosted.match.epoch, FULL_VERSION)
        if message.again and not message.spectate and (resume is None or resume.session not in hosted.match.sessions):
            raise NotJoined("This session is not in the match (any more).")
        if before is not None:
            before.muted = True  # it is replaced by itself: nobody is told
        user = User(message.user, message.name, message.role)
        member = hosted.join(user, seat, message.request, spectate=message.spectate, resume=resume)
        seat.new = _is_new(hosted, member, resume) if before is None or before.member is None else before.new
        if message.spectate and message.again and resume is not None and resume.events_version is not None:
            match, until = hosted.match, hosted.released_version
            after = min(resume.events_version, until if resume.epoch == match.epoch else hosted.base_version)
            member.hold(
                build_missed_events(hosted.channel, match.epoch, match.high_events, member.viewer, after, until)
            )
        return member, seat

    def acts(self, message: Acts) -> None:
        """Actions of sessions behind an edge."""
        for match_id, session, seq, name, args, quiet, crc in message.actions:
            seat = self._seat(match_id, message.edge, session)
            if seat is None or seat.member is None:
                self._unknown(match_id, message.edge, session)
            else:
                seat.member.receive(seq, name, self._read(seat.member, name, args), quiet=quiet, crc=crc)

    def _read(self, member: Member, name: str | int, args: Raw) -> Args:
        spec = member.hosted.actions.get(name)
        values = None if spec is None else spec.read(bytes(args))
        return plain_of(args) if values is None else values

    def leave(self, message: Leave) -> None:
        """The seat is given up; saying so again does no harm. Who does not run the match has not heard it."""
        hosted = self._find(message.match)
        if hosted is None or hosted.closed:
            return
        seat = self._seat(message.match, message.edge, message.session)
        if seat is not None and seat.member is not None:
            seat.member.leave(message.reason)
            seat.link.drop(seat)
        else:
            hosted.leave_held(message.session, message.reason)
        self._unknown(message.match, message.edge, message.session)

    def lost(self, message: Lost) -> None:
        """The connection of a player is gone."""
        seat = self._seat(message.match, message.edge, message.session)
        if seat is None:
            return
        if message.unheard and seat.new and seat.member is not None:
            seat.member.leave("refused")
            seat.link.drop(seat)
        else:
            self._lost(seat)

    def _lost(self, seat: EdgeSeat) -> None:
        if seat.member is not None:
            seat.member.lost()
        seat.link.drop(seat)

    def _seat(self, match_id: str, edge: str, session: str) -> EdgeSeat | None:
        link = self._link(match_id, edge)
        return None if link is None else link.by_session.get(session)

    def _link(self, match_id: str, edge: str) -> EdgeLink | None:
        hosted = self._find(match_id)
        if hosted is None or hosted.edges is None:
            return None
        return hosted.edges.links.get(edge)

    def _unknown(self, match_id: str, edge: str, session: str) -> None:
        self.to_edge(edge, Unknown(match_id, self.node, [session]))

    # --- who lives ----------------------------------------------------------------------------------------------------
    def beat(self, message: Beat) -> None:
        """The edge lives: tell it where its matches stand, and compare what it carries with what we think it does."""
        edge = message.edge
        self._heard[edge] = self._clock.now()
        positions: list[tuple[str, int, int, int]] = []
        rolls: list[str] = []
        named = set()
        for match_id, checksum, watchers in message.matches:
            named.add(match_id)
            hosted = self._find(match_id)
            if hosted is None or hosted.closed:
                if hosted is None or not hosted.leaving:
                    positions.append((match_id, 0, 0, 0))
                continue
            link = self._link(match_id, edge)
            epoch = hosted.match.epoch
            if link is None or hosted.edges is None:
                positions.append((match_id, epoch, -1, 0))
                rolls.append(match_id)
                continue
            link.watchers = watchers
            positions.append((match_id, epoch, hosted.edges.serial, link.serial))
            if link.checksum != checksum:
                rolls.append(match_id)
        self.to_edge(edge, Pulse(self.node, positions, rolls))
        for match_id in self._carried.get(edge, set()) - named:
            self._clear(match_id, edge, ())

    def roll(self, message: Roll) -> None:
        """All sessions that the edge has: others are lost, and what it has and we do not it must attach again."""
        link = self._link(message.match, message.edge)
        here = set() if link is None else set(link.by_session)
        strange = [session for session in message.sessions if session not in here]
        if strange:
            self.to_edge(message.edge, Unknown(message.match, self.node, strange))
        self._clear(message.match, message.edge, message.sessions)

    def _clear(self, match_id: str, edge: str, keep: Iterable[str]) -> None:
        link = self._link(match_id, edge)
        if link is None:
            self._carried.get(edge, set()).discard(match_id)
            return
        settled = self._clock.now() - SETTLING_SECONDS
        gone = link.by_session.keys() - set(keep)
        for session in gone:
            seat = link.by_session[session]
            if seat.attached_at < settled:
                self._lost(seat)

    def check_edges(self) -> None:
        """Edges that have been silent for too long are gone, with their players' connections."""
        limit = self._clock.now() - self._silent_seconds_max
        for edge in [edge for edge, heard_at in self._heard.items() if heard_at < limit]:
            del self._heard[edge]
            seats = [seat for match_id in self._carried.pop(edge, set()) for seat in self._seats(match_id, edge)]
            if seats:  # an edge that carries nothing any more says nothing any more
                log.warning("edge_lost", edge=edge, sessions=len(seats))
            for seat in seats:
                self._lost(seat)

    def _seats(self, match_id: str, edge: str) -> list[EdgeSeat]:
        link = self._link(match_id, edge)
        return [] if link is None else list(link.seats.values())


def sessions_checksum(sessions: Iterable[str]) -> int:
    """The same for the same sessions, in whatever order."""
    return crc32("\n".join(sorted(sessions)).encode())


def is_joined(run: list[bytes]) -> bool:
    """Whether frames for a seat begin with where the match stands."""
    return bool(run) and kind_of(run[0]) == JOINED


def _is_new(hosted: HostedMatch, member: Member, resume: Resume | None) -> bool:
    session = hosted.match.sessions.get(member.session_id)
    return session is not None and session.replaced is None and (resume is None or resume.session != session.id)


def _has_gated(output: MatchOutput) -> bool:
    return bool(output.gated_events or output.acks)


def _watches(seat: Any) -> bool:
    return seat.member is not None and seat.member.spectator

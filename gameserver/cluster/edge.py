"""The edge's side of the bus: the matches of other nodes that players here are in, and where those nodes are.

One beat at a time: owners are told what is carried, answer where it stands, and whoever is silent is looked for in the
store. A match whose owner is gone keeps its sockets; the new owner is told who is here, with their positions, and gets
the actions that have no outcome. Only when nobody runs it for too long are its members sent away.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gameserver.cluster.carried import RemoteMatch
from gameserver.cluster.links import (
    Acts,
    Answer,
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
    decode_match,
    encode_link,
    match_channel,
    node_channel,
)
from gameserver.cluster.owner import is_joined, sessions_checksum
from gameserver.errors import GameServerError, MatchMoved, MatchNotFound, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gameserver.cluster.links import Action, ToEdge, ToOwner
    from gameserver.cluster.member import Member
    from gameserver.cluster.receiver import Receiver
    from gameserver.cluster.services import Services
    from gameserver.match import User
    from gameserver.protocol import Resume
    from gameserver.storage import Bus, JournalStore, OwnedMatch

log = structlog.get_logger("gameserver.cluster")

LEAVE_ATTEMPTS_MAX = 40  # one with each beat: longer than a match may be without an owner
LEAVE_ATTEMPTS_LOOK = 3  # with so many unheard, another node may run the match
COLLECT_SECONDS = 0.001  # for so long actions for one node are collected; what comes alone goes at once
ACTIONS_MAX = 128  # in one message


@dataclass(frozen=True, slots=True)
class EdgePolicy:
    """How quickly edges and owners miss each other, and how long they wait."""

    beat_seconds: float = 0.5
    owner_silent_seconds_max: float = 1.25
    edge_silent_seconds_max: float = 5.0
    ask_again_seconds: float = 0.5
    seek_seconds_min: float = 0.05
    seek_seconds_max: float = 0.5
    ownerless_seconds_max: float = 20.0
    """A match without an owner for this long is given up here: its members are told to come back later."""
    missing_seconds_max: float = 2.0
    """… and one that the store does not have."""
    join_seconds_max: float = 8.0


@dataclass(slots=True)
class Sought:
    """A match whose owner we look for."""

    remote: RemoteMatch
    since: float
    gone: bool
    """The owner said so itself, or another one did; otherwise it is merely silent."""
    missing_since: float | None = None


class Edges:
    """All matches that this node carries."""

    __slots__ = (
        "_acted_at", "_bring", "_bus", "_clock", "_collected", "_heard", "_is_owner", "_leave_attempts",
        "_next_channel", "_prefix", "_seats", "_seek_now", "_sought", "_store", "_tasks", "gaps", "leaving", "node",
        "policy", "remotes", "services",
    )  # fmt: skip

    def __init__(
        self,
        bus: Bus,
        store: JournalStore,
        services: Services,
        node: str,
        prefix: str,
        policy: EdgePolicy,
        *,
        next_channel: Callable[[], int],
        bring: Callable[[OwnedMatch], Awaitable[None]],
        is_owner: Callable[[str, str, int], Awaitable[bool]],
    ) -> None:
        """`bring`: see that somebody runs a match that nobody runs; called again and again while that is so.

        `is_owner`: see `Takeover.is_owner`.
        """
        self.services = services
        self.node = node
        self.policy = policy
        self.remotes: dict[str, RemoteMatch] = {}
        self.leaving: dict[tuple[str, str], tuple[str, Leave]] = {}
        self.gaps = 0
        self._bus = bus
        self._store = store
        self._prefix = prefix
        self._next_channel = next_channel
        self._bring = bring
        self._is_owner = is_owner
        self._clock = services.clock
        self._seats = services.new_seed() << 8 & (2**62 - 1)  # not those of the process that had this id before
        self._heard: dict[str, float] = {}
        self._collected: dict[str, list[Action]] = {}  # node → what goes there in a moment
        self._acted_at: dict[str, float] = {}
        self._leave_attempts: dict[tuple[str, str], int] = {}
        self._sought: dict[str, Sought] = {}
        self._seek_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to beat and to seek."""
        self._tasks = [
            asyncio.create_task(self._beat_always(), name="edge beat"),
            asyncio.create_task(self._seek_always(), name="edge seek"),
        ]

    async def stop(self) -> None:
        """No more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for remote in list(self.remotes.values()):
            for seat in list(remote.seats.values()):
                for member in list(seat.members):
                    remote.lost(member)

    # --- joining ------------------------------------------------------------------------------------------------------
    async def join(
        self, match_id: str, user: User, receiver: Receiver, request: int, *, spectate: bool, resume: Resume | None
    ) -> Member:
        """A member of a match that another node runs. Raises MatchNotFound, or what the owner answers."""
        seconds = self.policy.join_seconds_max
        remote = self.remotes.get(match_id)
        if remote is None:
            found = await self.find(match_id)
            remote = self.remotes.get(match_id)  # somebody else may have been quicker
            if remote is None:
                remote = self._carry(match_id, "" if found.node == self.node else found.node)
        if resume is not None and resume.epoch > remote.epoch > 0:
            await self._check_owner(remote)
        return await remote.join(user, receiver, request, spectate=spectate, resume=resume, seconds=seconds)

    async def find(self, match_id: str) -> OwnedMatch:
        """Who owns it, as the store has it; raises MatchNotFound."""
        [found] = await self._store.find([match_id])
        if found is None:
            raise MatchNotFound
        return found

    async def _check_owner(self, remote: RemoteMatch) -> None:
        """Somebody comes who has seen a later epoch: it may be another node by now. Raises `MatchMoved`."""
        if not await self._is_owner(remote.owner, remote.match_id, remote.epoch):
            self._seek(remote, gone=False)
            raise MatchMoved
        if remote.closed:
            raise MatchMoved

    def _carry(self, match_id: str, owner: str) -> RemoteMatch:
        remote = RemoteMatch(self, match_id, self._next_channel(), owner)
        self.remotes[match_id] = remote
        remote.subscription = self._bus.subscribe(
            match_channel(self._prefix, match_id), partial(self._on_match, remote)
        )
        if owner:
            self._heard.setdefault(owner, self._clock.now())
        else:
            self.gone(remote)
        return remote

    def drop(self, remote: RemoteMatch) -> None:
        """Nobody here is in it any more."""
        remote.closed = True
        if self.remotes.get(remote.match_id) is remote:
            del self.remotes[remote.match_id]
            self._sought.pop(remote.match_id, None)
        if remote.subscription is not None:
            remote.subscription.close()
            remote.subscription = None

    def next_seat(self) -> int:
        """A number for a seat that no owner has heard from here before."""
        self._seats += 1
        return self._seats

    # --- what comes in ------------------------------------------------------------------------------------------------
    def act(self, node: str, action: Action) -> None:
        """One action for a match that this node runs, in one message with others that come at the same time."""
        collected = self._collected.setdefault(node, [])
        collected.append(action)
        if len(collected) == 1:
            now = self._clock.now()
            due = self._acted_at.get(node, 0.0) + COLLECT_SECONDS
            self._clock.call_at(max(now, due), partial(self._send_collected, node))
        elif len(collected) >= ACTIONS_MAX:
            self._send_collected(node)

    def _send_collected(self, node: str) -> None:
        actions = self._collected.pop(node, None)
        if actions:
            self._acted_at[node] = self._clock.now()
            self._bus.publish(node_channel(self._prefix, node), encode_link(Acts(self.node, actions)))

    def to_node(self, node: str, message: ToOwner) -> None:
        """Publish to one node, after the actions that came before."""
        self._send_collected(node)
        self._bus.publish(node_channel(self._prefix, node), encode_link(message))

    def on_node(self, message: ToEdge) -> None:
        """Something that concerns this node as an edge."""
        if isinstance(message, Pulse):
            self._on_pulse(message)
            return
        if isinstance(message, Answer):
            return  # not ours
        remote = self.remotes.get(message.match)
        if isinstance(message, Unknown):
            for session in message.sessions:
                self._leave_heard((message.match, session))
        if remote is None:
            if isinstance(message, Said) and is_joined(message.frames):  # they left while they were being let in
                self.to_node(message.node, Lost(message.match, self.node, message.session, unheard=True))
            return
        if isinstance(message, Said):
            self._heard[message.node] = self._clock.now()
            remote.said(message)
        elif isinstance(message, Private):
            remote.private(message)
        elif isinstance(message, Refused):
            remote.refused(message)
        elif message.node == remote.owner:
            remote.unknown(message.sessions)

    def _on_match(self, remote: RemoteMatch, payload: bytes) -> None:
        message = decode_match(payload)
        if remote.closed:
            return
        if isinstance(message, Shared):
            if message.node == remote.owner:
                self._heard[message.node] = self._clock.now()
            remote.shared(message)
        elif message.epoch > remote.epoch:
            self.owner_changed(remote, message.node, message.epoch)

    def on_gap(self) -> None:
        """The bus was away: anything may have been lost, questions too."""
        for remote in list(self.remotes.values()):
            for seat in remote.seats.values():
                seat.asked_at = None
            remote.ask_all()

    # --- beats --------------------------------------------------------------------------------------------------------
    async def _beat_always(self) -> None:
        while True:
            await asyncio.sleep(self.policy.beat_seconds)
            try:
                self.beat()
            except Exception as failure:
                log.error("edge_beat_failed", exc_info=failure)

    def beat(self) -> None:
        """Tell owners what is carried; ask again what was not answered; notice who is silent."""
        now = self._clock.now()
        by_owner: dict[str, list[tuple[str, int, int]]] = {}
        for remote in list(self.remotes.values()):
            self._ask_again(remote, now)
            if remote.owner:
                sessions = remote.attached_sessions()
                watchers = 0 if remote.watch is None else len(remote.watch.members)
                entry = (remote.match_id, sessions_checksum(sessions), watchers)
                by_owner.setdefault(remote.owner, []).append(entry)
        for owner, matches in by_owner.items():
            self.to_node(owner, Beat(self.node, matches))
        for owner in [owner for owner in self._heard if owner not in by_owner]:
            del self._heard[owner]
            self._acted_at.pop(owner, None)
        for owner in by_owner:
            if now - self._heard.setdefault(owner, now) > self.policy.owner_silent_seconds_max:
                self._seek_all(owner)
        self._leave_again()

    def _ask_again(self, remote: RemoteMatch, now: float) -> None:
        again = now - self.policy.ask_again_seconds
        for seat in list(remote.seats.values()):
            if seat.asked_at is not None and seat.asked_at <= again:
                remote.ask(seat)
            elif seat.take_due(now):
                remote.resend(seat)

    def _leave_again(self) -> None:
        for key, (owner, message) in list(self.leaving.items()):
            attempts = self._leave_attempts[key] = self._leave_attempts.get(key, 0) + 1
            if attempts == LEAVE_ATTEMPTS_LOOK:
                self._seek_now.set()
            if attempts > LEAVE_ATTEMPTS_MAX:
                self._leave_heard(key)
            else:
                self.to_node(owner, message)

    def _unheard(self) -> list[tuple[str, str]]:
        return [key for key, attempts in self._leave_attempts.items() if attempts >= LEAVE_ATTEMPTS_LOOK]

    async def _look_for_leaving(self) -> None:
        """Whoever runs a match by now has to hear who left it."""
        unheard = self._unheard()
        if not unheard:
            return
        found = await self._store.find([match_id for match_id, _ in unheard])
        for key, owned in zip(unheard, found, strict=True):
            if key in self.leaving and owned is not None and owned.node:
                self.leaving[key] = (owned.node, self.leaving[key][1])

    def _leave_heard(self, key: tuple[str, str]) -> None:
        self.leaving.pop(key, None)
        self._leave_attempts.pop(key, None)

    def _on_pulse(self, message: Pulse) -> None:
        self._heard[message.node] = self._clock.now()
        for match_id, epoch, serial, link in message.matches:
            remote = self.remotes.get(match_id)
            if remote is None or remote.owner != message.node:
                continue
            if epoch == 0:
                self.gone(remote)
                continue
            if epoch < remote.epoch:
                continue
            self.found(remote)
            if epoch > remote.epoch > 0 or serial > remote.serial or link > remote.link:
                self.gaps += 1
                remote.ask_all()
        for match_id in message.rolls:
            remote = self.remotes.get(match_id)
            if remote is not None and remote.owner == message.node:
                sessions = remote.attached_sessions()
                self.to_node(message.node, Roll(match_id, self.node, sessions))

    # --- owners come and go -------------------------------------------------------------------------------------------
    def gone(self, remote: RemoteMatch) -> None:
        """Its owner does not run it (any more): nobody may, for a moment."""
        remote.fall_out()
        for seat in remote.seats.values():
            seat.attached = False
            seat.asked_at = None
        self._seek(remote, gone=True)

    def _seek_all(self, owner: str) -> None:
        for remote in self.remotes.values():
            if remote.owner == owner and remote.match_id not in self._sought:
                self._seek(remote, gone=False)

    def _seek(self, remote: RemoteMatch, *, gone: bool) -> None:
        sought = self._sought.get(remote.match_id)
        if sought is None:
            self._sought[remote.match_id] = Sought(remote, self._clock.now(), gone)
            self._seek_now.set()
        else:
            sought.gone = sought.gone or gone

    def found(self, remote: RemoteMatch) -> None:
        """Its owner has been heard of."""
        self._sought.pop(remote.match_id, None)

    def owner_changed(self, remote: RemoteMatch, node: str, epoch: int) -> None:
        """Another node runs it; the sockets here stay, and their sessions are attached there."""
        if not node:
            self.gone(remote)
            return
        if node == self.node or (node, epoch) == remote.next_owner:
            return  # it comes here, or has been asked already
        remote.next_owner = (node, epoch)
        log.info("owner_changed", match=remote.match_id, owner=node, epoch=epoch)
        self._heard[node] = self._clock.now()
        remote.owner = node
        remote.fall_out()
        for seat in list(remote.seats.values()):
            seat.attached = False
            remote.ask(seat)

    async def _seek_always(self) -> None:
        policy = self.policy
        seconds = policy.seek_seconds_min
        while True:
            if not self._sought and not self._unheard():
                seconds = policy.seek_seconds_min
                self._seek_now.clear()
                await self._seek_now.wait()
            try:
                await self._look()
                await self._look_for_leaving()
            except (StoreUnavailable, TimeoutError) as error:
                log.debug("owners_unknown", error=str(error))
            except Exception as failure:
                log.error("edge_seek_failed", exc_info=failure)
            self._give_up()
            await asyncio.sleep(seconds)
            seconds = min(seconds * 1.5, policy.seek_seconds_max)

    async def _look(self) -> None:
        """Ask the store who owns what we look for."""
        wanted = list(self._sought)
        for match_id, owned in zip(wanted, await self._store.find(wanted), strict=True):
            sought = self._sought.get(match_id)
            if sought is None:
                continue
            remote, now = sought.remote, self._clock.now()
            if owned is None:
                sought.missing_since = now if sought.missing_since is None else sought.missing_since
                continue
            sought.missing_since = None
            if owned.node in ("", self.node):
                await self._ownerless(owned)
            elif owned.node != remote.owner or owned.epoch > remote.epoch > 0:
                self.owner_changed(remote, owned.node, owned.epoch)
            elif sought.gone and all(seat.asked_at is None for seat in remote.seats.values()):
                remote.next_owner = ("", 0)
                self.owner_changed(remote, owned.node, owned.epoch)  # it may have it in a moment

    async def _ownerless(self, owned: OwnedMatch) -> None:
        try:
            await self._bring(owned)
        except GameServerError as error:
            log.debug("match_not_brought", match=owned.match_id, error=error.message)

    def _give_up(self) -> None:
        now, policy = self._clock.now(), self.policy
        for sought in list(self._sought.values()):
            missing = sought.missing_since is not None and now - sought.missing_since > policy.missing_seconds_max
            if missing or now - sought.since > policy.ownerless_seconds_max:
                log.warning("carried_match_given_up", match=sought.remote.match_id, missing=missing)
                self._sought.pop(sought.remote.match_id, None)
                sought.remote.end(MatchMoved("The match has no node to run on right now: try again."), reconnect=True)

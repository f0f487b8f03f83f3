"""Between this node and the others: players go to matches wherever those run, and matches to players wherever they are.

What is said to this node is handed to its two sides, the owner's (`owner.py`) and the edge's (`edge.py`); what concerns
no match that runs here is asked and answered in `questions.py` and `placement.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from msgspec import structs

from gameserver.cluster.choice import rendezvous
from gameserver.cluster.edge import EdgePolicy, Edges
from gameserver.cluster.links import (
    Acts,
    Answer,
    Ask,
    Attach,
    Beat,
    Leave,
    Lost,
    Owner,
    Roll,
    decode_node,
    encode_link,
    match_channel,
    node_channel,
)
from gameserver.cluster.owner import Owners
from gameserver.cluster.placement import Placement
from gameserver.cluster.questions import Questions
from gameserver.errors import GameServerError, MatchMoved
from gameserver.match import User
from gameserver.protocol import Resume

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from gameserver.cluster.host import Host
    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.member import Member
    from gameserver.cluster.receiver import Receiver
    from gameserver.cluster.services import Services
    from gameserver.storage import Bus, JournalStore, NodeInfo, OwnedMatch, Subscription

log = structlog.get_logger("gameserver.cluster")

READY_SECONDS = 3.0
CHECK_SECONDS = 1.0


class Crossing:
    """This node's place on the bus."""

    def __init__(
        self,
        bus: Bus,
        store: JournalStore,
        host: Host,
        services: Services,
        node: str,
        live_nodes: Callable[[], Iterable[NodeInfo]],
        *,
        prefix: str = "gs",
        roles: Sequence[str] = ("edge", "owner"),
        policy: EdgePolicy | None = None,
        is_owner: Callable[[str, str, int], Awaitable[bool]],
    ) -> None:
        """`is_owner`: see `Takeover.is_owner`."""
        policy = policy or EdgePolicy()
        self.node = node
        self.owns = "owner" in roles
        self.carries = "edge" in roles
        self._bus = bus
        self._host = host
        self._prefix = prefix
        self._clock = services.clock
        self.owners = Owners(
            bus, services.clock, node, prefix, host.local, silent_seconds_max=policy.edge_silent_seconds_max
        )
        self.edges = Edges(
            bus, store, services, node, prefix, policy, next_channel=host.next_channel, bring=self._bring,
            is_owner=is_owner,
        )  # fmt: skip
        self.questions = Questions(bus, live_nodes, node, prefix)
        self.placement = Placement(self.questions, host, services.clock, owns=self.owns)
        self.questions.answers["bring"] = self._on_bring
        owners, questions = self.owners, self.questions
        self._takers: dict[type, Callable[[Any], None]] = {
            Acts: owners.acts, Attach: self._attach, Beat: owners.beat, Roll: owners.roll, Lost: owners.lost,
            Leave: owners.leave, Ask: questions.asked, Answer: questions.answered,
        }  # fmt: skip
        """Who takes a message of this type; the others are for this node as an edge."""
        self._subscription: Subscription | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        host.crossing = self

    async def start(self) -> None:
        """Listen. Returns when others can reach this node, or after a moment: the bus connects by itself."""
        self._subscription = self._bus.subscribe(node_channel(self._prefix, self.node), self._on_node)
        self._bus.on_gap(self.edges.on_gap)
        self.edges.start()
        self._keep(self._check_edges())
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._subscription.ready()
        except TimeoutError:
            log.warning("bus_not_ready", consequence="matches of other nodes cannot be reached until it is")

    async def stop(self) -> None:
        """No more; matches that run here are the host's business."""
        await self.edges.stop()
        await self.questions.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._subscription is not None:
            self._subscription.close()

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check_edges(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.owners.check_edges()

    # --- what comes in ------------------------------------------------------------------------------------------------
    def _on_node(self, payload: bytes) -> None:
        message = decode_node(payload)
        self._takers.get(type(message), self.edges.on_node)(message)

    def _attach(self, message: Attach) -> None:
        hosted = self._host.local(message.match)
        resume = None if message.resume is None else Resume(*message.resume)
        if hosted is not None and resume is not None and hosted.is_behind(resume):
            self._keep(self._attach_if_here(hosted, resume, message))
        else:
            self.owners.attach(message)

    async def _attach_if_here(self, hosted: HostedMatch, resume: Resume, message: Attach) -> None:
        try:
            resume = await self._host.placed_here(hosted, resume) or resume
        except GameServerError as error:
            self.owners.refuse(message, error)
        else:
            self.owners.attach(structs.replace(message, resume=structs.astuple(resume)))

    # --- matches change hands -----------------------------------------------------------------------------------------
    def channel_of(self, match_id: str) -> int | None:
        """The channel number under which members here know this match already."""
        remote = self.edges.remotes.get(match_id)
        return None if remote is None else remote.channel

    def adopted(self, hosted: HostedMatch) -> None:
        """This node runs the match now: other nodes are told, and members that were carried here are its own."""
        remote = self.edges.remotes.get(hosted.match_id)
        if remote is not None:
            remote.move_in(hosted)
        message = Owner(hosted.match_id, self.node, hosted.match.epoch)
        self._bus.publish(match_channel(self._prefix, hosted.match_id), encode_link(message))

    def announce_free(self, match_id: str, epoch: int) -> None:
        """Nobody runs the match for the moment: edges need not wait until they miss its node."""
        self._bus.publish(match_channel(self._prefix, match_id), encode_link(Owner(match_id, "", epoch)))

    async def _bring(self, owned: OwnedMatch) -> None:
        """See that somebody runs a match that nobody runs."""
        if owned.node == self.node:
            # It is on its way here, or the lease runs out, or it came while a join still looked for it elsewhere.
            hosted, remote = self._host.local(owned.match_id), self.edges.remotes.get(owned.match_id)
            if hosted is not None and remote is not None:
                remote.move_in(hosted)
            return
        if self.owns and self._host.bring is not None:
            await self._host.bring(owned.match_id)
        elif not self.owns:
            nodes = [node.id for node in self.questions.owner_nodes(owned.game)]
            for chosen in rendezvous(owned.match_id, nodes)[:1]:  # the one that would take it over anyway
                await self.questions.ask(chosen, "bring", {"match": owned.match_id})

    async def _on_bring(self, body: dict[str, Any]) -> str:
        return (await self._host.reach(body["match"])).match_id

    # --- joining ------------------------------------------------------------------------------------------------------
    async def join(
        self, match_id: str, user: User, receiver: Receiver, request: int, *, spectate: bool, resume: Resume | None
    ) -> Member:
        """A member of a match that another node runs."""
        if not self.carries:
            raise MatchMoved("The match runs on another node, and this one carries no players of others: go there.")
        return await self.edges.join(match_id, user, receiver, request, spectate=spectate, resume=resume)

    async def info(self, match_id: str) -> dict[str, Any]:
        """What a listing shows of a match that another node runs; raises MatchNotFound."""
        return await self.placement.info(await self.edges.find(match_id))


def policy_for(lease_seconds: float, policy: EdgePolicy | None = None) -> EdgePolicy:
    """A policy that fits a lease: an owner that is silent is looked for well before its lease has run out."""
    policy = policy or EdgePolicy()
    return replace(policy, owner_silent_seconds_max=min(policy.owner_silent_seconds_max, max(0.3, lease_seconds * 0.6)))

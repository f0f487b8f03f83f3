"""Between this node and the others: players go to matches wherever those run, and matches to players wherever they are.

What is said to this node is handed to its two sides, the owner's (`owner.py`) and the edge's (`edge.py`); what concerns
no match (a new one, where one stands) is asked and answered here.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from gameserver.cluster.edge import EdgePolicy, Edges
from gameserver.cluster.links import (
    Act,
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
    error_from,
    match_channel,
    node_channel,
)
from gameserver.cluster.owner import Owners
from gameserver.errors import (
    GameNotFound,
    GameServerError,
    InternalError,
    LimitReached,
    MatchMoved,
    NotFound,
    RequestInvalid,
)
from gameserver.match import User

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gameserver.cluster.host import Host
    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.member import Member
    from gameserver.cluster.ports import Receiver
    from gameserver.cluster.services import Services
    from gameserver.protocol import Resume
    from gameserver.storage import Bus, JournalStore, NodeInfo, OwnedMatch, Subscription

log = structlog.get_logger("gameserver.cluster")

ASK_SECONDS = 3.0
INFO_SECONDS = 1.0
NODES_SECONDS = 1.0  # how old the list of nodes may be that new matches are placed by
CHECK_SECONDS = 1.0
ASKS_MAX = 10_000


class Crossing:
    """This node's place on the bus."""

    def __init__(
        self,
        bus: Bus,
        store: JournalStore,
        host: Host,
        services: Services,
        node: str,
        *,
        prefix: str = "gs",
        roles: Sequence[str] = ("edge", "owner"),
        policy: EdgePolicy | None = None,
    ) -> None:
        policy = policy or EdgePolicy()
        self.node = node
        self.owns = "owner" in roles
        self.carries = "edge" in roles
        self._bus = bus
        self._store = store
        self._host = host
        self._prefix = prefix
        self._clock = services.clock
        self.owners = Owners(
            bus, services.clock, node, prefix, host.local, silent_seconds_max=policy.edge_silent_seconds_max
        )
        self.edges = Edges(
            bus, store, services, node, prefix, policy, next_channel=host.next_channel, bring=self._bring
        )
        self._asks: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        self._nodes: tuple[float, list[NodeInfo]] = (-NODES_SECONDS, [])
        self._placed: dict[str, int] = {}  # node → matches placed there since its last renewal was read
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
            async with asyncio.timeout(ASK_SECONDS):
                await self._subscription.ready()
        except TimeoutError:
            log.warning("bus_not_ready", consequence="matches of other nodes cannot be reached until it is")

    async def stop(self) -> None:
        """No more; matches that run here are the host's business."""
        await self.edges.stop()
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
        owners = self.owners
        if isinstance(message, Act):
            owners.act(message)
        elif isinstance(message, Attach):
            owners.attach(message)
        elif isinstance(message, Beat):
            owners.beat(message)
        elif isinstance(message, Roll):
            owners.roll(message)
        elif isinstance(message, Lost):
            owners.lost(message)
        elif isinstance(message, Leave):
            owners.leave(message)
        elif isinstance(message, Ask):
            self._keep(self._answer(message))
        elif isinstance(message, Answer):
            future = self._asks.get(message.number)
            if future is not None and not future.done():
                future.set_result(message)
        else:
            self.edges.on_node(message)

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
            return  # it is on its way here, or the lease runs out
        if self.owns and self._host.bring is not None:
            await self._host.bring(owned.match_id)
        elif not self.owns:
            await self.ask_owner("bring", {"match": owned.match_id}, owned.game)

    # --- joining ------------------------------------------------------------------------------------------------------
    async def join(
        self, match_id: str, user: User, receiver: Receiver, request: int, *, spectate: bool, resume: Resume | None
    ) -> Member:
        """A member of a match that another node runs."""
        if not self.carries:
            raise MatchMoved("The match runs on another node, and this one carries no players of others: go there.")
        return await self.edges.join(match_id, user, receiver, request, spectate=spectate, resume=resume)

    async def place(self, what: str, game: str, options: dict[str, Any], user: User) -> dict[str, Any]:
        """Ask an owner for a match: `create` a new one, or `find` one with a seat for this user. Its info."""
        body = {"game": game, "options": options, "user": user.id, "name": user.name, "role": user.role}
        answer: dict[str, Any] = await self.ask_owner(what, body, game)
        return answer

    async def info(self, match_id: str) -> dict[str, Any]:
        """What a listing shows of a match that another node runs; less of it if that node does not answer."""
        found = await self.edges.find(match_id)
        if found.node and found.node != self.node:
            try:
                info: dict[str, Any] = await self.ask(found.node, "info", {"match": match_id}, seconds=INFO_SECONDS)
            except GameServerError as error:
                log.debug("match_info_missing", match=match_id, error=error.message)
            else:
                return info
        return {
            "match": match_id, "game": found.game, "players": found.connected, "players_connected": found.connected,
            "players_max": 0, "spectators": 0, "spectators_max": 0, "open": False, "summary": {}, "epoch": found.epoch,
            "version": found.version, "time_seconds": 0.0, "created_at": 0.0, "ended": None,
        }  # fmt: skip

    # --- asking other nodes -------------------------------------------------------------------------------------------
    async def ask_owner(self, what: str, body: dict[str, Any], game: str) -> Any:
        """Ask the owner node that has the least to do and runs this game."""
        nodes = [node for node in await self._owner_nodes() if game in node.games]
        if not nodes:
            raise GameNotFound(f"No node runs the game {game!r}.")
        chosen = min(nodes, key=lambda node: (node.matches + self._placed.get(node.id, 0), node.id))
        self._placed[chosen.id] = self._placed.get(chosen.id, 0) + 1
        return await self.ask(chosen.id, what, body)

    async def _owner_nodes(self) -> list[NodeInfo]:
        now = self._clock.now()
        if now - self._nodes[0] > NODES_SECONDS:
            found = [node for node in await self._store.nodes() if "owner" in node.roles and not node.draining]
            self._nodes = (now, found)
            self._placed.clear()
        return self._nodes[1]

    async def ask(self, node: str, what: str, body: dict[str, Any], *, seconds: float = ASK_SECONDS) -> Any:
        """Ask one node; raises what it answers, or MatchMoved when it does not."""
        if len(self._asks) >= ASKS_MAX:
            raise LimitReached(f"{ASKS_MAX} questions wait for other nodes.")
        self._asked += 1
        number = self._asked
        future = self._asks[number] = asyncio.get_running_loop().create_future()
        try:
            self.edges.to_node(node, Ask(self.node, number, what, body))
            async with asyncio.timeout(seconds):
                answer: Answer = await future
        except TimeoutError:
            raise MatchMoved(f"The node {node} does not answer: try again.") from None
        finally:
            del self._asks[number]
        if answer.ok:
            return answer.result
        code, message, retryable = answer.result
        raise error_from(code, message, retryable=retryable)

    async def _answer(self, asked: Ask) -> None:
        try:
            answer = Answer(asked.number, True, await self._do(asked.what, asked.body))
        except GameServerError as error:
            answer = Answer(asked.number, False, [error.code, error.message, error.retryable])
        except Exception as failure:
            log.error("question_failed", what=asked.what, edge=asked.edge, exc_info=failure)
            internal = InternalError()
            answer = Answer(asked.number, False, [internal.code, internal.message, internal.retryable])
        self.owners.to_edge(asked.edge, answer)

    async def _do(self, what: str, body: dict[str, Any]) -> Any:
        host = self._host
        if what == "info":
            return host.get(body["match"]).info()
        if not self.owns:
            raise NotFound("This node runs no matches.")
        if what in ("create", "find"):
            user = User(body["user"], body["name"], body["role"])
            return await host.place(what, body["game"], body["options"], user)
        if what == "bring":
            return (await host.reach(body["match"])).match_id
        raise RequestInvalid(f"This node does not know what {what[:40]!r} is.")


def policy_for(lease_seconds: float, policy: EdgePolicy | None = None) -> EdgePolicy:
    """A policy that fits a lease: an owner that is silent is looked for well before its lease has run out."""
    policy = policy or EdgePolicy()
    return replace(policy, owner_silent_seconds_max=min(policy.owner_silent_seconds_max, max(0.3, lease_seconds * 0.6)))

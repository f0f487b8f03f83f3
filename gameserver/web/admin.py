"""What operators may do to a node: see which there are, and have one emptied before it is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gameserver.access import Permission
from gameserver.errors import StoreUnavailable
from gameserver.web.routes import Call, Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gameserver.cluster import DrainState
    from gameserver.storage import NodeInfo


class DrainStatus(msgspec.Struct, kw_only=True):
    """How far a node is with handing over its matches."""

    node: str
    draining: bool
    done: bool
    handed_over: int
    left: int
    """Matches that it still runs."""
    seconds: float


class NodeStatus(msgspec.Struct, kw_only=True):
    """A node that lives."""

    node: str
    address: str
    roles: list[str]
    games: list[str]
    matches: int
    draining: bool


class NodeList(msgspec.Struct):
    """All nodes that live."""

    nodes: list[NodeStatus]


class Admin:
    """The admin part of the table of routes."""

    def __init__(
        self,
        node: str,
        begin_drain: Callable[[], None],
        drain_state: Callable[[], DrainState],
        nodes: Callable[[], Awaitable[list[NodeInfo]]],
    ) -> None:
        self._node = node
        self._begin_drain = begin_drain
        self._drain_state = drain_state
        self._nodes = nodes

    def routes(self) -> tuple[Route, ...]:
        """For `HttpApi`."""
        manage, inspect = Permission.SERVER_MANAGE, Permission.SERVER_INSPECT
        return (
            Route(
                "POST", "/v1/admin/drain", "drain", "Hand all matches of this node to others; it takes no new ones.",
                self._drain, reply=DrainStatus, permission=manage, status=202, tag="admin",
            ),
            Route(
                "GET", "/v1/admin/drain", "drainStatus", "How far this node is with it.", self._status,
                reply=DrainStatus, permission=inspect, tag="admin",
            ),
            Route(
                "GET", "/v1/admin/nodes", "listNodes", "The nodes that live.", self._list_nodes,
                reply=NodeList, permission=inspect, errors=(StoreUnavailable,), tag="admin",
            ),
        )  # fmt: skip

    async def _drain(self, call: Call) -> DrainStatus:
        self._begin_drain()
        return await self._status(call)

    async def _status(self, call: Call) -> DrainStatus:
        state = self._drain_state()
        return DrainStatus(
            node=self._node, draining=state.draining, done=state.done, handed_over=state.handed_over,
            left=state.left, seconds=round(state.seconds, 3),
        )  # fmt: skip

    async def _list_nodes(self, call: Call) -> NodeList:
        return NodeList(
            [
                NodeStatus(
                    node=node.id, address=node.address, roles=list(node.roles), games=list(node.games),
                    matches=node.matches, draining=node.draining,
                )
                for node in await self._nodes()
            ]
        )  # fmt: skip

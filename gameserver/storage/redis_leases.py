"""Which nodes live, in Redis.

gs:node:<id>   hash: started, info; expires with the lease
gs:nodes       sorted set of node ids by their last renewal (unix ms); those long gone are dropped
"""

from __future__ import annotations

import time

import msgspec

from gameserver.storage.journal_ports import NodeInfo
from gameserver.storage.redis_calls import HeldCalls, script

GONE_MS = 3_600_000  # far beyond any lease and any difference of clocks


class RedisLeases:
    """`LeaseStore` over one Redis or Valkey server. Give a thread that renews one of its own, with its own client."""

    def __init__(self, asks: HeldCalls, *, prefix: str = "gs") -> None:
        self._asks = asks
        self._prefix = prefix

    async def renew(self, node: NodeInfo, ttl_ms: int) -> bool:
        """See `LeaseStore.renew`."""
        now_ms = time.time_ns() // 1_000_000
        args = [repr(node.started), msgspec.msgpack.encode(node), ttl_ms]
        answers = await self._asks.run(
            [
                script("renew", [self._node_key(node.id)], args),
                ("ZADD", self._nodes_key, now_ms, node.id),
                ("ZREMRANGEBYSCORE", self._nodes_key, "-inf", now_ms - GONE_MS),
            ]
        )
        return bool(answers[0] == 1)

    async def nodes(self) -> list[NodeInfo]:
        """See `LeaseStore.nodes`."""
        [ids] = await self._asks.run([("ZRANGE", self._nodes_key, 0, -1)])
        if not ids:
            return []
        found = await self._asks.run([("HGET", self._node_key(id_.decode()), "info") for id_ in ids])
        nodes = [msgspec.msgpack.decode(info, type=NodeInfo) for info in found if info is not None]
        return sorted(nodes, key=lambda node: node.id)

    async def retire(self, node_id: str) -> None:
        """See `LeaseStore.retire`."""
        await self._asks.run([("DEL", self._node_key(node_id)), ("ZREM", self._nodes_key, node_id)])

    @property
    def _nodes_key(self) -> str:
        return f"{self._prefix}:nodes"

    def _node_key(self, node_id: str) -> str:
        return f"{self._prefix}:node:{node_id}"

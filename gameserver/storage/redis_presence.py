"""Who is online, and in which match, in Redis. What a node wrote expires as a whole unless the node speaks up again.

gs:presence:nodes            sorted set: the nodes, by when what they wrote expires (unix ms)
gs:presence:{NODE}:online    the users who are connected to the node; this and the next two are sorted sets, by name
gs:presence:{NODE}:users     user and match, for each match that a user is in
gs:presence:{NODE}:matches   the same the other way round
gs:presence:{NODE}:mark      what the node wrote last: it is not what it expects if the store has lost something since

That everybody is still here is so said with a few commands, however many they are. A user may be connected to several
nodes at once: each node writes and removes its own entries only.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from redis.asyncio import Redis

from gameserver.storage.redis_calls import Command, RedisCalls

SEPARATOR = "\x1f"
AFTER_SEPARATOR = "\x20"
CHUNK = 500  # members of one command
COMMANDS_MAX = 100  # in one call
PAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Present:
    """One user on one node; `match_id` is empty for one who is connected and in no match."""

    user: str
    match_id: str = ""


class PresenceStore(Protocol):
    """Which users are online, over all nodes."""

    async def tell_all(self, node: str, here: Collection[Present], ttl_seconds: float) -> None:
        """These are here for so long from now, and nobody else."""

    async def tell(self, node: str, here: Collection[Present], gone: Collection[Present], ttl_seconds: float) -> bool:
        """These are here too, those no more, and all others still: everybody for so long from now.

        False: the store has lost what it was told before. Tell all.
        """

    async def online(self, *, match_id: str = "", limit: int = 100) -> tuple[int, list[str]]:
        """How many are online, or in this match, and the names of some. Who is on two nodes may be counted twice."""

    async def matches_of(self, user: str) -> list[str] | None:
        """The matches that the user is in; None: the user is not online."""


class RedisPresence:
    """`PresenceStore` over one Redis or Valkey server."""

    def __init__(self, redis: Redis, *, prefix: str = "gs") -> None:
        self._calls = RedisCalls(redis)
        self._prefix = f"{prefix}:presence"
        self._marks: dict[str, str] = {}

    async def tell_all(self, node: str, here: Collection[Present], ttl_seconds: float) -> None:
        """See `PresenceStore.tell_all`."""
        await self._write([("DEL", *self._keys(node)), *self._changes(node, here, ())], node, ttl_seconds)

    async def tell(self, node: str, here: Collection[Present], gone: Collection[Present], ttl_seconds: float) -> bool:
        """See `PresenceStore.tell`."""
        before = self._marks.get(node)
        found = await self._write(self._changes(node, here, gone), node, ttl_seconds)
        return before is not None and found == before

    async def online(self, *, match_id: str = "", limit: int = 100) -> tuple[int, list[str]]:
        """See `PresenceStore.online`."""
        limit = min(limit, PAGE_MAX)
        nodes = await self._nodes()
        reads: list[Command] = []
        for node in nodes:
            online, _, matches = self._keys(node)
            if match_id:
                first, end = _all_of(match_id)
                reads += [("ZLEXCOUNT", matches, first, end), ("ZRANGEBYLEX", matches, first, end, "LIMIT", 0, limit)]
            else:
                reads += [("ZCARD", online), ("ZRANGE", online, 0, limit - 1)]
        answers = await self._calls.run(reads) if reads else []
        names = {_last(member) for members in answers[1::2] for member in members}
        return sum(answers[::2]), sorted(names)[:limit]

    async def matches_of(self, user: str) -> list[str] | None:
        """See `PresenceStore.matches_of`."""
        reads: list[Command] = []
        for node in await self._nodes():
            online, users, _ = self._keys(node)
            reads += [("ZSCORE", online, user), ("ZRANGEBYLEX", users, *_all_of(user))]
        answers = await self._calls.run(reads) if reads else []
        if all(score is None for score in answers[::2]):
            return None
        return sorted({_last(member) for members in answers[1::2] for member in members})

    async def _nodes(self) -> list[str]:
        [nodes] = await self._calls.run([("ZRANGEBYSCORE", f"{self._prefix}:nodes", f"({_now_ms()}", "+inf")])
        return [node.decode() for node in nodes]

    async def _write(self, commands: list[Command], node: str, ttl_seconds: float) -> str | None:
        """Run them, then let all that the node wrote last so long; the mark that was there."""
        now_ms, ttl_ms = _now_ms(), max(1, int(ttl_seconds * 1000))
        mark, nodes, key = secrets.token_hex(8), f"{self._prefix}:nodes", f"{self._prefix}:{{{node}}}:mark"
        self._marks.pop(node, None)  # what the store has is unknown until it answers
        commands += [("PEXPIRE", kept, ttl_ms) for kept in self._keys(node)]
        commands += [
            ("ZREMRANGEBYSCORE", nodes, "-inf", now_ms),
            ("ZADD", nodes, now_ms + ttl_ms, node),
        ]
        for start in range(0, len(commands), COMMANDS_MAX):
            await self._calls.run(commands[start : start + COMMANDS_MAX])
        found, _ = await self._calls.run([("GET", key), ("SET", key, mark, "PX", ttl_ms)])
        self._marks[node] = mark
        return None if found is None else found.decode()

    def _changes(self, node: str, here: Collection[Present], gone: Collection[Present]) -> list[Command]:
        commands: list[Command] = []
        for key, members in self._by_key(node, gone):
            commands += [("ZREM", key, *members[at : at + CHUNK]) for at in range(0, len(members), CHUNK)]
        for key, members in self._by_key(node, here):
            for at in range(0, len(members), CHUNK):
                commands.append(("ZADD", key, *(part for member in members[at : at + CHUNK] for part in (0, member))))
        return commands

    def _by_key(self, node: str, entries: Iterable[Present]) -> list[tuple[str, list[str]]]:
        online, users, matches = self._keys(node)
        seated = [entry for entry in entries if entry.match_id]
        return [
            (online, [entry.user for entry in entries if not entry.match_id]),
            (users, [f"{entry.user}{SEPARATOR}{entry.match_id}" for entry in seated]),
            (matches, [f"{entry.match_id}{SEPARATOR}{entry.user}" for entry in seated]),
        ]

    def _keys(self, node: str) -> tuple[str, str, str]:
        """Users online, their matches, the matches' users."""
        start = f"{self._prefix}:{{{node}}}"
        return f"{start}:online", f"{start}:users", f"{start}:matches"


def _all_of(name: str) -> tuple[str, str]:
    """The range of the members that begin with this name."""
    return f"[{name}{SEPARATOR}", f"({name}{AFTER_SEPARATOR}"


def _last(member: bytes) -> str:
    return member.decode(errors="replace").rpartition(SEPARATOR)[2]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

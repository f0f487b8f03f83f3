"""Who is online, and in which match, in Redis. Every entry expires by itself unless its node refreshes it.

gs:presence:online          sorted set: user and node, by when the entry expires (unix ms)
gs:presence:match:<match>   the same for those in a match
gs:presence:user:<user>     sorted set: match and node of one user

A user may be connected to several nodes at once: each node writes and removes its own entries only.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.asyncio import Redis

from gameserver.storage.redis_calls import Command, RedisCalls, script

SEPARATOR = "\x1f"
CHUNK = 500  # members or commands that are sent at once
SCRIPT_ARGS_MAX = 250  # one call of it keeps the store busy for less than a millisecond
PAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Present:
    """One user on one node; `match_id` is empty for one who is connected and in no match."""

    user: str
    match_id: str = ""


class PresenceStore(Protocol):
    """Which users are online, over all nodes."""

    async def write(self, node: str, here: Collection[Present], gone: Collection[Present], ttl_seconds: float) -> None:
        """These are here for so long from now, unless written again; those are not (any more)."""

    async def online(self, *, match_id: str = "", limit: int = 100) -> tuple[int, list[str]]:
        """How many are online, or in this match, and the names of some. Who is on two nodes may be counted twice."""

    async def matches_of(self, user: str) -> list[str] | None:
        """The matches that the user is in; None: the user is not online."""


class RedisPresence:
    """`PresenceStore` over one Redis or Valkey server."""

    def __init__(self, redis: Redis, *, prefix: str = "gs") -> None:
        self._calls = RedisCalls(redis)
        self._prefix = f"{prefix}:presence"

    async def write(self, node: str, here: Collection[Present], gone: Collection[Present], ttl_seconds: float) -> None:
        """See `PresenceStore.write`."""
        now_ms = _now_ms()
        ttl_ms = int(ttl_seconds * 1000)
        commands: list[Command] = []
        for key, members in self._by_key(node, gone).items():
            commands += [("ZREM", key, *chunk) for chunk in _chunks(members)]
        commands += self._writes(self._by_key(node, here), now_ms, now_ms + ttl_ms)
        for start in range(0, len(commands), CHUNK):
            await self._calls.run(commands[start : start + CHUNK])

    def _writes(self, by_key: Mapping[str, Collection[str]], now_ms: int, until_ms: int) -> list[Command]:
        """What writes these members, many sets in one command: four for each of a thousand users cost 40 ms."""
        pieces = [(key, chunk) for key, members in by_key.items() for chunk in _chunks(members)]
        commands: list[Command] = []
        keys: list[str] = []
        args: list[Any] = []
        for key, chunk in pieces:
            keys.append(key)
            args += (len(chunk), *chunk)
            if len(args) >= SCRIPT_ARGS_MAX:
                commands.append(script("presence", keys, (now_ms, until_ms, *args)))
                keys, args = [], []
        if keys:
            commands.append(script("presence", keys, (now_ms, until_ms, *args)))
        return commands

    async def online(self, *, match_id: str = "", limit: int = 100) -> tuple[int, list[str]]:
        """See `PresenceStore.online`."""
        key = self._match_key(match_id) if match_id else self._online_key
        now_ms = _now_ms()
        limit = min(limit, PAGE_MAX)
        count, members = await self._calls.run(
            [
                ("ZCOUNT", key, f"({now_ms}", "+inf"),
                ("ZRANGEBYSCORE", key, f"({now_ms}", "+inf", "LIMIT", 0, limit),
            ]
        )
        return int(count), sorted({_first(member) for member in members})

    async def matches_of(self, user: str) -> list[str] | None:
        """See `PresenceStore.matches_of`."""
        [members] = await self._calls.run([("ZRANGEBYSCORE", self._user_key(user), f"({_now_ms()}", "+inf")])
        return sorted({_first(member) for member in members} - {""}) if members else None

    def _by_key(self, node: str, entries: Iterable[Present]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for entry in entries:
            found.setdefault(self._user_key(entry.user), set()).add(f"{entry.match_id}{SEPARATOR}{node}")
            key = self._match_key(entry.match_id) if entry.match_id else self._online_key
            found.setdefault(key, set()).add(f"{entry.user}{SEPARATOR}{node}")
        return found

    @property
    def _online_key(self) -> str:
        return f"{self._prefix}:online"

    def _match_key(self, match_id: str) -> str:
        return f"{self._prefix}:match:{match_id}"

    def _user_key(self, user: str) -> str:
        return f"{self._prefix}:user:{user}"


def _chunks(members: Collection[str]) -> Iterable[Sequence[str]]:
    ordered = sorted(members)
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))


def _first(member: bytes) -> str:
    return member.decode(errors="replace").rpartition(SEPARATOR)[0]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

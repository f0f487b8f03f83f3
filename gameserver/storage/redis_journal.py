"""The journal in Redis: every write is a script that checks the token in the same step.

Keys carry the shard as their hash tag, so that one script call may touch all keys of a shard in a cluster too:

    gs:{s17}:<match>:token       hash: state (live, asleep, quarantined, ended), node, epoch, store, version, base, …;
                                 never expires, but for the tombstone of a match that ended
    gs:{s17}:<match>:snapshot    hash: game, epoch, version, state_version, saved_at_ms, payload
    gs:{s17}:<match>:journal     stream: the entry that reaches version 120 has the id 120-0
    gs:{s17}:matches             set of the shard's matches that are awake
    gs:{s17}:due                 sorted set of those asleep, by when they want to be woken
    gs:{s17}:store               the random epoch of this store, made with the first token; gone when it is emptied
    gs:{s0}:run                  hash: run (the run id of the server that was asked last), since (unix seconds)
    gs:{s17}:quarantined         set of keys of quarantined snapshots; the journal is beside, with `:journal` appended
"""

from __future__ import annotations

import asyncio
import secrets
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gameserver.config import RedisSettings
from gameserver.errors import (
    ClaimLost,
    JournalCorrupt,
    MatchEnded,
    MatchExists,
    MatchNotFound,
    MatchQuarantined,
    StoreUnavailable,
)
from gameserver.metrics import Metrics
from gameserver.storage.appends import Append
from gameserver.storage.journal_codec import assemble, format_bases
from gameserver.storage.journal_ports import (
    BASES_MAX,
    Claimed,
    Outcome,
    OwnedMatch,
    Recovered,
    StoreIdentity,
    Token,
)
from gameserver.storage.ports import SnapshotMeta
from gameserver.storage.redis_appends import AppendCalls
from gameserver.storage.redis_calls import DEADLINE_SECONDS, Command, HeldCalls, RedisCalls, script
from gameserver.storage.redis_client import make_redis
from gameserver.storage.redis_leases import RedisLeases
from gameserver.storage.redis_link import packed, settle
from gameserver.storage.shards import SHARDS, shard_of

TOMBSTONE_MS = 30 * 86_400_000
APPENDS_PER_SCRIPT = 128  # one call of it keeps the server busy for less than a millisecond
HELD_BYTES_MAX = 65_536  # a snapshot that is larger would hold up the appends behind it
_OUTCOMES = (Outcome.DONE, Outcome.FENCED, Outcome.GAP)
_FOUND = ("state", "node", "epoch", "game", "version", "connected", "attempts", "suspects", "state_version", "due_ms")

log = structlog.get_logger("gameserver.storage")


class RedisJournal(RedisLeases):
    """`JournalStore` over one Redis or Valkey server.

    `by_shard`: a script call never touches keys of two shards, as a cluster or a proxy in front of one demands.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        prefix: str = "gs",
        deadline_seconds: float = DEADLINE_SECONDS,
        wait_replicas: int = 0,
        wait_replicas_ms: int = 500,
        by_shard: bool = False,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        outcomes = self._metrics.snapshots_total
        self._saved, self._refused, self._failed = map(outcomes.labels, ("saved", "refused", "failed"))
        self._calls = RedisCalls(redis, deadline_seconds=deadline_seconds, metrics=self._metrics)
        held = partial(HeldCalls, redis, deadline_seconds=deadline_seconds, metrics=self._metrics)
        self._held = held(scripts=("append", "save"))
        # What is asked every second has a link of its own: a WAIT for replicas holds up what is behind it.
        super().__init__(held(scripts=("identity", "renew")), prefix=prefix)
        self._append_calls = AppendCalls(prefix, replicas=wait_replicas > 0)
        self._replicas, self._replicas_ms = wait_replicas, wait_replicas_ms
        self._wait_seconds = wait_replicas_ms / 1000 if wait_replicas else 0.0
        self._by_shard = by_shard
        # Recognises what this process asked for before: two processes with one node id never share a token.
        self._instance = secrets.token_hex(8)

    async def close(self) -> None:
        """Close its connections."""
        await self._held.close()
        await self._asks.close()
        await self._calls.close()

    def key(self, match_id: str, kind: str) -> str:
        """`gs:{s17}:<match>:<kind>`."""
        return f"{self._prefix}:{{s{shard_of(match_id)}}}:{match_id}:{kind}"

    async def identity(self) -> StoreIdentity:
        """See `JournalStore.identity`."""
        keys = [f"{self._shard(0)}:store", f"{self._shard(0)}:run"]
        [[run, epoch, since, now]] = await self._asks.run([script("identity", keys, [secrets.token_hex(8)])])
        return StoreIdentity(run.decode(), epoch.decode(), float(now) - float(since))

    # --- ownership ----------------------------------------------------------------------------------------------------
    async def create(
        self, match_id: str, node: str, *, meta: SnapshotMeta, snapshot: bytes, connected: int = 0
    ) -> Token:
        """See `JournalStore.create`."""
        _check_node(node)
        keys = self._keys(match_id, "token", "snapshot", "journal", "/matches", "/store", "ended")
        by = f"{self._instance}:{zlib.crc32(snapshot)}"
        args = [match_id, node, by, secrets.token_hex(8), meta.version, meta.game, meta.state_version, _now_ms()]
        answer = await self._write("create", keys, [*args, snapshot, connected])
        if answer[0] != b"done":
            raise MatchExists(f"The match id {match_id!r} is or was in use.")
        return Token(match_id, node, 1, answer[1].decode())

    async def claim(self, match_id: str, node: str, *, expect_epoch: int) -> Claimed:
        """See `JournalStore.claim`."""
        _check_node(node)
        keys = self._keys(match_id, "token", "/matches", "/due", "/store")
        by = f"{self._instance}:{expect_epoch}"
        args = [match_id, node, expect_epoch, by, secrets.token_hex(8), BASES_MAX]
        answer = await self._write("claim", keys, args)
        if answer[0] == b"broken":
            await self._set_aside(match_id, "The match's token is damaged.", None)
        if answer[0] != b"done":
            _refuse(match_id, answer)
        epoch, store, version, attempts, suspects = (part.decode() for part in answer[1:6])
        return Claimed(Token(match_id, node, int(epoch), store), int(version), int(attempts), int(suspects))

    async def reassert(
        self, token: Token, *, meta: SnapshotMeta, snapshot: bytes, base_versions: Mapping[int, int] | None = None
    ) -> Token:
        """See `JournalStore.reassert`."""
        epoch = token.epoch + 1
        bases = format_bases({**(base_versions or {}), epoch: meta.version}, BASES_MAX)
        keys = self._keys(token.match_id, "token", "snapshot", "journal", "/matches", "/due", "/store")
        args = [token.match_id, token.node, token.epoch, token.store, epoch, self._instance, secrets.token_hex(8)]
        args += [meta.version, meta.game, meta.state_version, _now_ms(), snapshot, bases]
        answer = await self._write("reassert", keys, args)
        if answer[0] != b"done":
            _refuse(token.match_id, answer)
        return Token(token.match_id, token.node, epoch, answer[1].decode())

    async def release(self, token: Token, *, asleep: bool = False, due_ms: int | None = None) -> Outcome:
        """See `JournalStore.release`."""
        keys = self._keys(token.match_id, "token", "/matches", "/due")
        args = [token.match_id, *_fence(token), "1" if asleep else "", "" if due_ms is None else due_ms]
        return _OUTCOMES[await self._write("release", keys, args)]

    async def end(self, token: Token) -> Outcome:
        """See `JournalStore.end`."""
        keys = self._keys(token.match_id, "token", "snapshot", "journal", "/matches", "/due")
        return _OUTCOMES[await self._write("end", keys, [token.match_id, *_fence(token), TOMBSTONE_MS])]

    # --- journal and snapshot -----------------------------------------------------------------------------------------
    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        """See `JournalStore.append`."""
        if not batch:
            return []
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self.send(batch, partial(settle, future))
        return await future

    def send(self, batch: Sequence[Append], told: Callable[[list[Outcome] | StoreUnavailable], None]) -> None:
        """See `JournalStore.send`."""
        calls = self._grouped(batch)
        if len(calls) == 1:
            commands = [self._append_calls.packed(list(batch))]
        else:
            commands = [self._append_calls.packed([batch[index] for index in call]) for call in calls]
        if self._replicas:
            commands.append(packed([self._wait()]))
        self._held.send(
            b"".join(commands), len(commands), partial(self._appended, calls, told), extra_seconds=self._wait_seconds
        )

    def _appended(
        self,
        calls: list[Sequence[int]],
        told: Callable[[list[Outcome] | StoreUnavailable], None],
        answer: list[Any] | StoreUnavailable,
    ) -> None:
        if isinstance(answer, StoreUnavailable):
            told(answer)
            return
        if self._replicas and answer[-1] < self._replicas:
            told(self._too_few(answer[-1]))
            return
        if len(calls) == 1:
            told([_OUTCOMES[one] for one in answer[0]])
            return
        outcomes = [Outcome.FENCED] * sum(map(len, calls))
        for call, answers in zip(calls, answer, strict=False):
            for index, one in zip(call, answers, strict=True):
                outcomes[index] = _OUTCOMES[one]
        told(outcomes)

    async def save(
        self, token: Token, version: int, meta: SnapshotMeta, payload: bytes, *, keep_after: int | None = None
    ) -> Outcome:
        """See `JournalStore.save`."""
        first_kept = min(version if keep_after is None else keep_after, version) + 1
        keys = self._keys(token.match_id, "token", "snapshot", "journal")
        args = [*_fence(token), version, meta.game, meta.state_version, _now_ms(), payload, first_kept]
        started = time.perf_counter()
        try:
            calls = self._held if len(payload) <= HELD_BYTES_MAX else self._calls
            outcome = _OUTCOMES[(await self._run_writes([script("save", keys, args)], calls))[0]]
        except StoreUnavailable:
            self._failed.inc()
            raise
        (self._saved if outcome is Outcome.DONE else self._refused).inc()
        self._metrics.snapshot_seconds.observe(time.perf_counter() - started)
        self._metrics.snapshot_bytes.observe(len(payload))
        return outcome

    async def recover(self, match_id: str) -> Recovered:
        """See `JournalStore.recover`."""
        token_key, snapshot_key, journal_key = self._keys(match_id, "token", "snapshot", "journal")
        reads: list[Command] = [("HGETALL", token_key), ("HGETALL", snapshot_key), ("XRANGE", journal_key, "-", "+")]
        answers = await self._calls.run(reads, atomic=True, errors=True)
        epoch: int | None = None
        try:
            token, snapshot, journal = (_readable(answer) for answer in answers)
            if token.get(b"state") in (b"ended", b"quarantined"):
                _refuse(match_id, [token[b"state"]])
            if not token:
                _refuse(match_id, [b"absent"])
            if token.get(b"epoch", b"").isdigit():
                epoch = int(token[b"epoch"])
            return assemble(match_id, token, snapshot, journal)
        except JournalCorrupt as error:
            await self._set_aside(match_id, error.message, epoch)

    async def quarantine(self, match_id: str, reason: str, *, expect_epoch: int | None = None) -> str | None:
        """See `JournalStore.quarantine`."""
        target = self.key(match_id, f"quarantined:{_now_ms()}")
        keys = self._keys(match_id, "token", "snapshot", "journal", "/matches", "/due", "/quarantined")
        keys += [target, f"{target}:journal", f"{target}:token"]
        args = [match_id, reason, _now_ms(), "" if expect_epoch is None else expect_epoch]
        answer = await self._write("quarantine", keys, args)
        if answer[0] not in (b"moved", b"done"):
            return None
        if answer[0] == b"moved":
            self._metrics.snapshots_quarantined_total.inc()
            log.error("match_quarantined", match=match_id, key=target, reason=reason)
        return str(answer[1].decode())

    async def note_suspect(self, token: Token, reason: str) -> Outcome:
        """See `JournalStore.note_suspect`."""
        keys = self._keys(token.match_id, "token")
        return _OUTCOMES[await self._write("suspect", keys, [*_fence(token), reason or "no reason given"])]

    async def clear_suspect(self, token: Token) -> Outcome:
        """See `JournalStore.clear_suspect`."""
        keys = self._keys(token.match_id, "token")
        return _OUTCOMES[await self._write("suspect", keys, [*_fence(token), ""])]

    # --- looking ------------------------------------------------------------------------------------------------------
    async def find(self, match_ids: Sequence[str]) -> list[OwnedMatch | None]:
        """See `JournalStore.find`."""
        if not match_ids:
            return []
        reads: list[Command] = [("HMGET", self.key(match_id, "token"), *_FOUND) for match_id in match_ids]
        answers = await self._calls.run(reads, errors=True)
        return [_found(match_id, answer) for match_id, answer in zip(match_ids, answers, strict=True)]

    async def owned(self) -> list[OwnedMatch]:
        """See `JournalStore.owned`."""
        shards = [self._shard(shard) for shard in range(SHARDS)]
        answers = await self._calls.run([script("owned", [f"{shard}:matches"], [f"{shard}:"]) for shard in shards])
        return [
            _owned(answer[at].decode(), answer[at + 1 : at + 9])
            for answer in answers
            for at in range(0, len(answer), 9)
        ]

    async def due(self, until_ms: int, *, limit: int = 100) -> list[str]:
        """See `JournalStore.due`."""
        reads: list[Command] = [
            ("ZRANGEBYSCORE", f"{self._shard(shard)}:due", "-inf", until_ms, "WITHSCORES", "LIMIT", 0, limit)
            for shard in range(SHARDS)
        ]
        answers = await self._asks.run(reads)
        found = sorted((float(score), match.decode()) for answer in answers for match, score in _pairs(answer))
        return [match_id for _, match_id in found[:limit]]

    # --- the way there ------------------------------------------------------------------------------------------------
    def _grouped(self, batch: Sequence[Append]) -> list[Sequence[int]]:
        """Which entries go in one script call; those of one match stay in order."""
        if not self._by_shard:
            everything = range(len(batch))
            return [everything[at : at + APPENDS_PER_SCRIPT] for at in everything[::APPENDS_PER_SCRIPT]]
        groups: dict[int, list[int]] = {}
        for index, entry in enumerate(batch):
            groups.setdefault(shard_of(entry.token.match_id), []).append(index)
        return list(groups.values())

    async def _write(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return (await self._run_writes([script(name, keys, args)], self._calls))[0]

    async def _run_writes(self, commands: list[Command], calls: RedisCalls | HeldCalls) -> list[Any]:
        """Run them, and wait for the replicas: on the same connection, or WAIT would not know for what."""
        if not commands:
            return []
        if not self._replicas:
            return await calls.run(commands)
        *answers, reached = await calls.run([*commands, self._wait()], extra_seconds=self._wait_seconds)
        if reached < self._replicas:
            raise self._too_few(reached)
        return answers

    def _wait(self) -> Command:
        return ("WAIT", self._replicas, self._replicas_ms)

    def _too_few(self, reached: int) -> StoreUnavailable:
        return StoreUnavailable(f"Redis: only {reached} of {self._replicas} replicas have it so far")

    async def _set_aside(self, match_id: str, problem: str, epoch: int | None) -> NoReturn:
        moved_to = await self.quarantine(match_id, problem, expect_epoch=epoch)
        where = f"It was moved to {moved_to}." if moved_to else "It was left where it is."
        raise JournalCorrupt(f"Match {match_id}: {problem} {where}")

    def _keys(self, match_id: str, *kinds: str) -> list[str]:
        """Keys of the match, and with a slash in front those of its shard."""
        shard = self._shard(shard_of(match_id))
        return [f"{shard}:{kind[1:]}" if kind[0] == "/" else f"{shard}:{match_id}:{kind}" for kind in kinds]

    def _shard(self, shard: int) -> str:
        return f"{self._prefix}:{{s{shard}}}"


def make_journal(url: str, settings: RedisSettings, metrics: Metrics | None = None) -> RedisJournal:
    """A journal with a pool of its own, so that nothing else that talks to Redis makes it wait.

    A thread with a loop of its own (one that renews a lease, or watches for code that hangs) makes its own, and closes
    it: clients belong to the loop that they were first used in.
    """
    timeout = settings.journal_timeout_seconds
    answer = timeout + (settings.wait_replicas_ms / 1000 if settings.wait_replicas else 0)
    own = settings.model_copy(
        update={
            "pool_max": settings.journal_pool_max,
            "pool_wait_seconds": timeout,
            "timeout_seconds": answer,
            "connect_timeout_seconds": min(timeout, settings.connect_timeout_seconds),
        }
    )
    return RedisJournal(
        make_redis(url, own),
        prefix=settings.prefix,
        deadline_seconds=timeout,
        wait_replicas=settings.wait_replicas,
        wait_replicas_ms=settings.wait_replicas_ms,
        metrics=metrics,
    )


def _fence(token: Token) -> tuple[str, int, str]:
    return token.node, token.epoch, token.store


def _check_node(node: str) -> None:
    if not node:
        raise ValueError("a node's id is not empty: an empty one stands for a match without an owner")


def _refuse(match_id: str, answer: Sequence[bytes]) -> NoReturn:
    """The error for what a script found instead of a match that can be had."""
    found = answer[0].decode()
    if found == "lost":
        raise ClaimLost(
            f"Match {match_id} is in epoch {answer[1].decode()}, owned by {answer[2].decode() or 'nobody'}."
        )
    if found == "ended":
        raise MatchEnded(f"Match {match_id} has ended.")
    if found == "quarantined":
        raise MatchQuarantined(f"Match {match_id} is quarantined.")
    raise MatchNotFound(f"The store has no match {match_id}.")


def _readable(answer: Any) -> Any:
    """A key of another type is damage of this match; any other error is the store's."""
    if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
        raise JournalCorrupt("One of the match's keys holds something else.")
    if isinstance(answer, RedisError):
        raise StoreUnavailable(f"Redis: {answer}")
    return answer


def _found(match_id: str, answer: Any) -> OwnedMatch | None:
    if isinstance(answer, RedisError):
        return None
    state, *fields, due_ms = (part or b"" for part in answer)
    if state not in (b"live", b"asleep"):
        return None
    owned = _owned(match_id, fields)
    return replace(owned, asleep=state == b"asleep", due_ms=int(due_ms) if due_ms else None)


def _owned(match_id: str, fields: Sequence[bytes]) -> OwnedMatch:
    """One whose token is damaged is listed too, in no epoch: whoever claims it finds out and sets it aside."""
    node, epoch, game, version, *counts = fields
    connected, attempts, suspects, state_version = (_number(count, 0) for count in counts)
    return OwnedMatch(
        match_id,
        node.decode(errors="replace"),
        _number(epoch, -1),
        game.decode(errors="replace"),
        _number(version, 0),
        connected,
        attempts,
        suspects,
        state_version=state_version,
    )


def _number(text: bytes, otherwise: int) -> int:
    return int(text) if text.isdigit() else otherwise


def _pairs(answer: Sequence[Any]) -> Sequence[tuple[Any, Any]]:
    """Members with scores, however the protocol version at hand groups them."""
    if answer and isinstance(answer[0], (list, tuple)):
        return [(member, score) for member, score in answer]
    return list(zip(answer[::2], answer[1::2], strict=True))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

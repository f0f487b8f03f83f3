"""The journal store in memory, for simulations: it passes the same contract tests as the one on Redis.

`MemoryServer` is the store; each node has a `MemoryJournal` of its own on it. What happens to a call on its way there
and back is the business of its `Link`: it may wait (on the simulation's clock), or raise `StoreUnavailable`.
"""

from __future__ import annotations

import asyncio
import copy
import math
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from gameserver.errors import (
    ClaimLost,
    JournalCorrupt,
    MatchEnded,
    MatchExists,
    MatchNotFound,
    MatchQuarantined,
    StoreUnavailable,
)
from gameserver.storage import (
    Append,
    Claimed,
    NodeInfo,
    Outcome,
    OwnedMatch,
    Recovered,
    SnapshotMeta,
    StoreIdentity,
    Token,
)
from gameserver.storage.journal_codec import assemble, encode_entry, format_bases
from gameserver.storage.journal_ports import BASES_MAX

TOMBSTONE_SECONDS = 30 * 86_400.0
T = TypeVar("T")


class Link(Protocol):
    """The way between a node and the store."""

    async def request(self) -> None:
        """Before the store has the call: raise, and it never gets it."""

    async def reply(self) -> None:
        """After the store has done it: raise, and the caller does not know."""


@dataclass(slots=True)
class HeldMatch:
    """What the store has of one match."""

    state: str
    node: str
    epoch: int
    store: str
    by: str
    version: int
    base: int
    bases: dict[int, int]
    game: str
    connected: int = 0
    attempts: int = 0
    suspects: int = 0
    suspect_epoch: int | None = None
    due_ms: int | None = None
    meta: SnapshotMeta | None = None
    snapshot: bytes | None = None
    journal: dict[int, bytes] = field(default_factory=dict)
    ended_at: float = 0.0
    moved_to: str | None = None

    def token_fields(self) -> dict[bytes, bytes]:
        """The token as Redis has it."""
        fields = {"version": self.version, "epoch": self.epoch, "attempts": self.attempts}
        known = {name.encode(): str(value).encode() for name, value in fields.items()}
        return {**known, b"bases": format_bases(self.bases, BASES_MAX).encode()}

    def snapshot_fields(self) -> dict[bytes, bytes]:
        """The snapshot as Redis has it."""
        if self.meta is None or self.snapshot is None:
            return {}
        fields = {name: getattr(self.meta, name) for name in ("game", "epoch", "version", "state_version")}
        known = {name.encode(): str(value).encode() for name, value in fields.items()}
        return {**known, b"payload": self.snapshot}


class MemoryServer:
    """The store itself. `clock` gives seconds; `seed` makes its random ids repeatable."""

    def __init__(self, clock: Callable[[], float], *, seed: int = 0) -> None:
        self.clock = clock
        self._random = random.Random(seed)
        self.matches: dict[str, HeldMatch] = {}
        self.leases: dict[str, tuple[NodeInfo, float]] = {}
        self.epoch: str | None = None
        self.run_id = self.random_id()
        self.asked: tuple[str, float] | None = None
        """The run that was asked last, and since when."""

    def random_id(self) -> str:
        """Like `secrets.token_hex(8)`, but the same in each run."""
        return f"{self._random.getrandbits(64):016x}"

    def live_nodes(self) -> list[NodeInfo]:
        """Those whose lease runs."""
        now = self.clock()
        return [node for _, (node, until) in sorted(self.leases.items()) if until > now]

    def store_epoch(self) -> str:
        """Made when it is first needed."""
        if self.epoch is None:
            self.epoch = self.random_id()
        return self.epoch

    def identity(self) -> StoreIdentity:
        """Which store this is."""
        now = self.clock()
        if self.asked is None or self.asked[0] != self.run_id:
            self.asked = (self.run_id, -math.inf if self.asked is None else now)
        return StoreIdentity(self.run_id, self.store_epoch(), now - self.asked[1])

    def wipe(self) -> None:
        """It comes back empty."""
        self.matches.clear()
        self.leases.clear()
        self.epoch = self.asked = None
        self.restart()

    def restart(self) -> None:
        """It was restarted and has everything."""
        self.run_id = self.random_id()

    def save_point(self) -> object:
        """What it holds now, for `rewind`."""
        return copy.deepcopy((self.matches, self.leases, self.epoch, self.asked))

    def rewind(self, point: object) -> None:
        """It was restarted and has only what it had then."""
        assert isinstance(point, tuple)
        self.matches, self.leases, self.epoch, self.asked = copy.deepcopy(point)
        self.restart()

    def get(self, match_id: str) -> HeldMatch | None:
        """The match, unless its tombstone is gone."""
        held = self.matches.get(match_id)
        if held is not None and held.state == "ended" and self.clock() >= held.ended_at + TOMBSTONE_SECONDS:
            del self.matches[match_id]
            return None
        return held


class MemoryJournal:
    """`JournalStore` of one process on a `MemoryServer`."""

    def __init__(self, server: MemoryServer, link: Link | None = None) -> None:
        self.server = server
        self.link = link
        self._instance = server.random_id()
        self._sending: asyncio.Task[None] | None = None

    async def _call(self, run: Callable[[], T]) -> T:
        if self.link is None:
            return run()
        await self.link.request()
        try:
            return run()
        finally:
            await self.link.reply()

    # --- ownership ----------------------------------------------------------------------------------------------------
    async def identity(self) -> StoreIdentity:
        return await self._call(self.server.identity)

    async def create(
        self, match_id: str, node: str, *, meta: SnapshotMeta, snapshot: bytes, connected: int = 0
    ) -> Token:
        _check_node(node)
        by = f"{self._instance}:{zlib.crc32(snapshot)}"

        def run() -> Token:
            held = self.server.get(match_id)
            if held is not None:
                if (held.by, held.epoch, held.node) != (by, 1, node):
                    raise MatchExists(f"The match id {match_id!r} is or was in use.")
                return Token(match_id, node, 1, held.store)
            self._put(match_id, node, 1, by, meta, snapshot, {1: meta.version}).connected = connected
            return Token(match_id, node, 1, self.server.store_epoch())

        return await self._call(run)

    async def claim(self, match_id: str, node: str, *, expect_epoch: int) -> Claimed:
        _check_node(node)
        by = f"{self._instance}:{expect_epoch}"

        def run() -> Claimed:
            held = self._alive(match_id)
            if (held.node, held.by) != (node, by):
                if held.epoch != expect_epoch:
                    raise ClaimLost(f"Match {match_id} is in epoch {held.epoch}, owned by {held.node or 'nobody'}.")
                held.state, held.node, held.by = "live", node, by
                held.epoch = max(held.epoch + 1, int(self.server.clock() * 1_000_000))
                held.store, held.base, held.due_ms = self.server.store_epoch(), held.version, None
                held.bases = _last({**held.bases, held.epoch: held.version})
                held.attempts += 1
            return Claimed(Token(match_id, node, held.epoch, held.store), held.version, held.attempts, held.suspects)

        return await self._call(run)

    async def reassert(
        self, token: Token, *, meta: SnapshotMeta, snapshot: bytes, base_versions: Mapping[int, int] | None = None
    ) -> Token:
        epoch, match_id = token.epoch + 1, token.match_id

        def run() -> Token:
            held = self.server.get(match_id)
            if held is not None:
                self._alive(match_id)
                theirs, ours = (held.epoch, held.version), (token.epoch, meta.version)
                if (held.epoch, held.node, held.by) == (epoch, token.node, self._instance):
                    if held.version >= meta.version:
                        return Token(match_id, token.node, epoch, held.store)
                elif theirs > ours or (theirs == ours and held.node != token.node):
                    raise ClaimLost(f"Match {match_id} is in epoch {held.epoch}, owned by {held.node or 'nobody'}.")
            bases = _last({**(base_versions or {}), epoch: meta.version})
            self._put(match_id, token.node, epoch, self._instance, meta, snapshot, bases)
            return Token(match_id, token.node, epoch, self.server.store_epoch())

        return await self._call(run)

    async def release(self, token: Token, *, asleep: bool = False, due_ms: int | None = None) -> Outcome:
        def run() -> Outcome:
            held = self.server.get(token.match_id)
            if held is None or held.state not in ("live", "asleep") or held.node not in (token.node, ""):
                return Outcome.FENCED
            if (held.epoch, held.store) != (token.epoch, token.store):
                return Outcome.FENCED
            held.node, held.state, held.connected = "", "asleep" if asleep else "live", 0
            held.due_ms = due_ms if asleep else None
            return Outcome.DONE

        return await self._call(run)

    async def end(self, token: Token) -> Outcome:
        def run() -> Outcome:
            held = self.server.get(token.match_id)
            if held is None or (held.epoch, held.store) != (token.epoch, token.store):
                return Outcome.FENCED
            if held.state != "ended" and held.node != token.node:
                return Outcome.FENCED
            held.state, held.node, held.ended_at, held.by = "ended", "", self.server.clock(), ""
            held.meta, held.snapshot, held.journal = None, None, {}
            return Outcome.DONE

        return await self._call(run)

    # --- journal and snapshot -----------------------------------------------------------------------------------------
    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        return await self._call(lambda: [self._append(entry) for entry in batch])

    def send(self, batch: Sequence[Append], told: Callable[[list[Outcome] | StoreUnavailable], None]) -> None:
        self._sending = asyncio.create_task(self._send(batch, told, self._sending))

    async def _send(
        self,
        batch: Sequence[Append],
        told: Callable[[list[Outcome] | StoreUnavailable], None],
        before: asyncio.Task[None] | None,
    ) -> None:
        answer: list[Outcome] | StoreUnavailable
        try:
            answer = await self.append(batch)
        except StoreUnavailable as error:
            answer = error
        if before is not None:
            await asyncio.wait((before,))
        told(answer)

    def _append(self, entry: Append) -> Outcome:
        held = self._fenced(entry.token)
        if held is None:
            return Outcome.FENCED
        if entry.base < held.base or entry.base > held.version:
            return Outcome.GAP
        if entry.version > held.version:
            held.journal[entry.version] = encode_entry(entry)
            held.version = entry.version
            if entry.connected is not None:
                held.connected = entry.connected
        return Outcome.DONE

    async def save(
        self, token: Token, version: int, meta: SnapshotMeta, payload: bytes, *, keep_after: int | None = None
    ) -> Outcome:
        dropped = min(version if keep_after is None else keep_after, version)

        def run() -> Outcome:
            held = self._fenced(token)
            if held is None:
                return Outcome.FENCED
            if version < held.base:
                return Outcome.GAP
            held.attempts = 0
            if held.meta is None or held.meta.version <= version:
                held.meta = SnapshotMeta(meta.game, token.epoch, version, meta.state_version)
                held.snapshot = payload
                held.journal = {at: entry for at, entry in held.journal.items() if at > dropped}
                held.version = max(held.version, version)
            return Outcome.DONE

        return await self._call(run)

    async def recover(self, match_id: str) -> Recovered:
        def run() -> Recovered:
            held = self._alive(match_id)
            journal = [(b"%d-0" % version, {b"e": data}) for version, data in held.journal.items()]
            try:
                return assemble(match_id, held.token_fields(), held.snapshot_fields(), journal)
            except JournalCorrupt as error:
                moved_to = self._quarantine(match_id, held.epoch)
                raise JournalCorrupt(f"Match {match_id}: {error.message} It was moved to {moved_to}.") from None

        return await self._call(run)

    async def quarantine(self, match_id: str, reason: str, *, expect_epoch: int | None = None) -> str | None:
        return await self._call(lambda: self._quarantine(match_id, expect_epoch))

    def _quarantine(self, match_id: str, expect_epoch: int | None) -> str | None:
        held = self.server.get(match_id)
        if held is None or held.state == "ended":
            return None
        if held.state != "quarantined":
            if expect_epoch not in (None, held.epoch):
                return None
            held.state, held.node, held.moved_to = "quarantined", "", f"{match_id}:quarantined"
        return held.moved_to

    async def note_suspect(self, token: Token, reason: str) -> Outcome:
        def run() -> Outcome:
            held = self._fenced(token)
            if held is None:
                return Outcome.FENCED
            if held.suspect_epoch != token.epoch:
                held.suspect_epoch = token.epoch
                held.suspects += 1
            return Outcome.DONE

        return await self._call(run)

    async def clear_suspect(self, token: Token) -> Outcome:
        def run() -> Outcome:
            held = self._fenced(token)
            if held is None:
                return Outcome.FENCED
            held.suspects, held.suspect_epoch = 0, None
            return Outcome.DONE

        return await self._call(run)

    # --- looking ------------------------------------------------------------------------------------------------------
    async def find(self, match_ids: Sequence[str]) -> list[OwnedMatch | None]:
        return await self._call(lambda: [self._owned(match_id) for match_id in match_ids])

    async def owned(self) -> list[OwnedMatch]:
        def run() -> list[OwnedMatch]:
            found = (self._owned(match_id) for match_id in list(self.server.matches))
            return [one for one in found if one is not None and not one.asleep]

        return await self._call(run)

    async def due(self, until_ms: int, *, limit: int = 100) -> list[str]:
        def run() -> list[str]:
            sleeping = ((held.due_ms, name) for name, held in self.server.matches.items() if held.state == "asleep")
            due = sorted((due_ms, name) for due_ms, name in sleeping if due_ms is not None and due_ms <= until_ms)
            return [name for _, name in due[:limit]]

        return await self._call(run)

    # --- leases -------------------------------------------------------------------------------------------------------
    async def renew(self, node: NodeInfo, ttl_ms: int) -> bool:
        def run() -> bool:
            now = self.server.clock()
            held = self.server.leases.get(node.id)
            if held is not None and held[1] > now and held[0].started != node.started:
                return False
            self.server.leases[node.id] = (node, now + ttl_ms / 1000)
            return True

        return await self._call(run)

    async def nodes(self) -> list[NodeInfo]:
        return await self._call(self.server.live_nodes)

    async def retire(self, node_id: str) -> None:
        await self._call(lambda: self.server.leases.pop(node_id, None))

    # --- within the store ---------------------------------------------------------------------------------------------
    def _fenced(self, token: Token) -> HeldMatch | None:
        """The match if this token may write it."""
        held = self.server.get(token.match_id)
        if held is None or (held.node, held.epoch, held.store) != (token.node, token.epoch, token.store):
            return None
        return held

    def _alive(self, match_id: str) -> HeldMatch:
        held = self.server.get(match_id)
        if held is None:
            raise MatchNotFound(f"The store has no match {match_id}.")
        if held.state == "ended":
            raise MatchEnded(f"Match {match_id} has ended.")
        if held.state == "quarantined":
            raise MatchQuarantined(f"Match {match_id} is quarantined.")
        return held

    def _put(
        self, match_id: str, node: str, epoch: int, by: str, meta: SnapshotMeta, snapshot: bytes, bases: dict[int, int]
    ) -> HeldMatch:
        version, store = meta.version, self.server.store_epoch()
        held = HeldMatch("live", node, epoch, store, by, version, version, bases, meta.game)
        held.meta = SnapshotMeta(meta.game, epoch, version, meta.state_version)
        held.snapshot = snapshot
        self.server.matches[match_id] = held
        return held

    def _owned(self, match_id: str) -> OwnedMatch | None:
        held = self.server.get(match_id)
        if held is None or held.state not in ("live", "asleep"):
            return None
        return OwnedMatch(
            match_id, held.node, held.epoch, held.game, held.version, held.connected, held.attempts, held.suspects,
            asleep=held.state == "asleep", due_ms=held.due_ms,
            state_version=held.meta.state_version if held.meta is not None else 0,
        )  # fmt: skip


def _last(bases: Mapping[int, int]) -> dict[int, int]:
    return {epoch: bases[epoch] for epoch in sorted(bases)[-BASES_MAX:]}


def _check_node(node: str) -> None:
    if not node:
        raise ValueError("a node's id is not empty: an empty one stands for a match without an owner")
    return

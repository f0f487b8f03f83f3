"""The journal writer: what the matches of this node committed goes to the store, many matches in one call.

At most two writes are under way at a time, never two of one match; what is committed meanwhile waits and goes with the
next one. An urgent commit starts a write at once, all others are collected for `interval_seconds`. A write whose
outcome is unknown is repeated, the very same, until the store answers: appends carry the versions they lead from and
to, so a repeated one is recognised. What the writer holds is bounded by time: past `unjournaled_seconds_max` the match
is told to stand still.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from gameserver.errors import GameServerError, StoreUnavailable
from gameserver.match import encode_records
from gameserver.storage import Append, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.cluster.ports import Clock
    from gameserver.storage import JournalStore, SnapshotMeta, Token

log = structlog.get_logger("gameserver.cluster")

RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
WRITES_MAX = 2  # what comes while one is under way need not wait for its answer
BATCH_MATCHES_MAX = 512
BATCH_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class JournalPolicy:
    """When commits are written, and how long they may wait."""

    interval_seconds: float = 0.1
    gate_timeout_seconds: float = 5.0  # after this an action's outcome is said to be unknown
    unjournaled_seconds_max: float = 30.0  # after this the match stands still rather than risk more
    snapshot_bytes_factor: float = 4.0  # a journal that outgrew the snapshot this many times is worth a new one


class JournaledMatch(Protocol):
    """What the writer tells a match."""

    match_id: str

    @property
    def connected(self) -> int:
        """How many players are connected: matches that are being played are taken over first."""

    def fenced(self) -> None:
        """Another node owns the match: stop at once, write and send nothing more."""

    def overdue(self, version: int) -> None:
        """What was committed up to this version still waits: those who wait for an answer are told so."""

    def stand_still(self) -> None:
        """Too much would be lost: nothing more may happen until `go_on`."""

    def go_on(self) -> None:
        """The store has everything again."""


@dataclass(slots=True)
class _Entry:
    """One match's place in the writer."""

    match: JournaledMatch
    token: Token | None
    stored: int
    """The version the store has."""
    creation: tuple[str, SnapshotMeta, bytes] | None = None
    records: list[bytes] = field(default_factory=list)
    last: int = 0
    """The version of the last record."""
    urgent: bool = False
    since: float = 0.0
    """When the oldest record that is not stored came."""
    flying: Append | None = None
    aloft: list[bytes] = field(default_factory=list)
    """The records of `flying`."""
    journaled: bool = True
    """False: only snapshots of it are written."""
    refused: bool = False
    """The store does not take it under this token: it waits until somebody has looked into that."""
    waiting: deque[tuple[int, float, Callable[[], None]]] = field(default_factory=deque)
    told_overdue: int = 0
    still: bool = False
    bytes_since_snapshot: int = 0
    snapshot_bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    saving: int = 0
    """Snapshots that are being written, or wait for that: writes of other matches need not wait for them."""

    @property
    def due(self) -> bool:
        """Is there something to write now?"""
        return self.urgent and not (self.refused or self.saving or self.lock.locked())


class JournalWriter:
    """Writes the records of all matches of this node."""

    def __init__(self, store: JournalStore, clock: Clock, policy: JournalPolicy) -> None:
        self._store = store
        self._clock = clock
        self.policy = policy
        self._entries: dict[str, _Entry] = {}
        self._dirty: dict[str, _Entry] = {}
        self._wake = asyncio.Event()
        self._timer: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._down_since: float | None = None
        self.on_refused: Callable[[str], None] | None = None
        """Looks into a match whose write was refused, and answers by `reasserted` or `forget`. None: it is fenced."""
        self.appends = 0
        self.rounds = 0

    # --- life ---------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to write."""
        self._tasks = [asyncio.create_task(self._run(), name="journal writer") for _ in range(WRITES_MAX)]
        self._tasks.append(asyncio.create_task(self._watch_overdue(), name="journal watch"))

    async def stop(self, seconds: float) -> bool:
        """Write what is left, at most so long; False: something is left unwritten."""
        deadline = self._clock.now() + seconds
        while self._dirty and self._clock.now() < deadline:
            for entry in self._dirty.values():
                entry.urgent = True
            self._wake.set()
            await asyncio.sleep(0.005)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return not self._dirty

    @property
    def down_seconds(self) -> float:
        """For how long the store has not answered; 0 while it does."""
        return 0.0 if self._down_since is None else self._clock.now() - self._down_since

    # --- matches ------------------------------------------------------------------------------------------------------
    def create(
        self, match: JournaledMatch, node: str, meta: SnapshotMeta, snapshot: bytes, *, journaled: bool = True
    ) -> None:
        """A new match: its first snapshot is written before its first record, in the background."""
        creation = (node, meta, snapshot)
        entry = _Entry(match, None, meta.version, creation=creation, last=meta.version, journaled=journaled)
        entry.snapshot_bytes = len(snapshot)
        entry.since = self._clock.now()
        entry.urgent = True
        self._entries[match.match_id] = entry
        self._mark(entry)

    def adopt(self, match: JournaledMatch, token: Token, version: int, *, journaled: bool = True) -> None:
        """A match that was claimed and recovered up to `version`."""
        self._entries[match.match_id] = _Entry(match, token, version, last=version, journaled=journaled)

    def holding(self, match_id: str) -> tuple[Token, int] | None:
        """The token of a match, and the version that the store is believed to have; None without a token."""
        entry = self._entries.get(match_id)
        return None if entry is None or entry.token is None else (entry.token, entry.stored)

    def reasserted(self, token: Token, version: int) -> None:
        """The store was given back what it had lost, up to this version, and goes on under this token."""
        entry = self._entries.get(token.match_id)
        if entry is None:
            return
        entry.token, entry.stored = token, version
        # What was under way under the token before is refused, though a part of it may be later than this version.
        records = entry.aloft + entry.records
        later = max(0, entry.last - version)  # each record is one version
        entry.records = records[len(records) - later :]
        entry.flying, entry.aloft = None, []
        entry.refused, entry.bytes_since_snapshot = False, 0
        entry.since = self._clock.now()
        self._settled(entry)
        self._wake.set()

    def token(self, match_id: str) -> Token | None:
        """The token under which a match is written; None before its creation was answered, or if it is not here."""
        entry = self._entries.get(match_id)
        return entry.token if entry is not None else None

    def forget(self, match_id: str) -> None:
        """The match is not run here any more: nothing more is written or released."""
        entry = self._entries.pop(match_id, None)
        self._dirty.pop(match_id, None)
        if entry is not None:
            entry.waiting.clear()

    def commit(self, match_id: str, version: int, record: bytes, *, urgent: bool) -> None:
        """Take one flush's record over. Versions of a match follow each other without a gap."""
        entry = self._entries.get(match_id)
        if entry is None:
            return
        if not entry.records and entry.flying is None:
            entry.since = self._clock.now()
        entry.records.append(record)
        entry.last = version
        entry.urgent = entry.urgent or urgent
        self._mark(entry)

    def is_durable(self, match_id: str, version: int) -> bool:
        """Has the store everything up to this version?"""
        entry = self._entries.get(match_id)
        return entry is not None and entry.stored >= version and entry.token is not None

    def when_durable(self, match_id: str, version: int, callback: Callable[[], None]) -> None:
        """Call back once the store has this version; in the order of the calls, per match. Never before returning."""
        entry = self._entries.get(match_id)
        if entry is not None:
            entry.waiting.append((version, self._clock.now(), callback))
            if entry.stored >= version and entry.token is not None:
                self._clock.call_soon(lambda: self._release(entry))

    def wants_snapshot(self, match_id: str) -> bool:
        """Has the journal outgrown the snapshot?"""
        entry = self._entries.get(match_id)
        if entry is None or entry.token is None:
            return False
        return entry.bytes_since_snapshot > self.policy.snapshot_bytes_factor * max(entry.snapshot_bytes, 4096)

    async def save(self, match_id: str, version: int, meta: SnapshotMeta, payload: bytes) -> bool:
        """Write a snapshot and trim the journal behind it. False: refused, the match is not ours any more.

        Raises StoreUnavailable when the outcome is unknown: save again.
        """
        entry = self._entries.get(match_id)
        if entry is None or not await self.settle(match_id, version):
            return False
        entry.saving += 1
        try:
            async with entry.lock:
                if entry.token is None:
                    return False
                outcome = await self._store.save(entry.token, version, meta, payload)
                if outcome is Outcome.DONE:
                    entry.snapshot_bytes, entry.bytes_since_snapshot = len(payload), 0
                    if not entry.journaled:
                        entry.stored = max(entry.stored, version)
        finally:
            entry.saving -= 1
            self._wake.set()
        if outcome is not Outcome.DONE:
            self._refuse(entry)
        return outcome is Outcome.DONE

    async def end(self, token: Token) -> None:
        """The match is over: all that the store has of it goes. Raises StoreUnavailable: then do it again."""
        self.forget(token.match_id)
        await self._store.end(token)

    async def settle(self, match_id: str, version: int) -> bool:
        """Return when the store has this version of the match. False: it is not ours any more.

        Raises StoreUnavailable when the store does not take it within the gate's timeout.
        """
        deadline = self._clock.now() + self.policy.gate_timeout_seconds
        while (entry := self._entries.get(match_id)) is not None:
            if entry.token is not None and (entry.stored >= version or not entry.journaled):
                return True
            if self._clock.now() > deadline:
                raise StoreUnavailable("The journal is behind: a snapshot of what it does not have is not worth much.")
            entry.urgent = True
            self._wake.set()
            await asyncio.sleep(0.005)
        return False

    async def release(self, match_id: str, *, asleep: bool = False, due_ms: int | None = None) -> bool:
        """Let another node have the match. Write its snapshot first. False: it was not ours any more.

        Raises StoreUnavailable when the outcome is unknown: release again.
        """
        entry = self._entries.get(match_id)
        if entry is None or entry.token is None:
            return False
        outcome = await self._store.release(entry.token, asleep=asleep, due_ms=due_ms)
        if outcome is Outcome.DONE:
            self.forget(match_id)
        else:
            self._refuse(entry)
        return outcome is Outcome.DONE

    # --- writing ------------------------------------------------------------------------------------------------------
    def _mark(self, entry: _Entry) -> None:
        self._dirty[entry.match.match_id] = entry
        if entry.refused:
            return
        if entry.urgent:
            self._wake.set()
        elif self._timer is None:
            self._timer = self._clock.call_at(self._clock.now() + self.policy.interval_seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        for entry in self._dirty.values():
            entry.urgent = True
        self._wake.set()

    async def _run(self) -> None:
        """One write after the other, of what no other write is about."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            due = [entry for entry in self._dirty.values() if entry.due]
            if not due:
                continue
            new = [entry for entry in due if entry.token is None]
            chosen = (new or due)[:BATCH_MATCHES_MAX]
            if len(chosen) < len(due):
                self._wake.set()  # the rest need not wait for these
            for entry in chosen:
                await entry.lock.acquire()  # at once: nobody has it
            try:
                await (asyncio.gather(*map(self._create, new)) if new else self._write(chosen))
            except asyncio.CancelledError:
                raise
            except Exception as failure:
                log.error("journal_round_failed", exc_info=failure)
                await asyncio.sleep(RETRY_SECONDS[-1])
            finally:
                for entry in chosen:
                    entry.lock.release()
            if any(entry.due for entry in self._dirty.values()):
                self._wake.set()

    async def _write(self, due: list[_Entry]) -> None:
        loaded: list[tuple[_Entry, Append]] = []
        size = 0
        for entry in due:
            if size > BATCH_BYTES_MAX:
                break
            self._load(entry)
            if entry.flying is not None:
                loaded.append((entry, entry.flying))
                size += len(entry.flying.payload)
        outcomes = await self._until_answered([append for _, append in loaded]) if loaded else []
        self.rounds += 1
        self.appends += len(loaded)
        for (entry, append), outcome in zip(loaded, outcomes, strict=True):
            self._answered(entry, append, outcome)

    def _load(self, entry: _Entry) -> None:
        """Makes one append of all records that wait."""
        if entry.flying is None and entry.records and entry.token is not None:
            payload = encode_records(entry.records)
            entry.flying = Append(entry.token, entry.stored, entry.last, payload, connected=entry.match.connected)
            entry.aloft, entry.records = entry.records, []
        entry.urgent = False

    async def _until_answered(self, batch: list[Append]) -> list[Outcome]:
        attempt = 0
        while True:
            try:
                outcomes = await self._store.append(batch)
            except StoreUnavailable as error:
                if self._down_since is None:
                    self._down_since = self._clock.now()
                    log.warning("journal_unavailable", error=error.message, retry="until it answers")
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            if self._down_since is not None:
                log.info("journal_works_again", seconds=round(self.down_seconds, 2))
                self._down_since = None
            return outcomes

    async def _create(self, entry: _Entry) -> None:
        if entry.creation is None:
            return
        node, meta, snapshot = entry.creation
        try:
            entry.token = await self._store.create(entry.match.match_id, node, meta=meta, snapshot=snapshot)
        except StoreUnavailable as error:
            if self._down_since is None:
                self._down_since = self._clock.now()
                log.warning("journal_unavailable", error=error.message, retry="until it answers")
            await asyncio.sleep(RETRY_SECONDS[1])
            return
        except GameServerError as error:
            log.error("match_not_created_in_store", match=entry.match.match_id, error=error.message)
            self._fenced(entry)
            return
        entry.creation = None
        self._down_since = None
        self._settled(entry)

    def _answered(self, entry: _Entry, append: Append, outcome: Outcome) -> None:
        if self._entries.get(entry.match.match_id) is not entry or entry.flying is not append:
            return  # gone, or put back under another token meanwhile
        if outcome is not Outcome.DONE:
            log.error("journal_refused", match=entry.match.match_id, outcome=outcome.value, version=append.version)
            self._refuse(entry)
            return
        entry.flying, entry.aloft = None, []
        entry.stored = append.version
        entry.bytes_since_snapshot += len(append.payload)
        entry.since = self._clock.now()
        self._settled(entry)

    def _settled(self, entry: _Entry) -> None:
        if not entry.records and entry.flying is None:
            self._dirty.pop(entry.match.match_id, None)
        elif not entry.urgent:
            self._mark(entry)
        if entry.still:
            entry.still = False
            entry.match.go_on()
        self._release(entry)

    def _release(self, entry: _Entry) -> None:
        waiting = entry.waiting
        while waiting and waiting[0][0] <= entry.stored and entry.token is not None:
            _, _, callback = waiting.popleft()
            try:
                callback()
            except Exception as failure:
                log.error("release_failed", match=entry.match.match_id, exc_info=failure)

    def _refuse(self, entry: _Entry) -> None:
        """Another node owns the match now, or the store has lost it."""
        if self._entries.get(entry.match.match_id) is not entry or entry.refused:
            return
        if self.on_refused is None:
            self._fenced(entry)
            return
        entry.refused = True
        self.on_refused(entry.match.match_id)

    def _fenced(self, entry: _Entry) -> None:
        self.forget(entry.match.match_id)
        entry.match.fenced()

    async def _watch_overdue(self) -> None:
        """Tells matches whose commits wait for too long."""
        while True:
            await asyncio.sleep(min(0.25, self.policy.gate_timeout_seconds / 4))
            now = self._clock.now()
            for entry in list(self._dirty.values()):
                if not entry.journaled:
                    continue
                age = now - entry.since
                if age > self.policy.unjournaled_seconds_max and not entry.still:
                    entry.still = True
                    entry.match.stand_still()
                for version, since, _ in entry.waiting:
                    if now - since < self.policy.gate_timeout_seconds:
                        break
                    if version > entry.told_overdue:
                        entry.told_overdue = version
                        entry.match.overdue(version)

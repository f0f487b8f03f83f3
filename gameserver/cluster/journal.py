"""The journal writer: what the matches of this node committed goes to the store, many matches in one call.

An urgent commit goes in the same turn of the event loop, with all others that do; the rest is collected for
`interval_seconds`. So many groups may be under way at a time, in order, and what is committed meanwhile goes with the
next one. A group whose outcome is unknown is repeated with all that were sent after it, each the very same, until the
store answers: appends carry the versions they lead from and to, so a repeated one is recognised. What the store has of
a match only grows by the append that follows on it. What the writer holds is bounded by time: past
`unjournaled_seconds_max` the match is told to stand still.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
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
GROUPS_MAX = 2  # what comes while one is under way need not wait for its answer
CREATIONS_MAX = 64
SNAPSHOT_BYTES_MIN = 16_384  # a smaller one counts as this large (docs/adr/0018)
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


class _Entry:
    """One match's place in the writer."""

    __slots__ = (
        "bytes_since_snapshot", "flying", "journaled", "last", "match", "records", "refused", "saving", "sent", "since",
        "snapshot_bytes", "still", "stored", "token", "told_overdue", "urgent", "waiting",
    )  # fmt: skip

    def __init__(self, match: JournaledMatch, token: Token | None, version: int, *, journaled: bool) -> None:
        self.match = match
        self.token = token
        self.stored = version
        """The version the store has."""
        self.last = version
        """The version of the last record."""
        self.records: list[bytes] = []
        """What is not under way yet: one record for each version up to `last`."""
        self.flying: deque[tuple[Append, list[bytes]]] = deque()
        """What is under way, and the records that it was made of: each follows on the one before."""
        self.sent = version
        """The version that the last of these leads to."""
        self.urgent = False
        """It is among those that are due."""
        self.since = 0.0
        """When the oldest record that is not stored came."""
        self.journaled = journaled
        """False: only snapshots of it are written."""
        self.refused = False
        """The store does not take it under this token: it waits until somebody has looked into that."""
        self.waiting: deque[tuple[int, float, Callable[[], None]]] = deque()
        self.told_overdue = 0
        self.still = False
        self.bytes_since_snapshot = 0
        self.snapshot_bytes = 0
        self.saving = asyncio.Lock()


class _Group:
    """What goes to the store in one call."""

    __slots__ = ("appends", "entries")

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.appends: list[Append] = []


class JournalWriter:
    """Writes the records of all matches of this node."""

    __slots__ = (
        "__weakref__", "_again", "_clock", "_creating", "_creations", "_dirty", "_down_since", "_due", "_entries",
        "_failures", "_flying", "_sends", "_soon", "_store", "_timer", "_watch", "appends", "on_refused", "policy",
        "rounds",
    )  # fmt: skip

    def __init__(self, store: JournalStore, clock: Clock, policy: JournalPolicy) -> None:
        self._store = store
        self._clock = clock
        self.policy = policy
        self._entries: dict[str, _Entry] = {}
        self._dirty: dict[str, _Entry] = {}
        """Those of which the store does not have everything."""
        self._due: list[_Entry] = []
        self._flying: deque[_Group] = deque()
        self._sends = 0
        """How often what is `flying` was sent anew: answers to an earlier time are of no use any more."""
        self._failures = 0
        """In a row."""
        self._again: Any = None
        """Set: nothing is sent until then."""
        self._soon: Any = None
        self._timer: Any = None
        self._watch: asyncio.Task[None] | None = None
        self._creating: set[asyncio.Task[None]] = set()
        self._creations = asyncio.Semaphore(CREATIONS_MAX)
        self._down_since: float | None = None
        self.on_refused: Callable[[str], None] | None = None
        """Looks into a match whose write was refused, and answers by `reasserted` or `forget`. None: it is fenced."""
        self.appends = 0
        self.rounds = 0

    # --- life ---------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to write."""
        self._watch = asyncio.create_task(self._watch_overdue(), name="journal watch")

    async def stop(self, seconds: float) -> bool:
        """Write what is left, at most so long; False: something is left unwritten."""
        deadline = self._clock.now() + seconds
        while self._dirty and self._clock.now() < deadline:
            self._hurry_all()
            await asyncio.sleep(0.005)
        for handle in (self._soon, self._timer, self._again):
            if handle is not None:
                handle.cancel()
        tasks = [*self._creating, *([] if self._watch is None else [self._watch])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
        entry = _Entry(match, None, meta.version, journaled=journaled)
        entry.snapshot_bytes = len(snapshot)
        entry.since = self._clock.now()
        self._entries[match.match_id] = self._dirty[match.match_id] = entry
        task = asyncio.create_task(self._create(entry, node, meta, snapshot), name=f"create {match.match_id}")
        self._creating.add(task)
        task.add_done_callback(self._creating.discard)

    def adopt(self, match: JournaledMatch, token: Token, version: int, *, journaled: bool = True) -> None:
        """A match that was claimed and recovered up to `version`."""
        self._entries[match.match_id] = _Entry(match, token, version, journaled=journaled)

    def holding(self, match_id: str) -> tuple[Token, int] | None:
        """The token of a match, and the version that the store is believed to have; None without a token."""
        entry = self._entries.get(match_id)
        return None if entry is None or entry.token is None else (entry.token, entry.stored)

    def reasserted(self, token: Token, version: int) -> None:
        """The store was given back what it had lost, up to this version, and goes on under this token."""
        entry = self._entries.get(token.match_id)
        if entry is None:
            return
        entry.token, entry.stored, entry.sent = token, version, version
        # What was under way under the token before is refused, though a part of it may be later than this version.
        records = [record for _, aloft in entry.flying for record in aloft] + entry.records
        later = max(0, entry.last - version)  # each record is one version
        entry.records = records[len(records) - later :]
        entry.flying.clear()
        entry.refused, entry.bytes_since_snapshot = False, 0
        entry.since = self._clock.now()
        self._settled(entry)
        self._hurry(entry)

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
            entry.flying.clear()
            entry.records = []

    def commit(self, match_id: str, version: int, record: bytes, urgent: bool) -> None:
        """Take one flush's record over. Versions of a match follow each other without a gap."""
        entry = self._entries.get(match_id)
        if entry is None:
            return
        if not entry.records and not entry.flying:
            entry.since = self._clock.now()
            self._dirty[match_id] = entry
        entry.records.append(record)
        entry.last = version
        if urgent:
            self._hurry(entry)
        elif self._timer is None:
            self._timer = self._clock.call_at(self._clock.now() + self.policy.interval_seconds, self._collected)

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
                self._clock.call_soon(partial(self._release, entry))

    def wants_snapshot(self, match_id: str, share: float = 1.0) -> bool:
        """Has the journal outgrown the snapshot, or come to this share of that?"""
        entry = self._entries.get(match_id)
        if entry is None or entry.token is None:
            return False
        snapshot_bytes = max(entry.snapshot_bytes, SNAPSHOT_BYTES_MIN)
        return entry.bytes_since_snapshot > share * self.policy.snapshot_bytes_factor * snapshot_bytes

    async def save(self, match_id: str, version: int, meta: SnapshotMeta, payload: bytes) -> bool:
        """Write a snapshot and trim the journal behind it. False: refused, the match is not ours any more.

        Raises StoreUnavailable when the outcome is unknown: save again.
        """
        entry = self._entries.get(match_id)
        if entry is None or not await self.settle(match_id, version):
            return False
        async with entry.saving:  # appends need not wait: a snapshot changes nothing that is later than it
            if entry.token is None:
                return False
            outcome = await self._store.save(entry.token, version, meta, payload)
            if outcome is Outcome.DONE:
                entry.snapshot_bytes, entry.bytes_since_snapshot = len(payload), 0
                if not entry.journaled:
                    entry.stored = entry.sent = max(entry.stored, version)
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
            self._hurry(entry)
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
    def _hurry(self, entry: _Entry) -> None:
        """What the match has committed goes with the next group."""
        if not entry.urgent:
            entry.urgent = True
            self._due.append(entry)
            if self._soon is None:
                self._soon = self._clock.call_soon(self._write_soon)

    def _hurry_all(self) -> None:
        for entry in self._dirty.values():
            self._hurry(entry)

    def _collected(self) -> None:
        self._timer = None
        self._hurry_all()

    def _write_soon(self) -> None:
        self._soon = None
        self._write()

    def write_now(self) -> None:
        """What is to be written soon is written: nothing more comes in this turn of the loop that could go with it."""
        if self._soon is not None:
            self._soon.cancel()
            self._write_soon()

    def _write(self) -> None:
        """Sends what is due, unless enough is under way."""
        while self._due and self._again is None and len(self._flying) < GROUPS_MAX:
            group = self._load()
            if group.appends:
                self._flying.append(group)
                self._send(group)

    def _load(self) -> _Group:
        """One append for each match that is due, of all its records that wait."""
        group, due, size = _Group(), self._due, 0
        for taken, entry in enumerate(due):
            if taken == BATCH_MATCHES_MAX or size > BATCH_BYTES_MAX:
                self._due = due[taken:]
                return group
            entry.urgent = False
            token, records = entry.token, entry.records
            if not records or token is None or entry.refused:
                continue  # it comes again when there is something, and the store takes it
            append = Append(token, entry.sent, entry.last, encode_records(records), 1, entry.match.connected)
            entry.flying.append((append, records))
            entry.sent, entry.records = entry.last, []
            group.entries.append(entry)
            group.appends.append(append)
            size += len(append.payload)
        self._due = []
        return group

    def _send(self, group: _Group) -> None:
        self._store.send(group.appends, partial(self._told, group, self._sends))

    def _told(self, group: _Group, sends: int, answer: list[Outcome] | StoreUnavailable) -> None:
        """What became of the group that was sent first of those that are under way."""
        if sends != self._sends:
            return  # it was sent once more since: that answer counts, after those of the ones before it
        if isinstance(answer, StoreUnavailable):
            self._unavailable(answer)
            pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
            self._failures += 1
            self._sends += 1
            self._again = self._clock.call_at(self._clock.now() + pause, self._send_again)
            return
        self._available()
        self._failures = 0
        self._flying.popleft()
        self.rounds += 1
        self.appends += len(group.appends)
        now = self._clock.now()
        for entry, append, outcome in zip(group.entries, group.appends, answer, strict=True):
            try:
                self._answered(entry, append, outcome, now)
            except Exception as failure:
                log.error("journal_answer_failed", match=entry.match.match_id, exc_info=failure)
        self._write()

    def _send_again(self) -> None:
        """All that is not known to be stored, as it was and in its order: each follows on the one before."""
        self._again = None
        for group in self._flying:
            if self._again is None:  # else it was lost at once
                self._send(group)
        self._write()

    def _unavailable(self, error: StoreUnavailable) -> None:
        if self._down_since is None:
            self._down_since = self._clock.now()
            log.warning("journal_unavailable", error=error.message, retry="until it answers")

    def _available(self) -> None:
        if self._down_since is not None:
            log.info("journal_works_again", seconds=round(self.down_seconds, 2))
            self._down_since = None

    async def _create(self, entry: _Entry, node: str, meta: SnapshotMeta, snapshot: bytes) -> None:
        match_id = entry.match.match_id
        async with self._creations:
            while self._entries.get(match_id) is entry and entry.token is None:
                try:
                    entry.token = await self._store.create(match_id, node, meta=meta, snapshot=snapshot)
                except StoreUnavailable as error:
                    self._unavailable(error)
                    await asyncio.sleep(RETRY_SECONDS[1])
                except GameServerError as error:
                    log.error("match_not_created_in_store", match=match_id, error=error.message)
                    self._fenced(entry)
                except Exception as failure:
                    log.error("journal_creation_failed", match=match_id, exc_info=failure)
                    await asyncio.sleep(RETRY_SECONDS[-1])
        if self._entries.get(match_id) is entry:
            self._available()
            self._settled(entry)
            self._hurry(entry)

    def _answered(self, entry: _Entry, append: Append, outcome: Outcome, now: float) -> None:
        flying = entry.flying
        if not flying or flying[0][0] is not append:
            return  # gone, refused already, or put back under another token meanwhile
        if outcome is not Outcome.DONE:
            log.error("journal_refused", match=entry.match.match_id, outcome=outcome.value, version=append.version)
            self._refuse(entry)
            return
        flying.popleft()
        entry.stored = append.version
        entry.bytes_since_snapshot += len(append.payload)
        entry.since = now
        self._settled(entry)

    def _settled(self, entry: _Entry) -> None:
        if not entry.records and not entry.flying:
            self._dirty.pop(entry.match.match_id, None)
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

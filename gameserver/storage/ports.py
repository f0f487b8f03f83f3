"""What the rest of the server may ask of its stores, and what it may rely on.

Guarantees that hold for all of them: every call ends within the configured timeouts; a store that does not answer
gives `StoreUnavailable`, and then the outcome of a write is unknown: it may have been applied, so every write here may
be repeated safely. After a store comes back the next call works; nobody has to reconnect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gameserver.match import Priority


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """What a snapshot says about itself without being decoded. `(epoch, version)` orders snapshots of one match."""

    game: str
    epoch: int
    version: int
    state_version: int = 1


@dataclass(frozen=True, slots=True)
class RestoredSnapshot:
    """A snapshot that was read and is whole."""

    match_id: str
    meta: SnapshotMeta
    snapshot: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InsertOutcome:
    """What became of the records of one write: `refused` ones will not be accepted when repeated either."""

    written: int
    duplicate: int
    refused: int


class SnapshotStore(Protocol):
    """The last snapshot of each live match."""

    async def save(self, match_id: str, meta: SnapshotMeta, payload: bytes) -> bool:
        """Keep this snapshot as the match's last one and list the match as live, both or neither.

        False: refused, because a later one (`epoch`, then `version`) is stored or the match was deleted. Saving the
        same position again is accepted, so an unknown outcome is answered by saving again.
        """

    async def load(self, match_id: str) -> bytes | None:
        """The payload as it was saved, or None. Not checked: `restore` does that."""

    async def restore(self, match_id: str) -> RestoredSnapshot | None:
        """The last snapshot, decoded, or None.

        A damaged one raises `SnapshotCorrupt` after it has been moved to a key of its own: it is never deleted,
        never tried again by itself, and the match is no longer listed as live. One that a newer server wrote raises
        `SnapshotTooNew` and stays where it is.
        """

    async def quarantine(self, match_id: str, reason: str) -> str | None:
        """Move the match's snapshot aside with a reason; the key it has now, or None if there was none."""

    async def delete(self, match_id: str) -> None:
        """The match is over: forget its snapshot. A save that was under way before does not bring it back."""

    async def live(self) -> list[str]:
        """All matches that have a snapshot, in no order. Costs one round trip and never scans keys."""


class DocumentStore(Protocol):
    """Matches, players and records as documents, for reading after and beside the live match.

    Author-defined fields may hold any plain data. Keys and integers that MongoDB cannot hold are escaped on the way in
    and restored on the way out (see `gameserver.storage.plain`). Writes are acknowledged by a majority.
    """

    async def save_match(self, doc: Mapping[str, Any]) -> bool:
        """Merge the fields of `doc` (with at least `id` and `game`) into the match's document and note the time.

        False: the match has ended; its document is final.
        """

    async def match_ended(self, match_id: str, *, reason: str, fields: Mapping[str, Any] | None = None) -> bool:
        """Make the document final, with the reason and the last fields. False: it was final already."""

    async def get_match(self, match_id: str) -> dict[str, Any] | None:
        """The match's document or None."""

    async def active_matches(
        self, minutes: float = 5, *, game: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Live matches saved in the last minutes, latest first; may be slightly stale (read from secondaries)."""

    async def get_player(self, user_id: str) -> dict[str, Any] | None:
        """The player's document (`id`, `profile`, …) or None."""

    async def upsert_player(self, user_id: str, fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Set these fields, creating the player if need be, note the time as `last_seen_at`; the whole document."""

    async def update_profile(self, user_id: str, profile: Mapping[str, Any]) -> dict[str, Any]:
        """Merge into the player's profile: given keys are replaced, None removes one, others stay. The new profile.

        Concurrent updates of different keys are all kept. A profile past `PROFILE_BYTES_MAX` gives `LimitReached`.
        """

    async def insert_records(self, encoded: Sequence[bytes]) -> InsertOutcome:
        """Write encoded records (`RecordWriter` makes them); those that are there already count as duplicate."""

    async def records(self, match_id: str, *, kind: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Records of one match, latest first."""


class RecordSink(Protocol):
    """Where game code's records go."""

    def record(
        self,
        kind: str,
        match_id: str,
        data: Mapping[str, Any],
        priority: int = Priority.NORMAL,
        *,
        key: str | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> bool:
        """Queue one record; returns at once. HIGH ones are written at once, the rest by size or by time.

        `key` makes it idempotent: a second record with the same key is dropped by the store. False: the queue is full
        and the record was dropped (and counted). `on_done` is called once the store has it, or refuses it for good.
        Data that cannot be stored raises `RequestInvalid`.
        """

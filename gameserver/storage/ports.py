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
class InsertOutcome:
    """What became of the records of one write: `refused` ones will not be accepted when repeated either."""

    written: int
    duplicate: int
    refused: int


class DocumentStore(Protocol):
    """Matches, players and records as documents, for reading after and beside the live match.

    Author-defined fields may hold any plain data. Keys and integers that MongoDB cannot hold are escaped on the way in
    and restored on the way out (see `gameserver.storage.plain`). Writes are acknowledged by a majority.
    """

    async def save_match(self, doc: Mapping[str, Any]) -> bool:
        """Merge the fields of `doc` (with at least `id` and `game`) into the match's document and note the time.

        False: the match has ended; its document is final.
        """

    async def save_matches(self, docs: Sequence[Mapping[str, Any]]) -> int:
        """The same for many in one write, which costs little more than one; how many of them have not ended.

        One that cannot be stored keeps the others from it: RequestInvalid.
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

        `key` makes it idempotent: a second record with the same key is dropped by the store. False: the queue is full,
        the record was not taken: keep it, and ask again later. `on_done` is called once the store has it, or refuses
        it for good. Data that cannot be stored raises `RequestInvalid`.
        """

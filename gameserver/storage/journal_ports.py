"""What the server may ask of the journal: who owns a match, what it committed, which nodes live.

Guarantees, besides those of `gameserver.storage.ports`:

- One writer. Every write names a `Token`; only the one of the last `claim`, `create` or `reassert` is accepted, in the
  same step as the write. An absent token is fenced too: a store that came back empty accepts nothing from before.
- One history. An append follows the stored version without a gap. What was stored is never changed, only trimmed.
- Epochs only go up, and none is given twice: not even by a store that was rewound and has forgotten the last ones.
  A claim's epoch is the store's time in microseconds; an owner that puts its match back counts on from its own epoch.
- Everything may be repeated. After `StoreUnavailable` the outcome is unknown; the same call again finds out: what was
  done already is answered as done, and is not done twice.
- Match ids are used once. A match that ended or was quarantined leaves a tombstone that refuses its id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from gameserver.errors import StoreUnavailable
from gameserver.storage.appends import Append
from gameserver.storage.ports import SnapshotMeta

BASES_MAX = 16
"""For how many epochs a match's base versions are kept."""


class Outcome(StrEnum):
    """What became of a write."""

    DONE = "done"
    """Stored, now or by an earlier try."""
    FENCED = "fenced"
    """The token is not the match's (any more), or the store knows no such match. Nothing stored."""
    GAP = "gap"
    """The token is right, but something before this is missing in the store. Nothing stored."""


@dataclass(frozen=True, slots=True)
class Token:
    """The right to write one match."""

    match_id: str
    node: str
    epoch: int
    store: str
    """The random epoch of the store that gave it: a store that was emptied has another one."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An entry as it was read, whole and in its place."""

    base: int
    version: int
    epoch: int
    state_version: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """`run_id` changes with each start of the store (it may have been rewound), `epoch` when it was emptied."""

    run_id: str
    epoch: str
    known_seconds: float = field(compare=False)
    """For how long nodes have had answers since that start; very long if it is the first one."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that was won."""

    token: Token
    version: int
    attempts: int
    """Claims since the last snapshot, this one included: many mean that the match takes its nodes down."""
    suspects: int
    """In how many epochs a watchdog named this match, until `clear_suspect`."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A match as the store has it: the snapshot, then `entries`, is exact to `version`."""

    match_id: str
    meta: SnapshotMeta
    snapshot: dict[str, Any]
    entries: list[JournalEntry]
    """Without a gap from the snapshot to `version`; the first may begin before the snapshot."""
    earlier: list[JournalEntry]
    """Kept from before the snapshot, without a gap up to it: for clients that resume."""
    version: int
    epoch: int
    attempts: int
    base_versions: dict[int, int]
    """The version that each of the last epochs began with; a client that saw more of the epoch before saw a fork."""

    @property
    def game(self) -> str:
        """The game's name."""
        return self.meta.game


@dataclass(frozen=True, slots=True)
class OwnedMatch:
    """Who owns a match. `node` is empty when it was released and waits for a claim, or sleeps."""

    match_id: str
    node: str
    epoch: int
    game: str
    version: int
    connected: int = 0
    attempts: int = 0
    suspects: int = 0
    asleep: bool = False
    due_ms: int | None = None
    """When a sleeping match wants to be woken (unix time)."""
    state_version: int = 0
    """Of its last snapshot: a node with an older game cannot run it. 0: not known."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node says about itself with each renewal of its lease. `started` tells two processes of one id apart."""

    id: str
    address: str
    roles: tuple[str, ...] = ()
    games: tuple[str, ...] = ()
    matches: int = 0
    started: float = 0.0
    draining: bool = False
    beat: int = 0
    """Counts renewals: who sees it stand still knows that the lease was not renewed, whatever clock the store has."""
    state_versions: tuple[int, ...] = ()
    """Up to which `state_version` the node runs each of `games`, in their order; empty: it does not say."""


class LeaseStore(Protocol):
    """Which nodes live. A lease only makes a takeover quick; what keeps two writers apart is the token."""

    async def renew(self, node: NodeInfo, ttl_ms: int) -> bool:
        """Live for so long from now. False: another process (`started`) holds the lease of this id."""

    async def nodes(self) -> list[NodeInfo]:
        """All nodes whose lease runs, by id."""

    async def retire(self, node_id: str) -> None:
        """Give the lease up at once."""


class JournalStore(LeaseStore, Protocol):
    """Tokens, journals and snapshots of all matches. See the guarantees at the top of the file."""

    async def identity(self) -> StoreIdentity:
        """Which store this is. Another `run_id`: compare positions (`find`); what it lost can be reasserted."""

    async def create(
        self, match_id: str, node: str, *, meta: SnapshotMeta, snapshot: bytes, connected: int = 0
    ) -> Token:
        """A new match: its token (of epoch 1), its first snapshot and its place in the index, all or nothing.

        Raises `MatchExists` for an id that is or was in use. A repeated call is one with the same snapshot.
        """

    async def claim(self, match_id: str, node: str, *, expect_epoch: int) -> Claimed:
        """Become the owner: begins a new epoch if it is still `expect_epoch`. Comes before `recover`.

        From here on nobody else can write. Raises `ClaimLost`, `MatchNotFound`, `MatchEnded`, `MatchQuarantined`, or
        `JournalCorrupt` if the token itself is damaged.
        """

    async def reassert(
        self, token: Token, *, meta: SnapshotMeta, snapshot: bytes, base_versions: Mapping[int, int] | None = None
    ) -> Token:
        """The store was rewound or emptied: put back what this owner, whose lease runs, still holds.

        The higher (epoch, version) wins; the winner's journal begins anew with this snapshot, under the next epoch:
        its own and one, so that whoever was owner later stays so. Raises `ClaimLost` if the store holds something
        later, or at the same position by another node. A repeated call may come with a later snapshot.
        """

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        """Store these entries, of any number of matches, in one round trip; an outcome for each, in order."""

    def send(self, batch: Sequence[Append], told: Callable[[list[Outcome] | StoreUnavailable], None]) -> None:
        """`append` that does not wait for the answer: any number may be under way. `told` must not raise.

        They are carried out in the order of the calls, and answered in it. One that was not answered may have been
        carried out later than the next call of its caller: who repeats one repeats those after it too, each as it was.
        """

    async def save(
        self, token: Token, version: int, meta: SnapshotMeta, payload: bytes, *, keep_after: int | None = None
    ) -> Outcome:
        """Replace the snapshot and drop the journal up to `keep_after` (the version, unless told), in one step.

        A version past the stored one moves it. An earlier one than the stored snapshot's is late: done, and ignored.
        """

    async def recover(self, match_id: str) -> Recovered:
        """Snapshot and journal, read in one step and checked.

        What is damaged or has a gap is quarantined, then `JournalCorrupt` raised. Raises `SnapshotTooNew`
        (nothing is moved then), `MatchNotFound`, `MatchEnded`, `MatchQuarantined`.
        """

    async def release(self, token: Token, *, asleep: bool = False, due_ms: int | None = None) -> Outcome:
        """Let go; the match waits for a claim. `asleep`: nobody is to claim it before `due_ms`, or a join."""

    async def end(self, token: Token) -> Outcome:
        """The match is over: all of it goes, but for a tombstone."""

    async def quarantine(self, match_id: str, reason: str, *, expect_epoch: int | None = None) -> str | None:
        """Move all of the match aside, fence its owner and refuse claims; the key of its snapshot now.

        None: there is nothing of it, it has ended, or its epoch is not `expect_epoch`.
        """

    async def note_suspect(self, token: Token, reason: str) -> Outcome:
        """This match's code did not return: counted once per epoch."""

    async def clear_suspect(self, token: Token) -> Outcome:
        """The match runs well: count from nothing again."""

    async def find(self, match_ids: Sequence[str]) -> list[OwnedMatch | None]:
        """Who owns these; None for one that is not there, has ended or is quarantined."""

    async def owned(self) -> list[OwnedMatch]:
        """All matches that are awake, with their owners. One round trip, no scan of keys."""

    async def due(self, until_ms: int, *, limit: int = 100) -> list[str]:
        """Sleeping matches that want to be woken by then, earliest first."""

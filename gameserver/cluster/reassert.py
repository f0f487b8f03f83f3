"""Putting back what a store has lost: one that comes back rewound or empty is told by those who know better.

An owner whose lease runs compares what the store says of its matches with what it holds. What the store knows less of
is put back with a fresh snapshot, under the next epoch; where it knows of a later epoch, or of an end, the match here
is the old one and goes. The store decides, in one step: the higher (epoch, version) wins, whoever comes first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from gameserver.errors import ClaimLost, MatchEnded, MatchQuarantined, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from gameserver.metrics import Metrics
    from gameserver.storage import JournalStore, OwnedMatch, SnapshotMeta, Token

log = structlog.get_logger("gameserver.cluster")

CHUNK = 16
RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Holding:
    """What a node holds of a match that it runs: its token, and up to where it believes the store has it."""

    token: Token
    stored: int


@dataclass(frozen=True, slots=True)
class Copy:
    """The match as it is now."""

    meta: SnapshotMeta
    snapshot: bytes
    base_versions: Mapping[int, int] = field(default_factory=dict)


class ReassertHost(Protocol):
    """What putting back asks of the host. None of these may raise, but for `copy`."""

    def holdings(self) -> Mapping[str, Holding]:
        """All journaled matches that run here and have a token."""

    def copy(self, match_id: str) -> Copy | None:
        """Commit what happened so far and take a snapshot; None if the match does not run here any more."""

    def reasserted(self, token: Token, version: int) -> None:
        """The match goes on under this token; the store has everything up to this version."""

    def fenced(self, match_id: str) -> None:
        """The match is not this node's any more: drop it."""


class Reassertion:
    """Looks into matches that the store may have lost; one task."""

    def __init__(
        self,
        store: JournalStore,
        valid: Callable[[], bool],
        host: ReassertHost,
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._valid, self._host, self._metrics = store, valid, host, metrics
        self._sleep = sleep
        self._refused: set[str] = set()
        self._suspected: set[str] = set()
        self._all = False
        self._done: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look into what is reported."""
        self._task = asyncio.create_task(self._run(), name="reassertion")

    async def stop(self) -> None:
        """Look into nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def refused(self, match_id: str) -> None:
        """The store refused a write of this match. Leave it be until `reasserted` or `fenced` answers."""
        self._refused.add(match_id)
        self._suspected.add(match_id)
        self._wake.set()

    def look_at(self, match_id: str) -> None:
        """It may be another node's by now."""
        self._suspected.add(match_id)
        self._wake.set()

    def look_at_all(self, done: Callable[[], None] | None = None) -> None:
        """The store has changed, or was away: it may have lost any of our matches, or given them to others.

        `done` is called when each was looked at: what still runs then is ours. A `Membership.on_reunited`.
        """
        self._all = True
        if done is not None:
            self._done.append(done)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.look()
            except StoreUnavailable:
                await self._sleep(RETRY_SECONDS)
                self._wake.set()
            except Exception as failure:
                log.error("reassertion_failed", exc_info=failure)
                await self._sleep(RETRY_SECONDS)
                self._wake.set()

    async def look(self) -> None:
        """Look into everything reported so far; raises `StoreUnavailable`, then what is left is kept."""
        while self._all or self._suspected:
            if self._all:
                self._suspected.update(self._host.holdings())
                self._all = False
            await self._look_into(sorted(self._suspected)[:CHUNK])
        done, self._done = self._done, []
        for call in done:
            call()

    async def _look_into(self, match_ids: list[str]) -> None:
        """Look into these; what is reported of them meanwhile may come too late for it, and is looked into again."""
        left = set(match_ids)
        refused = self._refused & left
        self._suspected -= left
        self._refused -= left
        held = self._host.holdings()  # before the store is asked: matches go on, and its answer knows nothing of that
        try:
            found = await self._store.find(match_ids)
            outcomes = await asyncio.gather(
                *(
                    self._settle(match_id, held.get(match_id), owned, refused=match_id in refused)
                    for match_id, owned in zip(match_ids, found, strict=True)
                ),
                return_exceptions=True,
            )
            for match_id, outcome in zip(match_ids, outcomes, strict=True):
                if isinstance(outcome, StoreUnavailable):
                    continue
                left.discard(match_id)
                if isinstance(outcome, BaseException):
                    log.error("match_not_put_back", match=match_id, exc_info=outcome)
                    self._host.fenced(match_id)
            _raise_first(outcomes)
        finally:
            self._suspected |= left
            self._refused |= refused & left

    async def _settle(
        self, match_id: str, holding: Holding | None, owned: OwnedMatch | None, *, refused: bool
    ) -> None:
        if holding is None:
            return
        token = holding.token
        # A later epoch of our own may be that of an earlier try, whose answer was lost: the store knows.
        if owned is not None and owned.epoch > token.epoch and owned.node != token.node:
            self._fenced(match_id)
            return
        ours = owned is not None and (owned.node, owned.epoch) == (token.node, token.epoch)
        if ours and owned is not None and owned.version >= holding.stored and not refused:
            return
        await self._put_back(match_id, token)

    async def _put_back(self, match_id: str, token: Token) -> None:
        if not self._valid():
            return  # it will be dropped with all the others
        copy = self._host.copy(match_id)
        if copy is None:
            return
        version = copy.meta.version
        try:
            given = await self._store.reassert(
                token, meta=copy.meta, snapshot=copy.snapshot, base_versions=copy.base_versions
            )
        except (ClaimLost, MatchEnded, MatchQuarantined):
            self._fenced(match_id)
            return
        self._count("done")
        log.warning("match_put_back", match=match_id, epoch=given.epoch, version=version)
        self._host.reasserted(given, version)

    def _fenced(self, match_id: str) -> None:
        self._count("refused")
        self._host.fenced(match_id)

    def _count(self, outcome: str) -> None:
        self._metrics.reasserts_total.labels(outcome).inc()


def _raise_first(outcomes: Iterable[object]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, StoreUnavailable):
            raise outcome

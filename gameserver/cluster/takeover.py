"""Takeover: notices matches without an owner, claims them before it reads them, and hands them to the host.

One task per node. Each round reads who lives; all matches are looked through when something happened (a node is gone,
draining or dead, this node's lease is new, somebody said so) and else every `scan_seconds`. What is to be done is
decided by `Choice`; here it is done, in chunks, with the loop free in between. At the start of a node the same code
claims what it ran before.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

from gameserver.cluster.choice import OWNER, Choice, ChoicePolicy, Here, Orphan, Plan, Reason, can_run
from gameserver.cluster.lease import Fleet
from gameserver.errors import (
    ClaimLost,
    GameServerError,
    MatchEnded,
    MatchNotFound,
    MatchQuarantined,
    SnapshotCorrupt,
    SnapshotTooNew,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gameserver.cluster.reassert import Reassertion
    from gameserver.config import ClusterSettings
    from gameserver.metrics import Metrics
    from gameserver.storage import Claimed, JournalStore, NodeInfo, OwnedMatch, Recovered, StoreIdentity, Token

log = structlog.get_logger("gameserver.cluster")

RETRY_SECONDS = (0.02, 0.1, 0.3)
START_ROUNDS_MAX = 20
SCAN_MATCHES = 1_000  # each so many matches make the pause between two looks at all of them longer by as much again
T = TypeVar("T")


class TakeoverHost(Protocol):
    """What the takeover asks of the host. None of these may raise."""

    def keeps(self, match_id: str) -> bool:
        """Does this match still concern this node: run, being ended, set aside here? Then it is not claimed again."""

    def room(self) -> int:
        """How many more matches it may run."""

    def run(self, recovered: Recovered, token: Token) -> bool:
        """Run (or finish) this match under this token. False: it cannot be run here; another node may try."""


class Member(Protocol):
    """What the takeover asks of the membership."""

    @property
    def info(self) -> NodeInfo:
        """What this node says about itself."""

    @property
    def incarnation(self) -> int:
        """Changes when the lease was lost."""

    def valid(self) -> bool:
        """May this node act as owner?"""


@dataclass(frozen=True, slots=True)
class TakeoverPolicy:
    """How a takeover paces itself."""

    lease_seconds: float = 2.0
    chunk: int = 16
    scan_seconds: float = 5.0
    choice: ChoicePolicy = field(default_factory=ChoicePolicy)

    @classmethod
    def of(cls, settings: ClusterSettings) -> TakeoverPolicy:
        """As configured."""
        choice = ChoicePolicy(
            settings.takeover_step_in_ms / 1000, settings.takeover_attempts_max, settings.takeover_suspects_max
        )
        return cls(settings.lease_seconds, settings.takeover_chunk, settings.scan_seconds, choice)

    @property
    def round_seconds(self) -> float:
        """Between two readings of who lives."""
        return self.lease_seconds / 8


class Takeover:
    """Claims orphans for this node. Start it after the membership, stop it before."""

    def __init__(
        self,
        store: JournalStore,
        member: Member,
        host: TakeoverHost,
        policy: TakeoverPolicy,
        metrics: Metrics,
        *,
        reassertion: Reassertion | None = None,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.fleet = Fleet(policy.lease_seconds)
        """The nodes as this one sees them: cached, and read anew in each round."""
        self._store, self._member, self._host = store, member, host
        self._policy, self._metrics = policy, metrics
        self._reassertion = reassertion
        self._clock, self._sleep = clock, sleep
        self._choice = Choice(policy.choice)
        self._incarnation = 0
        self._claimed: dict[str, Claimed] = {}  # won, but not read yet: the store went away in between
        self._unable: dict[str, int] = {}
        self._under_way: dict[str, asyncio.Future[bool]] = {}
        self._look_at = -math.inf
        self._hold_until = -math.inf
        self._identity: StoreIdentity | None = None
        self._sole = False
        self._failing = False
        self._hint = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- life ---------------------------------------------------------------------------------------------------------
    async def start(self, *, sole: bool = False) -> int:
        """Claim what is to be claimed now, then go on in the background; how many matches run. Raises nothing.

        `sole`: the store is this process's own, so nobody lives who could put anything back.
        """
        running = 0
        self._sole = sole
        for _ in range(START_ROUNDS_MAX):
            try:
                found = await self.round()
            except StoreUnavailable as error:
                log.warning("takeover_waits_for_store", error=error.message)
                break
            running += found
            if not found:
                break
            self._look_at = -math.inf
        self._task = asyncio.create_task(self._run(), name="takeover")
        return running

    async def stop(self) -> None:
        """Claim nothing more. What was claimed and not handed over is left to others."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def hint(self) -> None:
        """Something happened elsewhere (a match was released, a node said goodbye): look now."""
        self._look_at = -math.inf
        self._hint.set()

    async def _run(self) -> None:
        while True:
            await self._pause()
            try:
                await self.round()
                self._failing = False
            except StoreUnavailable as error:
                if not self._failing:  # once per outage
                    self._failing = True
                    log.warning("takeover_waits_for_store", error=error.message)
            except Exception as failure:
                log.error("takeover_round_failed", exc_info=failure)

    async def _pause(self) -> None:
        """Until the next round, or the moment when the next node is dead, or a hint."""
        now = self._clock()
        deaths = [self.fleet.dead_at(node_id) for node_id in self.fleet.missing()]
        due = min([self._look_at, *(death for death in deaths if death > now)], default=math.inf)
        seconds = min(self._policy.round_seconds, max(due - now, self._policy.round_seconds / 10))
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        hinted = asyncio.ensure_future(self._hint.wait())
        try:
            await asyncio.wait((sleeping, hinted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            hinted.cancel()
        self._hint.clear()

    # --- looking ------------------------------------------------------------------------------------------------------
    async def round(self) -> int:
        """Read who lives; if something is to be seen to, do it. How many matches run now that did not before."""
        nodes = await self._see_nodes()
        now = self._clock()
        await self._check_identity()
        if not self._member.valid() or OWNER not in (self._member.info.roles or (OWNER,)):
            return 0
        regained = self._incarnation != self._member.incarnation
        if now < self._hold_until or not (regained or self._is_due(now, nodes)):
            return 0
        if regained:
            self._claimed.clear()
            self._unable.clear()
        incarnation = self._member.incarnation
        self._look_at = now + self._policy.scan_seconds
        owned = await self._store.owned()
        # Reading all of many costs: what this look finds was missed by everything that tells of matches without owners.
        self._look_at += self._policy.scan_seconds * len(owned) / SCAN_MATCHES
        await self._see_nodes()  # once more: whoever has claimed one of these since the first time is seen to live
        plan = self._plan(owned, regained=regained)
        self._look_at = min(self._look_at, plan.look_again_at)
        running = await self._carry_out(plan)
        self._incarnation = incarnation
        return running

    async def _see_nodes(self) -> Sequence[NodeInfo]:
        sent_at = self._clock()
        nodes = await self._store.nodes()
        self.fleet.observe(nodes, sent_at, self._clock())
        self._metrics.nodes.set(len(nodes))
        return nodes

    def _is_due(self, now: float, nodes: Sequence[NodeInfo]) -> bool:
        return now >= self._look_at or any(node.draining for node in nodes) or any(True for _ in self.fleet.missing())

    def _plan(self, matches: Sequence[OwnedMatch], *, regained: bool) -> Plan:
        here = Here(
            node=self._member.info,
            keeps=lambda match_id: match_id in self._under_way or self._host.keeps(match_id),
            room=self._host.room(),
            regained=regained,
            unread=self._claimed,
            unable=self._unable,
        )
        return self._choice.plan(matches, self.fleet, here, self._clock())

    async def _check_identity(self) -> None:
        """A store that was rewound or emptied: give owners one lease to put back what they hold, before any claim."""
        identity = await self._store.identity()
        before, self._identity = self._identity, identity
        now = self._clock()
        if before is None and not self._sole:
            self._hold_until = now + self._policy.lease_seconds - identity.known_seconds
        if before is None or before == identity:
            return
        log.warning("store_has_changed", emptied=before.epoch != identity.epoch)
        self.fleet.begin_anew(now)
        self._hold_until = now + self._policy.lease_seconds
        self._look_at = self._hold_until
        if self._reassertion is not None:
            self._reassertion.look_at_all()

    # --- claiming -----------------------------------------------------------------------------------------------------
    async def _carry_out(self, plan: Plan) -> int:
        for orphan in plan.quarantines:
            await self._set_aside(orphan)
        if plan.claims:
            owners = sorted({orphan.match.node for orphan in plan.claims})
            log.info("takeover_begins", matches=len(plan.claims), owners=owners)
        began, running = self._clock(), 0
        for chunk in plan.chunks(self._policy.chunk):
            if not self._member.valid():
                break
            running += sum(await asyncio.gather(*(self._take(orphan) for orphan in chunk)))
        if plan.claims:
            log.info("takeover_done", running=running, seconds=round(self._clock() - began, 3))
        return running

    async def claim(self, match_id: str) -> bool:
        """Someone wants this match (a join, a timer that is due): claim it if it has no owner, and run it here.

        True: this node runs it now. False: another one does, or will; or this one cannot. Raises `MatchNotFound`,
        `MatchQuarantined` for one that was tried too often, `StoreUnavailable`.
        """
        if await self._is_here(match_id):
            return True
        await self._check_identity()
        if self._clock() < self._hold_until:
            return False  # its owner may be about to put it back
        [match] = await self._store.find([match_id])
        dead = match is not None and await self._is_dead(match.node)
        if await self._is_here(match_id):  # somebody else has asked for it, too
            return True
        if match is None:
            raise MatchNotFound
        here = self._member.info
        ownerless = match.asleep or match.node == "" or dead
        if not ownerless or not self._member.valid() or not can_run(here, match) or self._host.room() < 1:
            return False
        orphan = Orphan(match, Reason.RELEASED, self._clock())
        policy = self._policy.choice
        if match.attempts >= policy.attempts_max or match.suspects >= policy.suspects_max:
            await self._set_aside(orphan)
            raise MatchQuarantined
        return await self._take(orphan)

    async def _is_dead(self, node: str) -> bool:
        """By a look later than what was read of its matches: whoever has come back and claimed them is seen to live."""
        if not self.fleet.is_dead(node):
            return False
        await self._see_nodes()
        return self.fleet.is_dead(node)

    async def is_owner(self, node: str, match_id: str, epoch: int) -> bool:
        """Somebody has seen a later epoch of this match: is it this node's, under this one, all the same?

        Nothing is, while owners may be about to put back what the store has lost, or when it does not answer.
        """
        try:
            await self._check_identity()
            [match] = await self._store.find([match_id])
        except StoreUnavailable:
            return False
        if match is None or self._clock() < self._hold_until:
            return False
        return (match.node, match.epoch) == (node, epoch)

    async def _is_here(self, match_id: str) -> bool:
        under_way = self._under_way.get(match_id)
        return (under_way is not None and await asyncio.shield(under_way)) or self._host.keeps(match_id)

    async def _take(self, orphan: Orphan) -> bool:
        """Claim one and run it; each outcome is counted, none is raised."""
        match_id = orphan.match.match_id
        under_way = self._under_way.get(match_id)
        if under_way is not None:
            return await asyncio.shield(under_way)
        future = self._under_way[match_id] = asyncio.get_running_loop().create_future()
        running = False
        try:
            running = await self._claim_and_run(orphan)
        except Exception as failure:
            self._count("failed")
            log.error("match_not_taken_over", match=match_id, exc_info=failure)
        finally:
            del self._under_way[match_id]
            future.set_result(running)
        return running

    async def _claim_and_run(self, orphan: Orphan) -> bool:
        match, incarnation = orphan.match, self._member.incarnation
        try:
            claimed = await self._claim(match)
            recovered = await self._repeated(lambda: self._store.recover(match.match_id))
        except (ClaimLost, MatchEnded, MatchNotFound, MatchQuarantined):
            self._claimed.pop(match.match_id, None)
            self._count("lost")
            return False
        except SnapshotTooNew as error:
            return await self._give_back(match, error.message)
        except SnapshotCorrupt as error:
            self._claimed.pop(match.match_id, None)
            self._count("corrupt")
            log.error("match_corrupt", match=match.match_id, game=match.game, error=error.message)
            return False
        except StoreUnavailable as error:
            self._count("failed")
            self._look_at = self._clock()
            log.warning("match_not_taken_over", match=match.match_id, error=error.message, retry="with the next round")
            return False
        if not self._member.valid() or self._member.incarnation != incarnation:
            return False  # too late: whatever was claimed belongs to an earlier incarnation
        self._claimed.pop(match.match_id, None)
        if not self._host.run(recovered, claimed.token):
            self._claimed[match.match_id] = claimed
            return await self._give_back(match, "it cannot be run here")
        self._unable.pop(match.match_id, None)
        self._count("run")
        gone_at = self.fleet.dead_at(match.node) if orphan.reason is Reason.DEAD else orphan.since
        self._metrics.takeover_seconds.observe(max(0.0, self._clock() - gone_at))
        await asyncio.sleep(0)  # the matches that run already have their turn
        return True

    async def _claim(self, match: OwnedMatch) -> Claimed:
        held = self._claimed.get(match.match_id)
        if held is not None and held.token.epoch == match.epoch:
            return held
        store, node = self._store, self._member.info.id
        claimed = await self._repeated(lambda: store.claim(match.match_id, node, expect_epoch=match.epoch))
        self._claimed[match.match_id] = claimed
        return claimed

    async def _give_back(self, match: OwnedMatch, problem: str) -> bool:
        """Another node may be able to; this one does not try it again."""
        claimed = self._claimed.pop(match.match_id, None)
        self._count("refused")
        log.error("match_refused", match=match.match_id, game=match.game, reason=problem)
        if claimed is not None:
            self._unable[match.match_id] = claimed.token.epoch
            try:
                await self._repeated(lambda: self._store.release(claimed.token))
            except StoreUnavailable:
                pass  # nobody else can have it before this node's lease ends: an operator sees it in the log
        return False

    async def _set_aside(self, orphan: Orphan) -> None:
        match = orphan.match
        reason = f"claimed {match.attempts} times without a snapshot, named by {match.suspects} watchdogs"
        try:
            moved_to = await self._store.quarantine(match.match_id, reason, expect_epoch=match.epoch)
        except GameServerError as error:
            log.warning("match_not_set_aside", match=match.match_id, error=error.message, retry="later")
            return
        if moved_to is not None:
            self._count("quarantined")
            log.error("match_set_aside", match=match.match_id, game=match.game, reason=reason, key=moved_to)

    async def _repeated(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call whose outcome is unknown finds it out by being made again."""
        for pause in RETRY_SECONDS:
            try:
                return await call()
            except StoreUnavailable:
                await self._sleep(pause)
        return await call()

    def _count(self, outcome: str) -> None:
        self._metrics.takeovers_total.labels(outcome).inc()

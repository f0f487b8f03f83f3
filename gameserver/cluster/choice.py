"""Which matches a node claims now: pure, from what the store lists, who lives, and what this node can run.

Every node ranks the candidates for a match the same way (rendezvous hashing), so that two of them rarely try the same
one; who comes later in the ranking steps in later. A wrong choice costs a lost claim, never a second owner.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from gameserver.cluster.lease import Fleet
    from gameserver.storage import NodeInfo, OwnedMatch

OWNER = "owner"
_MASK = (1 << 64) - 1


class Reason(StrEnum):
    """Why a match has nobody to run it."""

    RELEASED = "released"
    DEAD = "dead"
    OURS = "ours"
    """The store says it is this node's, and an earlier incarnation of it is meant."""
    UNFIT = "unfit"
    """Its owner lives but cannot be running it: it was restarted without the game, or without the role."""


@dataclass(frozen=True, slots=True)
class ChoicePolicy:
    """How patient and how persistent the choice is."""

    step_in_seconds: float = 0.5
    attempts_max: int = 5
    suspects_max: int = 3


@dataclass(frozen=True, slots=True)
class Orphan:
    """A match to claim."""

    match: OwnedMatch
    reason: Reason
    since: float
    """Since when it could be claimed, by this observer's clock."""


@dataclass(frozen=True, slots=True)
class Here:
    """This node, as the choice sees it."""

    node: NodeInfo
    keeps: Callable[[str], bool]
    """Does this match still concern this node: run, being ended, set aside here?"""
    room: int = 1 << 31
    """How many more matches it may run."""
    regained: bool = False
    """Its lease is new: whatever the store says is its own belongs to an earlier incarnation."""
    unread: Collection[str] = ()
    """Matches that it has claimed and not read yet."""
    unable: Mapping[str, int] = field(default_factory=dict)
    """Matches that it could not run, and in which epoch."""


@dataclass(slots=True)
class Plan:
    """What is to be done now, most urgent first, and when to look again."""

    claims: list[Orphan] = field(default_factory=list)
    quarantines: list[Orphan] = field(default_factory=list)
    look_again_at: float = math.inf

    def chunks(self, size: int) -> Iterable[list[Orphan]]:
        """The claims in bounded parts."""
        return (self.claims[at : at + size] for at in range(0, len(self.claims), size))


class Choice:
    """Remembers since when each orphan has been one; everything else comes as arguments."""

    def __init__(self, policy: ChoicePolicy) -> None:
        self._policy = policy
        self._since: dict[tuple[str, int, Reason], float] = {}
        self._epochs: dict[str, int] = {}
        self._looked_at = -math.inf

    def plan(self, matches: Sequence[OwnedMatch], fleet: Fleet, here: Here, now: float) -> Plan:
        """`matches`: all that are awake. Forgets those that are no orphans any more."""
        plan = Plan()
        self._notice_claims(matches, fleet, now)
        before, self._since = self._since, {}
        nodes = sorted({**fleet.nodes, here.node.id: here.node}.values(), key=lambda node: node.id)
        for match in matches:
            reason = _reason(match, fleet, here)
            if reason is None:
                continue
            key = (match.match_id, match.epoch, reason)
            since = self._since[key] = before.get(key, now)
            due = self._due_at(match, reason, since, nodes, here)
            if due > now:
                plan.look_again_at = min(plan.look_again_at, due)
                continue
            policy = self._policy
            orphan = Orphan(match, reason, since)
            poisoned = match.attempts >= policy.attempts_max or match.suspects >= policy.suspects_max
            (plan.quarantines if poisoned else plan.claims).append(orphan)
        plan.claims.sort(key=_urgency)
        if len(plan.claims) > here.room:
            del plan.claims[max(0, here.room) :]
        return plan

    def _notice_claims(self, matches: Sequence[OwnedMatch], fleet: Fleet, now: float) -> None:
        """Whoever claimed a match since the last look was alive in between, even if no reading showed its lease."""
        for match in matches:
            if match.node and match.epoch > self._epochs.get(match.match_id, match.epoch):
                fleet.heard_of(match.node, now, since=self._looked_at)
        self._epochs = {match.match_id: match.epoch for match in matches}
        self._looked_at = now

    def _due_at(self, match: OwnedMatch, reason: Reason, since: float, nodes: Sequence[NodeInfo], here: Here) -> float:
        """When this node may try it; never if it cannot run it."""
        if not can_run(here.node, match) or here.unable.get(match.match_id) == match.epoch:
            return math.inf
        if reason is Reason.OURS:
            # Outside of a new lease this is either a claim whose answer was lost, or one that is just being made.
            return since if here.regained or match.match_id in here.unread else since + 2 * self._policy.step_in_seconds
        ranking = rendezvous(match.match_id, [node.id for node in nodes if can_run(node, match)])
        patience = ranking.index(here.node.id)
        if reason is Reason.UNFIT:
            patience += 2  # its owner may be about to hand it on
        return since + patience * self._policy.step_in_seconds


def can_run(node: NodeInfo, match: OwnedMatch) -> bool:
    """Is this node one that may own the match? One that is leaving is not, nor one that does not know the game."""
    return not node.draining and _fits(node, match)


def _fits(node: NodeInfo, match: OwnedMatch) -> bool:
    if node.roles and OWNER not in node.roles:
        return False
    if match.epoch < 0 or not match.game:
        return True  # its token is damaged: whoever claims it finds that out, and it is set aside
    if not node.games:
        return True
    if match.game not in node.games:
        return False
    if not node.state_versions:
        return True
    return match.state_version <= node.state_versions[node.games.index(match.game)]


def rendezvous(match_id: str, node_ids: Sequence[str]) -> list[str]:
    """The nodes in the order in which they should try this match. The same everywhere, and even over many matches."""
    match = _hash(match_id)
    return sorted(node_ids, key=lambda node_id: (-_mix(match ^ _hash(node_id)), node_id))


def _reason(match: OwnedMatch, fleet: Fleet, here: Here) -> Reason | None:
    if match.asleep:
        return None
    if match.node == "":
        # One that is still here was let go of by this node, which does not know yet that it succeeded.
        return None if here.keeps(match.match_id) else Reason.RELEASED
    if match.node == here.node.id:
        return None if here.keeps(match.match_id) else Reason.OURS
    owner = fleet.nodes.get(match.node)
    if owner is not None:
        return None if _fits(owner, match) else Reason.UNFIT
    return Reason.DEAD if fleet.is_dead(match.node) else None


def _urgency(orphan: Orphan) -> tuple[int, int, str]:
    """Matches with people in them first; those that have taken a node down before last."""
    match = orphan.match
    return (match.attempts + match.suspects, -match.connected, match.match_id)


@lru_cache(maxsize=16_384)
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _mix(value: int) -> int:
    """Spreads every bit over all of them (the finalizer of splitmix64)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)

"""Who lives, as pure judgement: a node's own lease, and what an observer may conclude about the others.

Time is an argument everywhere, in seconds of one monotonic clock. No clock of the store or of another node counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gameserver.storage import NodeInfo

MARGIN = 0.1  # of the lease: what lies between a look at the clock and the bytes that leave after it
GONE_KEPT_LEASES = 30  # how long a node that is gone is remembered


class LeaseState(StrEnum):
    """How a node stands to its lease."""

    VACANT = "vacant"
    """Has none yet, and no matches."""
    HELD = "held"
    """Nobody else may own what this node owns."""
    ADRIFT = "adrift"
    """The store did not answer in time, though it was asked all along: the matches run on, unsure of their owner."""
    LOST = "lost"
    """Too late, or someone else's. Final for this incarnation: its matches are to be dropped."""
    RETIRED = "retired"
    """Given up for good."""


class Lease:
    """A node's judgement of its own lease.

    | event \\ state     | vacant   | held                      | adrift                    | lost   |
    |-------------------|----------|---------------------------|---------------------------|--------|
    | granted in time   | held     | held, longer              | adrift, longer            | lost   |
    | granted too late  | vacant   | held, as long as before   | adrift, as before         | lost   |
    | failed            | vacant   | held, may become adrift   | adrift, longer            | lost   |
    | taken             | vacant   | lost                      | lost                      | lost   |
    | its time is over  | vacant   | lost                      | lost                      | lost   |
    | confirmed         | vacant   | held                      | held, if granted again    | lost   |
    | dropped           | vacant   | (the next incarnation)    | (the next incarnation)    | vacant |

    All times count from before the request was sent. Whatever belongs to an earlier incarnation is ignored. Once
    `valid` was False an incarnation is never valid again, so nothing that was left out is missed by only some.
    """

    def __init__(self, lease_seconds: float, *, adrift_seconds_max: float = 0.0) -> None:
        self.term_seconds = lease_seconds * (1 - MARGIN)
        self.adrift_seconds_max = adrift_seconds_max
        self.incarnation = 1
        self.until = -math.inf
        """Valid before this; the one number that a quick look needs."""
        self.drifts = 0
        """How often the store was there again after a time adrift; each is to be confirmed."""
        self._doubted = False
        self._held_until = -math.inf
        self._status = LeaseState.VACANT

    def state(self, now: float) -> LeaseState:
        """What the table above speaks of."""
        if self._status is not LeaseState.HELD:
            return self._status
        if now < self._held_until and not self._doubted:
            return LeaseState.HELD
        return LeaseState.ADRIFT if self.valid(now) else self._status

    def valid(self, now: float) -> bool:
        """May this node act as owner? False is final for this incarnation."""
        if now < self.until:
            return True
        if self._status is LeaseState.HELD:
            self._end(LeaseState.LOST)
        return False

    def granted(self, incarnation: int, sent_at: float, now: float) -> None:
        """The store renewed it."""
        if not self._takes(incarnation, now):
            return
        until = sent_at + self.term_seconds
        if until <= now:
            return
        if self._status is LeaseState.HELD and now >= self._held_until:
            self.drifts += 1
            self._doubted = True
        self._status = LeaseState.HELD
        self._held_until = max(until, self._held_until)
        self.until = max(self.until, until)

    def failed(self, incarnation: int, sent_at: float, now: float) -> None:
        """The store did not answer, and this process was awake to see it: that it slept shows in the times."""
        if self._takes(incarnation, now) and self._status is LeaseState.HELD:
            drifting = min(sent_at + self.term_seconds, self._held_until + self.adrift_seconds_max)
            self.until = max(self.until, drifting)

    def confirm(self, drifts: int) -> None:
        """After that many times adrift the store was asked who owns this node's matches, and they are its own."""
        if drifts == self.drifts:
            self._doubted = False

    def taken(self, incarnation: int, now: float) -> None:
        """The store says that another process holds the lease of this node's id."""
        if self._takes(incarnation, now) and self._status is LeaseState.HELD:
            self._end(LeaseState.LOST)

    def dropped(self) -> None:
        """Its matches are gone: begin anew, as another incarnation."""
        if self._status is not LeaseState.RETIRED:
            self.incarnation += 1
            self._end(LeaseState.VACANT)

    def retire(self) -> None:
        """No more leases: the node stops."""
        self._end(LeaseState.RETIRED)

    def _takes(self, incarnation: int, now: float) -> bool:
        """Does an answer still concern this incarnation?"""
        if incarnation != self.incarnation or self._status in (LeaseState.LOST, LeaseState.RETIRED):
            return False
        return self._status is LeaseState.VACANT or self.valid(now)

    def _end(self, status: LeaseState) -> None:
        self._status, self._doubted = status, False
        self.until = self._held_until = -math.inf


@dataclass(slots=True)
class Fleet:
    """The nodes, as one observer sees them in one reading after the other.

    A node is dead when its lease is gone from the store and, by this observer's clock, a full lease has passed since
    it was last seen to renew it (or since the observer began to look). So the owner has given up by its own clock
    before, and a store whose clock jumps, or that was emptied, kills nobody. After a gap in its readings (the store was
    away, or the observer itself) the observer begins anew.
    """

    lease_seconds: float
    nodes: dict[str, NodeInfo] = field(default_factory=dict)
    """Those whose lease runs."""
    _quiet_since: dict[str, float] = field(default_factory=dict)
    _began_at: float = -math.inf
    _sent_at: float = -math.inf
    _read_at: float = -math.inf

    def observe(self, nodes: Iterable[NodeInfo], sent_at: float, now: float) -> None:
        """One reading of the store, asked for at `sent_at`."""
        if sent_at - self._read_at > self.lease_seconds / 2:
            self.begin_anew(now)
        found = {node.id: node for node in nodes}
        for id_, node in found.items():
            known = self.nodes.get(id_)
            if known is None or (known.started, known.beat) != (node.started, node.beat):
                self._quiet_since[id_] = now
        self.nodes = found
        self._sent_at, self._read_at = sent_at, now
        limit = now - GONE_KEPT_LEASES * self.lease_seconds
        for id_ in [id_ for id_, since in self._quiet_since.items() if since < limit and id_ not in found]:
            del self._quiet_since[id_]

    def begin_anew(self, now: float) -> None:
        """What was seen so far proves nothing any more."""
        self._began_at = now
        for id_ in self._quiet_since:
            self._quiet_since[id_] = now

    def heard_of(self, node_id: str, now: float, *, since: float) -> None:
        """It has done something after `since` that only a living node does; nothing new if it was seen after that."""
        if self._quiet_since.get(node_id, -math.inf) <= since:
            self._quiet_since[node_id] = now

    def is_dead(self, node_id: str) -> bool:
        """May its matches be claimed? Not before the first reading, which says nothing of how long it is gone."""
        return self._read_at > -math.inf and node_id not in self.nodes and self._sent_at >= self.dead_at(node_id)

    def dead_at(self, node_id: str) -> float:
        """When a node that is not seen again is dead."""
        return self._quiet_since.setdefault(node_id, self._began_at) + self.lease_seconds

    def missing(self) -> Iterator[str]:
        """Nodes that were seen not long ago and are gone, or about to be."""
        since = self._read_at - 3 * self.lease_seconds
        return (id_ for id_, quiet in self._quiet_since.items() if id_ not in self.nodes and quiet > since)

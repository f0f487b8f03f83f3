"""Who gains and who loses sight of what already was there: when audiences, owners, parents or membership change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gameserver.state.entity import Entity, Visibility
from gameserver.state.literal import Literal, field_value, key_of, node_literal
from gameserver.state.node import Node, Where

if TYPE_CHECKING:
    from gameserver.state.patch import PatchEncoder

NOBODY: frozenset[str] = frozenset()


class Transitions:
    """Sends nodes whole to those who now see them, and tells those who no longer do. One run per flush.

    Works from the root downwards: a node's literal for its gainers holds what is below it with the same scope;
    narrower nodes below follow as transitions of their own.
    """

    def __init__(self, flush: PatchEncoder) -> None:
        self.flush = flush
        self.tree = flush.tree
        self.covered: dict[int, frozenset[str]] = {}  # who already gets a node within a parent's literal
        self.sent: dict[int, frozenset[str]] = {}  # who gets it in an operation of its own

    def run(self) -> None:
        for depth, node in sorted(self._candidates(), key=lambda found: (found[0], found[1]._id)):
            self._transition(node, depth, NOBODY)

    def _candidates(self) -> list[tuple[int, Node]]:
        found: dict[int, Node] = {}
        for node, _ in self.tree.rescoped.values():
            found[node._id] = node
        for entity, _ in self.flush.changes.owners.values():
            found[entity._id] = entity
        for name in self.flush.changes.members:
            for node in self.tree.by_audience.get(name, {}).values():
                if node._id <= self.flush.flushed_id:
                    found[node._id] = node
        if self.flush.changes.members:  # what was its group's to see is now its parent's: the scope is the same
            found.update(self.flush.changes.audiences)
            # A scope that a node brought along may be another viewers' now, however long its new parent was theirs.
            found.update((id_, node) for id_, node in self.tree.moved.items() if id_ <= self.flush.flushed_id)
        return [(depth_of(node), node) for node in found.values() if node._tree is not None]

    def _transition(self, node: Node, depth: int, parent_gains: frozenset[str]) -> None:
        """What changes for those who see a node; again for each literal of a parent, whose receivers gain it too."""
        first = node._id not in self.sent
        known = node._id <= self.flush.flushed_id
        before = self.flush.receivers_before(self.flush.scope_before(node)) if known else NOBODY
        after = self.flush.receivers(node._scope) & self.flush.old_viewers
        covered = self.covered.get(node._id, NOBODY)
        gains = (after & parent_gains) | (after - before if known and first else NOBODY)
        gains -= covered | self.sent.setdefault(node._id, NOBODY)
        if gains:
            self.sent[node._id] |= gains
            self._send_whole(node, depth, gains)
        losses = before - after if first else NOBODY
        if losses:
            self._personal(depth, losses).append(node._id)
        if isinstance(node, Entity):
            self._private(node, depth, gains | (covered & parent_gains), losses, first=first)

    def _send_whole(self, node: Node, depth: int, gains: frozenset[str]) -> None:
        parent = cast(Node, node._parent)  # the root is for everyone, it has no transitions
        below: list[Node] = []
        value = self._literal(node, gains, below)
        self._personal(depth, gains).append([parent._id, key_of(parent, node._where, node), value])
        for child in below:
            self._transition(child, depth_of(child), gains)

    def _literal(self, node: Node, gains: frozenset[str], below: list[Node]) -> Literal:
        """The node as those who see just its scope see it; what needs more goes to `below`."""

        def child(parent: Node, where: Where, found: Node) -> Literal | None:
            if found._scope == parent._scope:
                self.covered[found._id] = self.covered.get(found._id, NOBODY) | gains
                if isinstance(found, Entity):
                    below.append(found)  # for its private part
                return self._literal(found, gains, below)
            below.append(found)
            return None

        return node_literal(self.tree, node, child)

    def _private(
        self, entity: Entity, depth: int, gains: frozenset[str], losses: frozenset[str], *, first: bool
    ) -> None:
        fields = [f for f in entity._fields.values() if f.visibility is Visibility.OWNER]
        if not fields:
            return
        changed = self.flush.changes.owners.get(entity._id)
        owner_before = changed[1] if changed is not None else entity._owner
        known = entity._id <= self.flush.flushed_id
        seen_before = self.flush.receivers_before(self.flush.scope_before(entity)) if known else NOBODY
        before = seen_before & {owner_before} if owner_before is not None else NOBODY
        after = self.flush.receivers(self.tree.slot_scope(entity, fields[0])) & self.flush.old_viewers
        gaining = (after - before if known and first else NOBODY) | (after & gains)
        if gaining:
            below: list[Node] = []
            op: list[Any] = [entity._id]
            for f in fields:
                op += (f.number, field_value(entity, f, self._private_child(gaining, below)))
            self._personal(depth, gaining, private=True).append(op)
            for child in below:
                self._transition(child, depth_of(child), gaining)
        losing = before - after - losses
        if losing and first:
            self._personal(depth, losing, private=True).append([entity._id, [f.number for f in fields]])

    def _private_child(self, gains: frozenset[str], below: list[Node]) -> Any:
        def child(parent: Node, where: Where, found: Node) -> Literal | None:
            if found._scope == self.tree.slot_scope(parent, where):
                self.covered[found._id] = self.covered.get(found._id, NOBODY) | gains
                if isinstance(found, Entity):
                    below.append(found)
                return self._literal(found, gains, below)
            below.append(found)
            return None

        return child

    def _personal(self, depth: int, receivers: frozenset[str], *, private: bool = False) -> list[Any]:
        """The operations for these viewers at a level: a node, its private part, then what is below it."""
        return self.flush.personal_ops(2 * depth + private, receivers)


def depth_of(node: Node) -> int:
    """Levels between a node and the root."""
    depth = 0
    while node._parent is not None:
        node, depth = node._parent, depth + 1
    return depth

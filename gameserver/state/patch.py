"""One flush: what changed, as operations encoded once per audience.

Every change goes to the segment of its scope, shared by all who see it. Where scopes or membership changed, those who
gain sight of a node get it whole and those who lose it are told to drop it, in segments for just these viewers.
The receiver applies the segment for everyone first, then its others in the order given: wide to narrow, then gains and
drops from the root downwards, so that a parent is always there before what is put into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gameserver.state.changes import Changes, Splice
from gameserver.state.collect import collect
from gameserver.state.containers import List, Map
from gameserver.state.entity import Entity, Field, Visibility
from gameserver.state.journal import journal_ops, journal_value
from gameserver.state.literal import (
    ENCODER,
    Literal,
    class_definition,
    field_value,
    key_of,
    node_literal,
    position,
    same,
)
from gameserver.state.node import EVERYONE, MISSING, Node, Scope, Where
from gameserver.state.pack import Packer, array_head, packer
from gameserver.state.transitions import Transitions, depth_of

if TYPE_CHECKING:
    from gameserver.state.tree import Tree

EMPTY_OPS: Final = b"\x90"
"""An encoded empty array of operations."""


class Part(msgspec.Struct, frozen=True):
    """Operations that only these viewers may see."""

    receivers: frozenset[str]
    ops: bytes


class Patch(msgspec.Struct, frozen=True):
    """What changed in one flush: encoded arrays of operations, for everyone and for narrower audiences."""

    everyone: bytes = EMPTY_OPS
    parts: list[Part] = []
    journal: bytes | None = None
    """The same change for the journal: exact, with all that clients do not see. An encoded array of operations."""


EMPTY_PATCH: Final = Patch()


_NONE: Final[dict[Any, Any]] = {}
"""Stands for what nearly every flush has nothing of; never written to."""
_OPS: Final = packer()
_ASIDE: Final = packer()
_ROWS: Final = packer()
"""Of the running flush: what everyone may see of entities, what few may see of one, what the journal has of them."""


def encode_patch(tree: Tree, journal: bool) -> Patch:
    """The patch for everything in the tree's log."""
    return PatchEncoder(tree).encode(journal)


class PatchEncoder:
    """One run per flush; see the module's text."""

    __slots__ = ("changes", "everyone", "flushed_id", "old_members", "personal", "segments", "tree")

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.flushed_id = tree.flushed_id
        self.changes = Changes(tree.log, tree.flushed_id)
        self.everyone = Segment()
        self.segments: dict[Scope, Segment] = _NONE
        """Those for narrower audiences."""
        self.personal: dict[tuple[int, frozenset[str]], list[Any]] = _NONE
        self.old_members = self._old_members() if self.changes.members else _NONE

    @property
    def old_viewers(self) -> frozenset[str]:
        """Who was there at the last flush."""
        return self.old_members.get("*viewers", self.tree.viewers.members)

    def encode(self, journal: bool) -> Patch:
        rows = _ROWS
        self._entities(rows)
        if not (self.changes.others or self.tree.new_classes or self.tree.rescoped or self.tree.gone):
            return self._finish(journal_ops(self.tree, None, rows) if journal else None)
        for cls in self.tree.new_classes:
            self.everyone.first(["schema", self.tree.class_number(cls), class_definition(cls)])
        for map_, keys in self.changes.maps.values():
            self._map(map_, keys)
        for list_, splices in self.changes.lists.values():
            self._list(list_, splices)
        self._gone()
        if self.changes.members or self.changes.owners or self.tree.rescoped:
            Transitions(self).run()
        return self._finish(journal_ops(self.tree, self.changes, rows) if journal else None)

    def _finish(self, journal: bytes | None) -> Patch:
        return Patch(self.everyone.encode(), self._parts() if self.segments or self.personal else [], journal)

    def _parts(self) -> list[Part]:
        parts = []
        for scope in sorted(self.segments, key=len):
            receivers = self.receivers(scope)
            if receivers:
                parts.append(Part(receivers, self.segments[scope].encode()))
        for level, receivers in sorted(self.personal, key=lambda key: key[0]):
            parts.append(Part(receivers, ENCODER.encode(self.personal[level, receivers])))
        return parts

    # --- who ----------------------------------------------------------------------------------------------------------
    def _old_members(self) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for name, were in self.changes.members.items():
            group = self.tree.viewers if name == "*viewers" else self.tree.groups[name]
            added = {viewer for viewer, was in were.items() if not was}
            removed = {viewer for viewer, was in were.items() if was}
            found[name] = (group.members - added) | removed
        return found

    def receivers(self, scope: Scope | None) -> frozenset[str]:
        """Who sees a scope now."""
        return self._members(scope, {})

    def receivers_before(self, scope: Scope | None) -> frozenset[str]:
        """Who saw a scope at the last flush."""
        return self._members(scope, self.old_members) & self.old_viewers

    def _members(self, scope: Scope | None, instead: dict[str, frozenset[str]]) -> frozenset[str]:
        if scope is None:
            return frozenset()
        found: frozenset[str] | None = None
        for name in scope:
            members = instead.get(name)
            if members is None:
                members = self.tree.receivers(name) or frozenset()
            found = members if found is None else found & members
        return self.tree.viewers.members if found is None else found

    def scope_before(self, node: Node) -> Scope | None:
        """The scope that a node had at the last flush."""
        known = self.tree.rescoped.get(node._id)
        if known is not None:
            return known[1]
        return self.tree.gone.get(node._id, node._scope)

    # --- what ---------------------------------------------------------------------------------------------------------
    def segment(self, scope: Scope) -> Segment:
        if scope == EVERYONE:
            return self.everyone
        found = self.segments.get(scope)
        if found is None:
            if self.segments is _NONE:
                self.segments = {}
            found = self.segments[scope] = Segment()
        return found

    def personal_ops(self, level: int, receivers: frozenset[str]) -> list[Any]:
        """Operations for just these viewers, to be added to; lower levels are applied first."""
        if self.personal is _NONE:
            self.personal = {}
        return self.personal.setdefault((level, receivers), [])

    def _entities(self, rows: Packer) -> None:
        """Changed fields, in one walk for clients and for the journal: `rows` gets the exact values, and all."""
        ops, aside = _OPS, _ASIDE
        ops.clear()
        rows.clear()
        known: Any = None
        fields: list[Field] = []
        for entity in self.changes.entities:
            if entity._known is not known:
                known = entity._known
                fields = list(known.values())
            scope = entity._scope
            rows.begin(entity._id)
            if scope is EVERYONE:
                ops.begin(entity._id)
                collect(self, entity, fields, ops, rows)
                ops.end()
            else:
                aside.clear()
                aside.begin(entity._id)
                collect(self, entity, fields, aside, rows)
                if aside.end() and scope is not None:
                    self.segment(scope).pack(aside)
            rows.end()
        self.everyone.pack(ops)

    def owned(self, entity: Entity, f: Field, key: int, value: Any) -> None:
        """A field for the owner alone has a new value."""
        scope = self.tree.slot_scope(entity, f)
        if scope is not None:
            self.segment(scope).set(entity._id, key, value)

    def node_field(self, entity: Entity, f: Field, old: Any, new: Any, row: Packer) -> None:
        """A field that holds or held a node."""
        row.put_int(f.number)
        row.put(journal_value(self.tree, new))
        if f.visibility is not Visibility.SERVER:
            self._slot(entity, f, f.number, old, new)

    def _map(self, map_: Map[Any, Any], keys: dict[Any, Any]) -> None:
        for key, old in keys.items():
            new = map_.get(key, MISSING)
            if isinstance(new, Node) or isinstance(old, Node):
                self._slot(map_, key, key, old, new)
            elif map_._scope is not None:
                if new is MISSING:
                    if old is not MISSING:
                        self.segment(map_._scope).unset(map_._id, key)
                elif not same(old, new):
                    self.segment(map_._scope).set(map_._id, key, new)

    def _slot(self, parent: Node, where: Where, key: Any, old: Any, new: Any) -> None:
        """A place that holds or held a node."""
        scope = self.tree.slot_scope(parent, where)
        if new is old or scope is None:
            return
        if not isinstance(new, Node) and new is not MISSING:
            self.segment(scope).set(parent._id, key, new)
        elif isinstance(new, Node) and new._scope == scope:
            self.segment(scope).set(parent._id, key, self.reference(parent, where, new))
        else:
            # Nothing shows here for the parent's audience; a map's key must not even be named to who never saw it.
            if not isinstance(parent, Map):
                self.segment(scope).set(parent._id, key, None)
            elif self._showed(parent, old):
                self.segment(scope).unset(parent._id, key)
            if isinstance(new, Node) and new._scope is not None:
                self.segment(new._scope).set(parent._id, key, self.reference(parent, where, new))

    def _showed(self, parent: Node, old: Any) -> bool:
        """Did all who saw a map see this value in it?"""
        if isinstance(old, Node):
            return self.scope_before(old) == self.scope_before(parent)
        return old is not MISSING

    def _list(self, list_: List[Any], splices: list[Splice]) -> None:
        scope = list_._scope
        if scope is None:
            return
        segment = self.segment(scope)
        if all(len(removed) == 1 == len(inserted) for _, removed, inserted in splices):
            before: dict[int, Any] = {}
            for index, removed, _ in splices:
                before.setdefault(index, removed[0])
            for index, old in before.items():
                new = list_._items[index]
                if isinstance(new, Node) or isinstance(old, Node):
                    self._slot(list_, None, index, old, new)
                elif not same(old, new):
                    segment.set(list_._id, index, new)
            return
        ops, hidden = self._splices(list_, splices)
        segment.structural(list_._id).extend(ops)
        for node in hidden:
            at = position(list_, node)
            if node._scope is not None:
                self.segment(node._scope).set(list_._id, at, self.reference(list_, None, node))

    def _splices(self, list_: List[Any], splices: list[Splice]) -> tuple[list[Any], list[Node]]:
        """Splices in order, or one that replaces everything where that is shorter; and the hidden nodes put in."""
        now = list_._items
        put_in = [value._id for _, _, inserted in splices for value in inserted if isinstance(value, Node)]
        if len(put_in) != len(set(put_in)) or sum(len(s[2]) for s in splices) >= max(len(now), 1):
            length_before = len(now) + sum(len(removed) - len(inserted) for _, removed, inserted in splices)
            splices = [(0, [None] * length_before, now)]
        hidden: dict[int, Node] = {}
        ops = []
        for start, removed, inserted in splices:
            op: list[Any] = [start, len(removed)]
            for value in inserted:
                if isinstance(value, Node):
                    if value._parent is not list_ or value._scope != list_._scope:
                        hidden[value._id] = value  # or taken out again by a later splice
                        value = None
                    else:
                        value = self.reference(list_, None, value)
                op.append(value)
            ops.append(op)
        return ops, [node for node in hidden.values() if node._parent is list_]

    def reference(self, parent: Node, where: Where, node: Node) -> Literal:
        """What stands for a node in a segment of its own scope: a new one whole, a known one by its id."""
        if node._id <= self.flushed_id:
            return [node._id]
        made = node_literal(self.tree, node, self._nested)
        if isinstance(node, Entity):
            self._private(node)
        return made

    def _nested(self, parent: Node, where: Where, node: Node) -> Literal | None:
        value = self.reference(parent, where, node)
        if node._scope == parent._scope:
            return value
        if node._scope is not None:
            self.segment(node._scope).set_new(parent, key_of(parent, where, node), value)
        return None

    def _private(self, entity: Entity) -> None:
        for f in entity._fields.values():
            if f.visibility is not Visibility.OWNER:
                continue
            scope = self.tree.slot_scope(entity, f)
            if scope is None:
                return
            self.segment(scope).set_new(entity, f.number, field_value(entity, f, self._private_child))

    def _private_child(self, parent: Node, where: Where, node: Node) -> Literal | None:
        value = self.reference(parent, where, node)
        if node._scope == self.tree.slot_scope(parent, where):
            return value
        if node._scope is not None:
            self.segment(node._scope).set_new(parent, where.number, value)
        return None

    def _gone(self) -> None:
        """Nodes that left: who saw a hidden one is told, all others see its place change."""
        for node_id, scope in self.tree.gone.items():
            if scope:
                receivers = self.receivers_before(scope)
                if receivers:
                    self.personal_ops(0, receivers).append(node_id)


class Segment:
    """Operations for one audience, gathered per node."""

    __slots__ = ("added", "changed", "loose", "packed", "packed_count", "structures")

    def __init__(self) -> None:
        self.packed = b""
        """Encoded already, and so many: plain values of entities that all receivers know, which need no order."""
        self.packed_count = 0
        self.changed: dict[int, list[Any]] = _NONE
        self.structures: dict[int, list[Any]] = _NONE
        self.added: dict[int, tuple[int, list[Any]]] = _NONE  # by node, with its depth
        self.loose: list[Any] | None = None

    def first(self, op: list[Any]) -> None:
        """An operation that goes before all others."""
        if self.loose is None:
            self.loose = []
        self.loose.append(op)

    def set(self, node_id: int, key: Any, value: Any) -> None:
        """A place has a new value."""
        op = self.changed.get(node_id)
        if op is None:
            if self.changed is _NONE:
                self.changed = {}
            self.changed[node_id] = [node_id, key, value]
        else:
            op.append(key)
            op.append(value)

    def pack(self, ops: Packer) -> None:
        """Operations that are encoded already."""
        if ops.arrays:
            self.packed += ops.taken()
            self.packed_count += ops.arrays

    def set_new(self, node: Node, key: Any, value: Any) -> None:
        """A place of a node that is new to its receivers: goes after all that may bring the node, parents first."""
        if self.added is _NONE:
            self.added = {}
        self.added.setdefault(node._id, (depth_of(node), [node._id]))[1].extend((key, value))

    def structural(self, node_id: int) -> list[Any]:
        """The removed keys, unset fields or splices of a node, applied before its sets."""
        if self.structures is _NONE:
            self.structures = {}
        return self.structures.setdefault(node_id, [])

    def unset(self, node_id: int, key: Any) -> None:
        """A key is gone."""
        self.structural(node_id).append(key)

    def encode(self) -> bytes:
        """The encoded array of operations."""
        if self.changed is _NONE and self.structures is _NONE and self.loose is None and self.added is _NONE:
            return array_head(self.packed_count) + self.packed if self.packed_count else EMPTY_OPS
        ops = self._in_order()
        return b"".join((array_head(self.packed_count + len(ops)), self.packed, *[ENCODER.encode(op) for op in ops]))

    def _in_order(self) -> list[Any]:
        """All operations as they are to be applied."""
        changed = dict(self.changed)
        for node_id, structure in self.structures.items():
            changed.setdefault(node_id, [node_id]).append(structure)
        added = [op for _, op in sorted(self.added.values(), key=lambda item: item[0])]
        return [*(self.loose or ()), *changed.values(), *added]

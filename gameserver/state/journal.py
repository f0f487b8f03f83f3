"""One flush as the journal has it: exact values, hidden fields, audiences, ids and order, for nobody but the server.

Operations, applied in order to the tree as it was at the last flush:

    ["class", name, [field, …]]            a class met for the first time takes the next index
    [id, where, value, …(, structural)]    like a client's: sets, and a last element with what goes before them
    ["who", id, audience, owner]           a node's own audience and owner
    ["in", group, [member…]]  ["out", …]   membership; the viewers are the group "*viewers"
    ["next", id]                           the next free id

Values are as in a dump (`[id, class, audience, owner, values]`), a node that was there before is `[id]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameserver.state.containers import List, Map
from gameserver.state.dump import dump_node
from gameserver.state.entity import Entity, fields_of
from gameserver.state.literal import ENCODER, same
from gameserver.state.node import MISSING, Node
from gameserver.state.pack import Packer, array_head

if TYPE_CHECKING:
    from gameserver.state.changes import Changes, Splice
    from gameserver.state.tree import Tree


def journal_ops(tree: Tree, changes: Changes | None, rows: Packer) -> bytes:
    """Everything that changed since the last flush, encoded; what did in entities is given (see `PatchEncoder`).

    Without `changes` that is all.
    """
    if changes is None:
        rows.put_next(tree.next_id)
        return array_head(rows.arrays) + rows.taken()
    first = [["class", cls.__name__, list(fields_of(cls))] for cls in tree.new_classes]
    later = [*_others(tree, changes), ["next", tree.next_id]]
    head = array_head(len(first) + rows.arrays + len(later))
    return b"".join((head, *[ENCODER.encode(op) for op in first], rows.taken(), *[ENCODER.encode(op) for op in later]))


def _others(tree: Tree, changes: Changes) -> list[Any]:
    """What changed of maps, lists, audiences and groups."""
    ops: list[Any] = []
    for map_, keys in changes.maps.values():
        _map(tree, map_, keys, changes.reinserted.get(map_._id, set()), ops)
    for list_, splices in changes.lists.values():
        ops.append(_list(tree, list_, splices))
    ops += [
        ["who", node._id, node._audience, node._owner if isinstance(node, Entity) else None]
        for node in changes.audiences.values()
    ]
    for name, were in changes.members.items():
        _members(tree, name, were, ops)
    return ops


def journal_value(tree: Tree, value: Any) -> Any:
    """A value as in a dump; a node that was there before is its id alone."""
    if not isinstance(value, Node):
        return value
    return [value._id] if value._id <= tree.flushed_id else dump_node(tree, value, known_id=tree.flushed_id)


def _map(tree: Tree, map_: Map[Any, Any], keys: dict[Any, Any], taken: set[Any], ops: list[Any]) -> None:
    """Keys that were taken out go first, so that those put in again come last, in the order they are in."""
    removed = [key for key, old in keys.items() if old is not MISSING and (key in taken or key not in map_)]
    kept = [key for key, old in keys.items() if old is not MISSING and key in map_ and key not in taken]
    added = [key for key, old in keys.items() if key in map_ and (old is MISSING or key in taken)]
    added.sort(key=map_._order.__getitem__)
    op: list[Any] = [map_._id]
    for key in kept:
        if not same(keys[key], map_[key]):
            op += (key, journal_value(tree, map_[key]))
    for key in added:
        op += (key, journal_value(tree, map_[key]))
    if removed:
        op.append(removed)
    if len(op) > 1:
        ops.append(op)


def _list(tree: Tree, list_: List[Any], splices: list[Splice]) -> list[Any]:
    now = list_._items
    if all(len(removed) == 1 == len(inserted) for _, removed, inserted in splices):
        op: list[Any] = [list_._id]
        for index in dict.fromkeys(start for start, _, _ in splices):
            op += (index, journal_value(tree, now[index]))
        return op
    put_in = [v._id for _, _, inserted in splices for v in inserted if isinstance(v, Node)]
    if len(put_in) != len(set(put_in)) or sum(len(s[2]) for s in splices) >= max(len(now), 1):
        before = len(now) + sum(len(removed) - len(inserted) for _, removed, inserted in splices)
        splices = [(0, [None] * before, now)]
    structural = []
    for start, removed, inserted in splices:
        # A node that a later splice takes out again may be nowhere any more: anything can stand for it.
        values = [None if isinstance(v, Node) and v._parent is not list_ else journal_value(tree, v) for v in inserted]
        structural.append([start, len(removed), *values])
    return [list_._id, structural]


def _members(tree: Tree, name: str, were: dict[str, bool], ops: list[Any]) -> None:
    group = tree.viewers if name == "*viewers" else tree.groups[name]
    now_in = sorted(viewer for viewer, was in were.items() if not was and viewer in group)
    now_out = sorted(viewer for viewer, was in were.items() if was and viewer not in group)
    if now_in:
        ops.append(["in", name, now_in])
    if now_out:
        ops.append(["out", name, now_out])

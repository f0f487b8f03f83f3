"""Who holds whom: settled at the end of a transaction from what its log says was put where.

New nodes are taken in (ids, log), nodes without a holder leave with all below them, moved ones get their new parent,
and scopes follow. Nothing is changed before everything is known to be valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gameserver.errors import StateError
from gameserver.state.containers import List, Map
from gameserver.state.entity import Entity, Field
from gameserver.state.node import DEPTH_MAX, MISSING, AudienceChange, Node, Where, put

if TYPE_CHECKING:
    from gameserver.state.tree import Tree

Held = tuple[Node, Node, Where]
"""(child, holder, where)"""
Holders = dict[int, list[tuple[Node, Where]]]


def settle(tree: Tree, start: int) -> None:
    """Brings links and scopes up to date with the log from `start` on. Raises `StateError`, having changed nothing."""
    gained, lost, reaudienced = _moves(tree, start)
    _apply(tree, gained, lost, reaudienced)


def settle_new(tree: Tree, gained: list[Held]) -> None:
    """Takes in nodes that a node already in the tree holds from its birth."""
    _apply(tree, gained, [], [])


def _moves(tree: Tree, start: int) -> tuple[list[Held], list[Held], list[Node]]:
    gained: list[Held] = []
    lost: list[Held] = []
    reaudienced: list[Node] = []
    seen: set[tuple[int, Where]] = set()
    for entry in tree.log[start:]:
        node, where = entry[0], entry[1]
        if isinstance(node, AudienceChange):
            reaudienced.append(where)
        if not isinstance(node, Node):
            continue
        if isinstance(node, List):
            lost += [(child, node, None) for child in entry[2] if isinstance(child, Node)]
            gained += [(child, node, None) for child in entry[3] if isinstance(child, Node)]
        elif isinstance(where, Field) and not where.nodes:
            continue
        elif (node._id, where) not in seen:
            seen.add((node._id, where))
            now = getattr(node, where.name) if isinstance(where, Field) else _map_value(node, where)
            if now is not entry[2]:
                if isinstance(entry[2], Node):
                    lost.append((entry[2], node, where))
                if isinstance(now, Node):
                    gained.append((now, node, where))
    return gained, lost, reaudienced


def _map_value(node: Node, key: Where) -> object:
    return cast("Map[object, object]", node).get(key, MISSING)


def _apply(tree: Tree, gained: list[Held], lost: list[Held], reaudienced: list[Node]) -> None:
    adopted: list[Node] = []
    try:
        _adopt(tree, gained, adopted)
        holders, nodes = _holders(gained, lost)
        dead = _orphans(holders, nodes)
        _check(tree, gained, holders, nodes)
    except StateError:
        for node in adopted:
            _forget(node)
        raise
    tree.moved.update((child._id, child) for child, _, _ in lost)
    for node_id, held_by in holders.items():
        if held_by:
            put(nodes[node_id], "_parent", held_by[0][0])
            put(nodes[node_id], "_where", held_by[0][1])
    for node in dead:
        _bury(tree, node)
    for child, _, _ in gained:
        if child._tree is not None:
            _index(tree, child)
            rescope(tree, child)
    for node in reaudienced:
        if node._tree is not None:
            _index(tree, node)
            rescope(tree, node, always=True)


def place(tree: Tree, held: list[Held]) -> None:
    """Puts loaded nodes, parents first, under their holders."""
    for child, holder, where in held:
        put(child, "_parent", holder)
        put(child, "_where", where)
        _index(tree, child)
        put(child, "_scope", tree.scope_now(child))


def _adopt(tree: Tree, gained: list[Held], adopted: list[Node]) -> None:
    for child, _, _ in gained:  # grows while it is walked: what new nodes hold is gained too
        if child._tree is None:
            put(child, "_id", tree._take_id())
            adopted.append(child)
            enter(tree, child)
            gained.extend((grandchild, child, where) for grandchild, where in child._children())
        elif child._tree is not tree:
            raise StateError(f"{_label(child)} belongs to another match: assign a copy (`.copy()`)")
        elif child is tree.root:
            raise StateError("the game itself cannot be put into its own state")


def enter(tree: Tree, node: Node) -> None:
    """Starts recording a node's changes."""
    put(node, "_tree", tree)
    put(node, "_log", tree.log)
    if isinstance(node, Entity):
        tree.new_entities.append(node)
        if type(node) not in tree.classes:
            tree.classes.append(type(node))
            tree.new_classes.append(type(node))


def _forget(node: Node) -> None:
    put(node, "_tree", None)
    put(node, "_log", None)
    put(node, "_parent", None)
    put(node, "_where", None)


def _holders(gained: list[Held], lost: list[Held]) -> tuple[Holders, dict[int, Node]]:
    holders: Holders = {}
    nodes: dict[int, Node] = {}
    for child, holder, where in gained:
        _of(child, holders, nodes).append((holder, where))
    for child, holder, where in lost:
        _release(child, holder, where, holders, nodes)
    return holders, nodes


def _of(child: Node, holders: Holders, nodes: dict[int, Node]) -> list[tuple[Node, Where]]:
    found = holders.get(child._id)
    if found is None:
        nodes[child._id] = child
        found = holders[child._id] = [(child._parent, child._where)] if child._parent is not None else []
    return found


def _release(child: Node, holder: Node, where: Where, holders: Holders, nodes: dict[int, Node]) -> bool:
    held_by = _of(child, holders, nodes)
    for i, (h, w) in enumerate(held_by):
        if h is holder and (w is where or w == where):
            del held_by[i]
            break
    return not held_by


def _orphans(holders: Holders, nodes: dict[int, Node]) -> list[Node]:
    """Nodes that nobody in the tree holds any more, and those only they held."""
    dead = [nodes[node_id] for node_id, held_by in holders.items() if not held_by]
    for node in dead:  # grows while it is walked
        for child, where in node._children():
            if child._tree is not None and _release(child, node, where, holders, nodes):
                dead.append(child)
    return dead


def _check(tree: Tree, gained: list[Held], holders: Holders, nodes: dict[int, Node]) -> None:
    for node_id, held_by in holders.items():
        if len(held_by) > 1:
            places = " and ".join(_place(holder, where) for holder, where in held_by)
            raise StateError(
                f"{_label(nodes[node_id])} is in two places ({places}): a node has one parent; "
                "take it out of the old place in the same action, or assign a copy (`.copy()`)"
            )
    for child, _, _ in gained:
        if not holders[child._id]:
            continue
        at: Node | None = child
        for _ in range(DEPTH_MAX + 1):
            held = holders.get(at._id) if at is not None else None
            at = held[0][0] if held else at._parent if at is not None else None
            if at is None or at is tree.root:
                break
        else:
            raise StateError(f"{_label(child)} is nested deeper than {DEPTH_MAX} levels, or holds itself")


def _label(node: Node) -> str:
    return f"this {type(node).__name__}"


def _place(holder: Node, where: Where) -> str:
    if isinstance(where, Field):
        return f"{type(holder).__name__}.{where.name}"
    return f"a {type(holder).__name__}" + (f"[{where!r}]" if where is not None else "")


def _bury(tree: Tree, node: Node) -> None:
    """Takes a node out. One that only went with its parent need not be told to anyone: the parent is."""
    known = tree.rescoped.pop(node._id, None)
    if node._id in tree.moved and node._id <= tree.flushed_id:
        tree.gone[node._id] = known[1] if known is not None else node._scope
    _unindex(tree, node, None)
    _forget(node)


def _index(tree: Tree, node: Node) -> None:
    """Keeps `by_audience` true for a node whose own audience may have changed."""
    _unindex(tree, node, node._audience)
    if node._audience is not None:
        tree.by_audience.setdefault(node._audience, {})[node._id] = node
        tree.indexed[node._id] = node._audience


def _unindex(tree: Tree, node: Node, keep: str | None) -> None:
    name = tree.indexed.get(node._id)
    if name is None or name == keep:
        return
    del tree.indexed[node._id]
    nodes = tree.by_audience[name]
    del nodes[node._id]
    if not nodes:
        del tree.by_audience[name]


def rescope(tree: Tree, node: Node, *, always: bool = False) -> None:
    """Recomputes who sees a node and, where that changed (or `always`, one level), those below it."""
    old, new = node._scope, tree.scope_now(node)
    if new == old and not always:
        return
    if new != old:
        if node._id <= tree.flushed_id:
            tree.rescoped.setdefault(node._id, (node, old))
        put(node, "_scope", new)
    for child, _ in node._children():
        if child._tree is not None:
            rescope(tree, child)

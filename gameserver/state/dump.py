"""The whole tree as plain data and back: what snapshots hold. Exact values, hidden fields, audiences, ids and order.

Goes by class and field names, so that a changed class can load what an older one dumped.
Nodes: `[id, class, audience, owner, values]` where class is an index into `classes`, "map" or "list".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gameserver.errors import StateError
from gameserver.state import links
from gameserver.state.containers import List, Map
from gameserver.state.entity import Entity, fields_of
from gameserver.state.node import Node, put

if TYPE_CHECKING:
    from gameserver.state.tree import Tree


def dump(tree: Tree) -> dict[str, Any]:
    """See `Tree.dump`."""
    return {
        "classes": [[cls.__name__, list(fields_of(cls))] for cls in tree.classes],
        "root": dump_node(tree, tree.root),
        "groups": {name: list(group) for name, group in sorted(tree.groups.items()) if len(group)},
        "viewers": list(tree.viewers),
        "next_id": tree.next_id,
    }


def dump_node(tree: Tree, node: Node) -> list[Any]:
    """A node and all below it."""

    def plain(value: Any) -> Any:
        return dump_node(tree, value) if isinstance(value, Node) else value

    if isinstance(node, Map):
        return [node._id, "map", node._audience, None, [plain(v) for pair in node.items() for v in pair]]
    if isinstance(node, List):
        return [node._id, "list", node._audience, None, [plain(v) for v in node._items]]
    entity = cast(Entity, node)
    values = [plain(getattr(entity, name)) for name in entity._fields]
    return [entity._id, tree.classes.index(type(entity)), entity._audience, entity._owner, values]


def load(tree: Tree, dumped: dict[str, Any]) -> None:
    """See `Tree.load`."""
    classes = [(_find_class(tree, name), fields) for name, fields in dumped["classes"]]
    for cls, _ in classes:
        if cls is not None and cls not in tree.classes:
            tree.classes.append(cls)
    loader = _Loader(tree, classes, [name for name, _ in dumped["classes"]])
    loader.fill(tree.root, dumped["root"])
    tree.next_id = dumped["next_id"]
    loader.enter(tree.root, dumped["root"][0])
    for name, members in dumped["groups"].items():
        for member in members:
            tree.group(name).add(member)
    for viewer in dumped["viewers"]:
        tree.viewers.add(viewer)
    tree.log.clear()
    tree.new_classes.clear()
    tree.flushed_id = tree.next_id - 1


def _find_class(tree: Tree, name: str) -> type[Entity] | None:
    known = {cls.__name__: cls for cls in tree.classes}
    if name in known:
        return known[name]
    module = type(tree.root).__module__
    found = [cls for cls in _subclasses(Entity) if cls.__name__ == name]
    return next((cls for cls in found if cls.__module__ == module), found[0] if found else None)


def _subclasses(cls: type[Entity]) -> list[type[Entity]]:
    direct = cls.__subclasses__()
    return direct + [below for sub in direct for below in _subclasses(sub)]


class _Loader:
    def __init__(
        self, tree: Tree, classes: list[tuple[type[Entity] | None, list[str]]], class_names: list[str]
    ) -> None:
        self.tree = tree
        self.classes = classes
        self.class_names = class_names
        self.ids: list[tuple[Node, int]] = []

    def value(self, dumped: Any) -> Any:
        return self.node(dumped) if isinstance(dumped, list) else dumped

    def node(self, dumped: list[Any]) -> Node:
        node_id, kind, audience, owner, values = dumped
        node: Node
        if kind == "map":
            node = Map({values[i]: self.value(values[i + 1]) for i in range(0, len(values), 2)}, audience=audience)
        elif kind == "list":
            node = List([self.value(v) for v in values], audience=audience)
        else:
            cls = self.classes[kind][0]
            if cls is None:
                raise StateError(
                    f"the saved state holds a {self.class_names[kind]}, a class that is not there any more: "
                    "keep the class, or take such nodes out in on_upgrade before removing it"
                )
            node = entity = cls(owner=owner, audience=audience)
            self.fill(entity, dumped)
        self.ids.append((node, node_id))
        return node

    def fill(self, entity: Entity, dumped: list[Any]) -> None:
        """Sets the fields that the class still has; a value that does not fit its field raises `StateError`."""
        names = self.classes[dumped[1]][1]
        for name, value in zip(names, dumped[4], strict=True):
            if name in entity._fields:
                setattr(entity, name, self.value(value))

    def enter(self, root: Entity, root_id: int) -> None:
        """Takes all loaded nodes in under their old ids; what only the new class has gets new ones."""
        known = {id(node): node_id for node, node_id in self.ids}
        put(root, "_id", root_id)
        links.enter(self.tree, root)
        gained: list[links.Held] = [(child, root, where) for child, where in root._children()]
        for child, _, _ in gained:  # grows while it is walked
            put(child, "_id", known.get(id(child), 0) or self.tree._take_id())
            links.enter(self.tree, child)
            gained.extend((grandchild, child, where) for grandchild, where in child._children())
        links.place(self.tree, gained)

"""The whole tree as plain data and back: what snapshots hold. Exact values, hidden fields, audiences, ids and order.

Goes by class and field names, so that a changed class can load what an older one dumped.
Nodes: `[id, class, audience, owner, values]` where class is an index into `classes`, "map" or "list".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameserver.errors import StateError
from gameserver.state import links
from gameserver.state.containers import List, Map
from gameserver.state.entity import Entity, fields_of, values_of
from gameserver.state.node import Node, put

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def dump_node(tree: Tree, node: Node, known_id: int = 0) -> list[Any]:
    """A node and all below it; for nodes with ids up to `known_id` just `[id]`."""

    if isinstance(node, Map):
        pairs: list[Any] = []
        for key, value in node.items():
            pairs += (key, _plain(tree, value, known_id))
        return [node._id, "map", node._audience, None, pairs]
    if isinstance(node, List):
        return [node._id, "list", node._audience, None, [_plain(tree, value, known_id) for value in node._items]]
    entity: Any = node
    values = [_plain(tree, value, known_id) for value in values_of(entity)]
    return [entity._id, tree.classes.index(type(entity)), entity._audience, entity._owner, values]


def _plain(tree: Tree, value: Any, known_id: int) -> Any:
    if not isinstance(value, Node):
        return value
    return [value._id] if value._id <= known_id else dump_node(tree, value, known_id)


def load(tree: Tree, dumped: dict[str, Any], journal: Iterable[list[Any]]) -> None:
    """See `Tree.load`. Nodes are built outside the tree, so that nothing is recorded, and taken in when all is done."""
    loader = _Loader(tree)
    for name, fields in dumped["classes"]:
        loader.add_class(name, fields)
    loader.remember(tree.root, dumped["root"])
    loader.fill(tree.root, dumped["root"])
    for name, members in {**dumped["groups"], "*viewers": dumped["viewers"]}.items():
        loader.members(name, members, present=True)
    tree.next_id = dumped["next_id"]
    for ops in journal:
        for op in ops:
            loader.apply(op)
    loader.enter(tree.root, dumped["root"][0])
    tree.note_flushed()


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
    __slots__ = ("classes", "ids", "kinds", "nodes", "tree")

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.classes: list[tuple[type[Entity] | None, str, list[str]]] = []  # class, its name and fields at the time
        self.nodes: dict[int, Node] = {}
        self.ids: dict[int, int] = {}  # identity of a node → its id
        self.kinds: dict[int, int] = {}  # id of an entity → index of its class

    def add_class(self, name: str, fields: list[str]) -> None:
        cls = _find_class(self.tree, name)
        if cls is not None and cls not in self.tree.classes:
            self.tree.classes.append(cls)
        self.classes.append((cls, name, fields))

    def value(self, dumped: Any) -> Any:
        if not isinstance(dumped, list):
            return dumped
        return self.nodes[dumped[0]] if len(dumped) == 1 else self.node(dumped)

    def remember(self, node: Node, dumped: list[Any]) -> None:
        self.nodes[dumped[0]] = node
        self.ids[id(node)] = dumped[0]
        if isinstance(dumped[1], int):
            self.kinds[dumped[0]] = dumped[1]

    def node(self, dumped: list[Any]) -> Node:
        _, kind, audience, owner, values = dumped
        node: Node
        if kind == "map":
            node = Map({values[i]: self.value(values[i + 1]) for i in range(0, len(values), 2)}, audience=audience)
        elif kind == "list":
            node = List([self.value(v) for v in values], audience=audience)
        else:
            cls = self.classes[kind][0]
            if cls is None:
                raise StateError(
                    f"the saved state holds a {self.classes[kind][1]}, a class that is not there any more: "
                    "keep the class, or take such nodes out in on_upgrade before removing it"
                )
            node = entity = cls(owner=owner, audience=audience)
            self.fill(entity, dumped)
        self.remember(node, dumped)
        return node

    def fill(self, entity: Entity, dumped: list[Any]) -> None:
        """Sets the fields that the class still has; a value that does not fit its field raises `StateError`."""
        names = self.classes[dumped[1]][2]
        for name, value in zip(names, dumped[4], strict=True):
            if name in entity._fields:
                setattr(entity, name, self.value(value))

    def members(self, name: str, members: list[str], *, present: bool) -> None:
        group = self.tree.viewers if name == "*viewers" else self.tree.group(name)
        for member in members:
            (group.add if present else group.discard)(member)

    def apply(self, op: list[Any]) -> None:
        """Repeats one operation of the journal (see `gameserver.state.journal`)."""
        what = op[0]
        if isinstance(what, int):
            self.change(self.nodes[what], op)
        elif what == "class":
            self.add_class(op[1], op[2])
        elif what == "next":
            self.tree.next_id = op[1]
        elif what in ("in", "out"):
            self.members(op[1], op[2], present=what == "in")
        elif what == "who":
            node = self.nodes[op[1]]
            put(node, "_audience", op[2])
            if isinstance(node, Entity):
                put(node, "_owner", op[3])
        else:
            raise StateError(f"the journal has an operation {what!r}, which is not known here")

    def change(self, node: Any, op: list[Any]) -> None:
        if isinstance(node, Entity):
            self.change_entity(node, op)
            return
        length = len(op)
        if not length % 2:
            length -= 1
            for taken in op[length]:
                if isinstance(node, Map):
                    node.pop(taken, None)
                else:
                    node[taken[0] : taken[0] + taken[1]] = [self.value(v) for v in taken[2:]]
        for i in range(1, length, 2):
            node[op[i]] = self.value(op[i + 1])

    def change_entity(self, entity: Entity, op: list[Any]) -> None:
        """Most of a journal: values by the numbers that their fields had in the class that wrote it."""
        names = self.classes[self.kinds[op[0]]][2]
        fields = entity._fields
        for i in range(1, len(op), 2):
            value = self.value(op[i + 1])  # also of a field that is gone: what is in it may be put elsewhere
            name = names[op[i]]
            if name in fields:
                setattr(entity, name, value)

    def enter(self, root: Entity, root_id: int) -> None:
        """Takes all loaded nodes in under their old ids; what only the new class has gets new ones."""
        put(root, "_id", root_id)
        links.enter(self.tree, root)
        gained: list[links.Held] = [(child, root, where) for child, where in root._children()]
        for child, _, _ in gained:  # grows while it is walked
            put(child, "_id", self.ids.get(id(child), 0) or self.tree._take_id())
            links.enter(self.tree, child)
            gained.extend((grandchild, child, where) for grandchild, where in child._children())
        links.place(self.tree, gained)

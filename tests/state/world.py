"""A small state that has everything, and a driver that does random things to it."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from gameserver.state import Entity, List, Map, Mirror, Node, Tree, owner_only, quantized, server_only, to_plain

VIEWERS = ("ann", "bob", "cid", "*spectators")
PLAYERS = VIEWERS[:3]
GROUPS = ("red", "blue", "spectators")


class Item(Entity):
    n: int = 0
    q: float = quantized(0.0, step=0.25)
    anything: Any = None
    bag: Map[str, Any]
    row: List[Any]
    secret: str = owner_only("")
    hand: List[Any] = owner_only()
    purse: Any = owner_only(None)
    seed: str = server_only("SERVER-ONLY")
    vault: Any = server_only(None)


class World(Entity):
    items: Map[str, Item]
    more: Map[int, Any]
    line: List[Any]
    anything: Any = None
    turn: int = 0
    wish: str | None = None
    hidden: Any = server_only(None)


class Side:
    """A viewer's end: a mirror fed by what the viewer would receive, and every byte of it."""

    def __init__(self, tree: Tree, viewer: str) -> None:
        self.viewer = viewer
        full = tree.full_state(viewer)
        self.received = bytearray(full)
        self.mirror = Mirror(tree.schema())
        self.mirror.load_full(msgspec.msgpack.decode(full))

    def receive(self, patch: Any) -> bytes:
        mine = [part.ops for part in patch.parts if self.viewer in part.receivers]
        self.mirror.apply(msgspec.msgpack.decode(patch.everyone), [msgspec.msgpack.decode(ops) for ops in mine])
        got = b"".join((patch.everyone, *mine))
        self.received += got
        return got

    @property
    def plain(self) -> Any:
        return to_plain(self.mirror.root)


def new_tree() -> Tree:
    tree = Tree(World())
    for viewer in PLAYERS:
        tree.add_viewer(viewer)
    tree.flush()
    return tree


def all_nodes(tree: Tree) -> list[Node]:
    found: list[Node] = [tree.root]
    for node in found:
        found.extend(child for child, _ in node._children())
    return found


class Chaos:
    """Random edits of every kind. The same seed gives the same edits."""

    def __init__(self, tree: Tree, random: Random) -> None:
        self.tree = tree
        self.random = random
        self.made = 0

    def value(self, depth: int = 0) -> Any:
        r = self.random
        kind = r.randrange(12 if depth < 2 else 8)
        if kind < 8:
            return (None, True, r.randrange(-9, 9), 1.5, "tëxt", b"raw", r.randrange(2**40), float("nan"))[kind]
        if kind == 8:
            return {f"k{i}": self.value(depth + 1) for i in range(r.randrange(3))}
        if kind == 9:
            return [self.value(depth + 1) for _ in range(r.randrange(4))]
        return self.item(depth + 1)

    def item(self, depth: int = 0) -> Item:
        r = self.random
        self.made += 1
        item = Item(n=self.made, audience=r.choice((None, None, None, *GROUPS, "player:ann")))
        self.own(item, r.choice((None, *PLAYERS)))
        if depth < 2 and r.random() < 0.3:
            item.anything = self.value(depth + 1)
            item.purse = f"OWN-{item.owner}-{self.made}"
        return item

    def own(self, item: Item, owner: str | None) -> None:
        item.owner = owner
        item.secret = f"OWN-{owner}-{self.made}"
        item.purse = f"OWN-{owner}-{self.made}"
        item.hand = [f"OWN-{owner}-{self.made}"]

    def audience(self) -> str | None:
        return self.random.choice((None, None, *GROUPS, "player:bob"))

    def step(self) -> None:
        r = self.random
        nodes = all_nodes(self.tree)
        node = r.choice(nodes)
        kind = r.randrange(10)
        if kind == 0:
            group = self.tree.group(r.choice(GROUPS))
            player = r.choice(PLAYERS)
            (group.add if r.random() < 0.6 else group.discard)(player)
        elif kind == 1 and node is not self.tree.root:
            node.audience = self.audience()  # type: ignore[attr-defined]
        elif kind == 2 and isinstance(node, Item):
            self.own(node, r.choice((None, *PLAYERS)))
        elif kind == 3:
            self.move(nodes)
        else:
            self.edit(node)

    def move(self, nodes: list[Node]) -> None:
        """Takes a node out of a map or list and puts it into another."""
        r = self.random
        sources = [n for n in nodes if isinstance(n, Map | List) and len(n)]
        targets = [n for n in nodes if isinstance(n, Map | List)]
        if not sources:
            return
        source, target = r.choice(sources), r.choice(targets)
        if isinstance(source, Map):
            value = source.pop(r.choice(list(source)))
        else:
            value = source.pop(r.randrange(len(source)))
        if r.random() < 0.2 or (isinstance(value, str) and value.startswith(("OWN", "SERVER"))):
            return  # a secret that is put where all can see it is none: not what these tests are after
        self.put(target, value)

    def put(self, target: Any, value: Any) -> None:
        if target is self.tree.root.items and not isinstance(value, Item):  # type: ignore[attr-defined]
            value = self.item()
        if isinstance(target, Map):
            key = self.random.randrange(6) if target is self.tree.root.more else f"k{self.random.randrange(6)}"  # type: ignore[attr-defined]
            target[key] = value
        else:
            target.insert(self.random.randrange(len(target) + 1), value)

    def edit(self, node: Any) -> None:
        r = self.random
        if isinstance(node, World):
            node.turn = r.randrange(3)
            if r.random() < 0.5:
                node.anything = self.value()
            if r.random() < 0.3:
                node.hidden = r.choice((node.hidden, "SERVER-ONLY", {"a": "SERVER-ONLY"}))
            self.put(node.items, self.item())
        elif isinstance(node, Item):
            node.n += r.randrange(2)
            # In steps of 0.25: 400 ± 200 crosses the sizes from which counts are added to instead of set.
            near = node.q + r.choice((0.1, -0.3, 7.0, -32.0, 40.0))
            node.q = r.choice((node.q, near, near, near, 100 + r.random() * 50, -r.random() * 99, float("inf")))
            if r.random() < 0.3:
                node.anything = self.value()
            if r.random() < 0.2:
                node.vault, node.anything = node.anything, "seen"
                node.vault = "SERVER-ONLY"
        elif isinstance(node, Map):
            self.edit_map(node)
        else:
            self.edit_list(node)

    def edit_map(self, node: Map[Any, Any]) -> None:
        r = self.random
        keys = list(node)
        kind = r.randrange(7)
        if kind == 0 and keys:
            del node[r.choice(keys)]
        elif kind == 1 and r.random() < 0.3:
            node.clear()
        elif kind == 2 and keys:
            node.popitem()
        elif kind == 3 and len(keys) > 1:
            a, b = r.sample(keys, 2)
            node[a], node[b] = node[b], node[a]
        elif kind == 4 and keys:
            node.setdefault(keys[0], None)
        else:
            self.put(node, self.value())

    def edit_list(self, node: List[Any]) -> None:
        r = self.random
        length = len(node)
        kind = r.randrange(12)
        if kind == 0 and length:
            node.pop(r.randrange(length))
        elif kind == 1:
            r.shuffle(node)
        elif kind == 2:
            node.reverse()
        elif kind == 3 and length > 1:
            i, j = r.sample(range(length), 2)
            node[i], node[j] = node[j], node[i]
        elif kind == 4:
            node[r.randrange(length + 1) : r.randrange(length + 1)] = [self.value() for _ in range(r.randrange(3))]
        elif kind == 5:
            del node[r.randrange(length + 1) :: 2]
        elif kind == 6 and r.random() < 0.3:
            node.clear()
        elif kind == 7:
            node.sort(key=repr)
        elif kind == 8 and length:
            node[r.randrange(length)] = self.value()
        elif kind == 9 and length and length < 8:
            node *= r.randrange(3)
        elif kind == 10:
            node[:] = [v for v in node if r.random() < 0.7]
        else:
            self.put(node, self.value())

"""The receiving side: a live, read-only copy of what one viewer may see, as `docs/protocol.md` describes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gameserver.errors import StateError
from gameserver.state.literal import CLASS_NUMBER_MIN, LIST_CLASS, MAP_CLASS, dequantize

_ABSENT: Final = object()
Path = tuple[str | int, ...]


class MirrorNode:
    """A node of a mirror. Compare it with plain data by `to_plain(node)`."""

    __slots__ = ("_id", "_key", "_parent")

    def __init__(self, node_id: int) -> None:
        self._id = node_id
        self._parent: MirrorNode | None = None
        self._key: Any = None

    def _get(self, key: Any) -> Any:
        raise NotImplementedError

    def _put(self, key: Any, value: Any) -> None:
        raise NotImplementedError

    def _remove(self, key: Any) -> None:
        raise NotImplementedError

    def _values(self) -> list[Any]:
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError("a mirror is read-only: send an action, the server changes the state")
        object.__setattr__(self, name, value)


class MirrorEntity(MirrorNode, Mapping[str, Any]):
    """An entity: its fields as attributes and as a mapping. Fields you may not see are not there."""

    __slots__ = ("_class", "_fields")

    def __init__(self, node_id: int, definition: list[Any]) -> None:
        super().__init__(node_id)
        self._class = definition
        self._fields: dict[str, Any] = {}

    @property
    def class_name(self) -> str:
        """The name of the entity's class on the server."""
        return str(self._class[0])

    def __getattr__(self, name: str) -> Any:
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(
                f"{self._class[0]} shows no field {name!r} to you; it shows: {', '.join(self._fields)}"
            ) from None

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"{self._class[0]}({', '.join(f'{k}={v!r}' for k, v in self._fields.items())})"

    def _name(self, number: int) -> str:
        return str(self._class[2][number][0])

    def _get(self, key: Any) -> Any:
        return self._fields.get(self._name(key), _ABSENT)

    def _put(self, key: Any, value: Any) -> None:
        definition = self._class[2][key]
        if len(definition) == 3:
            value = dequantize(value, definition[2])
        self._fields[definition[0]] = value

    def _add(self, number: int, steps: int) -> None:
        """A quantized field goes so many steps further."""
        name, _, step = self._class[2][number]
        if name in self._fields:
            self._fields[name] = (round(self._fields[name] / step) + steps) * step

    def _remove(self, key: Any) -> None:
        self._fields.pop(self._name(key), None)

    def _values(self) -> list[Any]:
        return list(self._fields.values())


class MirrorMap(MirrorNode, Mapping[Any, Any]):
    """A map, read like a dict."""

    __slots__ = ("_items",)

    def __init__(self, node_id: int) -> None:
        super().__init__(node_id)
        self._items: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)

    def _get(self, key: Any) -> Any:
        return self._items.get(key, _ABSENT)

    def _put(self, key: Any, value: Any) -> None:
        self._items[key] = value

    def _remove(self, key: Any) -> None:
        self._items.pop(key, None)

    def _values(self) -> list[Any]:
        return list(self._items.values())


class MirrorList(MirrorNode, Sequence[Any]):
    """A list, read like a list. An item that you may not see is None."""

    __slots__ = ("_items",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, node_id: int) -> None:
        super().__init__(node_id)
        self._items: list[Any] = []

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, MirrorList) else other)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)

    def _get(self, key: Any) -> Any:
        return self._items[key] if 0 <= key < len(self._items) else _ABSENT

    def _put(self, key: Any, value: Any) -> None:
        if 0 <= key < len(self._items):
            self._items[key] = value

    def _remove(self, key: Any) -> None:
        self._put(key, None)

    def _values(self) -> list[Any]:
        return self._items


class Mirror:
    """What one viewer sees of a match, kept up to date by the frames they receive."""

    def __init__(self, schema: list[Any]) -> None:
        """`schema` as in the joined message."""
        self._schema = list(schema)
        self._nodes: dict[int, MirrorNode] = {}
        self._displaced: list[MirrorNode] = []
        self._touched: list[tuple[MirrorNode, Any]] = []
        self._root: MirrorNode | None = None

    @property
    def root(self) -> Any:
        """The game's own fields. Raises `StateError` before the first full state."""
        if self._root is None:
            raise StateError("the mirror has not received a state yet")
        return self._root

    @property
    def changes(self) -> list[Path]:
        """Where the last `apply` changed something: paths of field names, keys and indexes from the root."""
        found = {self._path(node, key): None for node, key in self._touched}
        return [path for path in found if path is not None]

    def load_full(self, literal: list[Any]) -> None:
        """Starts over from a full state."""
        self._nodes.clear()
        self._touched.clear()
        self._root = self._build(literal)
        self._displaced.clear()
        self._touched.append((self._root, None))

    def apply(self, everyone: list[Any], parts: Sequence[list[Any]] = ()) -> None:
        """Applies one version: the operations for everyone, then those of the parts in the order they came.

        Raises `StateError` for what is no operation at all; ids that are not known are ignored, as the protocol says.
        """
        self._touched.clear()
        try:
            for ops in (everyone, *parts):
                for op in ops:
                    self._apply(op)
        except (TypeError, IndexError, KeyError, ValueError) as error:
            raise StateError(f"not a valid patch: {error!r}") from error
        self._forget_displaced()

    def _apply(self, op: Any) -> None:
        if type(op) is int:
            self._drop(op)
            return
        first = op[0]
        if first == "schema":
            index = op[1] - CLASS_NUMBER_MIN
            self._schema[index:] = [op[2]]
            return
        node = self._nodes.get(first)
        if node is None:
            return
        length = len(op)
        if not length % 2:
            length -= 1
            if isinstance(node, MirrorList):
                self._splice(node, op[length])
            else:
                for key in op[length]:
                    self._displace(node._get(key))
                    node._remove(key)
                    self._touched.append((node, key))
        for i in range(1, length, 2):
            key = op[i]
            if isinstance(node, MirrorEntity) and key < 0:
                node._add(-1 - key, op[i + 1])
                self._touched.append((node, -1 - key))
            else:
                self._set(node, key, op[i + 1])

    def _set(self, node: MirrorNode, key: Any, wire: Any) -> None:
        value = self._value(wire)
        self._displace(node._get(key))
        self._touched.append((node, key))
        if value is _ABSENT:
            if isinstance(node, MirrorMap):
                node._remove(key)
                return
            value = None
        node._put(key, value)
        self._hold(node, key, value)

    def _hold(self, parent: MirrorNode, key: Any, value: Any) -> None:
        if isinstance(value, MirrorNode):
            value._parent = parent
            value._key = None if isinstance(parent, MirrorList) else key

    def _splice(self, node: MirrorList, splices: list[list[Any]]) -> None:
        for start, count, *items in splices:
            for old in node._items[start : start + count]:
                self._displace(old)
            values = [self._value(item) for item in items]
            node._items[start : start + count] = [None if v is _ABSENT else v for v in values]
            for value in values:
                self._hold(node, None, value)
        self._touched.append((node, None))

    def _value(self, wire: Any) -> Any:
        """A wire value: scalars as they are, a literal built, a reference found (absent if it is not known here)."""
        if not isinstance(wire, list | tuple):
            return wire
        known = self._nodes.get(wire[0])
        if known is not None:
            self._detach(known)
        if len(wire) == 1:
            return _ABSENT if known is None else known
        return self._build(wire)

    def _build(self, literal: Sequence[Any]) -> MirrorNode:
        node_id, class_number = literal[0], literal[1]
        node: MirrorNode
        if class_number == MAP_CLASS:
            node = MirrorMap(node_id)
            places: Any = zip(literal[2::2], literal[3::2], strict=True)
        elif class_number == LIST_CLASS:
            node = MirrorList(node_id)
            node._items = [None] * (len(literal) - 2)
            places = enumerate(literal[2:])
        else:
            node = MirrorEntity(node_id, self._schema[class_number - CLASS_NUMBER_MIN])
            places = enumerate(literal[2:])
        self._nodes[node_id] = node
        for key, wire in places:
            value = self._value(wire)
            if value is _ABSENT:
                if isinstance(node, MirrorMap):
                    continue
                value = None
            node._put(key, value)
            self._hold(node, key, value)
        return node

    def _detach(self, node: MirrorNode) -> None:
        """A node that is put somewhere leaves the map or field it was in; a list's own splices say what is where."""
        parent = node._parent
        if parent is not None and not isinstance(parent, MirrorList) and parent._get(node._key) is node:
            if isinstance(parent, MirrorMap):
                parent._remove(node._key)
            else:
                parent._put(node._key, None)
        self._displace(node)

    def _drop(self, node_id: int) -> None:
        node = self._nodes.get(node_id)
        if node is None or node._parent is None:
            return
        parent = node._parent
        self._touched.append((parent, node._key))
        if isinstance(parent, MirrorList):
            for i, value in enumerate(parent._items):
                if value is node:
                    parent._items[i] = None
        self._detach(node)

    def _displace(self, value: Any) -> None:
        if isinstance(value, MirrorNode):
            self._displaced.append(value)

    def _forget_displaced(self) -> None:
        """Forgets nodes that lost their place and found no other, with all below them."""
        held: dict[int, set[int]] = {}  # lists by identity, to their items
        queue = self._displaced
        for node in queue:  # grows while it is walked
            if self._is_held(node, held) or node is self._root:
                continue
            if self._nodes.get(node._id) is node:
                del self._nodes[node._id]
            queue.extend(v for v in node._values() if isinstance(v, MirrorNode) and v._parent is node)
            node._parent = None
        queue.clear()

    def _is_held(self, node: MirrorNode, held: dict[int, set[int]]) -> bool:
        parent = node._parent
        if parent is None or self._nodes.get(parent._id) is not parent or self._nodes.get(node._id) is not node:
            return False
        if isinstance(parent, MirrorList):
            items = held.get(id(parent))
            if items is None:
                items = held[id(parent)] = {id(value) for value in parent._items}
            return id(node) in items
        return parent._get(node._key) is node

    def _path(self, node: MirrorNode, key: Any) -> Path | None:
        path: list[str | int] = [] if key is None else [_shown_key(node, key)]
        while node is not self._root:
            parent = node._parent
            if parent is None:
                return None
            if isinstance(parent, MirrorList):
                index = next((i for i, value in enumerate(parent._items) if value is node), None)
                if index is None:
                    return None
                path.append(index)
            else:
                path.append(_shown_key(parent, node._key))
            node = parent
        return tuple(reversed(path))


def _shown_key(node: MirrorNode, key: Any) -> str | int:
    shown: str | int = node._name(key) if isinstance(node, MirrorEntity) else key
    return shown


def to_plain(value: Any) -> Any:
    """A mirror's node (or value) as plain dicts, lists and scalars."""
    if isinstance(value, MirrorEntity):
        return {name: to_plain(v) for name, v in value._fields.items()}
    if isinstance(value, MirrorMap):
        return {key: to_plain(v) for key, v in value._items.items()}
    if isinstance(value, MirrorList):
        return [to_plain(v) for v in value._items]
    return value

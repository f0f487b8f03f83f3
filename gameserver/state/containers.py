"""`Map` and `List`: containers that record what is done to them.

`Map` is a `dict`, so reading costs what a dict costs. `List` wraps a list instead of being one: C code such as `heapq`
changes a list behind its methods, and a change that is not recorded would be lost; a wrapper makes that a clear error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeVar, cast, overload

from gameserver.errors import StateError
from gameserver.state.node import (
    DEPTH_MAX,
    INT_MAX,
    INT_MIN,
    MISSING,
    NEW_SLOTS,
    LogEntry,
    Node,
    Where,
    audience_name,
    init_slots,
)

if TYPE_CHECKING:
    from gameserver.state.values import ValueType

K = TypeVar("K")
V = TypeVar("V")


def _any_type() -> ValueType:
    from gameserver.state.values import ANY

    return ANY


class _Container(Node):
    __slots__ = ()

    def copy(self) -> Any:
        """A copy that is in no tree, audiences included."""
        raise NotImplementedError

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.copy()


def copied(value: Any) -> Any:
    """A value for a copy of its container: nodes are copied, all else is immutable."""
    return value.copy() if isinstance(value, Node) else value  # type: ignore[attr-defined]


class Map(dict[K, V], _Container, Generic[K, V]):
    """A dict in the state. Keys are str or int; every way to change a dict is recorded.

    A value that is a node with a narrower audience is absent for those who may not see it.
    """

    __slots__ = (*NEW_SLOTS, "_clock", "_item_type", "_key_type", "_order")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *args: Any, audience: Any = None, **kwargs: Any) -> None:
        super().__init__()
        init_slots(self)
        self._audience = audience_name(audience)
        self._key_type = self._item_type = _any_type()
        self._order: dict[Any, int] = {}  # key → when it was inserted: puts order back on rollback without copying
        self._clock = 0
        self.update(*args, **kwargs)

    # --- every mutator of dict ---
    def __setitem__(self, key: Any, value: Any) -> None:
        kind = value.__class__
        if kind not in self._item_type.fast:
            value = self._item_type.convert(value, "a value of this Map")
        elif kind is int and not INT_MIN <= value <= INT_MAX:
            raise StateError(f"an integer in the state must fit 64 bits, not {value}")
        old = self.get(key, MISSING)
        if old is MISSING:
            key = self._checked_key(key)
            self._order[key] = self._clock
            self._clock += 1
        log = self._log
        if log is not None:
            log.append((self, key, old, None))
            if isinstance(old, Node) or isinstance(value, Node):
                self._tree.relink = True  # type: ignore[union-attr]
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: Any) -> None:
        old = dict.__getitem__(self, key)
        order = self._order.pop(key)
        log = self._log
        if log is not None:
            log.append((self, key, old, order))
            if isinstance(old, Node):
                self._tree.relink = True  # type: ignore[union-attr]
        dict.__delitem__(self, key)

    def pop(self, key: Any, default: Any = MISSING) -> Any:
        if key not in self:
            if default is MISSING:
                raise KeyError(key)
            return default
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[Any, Any]:
        if not self:
            raise KeyError("popitem(): the Map is empty")
        key = next(reversed(self))
        return key, self.pop(key)

    def clear(self) -> None:
        for key in list(self):
            del self[key]

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> Map[K, V]:  # type: ignore[override]
        self.update(other)
        return self

    def __or__(self, other: Any) -> dict[Any, Any]:
        merged: dict[Any, Any] = dict(self) | other
        return merged

    def __ror__(self, other: Any) -> dict[Any, Any]:
        merged: dict[Any, Any] = other | dict(self)
        return merged

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> Map[Any, Any]:
        return cls({key: copied(value) for key in keys})

    def copy(self) -> Map[K, V]:
        made: Map[K, V] = Map(audience=self._audience)
        made._key_type, made._item_type = self._key_type, self._item_type
        for key, value in self.items():
            made[key] = copied(value)
        return made

    def __reduce__(self) -> Any:
        raise StateError("a Map cannot be pickled: use dict(the_map)")

    # --- what the tree asks ---
    def _checked_key(self, key: Any) -> Any:
        if self._key_type.scalar is not None:
            return self._key_type.convert(key, "a key of this Map")
        if isinstance(key, str | int) and not isinstance(key, bool):
            return _any_type().convert(key, "a key of this Map")
        raise StateError(f"a Map's keys are str or int, not {type(key).__name__} ({key!r:.80})")

    def _undo(self, entry: LogEntry) -> None:
        key, old = entry[1], entry[2]
        if old is MISSING:
            dict.__delitem__(self, key)
            del self._order[key]
        elif key in self:
            dict.__setitem__(self, key, old)
        else:
            dict.__setitem__(self, key, old)
            self._order[key] = entry[3]
            self._resort()

    def _resort(self) -> None:
        items = sorted(self.items(), key=lambda item: self._order[item[0]])
        dict.clear(self)
        dict.update(self, items)

    def _children(self) -> list[tuple[Node, Where]]:
        return [(value, key) for key, value in self.items() if isinstance(value, Node)]

    def _retype(self, key: ValueType, item: ValueType, where: str, depth: int) -> None:
        """Takes on a field's declared types, checking what is already here."""
        self._key_type, self._item_type = key, item
        for k, v in list(self.items()):
            self._checked_key(k)
            made = v if v.__class__ in item.fast else item.convert(v, f"{where}[{k!r}]", depth + 1)
            if made is not v:
                self[k] = made


class List(_Container, MutableSequence[V], Generic[V]):
    """A list in the state. Everything a list can do, recorded; a hidden item shows as None to those who may not see it.

    It is not a subclass of `list` on purpose: see the module's text. `list(x)` or `x[:]` gives a plain list.
    """

    __slots__ = (*NEW_SLOTS, "_item_type", "_items")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, items: Iterable[V] = (), *, audience: Any = None) -> None:
        init_slots(self)
        self._audience = audience_name(audience)
        self._item_type = _any_type()
        self._items: list[Any] = []
        self.extend(items)

    # --- reading ---
    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[V]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[V]:
        return cast(Iterator[V], reversed(self._items))

    def __contains__(self, value: object) -> bool:
        return value in self._items

    @overload
    def __getitem__(self, index: SupportsIndex) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> list[V]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def index(self, value: Any, start: int = 0, stop: int = INT_MAX) -> int:
        return self._items.index(value, start, stop)

    def count(self, value: Any) -> int:
        return self._items.count(value)

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, List) else other)

    def __lt__(self, other: Any) -> bool:
        return self._items < (other._items if isinstance(other, List) else other)

    def __add__(self, other: Iterable[Any]) -> list[Any]:
        return self._items + list(other)

    def __radd__(self, other: list[Any]) -> list[Any]:
        return other + self._items

    def __mul__(self, times: int) -> list[Any]:
        return self._items * times

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"List({self._items!r})"

    def copy(self) -> List[V]:
        made: List[V] = List(audience=self._audience)
        made._item_type = self._item_type
        made.extend(copied(value) for value in self._items)
        return made

    def __reduce__(self) -> Any:
        raise StateError("a List cannot be pickled: use list(the_list)")

    # --- every mutator of list comes down to a splice ---
    def _splice(self, start: int, stop: int, values: list[Any]) -> None:
        item = self._item_type
        made = [v if v.__class__ in item.fast and v.__class__ is not int else _item(item, v) for v in values]
        removed = self._items[start:stop]
        log = self._log
        if log is not None:
            log.append((self, start, removed, made))
            if any(isinstance(v, Node) for v in removed) or any(isinstance(v, Node) for v in made):
                self._tree.relink = True  # type: ignore[union-attr]
        self._items[start:stop] = made

    def _replace(self, values: list[Any]) -> None:
        self._splice(0, len(self._items), values)

    def append(self, value: V) -> None:
        end = len(self._items)
        self._splice(end, end, [value])

    def insert(self, index: SupportsIndex, value: V) -> None:
        at = slice(index, None).indices(len(self._items))[0]
        self._splice(at, at, [value])

    def extend(self, values: Iterable[V]) -> None:
        end = len(self._items)
        made = list(values)
        if made:
            self._splice(end, end, made)

    @overload
    def __setitem__(self, index: SupportsIndex, value: V) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[V]) -> None: ...
    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(index, slice):
            at = self._position(index)
            self._splice(at, at + 1, [value])
            return
        start, stop, step = index.indices(len(self._items))
        values = list(value)
        if step == 1:
            self._splice(start, max(start, stop), values)
        else:
            made = self._items.copy()
            made[index] = values
            self._replace(made)

    def __delitem__(self, index: Any) -> None:
        if not isinstance(index, slice):
            at = self._position(index)
            self._splice(at, at + 1, [])
            return
        start, stop, step = index.indices(len(self._items))
        if step == 1:
            if stop > start:
                self._splice(start, stop, [])
        else:
            made = self._items.copy()
            del made[index]
            self._replace(made)

    def _position(self, index: SupportsIndex) -> int:
        at = index.__index__()
        at = at + len(self._items) if at < 0 else at
        if not 0 <= at < len(self._items):
            raise IndexError("List index out of range")
        return at

    def pop(self, index: SupportsIndex = -1) -> V:
        if not self._items:
            raise IndexError("pop from an empty List")
        at = self._position(index)
        value = self._items[at]
        self._splice(at, at + 1, [])
        return cast(V, value)

    def remove(self, value: V) -> None:
        at = self._items.index(value)
        self._splice(at, at + 1, [])

    def clear(self) -> None:
        if self._items:
            self._replace([])

    def reverse(self) -> None:
        self._replace(self._items[::-1])

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        self._replace(sorted(self._items, key=key, reverse=reverse))

    def __iadd__(self, values: Iterable[V]) -> List[V]:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self, times: int) -> List[V]:
        items = self._items
        self._replace(items[:] + [copied(v) for _ in range(times - 1) for v in items] if times > 0 else [])
        return self

    # --- what the tree asks ---
    def _undo(self, entry: LogEntry) -> None:
        start, removed = entry[1], entry[2]
        self._items[start : start + len(entry[3])] = removed

    def _children(self) -> list[tuple[Node, Where]]:
        return [(value, None) for value in self._items if isinstance(value, Node)]

    def _retype(self, item: ValueType, where: str, depth: int) -> None:
        self._item_type = item
        made = [v if v.__class__ in item.fast else item.convert(v, f"{where}[{i}]", depth + 1)
                for i, v in enumerate(self._items)]  # fmt: skip
        if any(a is not b for a, b in zip(made, self._items, strict=True)):
            self._replace(made)


def _item(item: ValueType, value: Any) -> Any:
    if value.__class__ is int and int in item.fast:
        if not INT_MIN <= value <= INT_MAX:
            raise StateError(f"an integer in the state must fit 64 bits, not {value}")
        return value
    return item.convert(value, "an item of this List")


def as_map(value: Any, key: ValueType, item: ValueType, where: str, depth: int) -> Map[Any, Any]:
    """A Map of the given types: the same one if it is a Map, else a copy of the plain mapping."""
    if depth > DEPTH_MAX:
        raise StateError(f"{where} is nested deeper than {DEPTH_MAX} levels, or holds itself")
    if isinstance(value, Map):
        if value._item_type is not item or value._key_type is not key:
            value._retype(key, item, where, depth)
        return value
    if not isinstance(value, Mapping):
        raise StateError(f"{where} must be a dict or Map, not {type(value).__name__} ({value!r:.80})")
    made: Map[Any, Any] = Map()
    made._key_type, made._item_type = key, item
    for k, v in value.items():
        made[k] = v if v.__class__ in item.fast else item.convert(v, f"{where}[{k!r}]", depth + 1)
    return made


def as_list(value: Any, item: ValueType, where: str, depth: int) -> List[Any]:
    """A List of the given type: the same one if it is a List, else a copy of the plain sequence."""
    if depth > DEPTH_MAX:
        raise StateError(f"{where} is nested deeper than {DEPTH_MAX} levels, or holds itself")
    if isinstance(value, List):
        if value._item_type is not item:
            value._retype(item, where, depth)
        return value
    if not isinstance(value, list | tuple):
        raise StateError(f"{where} must be a list or List, not {type(value).__name__} ({value!r:.80})")
    made: List[Any] = List()
    made._item_type = item
    made._items = [v if v.__class__ in item.fast and v.__class__ is not int
                   else _item(item, v) if v.__class__ in item.fast else item.convert(v, f"{where}[{i}]", depth + 1)
                   for i, v in enumerate(value)]  # fmt: skip
    return made

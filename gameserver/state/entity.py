"""`Entity`: an object of the state with typed, numbered fields taken from the class's annotations."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from gameserver.errors import StateError
from gameserver.state.containers import List, Map, copied
from gameserver.state.node import (
    INT_MAX,
    INT_MIN,
    MISSING,
    NEW_SLOTS,
    OWNER,
    LogEntry,
    Node,
    Where,
    audience_name,
    player_id,
    put,
    set_audience,
)
from gameserver.state.values import ValueType, value_type

if TYPE_CHECKING:
    from gameserver.state.tree import Tree

T = TypeVar("T")
NUMBERS_MAX: Final = 0 if __file__.endswith(".py") else 8
"""So many numbers of an entity lie within it where this is compiled: those of declared `float` and `int` fields.

Each would be an object in memory of its own, held by a dict and two lists: places that no cache has any more when the
next tick comes. Interpreted, all of that is quicker than any way around it.
"""

class Visibility(IntEnum):
    """Who receives a field of an entity that they may see."""

    PUBLIC = 0
    OWNER = 1
    SERVER = 2


@dataclasses.dataclass(frozen=True, slots=True)
class FieldSpec:
    """What `quantized`, `owner_only` and `server_only` leave in the class body."""

    default: Any = MISSING
    step: float | None = None
    visibility: Visibility = Visibility.PUBLIC


def quantized(default: float = 0.0, *, step: float) -> Any:
    """A number that is held exactly and sent as the integer `round(value / step)`, only when that integer changed.

    `step` is the size of one unit, in the field's own unit: 0.01 sends hundredths.
    """
    if not step > 0:
        raise StateError(f"quantized(step=…) must be greater than 0, not {step!r}")
    return FieldSpec(default, step)


def owner_only(default: Any = MISSING) -> Any:
    """A field that only the entity's owner receives (nobody, while it has no owner)."""
    return _narrowed(default, Visibility.OWNER)


def server_only(default: Any = MISSING) -> Any:
    """A field that never leaves the server; it is in snapshots and the journal like all others."""
    return _narrowed(default, Visibility.SERVER)


def _narrowed(default: Any, visibility: Visibility) -> FieldSpec:
    if isinstance(default, FieldSpec):
        return dataclasses.replace(default, visibility=max(default.visibility, visibility))
    return FieldSpec(default, None, visibility)


class Field:
    """One field of an entity class. `number` is its place there and on the wire: public first, server_only last."""

    __slots__ = (
        "added", "default", "exact", "name", "nodes", "number", "owned", "place", "public", "step", "type",
        "visibility", "whole",
    )  # fmt: skip

    def __init__(self, name: str, spec: FieldSpec, type_: ValueType, number: int) -> None:
        self.name = name
        self.number = number
        self.added = -1 - number  # stands for it on the wire where a value is to be added
        self.step = spec.step
        self.visibility = spec.visibility
        self.default = spec.default
        self.type = type_
        # The one class whose values are stored without another look (but for the range of integers).
        self.exact = type_.scalar if type_.scalar in (float, int, bool, bytes) and not type_.choices else None
        self.whole = self.exact is int
        self.place = -1  # among the numbers that lie within the entity, if it is one of them
        self.nodes = type_.nodes
        self.public = self.visibility is Visibility.PUBLIC
        self.owned = self.visibility is Visibility.OWNER

    def make_default(self) -> Any:
        """A fresh default value."""
        value = self.default
        if value is not MISSING:
            return copied(value)
        if self.type.optional or self.type.tag == "any":
            return None
        if self.type.choices:
            return self.type.choices[0]
        made: Any = (self.type.scalar or self.type.node_class or dict)()
        return made

    def checked(self, entity: Tracked, value: Any) -> Any:
        """A value as it is stored. Raises `StateError` for one that does not fit."""
        kind = value.__class__
        if kind not in self.type.fast:
            return self.type.convert(value, f"{type(entity).__name__}.{self.name}")
        if kind is int and not INT_MIN <= value <= INT_MAX:
            raise StateError(f"{type(entity).__name__}.{self.name} must fit 64 bits, not {value}")
        return value

    def __get__(self, entity: Any, owner: Any) -> Any:
        if entity is None:
            raise AttributeError(f"{self.name} is a field: only objects of {owner.__name__} have it")
        return _number(entity, self) if self.place >= 0 else entity._values[self.name]

    def __set__(self, entity: Any, value: Any) -> None:
        _write(entity, self.name, value)

    def __repr__(self) -> str:
        return f"Field({self.name!r})"


_RESERVED = frozenset({"owner", "audience", "copy"})


def _enclosing_locals() -> dict[str, Any]:
    """The local names where a class is being defined, if that is inside a function: its annotations may name them."""
    frame: Any = sys._getframe(0)
    while frame is not None and frame.f_code.co_name in ("_enclosing_locals", "__init_subclass__"):
        frame = frame.f_back
    if frame is None or frame.f_locals is frame.f_globals:
        return {}
    return dict(frame.f_locals)


def _annotations(cls: type) -> dict[str, Any]:
    """The class's own annotations, resolved; names that are only known where the class was defined included."""
    raw = inspect.get_annotations(cls)
    module = sys.modules.get(cls.__module__)
    scope = {**vars(typing), **vars(module)} if module else dict(vars(typing))
    resolved: dict[str, Any] = {}
    for name, annotation in raw.items():
        if isinstance(annotation, str):
            if annotation.replace("typing.", "").startswith("ClassVar"):
                continue
            try:
                annotation = eval(annotation, scope, {cls.__name__: cls, **cls._locals})  # type: ignore[attr-defined]  # noqa: S307
            except NameError as error:
                raise StateError(
                    f"{cls.__name__}.{name}: the type {annotation!r} is not known at module level ({error}); "
                    "define the class it names at the top of the module"
                ) from None
        if typing.get_origin(annotation) is not ClassVar:  # type: ignore[comparison-overlap]
            resolved[name] = annotation
    return resolved


def _build_fields(cls: type[Entity]) -> dict[str, Field]:
    specs: dict[str, tuple[FieldSpec, ValueType]] = {}
    for base in reversed(cls.__mro__):
        if not issubclass(base, Entity) or base is Entity:
            continue
        for name, annotation in _annotations(base).items():
            try:
                specs[name] = (base._specs[name], value_type(annotation))
            except StateError as error:
                raise StateError(f"{base.__name__}.{name}: {error.message}") from None
    ordered = sorted(specs, key=lambda name: specs[name][0].visibility)
    fields = {name: Field(name, *specs[name], number) for number, name in enumerate(ordered)}
    for field in fields.values():
        if field.default is not MISSING:
            field.default = field.type.convert(field.default, f"the default of {cls.__name__}.{field.name}")
    _place_numbers(cls, fields)
    return fields


def _place_numbers(cls: type[Entity], fields: dict[str, Field]) -> None:
    """Has the first numbers of a class lie within its objects, and be read there."""
    numbers = [f for f in fields.values() if f.exact is float or (f.exact is int and f.step is None)]
    numbers = [f for f in numbers if not f.type.optional]
    for place, field in enumerate(numbers[:NUMBERS_MAX]):
        field.place = place
    for field in fields.values():  # one for which there is no room may have lain within the objects of a base class
        if field.place >= 0 or isinstance(inspect.getattr_static(cls, field.name, None), Field):
            setattr(cls, field.name, field)


class Tracked:
    """What of `Entity` has C types where it is compiled: its slots, and what a write does."""

    __slots__ = (
        "_audience", "_flushed", "_folded", "_id", "_known", "_log", "_now", "_others", "_owner", "_parent", "_period",
        "_scope", "_tree", "_values", "_where",
    )  # fmt: skip

    if TYPE_CHECKING:
        _id: int
        _tree: Tree | None
        _log: list[LogEntry] | None
        _owner: str | None
        _known: dict[str, Field]  # those of its class
        _values: dict[str, Any]  # the object's `__dict__`, found in half the time: the fields by name
        _now: list[Any]  # the same values in the order of their fields
        _flushed: list[Any]  # what they were at the last flush
        # Only where this is compiled:
        _numbers: Any  # those that lie within it
        _flushed_numbers: Any  # what they were at the last flush
        _others: bool  # may anything else have been written since then?
        _period: int  # when they were logged last
        _folded: int  # when a flush looked at it last

    def __setattr__(self, name: str, value: Any) -> None:
        _write(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise StateError(f"{type(self).__name__}.{name} cannot be deleted: set it to a value instead")


def _write(entity: Tracked, name: str, value: Any) -> None:
    """Sets a field, recorded. What games do most: as few steps as can be."""
    field = entity._known.get(name)
    if field is None:
        _set_undeclared(entity, name, value)
        return
    kind = type(value)
    if kind is not field.exact or (kind is int and not INT_MIN <= value <= INT_MAX):
        value = field.checked(entity, value)
    log = entity._log
    if field.place >= 0:
        if log is not None and entity._period != _period:  # once for all of them that a transaction writes
            entity._period = _period
            log.append((entity, field, numbers_copied(entity._numbers)))  # type: ignore[name-defined] # noqa: F821
        _put_number(entity, field, value)
        return
    now, number = entity._now, field.number
    if log is not None:
        if NUMBERS_MAX:
            entity._others = True
        old = now[number]
        log.append((entity, field, old))
        if field.nodes and (isinstance(old, Node) or isinstance(value, Node)):
            entity._tree.relink = True  # type: ignore[union-attr]
    now[number] = value
    entity._values[name] = value


def _number(entity: Tracked, field: Field) -> Any:
    """A number that lies within an entity."""
    place = field.place
    if field.whole:
        return entity._numbers[place].whole
    return entity._numbers[place].real


def _put_number(entity: Tracked, field: Field, value: Any) -> None:
    """Has it be another one."""
    place = field.place
    if field.whole:
        entity._numbers[place].whole = value
    else:
        entity._numbers[place].real = value


def begin_period() -> int:
    """From here on the first number that is written of an entity is logged anew: a transaction begins, or a flush.

    Answers which period it is. One count for all trees: one of them that comes between two writes of another has that
    log once more than it must.
    """
    global _period
    _period += 1
    return _period


_period = 1


def values_of(entity: Tracked) -> list[Any]:
    """What an entity holds, in the order of its fields."""
    if not NUMBERS_MAX:
        return entity._now
    return [_number(entity, f) if f.place >= 0 else entity._now[f.number] for f in entity._known.values()]


def others_written(entity: Tracked) -> bool:
    """May anything but the numbers within it have been written since this was asked last?"""
    if not NUMBERS_MAX:
        return True
    written, entity._others = entity._others, False
    return written


def remember(entity: Tracked) -> None:
    """What it holds is flushed."""
    entity._flushed[:] = entity._now
    for place in range(NUMBERS_MAX):
        entity._flushed_numbers[place] = entity._numbers[place]


def undo(entity: Tracked, field: Field, old: Any) -> None:
    """What this field holds is what it held; of a number within the entity `old` has all of those, as they were."""
    if field.place >= 0:
        numbers_put_back(entity._numbers, old)  # type: ignore[name-defined] # noqa: F821 - in the .pxd
    else:
        entity._values[field.name] = entity._now[field.number] = old


def unflush(entity: Tracked, field: Field, old: Any) -> None:
    """What this field holds is not flushed: that is still `old`, as in `undo`."""
    if not entity._flushed:
        return
    if field.place >= 0:
        numbers_put_back(entity._flushed_numbers, old)  # type: ignore[name-defined] # noqa: F821 - like all of this name
    else:
        entity._flushed[field.number] = old
        if NUMBERS_MAX:
            entity._others = True


class Entity(Tracked, Node):
    """Base of an author's state classes.

    Annotated names are fields, with their defaults; only they can be set, since nothing else survives a restart.
    `owner` (a player) decides who `owner_only` fields go to; `audience` (a group's name, a group, a player) limits
    who sees the entity at all.
    """

    _fields: ClassVar[dict[str, Field]] = {}
    _specs: ClassVar[dict[str, FieldSpec]] = {}
    _locals: ClassVar[dict[str, Any]] = {}
    _reserved: ClassVar[frozenset[str]] = _RESERVED

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._specs = {}
        cls._locals = _enclosing_locals()
        for name, annotation in inspect.get_annotations(cls).items():
            if str(annotation).replace("typing.", "").startswith("ClassVar"):
                continue
            if name in cls._reserved or name.startswith("_"):
                raise StateError(f"{cls.__name__}.{name}: this name is taken, give the field another one")
            default = cls.__dict__.get(name, MISSING)
            cls._specs[name] = default if isinstance(default, FieldSpec) else FieldSpec(default)
            if default is not MISSING:
                delattr(cls, name)

    def __init__(self, *, owner: Any = None, audience: Any = None, **values: Any) -> None:
        fields = fields_of(type(self))
        for set_slot, value in _NEW:
            set_slot(self, value)
        put(self, "_owner", player_id(owner))
        put(self, "_audience", audience_name(audience))
        held = {name: field.make_default() for name, field in fields.items() if name not in values}
        for name in [name for name in held if fields[name].place >= 0]:
            _put_number(self, fields[name], held.pop(name))
        _put_dict(self, held)
        put(self, "_values", held)
        put(self, "_now", [held.get(name) for name in fields])
        put(self, "_known", fields)
        put(self, "_flushed", [])
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def owner(self) -> str | None:
        """The id of the player who receives the `owner_only` fields."""
        return self._owner

    @owner.setter
    def owner(self, value: Any) -> None:
        set_audience(self, OWNER, player_id(value))

    def copy(self: T) -> T:
        """A copy that is in no tree, with the same owner and audience."""
        source: Any = self
        values = {name: copied(getattr(source, name)) for name in source._fields}
        made: T = type(source)(owner=source._owner, audience=source._audience, **values)
        return made

    def __copy__(self: T) -> T:
        return self.copy()  # type: ignore[attr-defined,no-any-return]

    def __deepcopy__(self: T, memo: dict[int, Any]) -> T:
        return self.copy()  # type: ignore[attr-defined,no-any-return]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({values})"

    def _undo(self, entry: LogEntry) -> None:
        undo(self, entry[1], entry[2])

    def _children(self) -> list[tuple[Node, Where]]:
        found: list[tuple[Node, Where]] = []
        for name, field in self._fields.items():
            if field.nodes and isinstance(value := getattr(self, name), Node):
                found.append((value, field))
        return found


_put_dict: Final = vars(Entity)["__dict__"].__set__
"""Gives an entity another `__dict__`, past its `__setattr__`."""
_NEW: Final = [(vars(Tracked)[name].__set__, value) for name, value in NEW_SLOTS.items()]
"""What sets the slots of a new entity, and to what."""


def _set_undeclared(entity: Any, name: str, value: Any) -> None:
    if isinstance(getattr(type(entity), name, None), property):
        put(entity, name, value)  # goes through the property's own setter
    else:
        kind = type(entity).__name__
        raise AttributeError(
            f"{kind} has no field {name!r}: declare it in the class (`{name}: {type(value).__name__}`); "
            "what is not declared would be lost after a restart"
        )


def fields_of(cls: type[Entity]) -> dict[str, Field]:
    """The fields of an entity class by name, in wire order. Built when first needed, so annotations may look ahead."""
    if "_fields" not in cls.__dict__:
        cls._fields = _build_fields(cls)
    return cls._fields


def entity_classes(root: type[Entity]) -> list[type[Entity]]:
    """`root` and every entity class its annotations lead to, in a stable order."""
    found: list[type[Entity]] = [root]

    def visit(kind: ValueType | None) -> None:
        if kind is None:
            return
        visit(kind.key)
        visit(kind.item)
        cls = kind.node_class
        if cls is not None and cls not in (Map, List) and issubclass(cls, Entity) and cls not in found:
            found.append(cls)

    for cls in found:  # grows while it is walked
        for field in fields_of(cls).values():
            visit(field.type)
    return found

"""What may be stored where: annotations turned into cheap checks.

A `ValueType` has `fast`, the exact classes that are stored as they are after one set lookup; all else takes the slow
way through `convert`, which copies plain containers into tracked ones or raises `StateError` naming what was expected.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

import gameserver.state.containers as containers
from gameserver.errors import StateError
from gameserver.state.node import DEPTH_MAX, INT_MAX, INT_MIN, Node

_TAGS: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes"}
_NONE = type(None)


def check_int(value: int) -> int:
    """Integers must fit 64 bits: neither the wire nor the document store holds more."""
    if not INT_MIN <= value <= INT_MAX:
        raise StateError(f"an integer in the state must fit 64 bits, not {value}")
    return value


def check_str(value: str) -> str:
    """Text must be encodable: a lone surrogate would fail later, far from the line that stored it."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise StateError(f"text in the state must be valid Unicode: {error}") from None
    return value


class ValueType:
    """What one field, key or item may hold."""

    __slots__ = ("choices", "fast", "item", "key", "name", "node_class", "nodes", "optional", "scalar", "tag")

    def __init__(
        self,
        name: str,
        *,
        scalar: type | None = None,
        node_class: type[Node] | None = None,
        key: ValueType | None = None,
        item: ValueType | None = None,
        choices: tuple[Any, ...] = (),
        optional: bool = False,
    ) -> None:
        self.name = name
        self.scalar = scalar
        self.node_class = node_class
        self.key = key
        self.item = item
        self.choices = choices
        self.optional = optional
        anything = scalar is None and node_class is None and not choices
        self.nodes = anything or node_class is not None
        self.tag = "node" if node_class else "any" if anything or choices or scalar is None else _TAGS[scalar]
        fast: set[type] = {_NONE} if optional or anything else set()
        if anything:
            fast |= {bool, int, float, bytes}
        elif scalar is not None and scalar is not str and not choices:
            fast.add(scalar)
        self.fast = frozenset(fast)

    def with_none(self) -> ValueType:
        """The same type, or None."""
        return ValueType(
            f"{self.name} | None",
            scalar=self.scalar,
            node_class=self.node_class,
            key=self.key,
            item=self.item,
            choices=self.choices,
            optional=True,
        )

    def convert(self, value: Any, where: str, depth: int = 0) -> Any:
        """The value as it is stored. Plain containers are copied.

        Raises `StateError` when it is not of this type.
        """
        if value is None and (self.optional or self is ANY):
            return None
        if self.choices:
            if value in self.choices and any(value == c and type(value) is type(c) for c in self.choices):
                return value
            raise StateError(f"{where} must be one of {list(self.choices)!r}, not {value!r}")
        if self.scalar is not None:
            return self._convert_scalar(value, where)
        if self.node_class is not None:
            return self._convert_node(value, where, depth)
        return convert_any(value, where, depth)

    def _convert_scalar(self, value: Any, where: str) -> Any:
        scalar = self.scalar
        if scalar is str and isinstance(value, str):
            return check_str(value if type(value) is str else str.__str__(value))
        if scalar is int and isinstance(value, int) and not isinstance(value, bool):
            return check_int(int(value))
        if scalar is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if scalar is bool and isinstance(value, bool):
            return value
        if scalar is bytes and isinstance(value, bytes | bytearray):
            return bytes(value)
        raise StateError(f"{where} must be {self.name}, not {type(value).__name__} ({value!r:.80})")

    def _convert_node(self, value: Any, where: str, depth: int) -> Node:
        wanted = self.node_class
        if wanted is containers.Map:
            return containers.as_map(value, self.key or ANY, self.item or ANY, where, depth)
        if wanted is containers.List:
            return containers.as_list(value, self.item or ANY, where, depth)
        if wanted is not None and isinstance(value, wanted):
            return value
        raise StateError(f"{where} must be {self.name}, not {type(value).__name__} ({value!r:.80})")


ANY = ValueType("any value")


def convert_any(value: Any, where: str, depth: int = 0) -> Any:
    """An undeclared value as it is stored: scalars and nodes as they are, plain containers copied."""
    if depth > DEPTH_MAX:
        raise StateError(f"{where} is nested deeper than {DEPTH_MAX} levels, or holds itself")
    if isinstance(value, Node) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return check_str(value if type(value) is str else str.__str__(value))
    if isinstance(value, int):
        return check_int(int(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, Mapping):
        return containers.as_map(value, ANY, ANY, where, depth)
    if isinstance(value, list | tuple):
        return containers.as_list(value, ANY, where, depth)
    raise StateError(
        f"{where} cannot hold {type(value).__name__} ({value!r:.80}): use None, bool, int, float, str, bytes, "
        "an Entity, or a list or dict of these"
    )


def value_type(annotation: Any) -> ValueType:
    """The check for an annotation. Raises `StateError` for one that cannot be state."""
    if annotation is Any or annotation is object:
        return ANY
    if annotation in _TAGS:
        return ValueType(annotation.__name__, scalar=annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ValueType(str(annotation), choices=arguments)
    if origin is Union or origin is types.UnionType:
        return _union(annotation, arguments)
    base = origin or annotation
    if isinstance(base, type):
        if issubclass(base, containers.Map) or base is dict:
            key, item = arguments if len(arguments) == 2 else (Any, Any)
            return ValueType(str(annotation), node_class=containers.Map, key=_key_type(key), item=value_type(item))
        if issubclass(base, containers.List) or base is list:
            return ValueType(
                str(annotation), node_class=containers.List, item=value_type(arguments[0] if arguments else Any)
            )
        if issubclass(base, Node):
            return ValueType(base.__name__, node_class=base)
    raise StateError(
        f"{annotation!r} cannot be a type of state: use bool, int, float, str, bytes, an Entity class, "
        "Map[str, …], List[…], dict, list, Literal[…], Any, or one of these | None"
    )


def _key_type(annotation: Any) -> ValueType:
    if annotation in (str, int):
        return ValueType(annotation.__name__, scalar=annotation)
    if annotation is Any:
        return ANY
    raise StateError(f"a Map's keys are str or int, not {annotation!r}")


def _union(annotation: Any, arguments: tuple[Any, ...]) -> ValueType:
    rest = [a for a in arguments if a is not _NONE]
    if len(rest) == 1 and len(arguments) == 2:
        inner = value_type(rest[0])
        return inner if inner is ANY else inner.with_none()
    for argument in rest:
        value_type(argument)  # raises for what cannot be stored; a mixed union is checked as "any"
    return ANY

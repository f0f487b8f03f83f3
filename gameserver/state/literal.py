"""Whole nodes on the wire, and the schema that their numbers refer to. `docs/protocol.md` has the format.

A literal is `[id, class_no, …]`: a map (0) lists keys and values, a list (1) its items, an entity (from 2 on) its field
values in order. A node that the receiver already has is `[id]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from gameserver.state.containers import List, Map
from gameserver.state.entity import Entity, Field, Visibility, fields_of
from gameserver.state.node import INT_MAX, INT_MIN, Node, Where

if TYPE_CHECKING:
    from gameserver.state.tree import Tree

ENCODER: Final = msgspec.msgpack.Encoder()
MAP_CLASS: Final = 0
LIST_CLASS: Final = 1
CLASS_NUMBER_MIN: Final = 2

Literal = list[Any]
ChildEncoder = Callable[[Node, Where, Node], Any]
"""(parent, where, child) → the child's wire value, or None where it does not show"""


def quantize(value: Any, step: float) -> Any:
    """The integer that is sent for a quantized number; what no integer can stand for is sent as it is."""
    try:
        units = round(value / step)
    except (ValueError, OverflowError, TypeError):  # not finite, or None
        return value
    return units if INT_MIN <= units <= INT_MAX else value


def dequantize(units: Any, step: float) -> Any:
    """The number that a receiver makes of a quantized one."""
    return units * step if type(units) is int else units


def same(a: Any, b: Any) -> bool:
    """Is there nothing to send for a change from `a` to `b`? (1, True and 1.0 differ, 0.0 and -0.0, two nodes.)

    Two NaNs are the same whichever objects they are: a restored tree has others, and must go on alike.
    """
    if type(a) is not type(b):
        return False
    if type(a) is int:
        return bool(a == b)
    if type(a) is not float:
        return a is b if isinstance(a, Node) else bool(a == b)
    x, y = a, b
    if x != y:
        return x != x and y != y
    return x != 0.0 or math.copysign(1.0, x) == math.copysign(1.0, y)


def class_definition(cls: type[Entity]) -> Literal:
    """`[name, public_count, [[field, type(, step)], …]]` without the server_only fields."""
    fields = [f for f in fields_of(cls).values() if f.visibility is not Visibility.SERVER]
    public_count = sum(f.visibility is Visibility.PUBLIC for f in fields)
    shown = [[f.name, f.type.tag] if f.step is None else [f.name, f.type.tag, f.step] for f in fields]
    return [cls.__name__, public_count, shown]


def field_value(node: Entity, field: Field, child: ChildEncoder) -> Any:
    """A field's wire value."""
    value = getattr(node, field.name)
    if isinstance(value, Node):
        return child(node, field, value)
    return value if field.step is None else quantize(value, field.step)


def node_literal(tree: Tree, node: Node, child: ChildEncoder, *, private: bool = False) -> Literal:
    """A node with its public fields (and the owner's, if `private`); `child` says what stands for a node in it."""
    if isinstance(node, Map):
        made: Literal = [node._id, MAP_CLASS]
        for key, value in node.items():
            if isinstance(value, Node):
                value = child(node, key, value)
                if value is None:
                    continue
            made.append(key)
            made.append(value)
        return made
    if isinstance(node, List):
        items = [child(node, None, v) if isinstance(v, Node) else v for v in node._items]
        return [node._id, LIST_CLASS, *items]
    entity = cast(Entity, node)
    limit = Visibility.OWNER if private else Visibility.PUBLIC
    values = [field_value(entity, f, child) for f in entity._fields.values() if f.visibility <= limit]
    return [entity._id, tree.class_number(type(entity)), *values]


def view_literal(tree: Tree, node: Node, viewer: str) -> Literal:
    """A node and all below it as one viewer sees it."""

    def child(parent: Node, where: Where, node: Node) -> Literal | None:
        return view_literal(tree, node, viewer) if tree.sees(viewer, node._scope) else None

    return node_literal(tree, node, child, private=_is_owner(tree, node, viewer))


def _is_owner(tree: Tree, node: Node, viewer: str) -> bool:
    return isinstance(node, Entity) and node._owner == viewer


def plain_view(tree: Tree, node: Node, viewer: str) -> Any:
    """A node as one viewer sees it, as plain dicts, lists and scalars (quantized numbers as a receiver has them)."""

    def shown(value: Any, step: float | None = None) -> Any:
        if isinstance(value, Node):
            return plain_view(tree, value, viewer) if tree.sees(viewer, value._scope) else None
        return value if step is None else dequantize(quantize(value, step), step)

    if isinstance(node, Map):
        return {
            key: shown(value)
            for key, value in node.items()
            if not isinstance(value, Node) or tree.sees(viewer, value._scope)
        }
    if isinstance(node, List):
        return [shown(value) for value in node]
    entity = cast(Entity, node)
    limit = Visibility.OWNER if _is_owner(tree, node, viewer) else Visibility.PUBLIC
    return {f.name: shown(getattr(entity, f.name), f.step) for f in entity._fields.values() if f.visibility <= limit}


def position(list_: List[Any], node: Node) -> int:
    """Where a list holds a node."""
    return next(i for i, value in enumerate(list_._items) if value is node)


def key_of(parent: Node, where: Where, node: Node) -> Any:
    """A place within a node as the wire names it."""
    if isinstance(where, Field):
        return where.number
    return position(parent, node) if isinstance(parent, List) else where

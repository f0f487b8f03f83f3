"""What changed in an entity since the last flush: a function for each class, written out with its fields as constants.

Nearly all of a flush is this, for each entity that was written to. A loop over descriptions of fields costs several
times as much as the comparisons themselves; so the function is generated, like a dataclass's methods are. For

    class Body(Entity):
        x: float = quantized(0.0, step=0.01)
        ammo: int = owner_only(10)

it reads (`row` is for the journal: exact, and all; `op` for whoever sees the entity):

    def collect(encoder, entity, values, was, op, row):
        new, old = values["x"], was[0]
        if new is not old and (old != new == new or not same(old, new)):
            was[0] = new
            row.append(0); row.append(new)
            …                                    # see _STEPS
        new, old = values["ammo"], was[1]
        if new is not old and (old != new == new or not same(old, new)):
            was[1] = new
            row.append(1); row.append(new)
            encoder.owned(entity, field_1, 1, new)
"""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final

from gameserver.state.entity import Field, Visibility, fields_of
from gameserver.state.literal import quantize, same
from gameserver.state.node import INT_MAX, INT_MIN, Node

if TYPE_CHECKING:
    from gameserver.state.entity import Entity
    from gameserver.state.patch import PatchEncoder

Collector = Callable[["PatchEncoder", "Entity", dict[str, Any], list[Any], list[Any], list[Any]], None]

STEPS_ADDED_TO_MAX: Final = 2**40
"""Smaller counts of steps may be added to: receivers find the count again in the number that they made of it."""

_HEAD: Final = "def collect(encoder, entity, values, was, op, row):\n"
_VALUE: Final = """
new, old = values[{name!r}], was[{number}]
if new is not old and (old != new == new or not same(old, new)):
    was[{number}] = new
    row.append({number}); row.append(new)
"""
_NODE: Final = """
new, old = values[{name!r}], was[{number}]
if new is not old and (isinstance(new, Node) or isinstance(old, Node)):
    was[{number}] = new
    encoder.node_field(entity, field_{number}, old, new, row)
elif new is not old and (old != new == new or not same(old, new)):
    was[{number}] = new
    row.append({number}); row.append(new)
"""
_SENT: Final = """
    {send}
"""
_STEPS: Final = """
    try:
        units = round(new / {step!r})
        way = units - round(old / {step!r})
    except (ValueError, OverflowError, TypeError):
        units = way = FAR
    if -FAR < units < FAR and -128 <= way <= 127 and {public}:
        if way:
            if -256 < units < 256:
                op.append({number}); op.append(units)
            else:
                op.append({added}); op.append(way)
    else:
        change = steps(field_{number}, {step!r}, old, new)
        if change is not None:
            key, new = change
            {send}
"""
_SEND: Final = {
    Visibility.PUBLIC: "op.append({key}); op.append(new)",
    Visibility.OWNER: "encoder.owned(entity, field_{number}, {key}, new)",
    Visibility.SERVER: "pass",
}

_collectors: dict[type[Entity], Collector] = {}


def collector_of(cls: type[Entity]) -> Collector:
    """The collector of a class, made when it is first needed."""
    found = _collectors.get(cls)
    if found is None:
        found = _collectors[cls] = _make(list(fields_of(cls).values()))
    return found


def _make(fields: list[Field]) -> Collector:
    known: dict[str, Any] = {"same": same, "steps": steps, "Node": Node, "FAR": STEPS_ADDED_TO_MAX}
    parts = ["pass"]
    for f in fields:
        known[f"field_{f.number}"] = f
        stepped = f.step is not None
        template = (_NODE if f.nodes else _VALUE) + (_STEPS if stepped else _SENT)
        send = _SEND[f.visibility].format(key="key" if stepped else f.number, number=f.number)
        parts.append(
            template.format(name=f.name, number=f.number, step=f.step, added=-1 - f.number, public=f.public, send=send)
        )
    source = _HEAD + indent("".join(parts), "    ")
    exec(source, known)  # noqa: S102 - made of the names and numbers above, and of nothing that anybody sent
    made: Collector = known["collect"]
    return made


def steps(f: Field, step: float, old: Any, new: Any) -> tuple[int, Any] | None:
    """Key and value of a quantized field that changed; None if not by a step.

    Far from zero it is shorter to say how far it went (the key tells) than where that led. Not for fields of owners:
    a new owner gets the value in the same version, and would add to that.
    """
    try:
        was, now = round(old / step), round(new / step)
    except (ValueError, OverflowError, TypeError):
        was, now = quantize(old, step), quantize(new, step)
        return None if same(was, now) else (f.number, now)
    if was == now:
        return None if INT_MIN <= now <= INT_MAX else (f.number, new)
    if -128 <= now - was <= 127 and 255 < abs(now) < STEPS_ADDED_TO_MAX and f.public:
        return -1 - f.number, now - was
    return f.number, now if INT_MIN <= now <= INT_MAX else new

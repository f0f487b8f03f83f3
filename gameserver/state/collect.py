"""What changed in an entity since the last flush: one walk over its fields, for clients and for the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gameserver.state.entity import others_written
from gameserver.state.literal import quantize, same
from gameserver.state.node import INT_MAX, INT_MIN, Node

if TYPE_CHECKING:
    from gameserver.state.entity import Entity, Field
    from gameserver.state.pack import Packer
    from gameserver.state.patch import PatchEncoder

STEPS_ADDED_TO_MAX: Final = 2**40
"""Smaller counts of steps may be added to: receivers find the count again in the number that they made of it."""
_NEAR: Final = 2.0**40 - 1.0
_ROUNDS: Final = 1.5 * 2.0**52
"""Added to a number and taken off again it leaves the nearest integer, halves to even: `round` without a call."""


def collect(encoder: PatchEncoder, entity: Entity, fields: list[Field], op: Packer, row: Packer) -> None:
    """Puts keys and values of what changed into `op`, for whoever sees the entity, and `row`: exact, and all."""
    others = others_written(entity)
    for f in fields:
        if f.place >= 0:
            _number(encoder, entity, f, op, row)
        elif others:
            _other(encoder, entity, f, op, row)


def _number(encoder: PatchEncoder, entity: Entity, f: Field, op: Packer, row: Packer) -> None:
    """A field whose value lies within the entity."""
    place, number = f.place, f.number
    new, old = entity._numbers[place], entity._flushed_numbers[place]
    if new.whole == old.whole:  # or the same bits of two floats
        return
    if f.whole:
        entity._flushed_numbers[place] = new
        row.put_int(number)
        row.put_int(new.whole)
        if f.public:
            op.put_int(number)
            op.put_int(new.whole)
        elif f.owned:
            encoder.owned(entity, f, number, new.whole)
    elif new.real == new.real or old.real == old.real:  # two NaNs are the same
        entity._flushed_numbers[place] = new
        row.put_int(number)
        row.put_float(new.real)
        if f.step is not None:
            _send_steps(encoder, entity, f, f.step, old.real, new.real, op)
        elif f.public:
            op.put_int(number)
            op.put_float(new.real)
        elif f.owned:
            encoder.owned(entity, f, number, new.real)


def _other(encoder: PatchEncoder, entity: Entity, f: Field, op: Packer, row: Packer) -> None:
    """Any other field."""
    now, flushed, number = entity._now, entity._flushed, f.number
    new, old = now[number], flushed[number]
    if new is old:
        return
    if f.nodes and (isinstance(new, Node) or isinstance(old, Node)):
        flushed[number] = new
        encoder.node_field(entity, f, old, new, row)
    elif not same(old, new):
        flushed[number] = new
        row.put_int(number)
        row.put(new)
        if f.step is None:
            _send(encoder, entity, f, number, new, op)
        elif not f.public and not f.owned:
            return
        elif type(old) is float and type(new) is float:
            _send_steps(encoder, entity, f, f.step, old, new, op)
        else:
            _send_change(encoder, entity, f, old, new, op)


def _send_steps(
    encoder: PatchEncoder, entity: Entity, f: Field, step: float, was: float, now: float, op: Packer
) -> None:
    """Like `steps`, with what is usual first: floats that no more than 2**40 steps take to zero."""
    start, end = was / step, now / step
    if not (-_NEAR < start < _NEAR and -_NEAR < end < _NEAR):
        _send_change(encoder, entity, f, was, now, op)
        return
    units, before = int(end + _ROUNDS - _ROUNDS), int(start + _ROUNDS - _ROUNDS)
    way = units - before
    if not way:
        return
    if not f.public:
        if f.owned:
            encoder.owned(entity, f, f.number, units)
    elif -128 <= way <= 127 and (units > 255 or units < -255):
        op.put_int(f.added)
        op.put_int(way)
    else:
        op.put_int(f.number)
        op.put_int(units)


def _send_change(encoder: PatchEncoder, entity: Entity, f: Field, old: Any, new: Any, op: Packer) -> None:
    change = steps(f, old, new)
    if change is not None:
        _send(encoder, entity, f, change[0], change[1], op)


def _send(encoder: PatchEncoder, entity: Entity, f: Field, key: int, value: Any, op: Packer) -> None:
    if f.public:
        op.put_int(key)
        op.put(value)
    elif f.owned:
        encoder.owned(entity, f, key, value)


def steps(f: Field, old: Any, new: Any) -> tuple[int, Any] | None:
    """Key and value of a quantized field that changed; None if not by a step.

    Far from zero it is shorter to say how far it went (the key tells) than where that led. Not for fields of owners:
    a new owner gets the value in the same version, and would add to that.
    """
    step: Any = f.step
    try:
        was, now = round(old / step), round(new / step)
    except (ValueError, OverflowError, TypeError):
        was, now = quantize(old, step), quantize(new, step)
        return None if same(was, now) else (f.number, now)
    if was == now:
        return None if INT_MIN <= now <= INT_MAX else (f.number, new)
    if -128 <= now - was <= 127 and 255 < abs(now) < STEPS_ADDED_TO_MAX and f.public:
        return f.added, now - was
    return f.number, now if INT_MIN <= now <= INT_MAX else new

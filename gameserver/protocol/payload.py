"""What may be inside the free part of a message (arguments, options, parameters): plain, finite, bounded data.

The decoder underneath also makes timestamps, extension objects, NaN and keys of any type: none of them may reach game
code or a store, where they would do harm far from whoever sent them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gameserver.errors import FieldInvalid, MessageTooDeep
from gameserver.protocol.limits import INT_MAX, INT_MIN, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAMES: Final = {
    "NoneType": "nil",
    "bytes": "binary",
    "tuple": "an array",
    "datetime": "a timestamp",
    "Ext": "an extension",
}


def check_payload(
    payload: Sequence[Any] | Mapping[Any, Any], where: str, depth: int, limits: Limits, items: int = 0
) -> int:
    """Check a list or map at this depth of the message, and all that is in it; gives back how many values it has seen.

    Numbers: integers in signed 64 bits, floats finite (a NaN in a position would poison every sum it meets).
    Keys: strings or integers. Values: nil, booleans, numbers, strings, binary, arrays, maps.
    """
    if depth > limits.depth_max:
        raise MessageTooDeep(f"{where}: expected at most {limits.depth_max} levels of nesting")
    items += len(payload)
    if items > limits.items_max:
        raise FieldInvalid(f"{where}: expected at most {limits.items_max} values in all")
    values: Any = payload
    string_bytes_max = limits.string_bytes_max
    if type(payload) is dict:
        _check_keys(payload, where, limits)
        values = payload.values()
    for value in values:  # the common kinds first, without a call
        kind = type(value)
        if kind is float:
            if value - value == 0.0:  # false for NaN and the infinities only
                continue
        elif kind is int:
            if INT_MIN <= value <= INT_MAX:
                continue
        elif kind is str:
            if len(value) * 4 <= string_bytes_max:  # a character has at most four bytes
                continue
        elif value is None or kind is bool:
            continue
        elif kind is list or kind is dict:
            items = check_payload(value, where, depth + 1, limits, items)
            continue
        _check_scalar(value, where, limits)
    return items


def _check_keys(payload: Mapping[Any, Any], where: str, limits: Limits) -> None:
    for key in payload:
        if type(key) is str and len(key) * 4 <= limits.string_bytes_max:
            continue
        if type(key) is not str and type(key) is not int:
            raise FieldInvalid(f"{where}: expected map keys to be strings or integers, got {_name_of(key)}")
        _check_scalar(key, where, limits)


def _check_scalar(value: object, where: str, limits: Limits) -> None:
    if type(value) is int:
        if not INT_MIN <= value <= INT_MAX:
            raise FieldInvalid(f"{where}: expected integers in signed 64 bits")
    elif type(value) is str:
        if len(value) > limits.string_bytes_max or (
            not value.isascii() and limits.string_bytes_max < len(value.encode())
        ):
            raise FieldInvalid(f"{where}: expected strings of at most {limits.string_bytes_max} bytes")
    elif type(value) is bytes:
        if len(value) > limits.string_bytes_max:
            raise FieldInvalid(f"{where}: expected binary values of at most {limits.string_bytes_max} bytes")
    elif type(value) is float:
        raise FieldInvalid(f"{where}: expected finite numbers, got {value}")
    else:
        raise FieldInvalid(f"{where}: expected plain values, got {_name_of(value)}")


def _name_of(value: object) -> str:
    """The name of a type as the sender knows it."""
    names = {
        "NoneType": "nil",
        "bytes": "binary",
        "tuple": "an array",
        "datetime": "a timestamp",
        "Ext": "an extension",
    }
    name = type(value).__name__
    return names.get(name, name)

"""Plain data: what may leave a match as a result, an event, a record or a timer's argument.

It is checked and copied where the author hands it over, so that a mistake fails in their transaction, with their line
in the traceback, and nothing later (encoder, journal, document store) ever meets a value it cannot hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from gameserver.errors import StateError
from gameserver.state import List

DEPTH_MAX: Final = 16
ITEMS_MAX: Final = 10_000
STRING_BYTES_MAX: Final = 65_536
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1


def plain(value: Any, what: str) -> Any:
    """A copy of `value` in None, bool, int, float, str, bytes, list and dict. Raises `StateError` naming the place."""
    kind = value.__class__
    if kind is bool or value is None or kind is float:
        return value
    return _copy(value, what, 0, [0])


def _copy(value: Any, where: str, depth: int, count: list[int]) -> Any:
    kind = value.__class__
    if kind is bool or value is None or kind is float:
        return value
    if kind is int:
        if INT_MIN <= value <= INT_MAX:
            return value
        raise StateError(f"{where} must fit 64 bits, not {value}")
    if kind is str:
        return _text(value, where)
    if kind is dict or kind is list or kind is tuple:
        return _container(value, where, depth, count)
    return _unusual(value, where, depth, count)


def _text(value: str, where: str) -> str:
    if value.isascii():
        size = len(value)
    else:
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise StateError(f"{where} must be valid Unicode: {error}") from None
    if size > STRING_BYTES_MAX:
        raise StateError(f"{where} is {size} bytes long, the most is {STRING_BYTES_MAX}")
    return value


def _container(value: Any, where: str, depth: int, count: list[int]) -> Any:
    if depth >= DEPTH_MAX:
        raise StateError(f"{where} is nested deeper than {DEPTH_MAX} levels, or holds itself")
    count[0] += len(value)
    if count[0] > ITEMS_MAX:
        raise StateError(f"{where} holds more than {ITEMS_MAX} values")
    if not isinstance(value, Mapping):
        return [_copy(item, where, depth + 1, count) for item in value]
    copied: dict[str | int, Any] = {}
    for key, item in value.items():
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise StateError(f"{where}: a key is a str or an int, not {type(key).__name__} ({key!r:.80})")
        copied[_copy(key, where, depth, count)] = _copy(item, where, depth + 1, count)
    return copied


def _unusual(value: Any, where: str, depth: int, count: list[int]) -> Any:
    if isinstance(value, str):  # StrEnum and the like
        return _text(str.__str__(value), where)
    if isinstance(value, int):  # IntEnum and the like
        return _copy(int.__int__(value), where, depth, count)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes | bytearray):
        if len(value) > STRING_BYTES_MAX:
            raise StateError(f"{where} is {len(value)} bytes long, the most is {STRING_BYTES_MAX}")
        return bytes(value)
    if isinstance(value, list | tuple | List | Mapping):  # containers of the state become copies
        return _container(value, where, depth, count)
    raise StateError(
        f"{where} cannot hold {type(value).__name__} ({value!r:.80}): use None, bool, int, float, str, bytes, "
        "or a list or dict of these (for a player or an entity: its id or key)"
    )


def find_unstorable(value: Any, where: str) -> str | None:
    """What is wrong with decoded plain data that no game wants: the first NaN, infinity or integer past 64 bits."""
    kind = value.__class__
    if kind is str or kind is bool or value is None:
        return None
    if kind is float:
        return None if isfinite(value) else f"{where} must be a finite number"
    if kind is int:
        return None if INT_MIN <= value <= INT_MAX else f"{where} must fit 64 bits"
    if kind is dict:
        for key, item in value.items():
            if found := find_unstorable(item, f"{where}.{key}"):
                return found
    elif kind is list or kind is tuple:
        for index, item in enumerate(value):
            if found := find_unstorable(item, f"{where}[{index}]"):
                return found
    return None

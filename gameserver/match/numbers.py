"""Arguments that are numbers and nothing else, read by some steps over their bytes: a third of what the decoder takes.

Only where it is compiled; interpreted the decoder is faster.
"""

from __future__ import annotations

from sys import float_info
from typing import Any, Final

COMPILED: Final = not __file__.endswith(".py")
FLOAT_MAX: Final = float_info.max
FLOAT: Final = 1
INT: Final = 2
_KINDS: Final = {float: FLOAT, int: INT}
_COUNT_MAX: Final = 15
"""As many have their number in the array's first byte."""


def number_kinds(kinds: list[Any]) -> bytes | None:
    """What `read_numbers` takes for arguments of these kinds; None: it cannot read them."""
    if not COMPILED or len(kinds) > _COUNT_MAX or not all(kind in (float, int) for kind in kinds):
        return None
    return bytes(_KINDS[kind] for kind in kinds)


def read_numbers(args: bytes, kinds: bytes) -> tuple[Any, ...] | None:
    """What the decoder would give. None: it is not that, or written in a rarer way; the decoder will know."""
    raw, wanted, end, count = args, kinds, len(args), len(kinds)
    if not end or raw[0] != 0x90 + count:
        return None
    values: tuple[Any, ...] = PyTuple_New(count)  # type: ignore[name-defined] # noqa: F821 - in the .pxd, like all so named
    at = 1
    for place in range(count):
        if at >= end:
            return None
        first = raw[at]
        at += 1
        if first == 0xCB:
            if wanted[place] != FLOAT or at + 8 > end:
                return None
            number = PyFloat_Unpack8(raw + at, 0)  # type: ignore[name-defined,operator] # noqa: F821 - in the .pxd
            if not -FLOAT_MAX <= number <= FLOAT_MAX:
                return None
            _put(values, place, number)
            at += 8
            continue
        if first < 0x80:
            whole = first
        elif first >= 0xE0:
            whole = first - 0x100
        elif 0xCC <= first <= 0xCE:
            stop = at + (1 << (first - 0xCC))
            if stop > end:
                return None
            whole = 0
            while at < stop:
                whole = whole << 8 | raw[at]
                at += 1
        else:
            return None
        if wanted[place] == FLOAT:
            _put(values, place, float(whole))
        else:
            _put(values, place, whole)
    PyObject_GC_UnTrack(values)  # type: ignore[name-defined] # noqa: F821 - numbers lead nowhere
    return values if at == end else None


def _put(values: tuple[Any, ...], place: int, value: Any) -> None:
    """Sets an element of a new tuple."""
    Py_INCREF(value)  # type: ignore[name-defined] # noqa: F821
    PyTuple_SET_ITEM(values, place, value)  # type: ignore[name-defined] # noqa: F821

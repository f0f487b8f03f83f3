"""The one rule for author-defined data in MongoDB: escape what it cannot hold, refuse what has no meaning there.

Keys: `%`, `$`, `.` and NUL become `%25`, `%24`, `%2E`, `%00`, so that no key is ever an operator or a path; a whole
number as key becomes `%i` and its digits. Integers beyond 64 bits signed become `{"%big": "digits"}`. All of it is
undone on reading. Tuples come back as lists. Anything that is not plain data (or is nested deeper than
`DEPTH_MAX`) raises `RequestInvalid` and names the place.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from gameserver.errors import RequestInvalid

DEPTH_MAX = 80  # MongoDB refuses documents nested deeper than 100; ours sit a few levels down
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
BIG = "%big"
_ESCAPED = re.compile(r"[%$.\x00]")
_WRITTEN = re.compile(r"%(25|24|2E|00)")
_WHOLE_NUMBER = re.compile(r"%i-?[0-9]+")
_KEPT = (str, float, bool, type(None), datetime.datetime)


def escape_key(key: object, where: str = "") -> str:
    """The key as it may stand in a document."""
    if isinstance(key, str):
        _check_text(key, where)
        return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", key)
    if isinstance(key, int) and not isinstance(key, bool):
        return f"%i{key}"
    raise RequestInvalid(f"{where or 'data'}: a key must be text or a whole number, not {type(key).__name__}.")


def unescape_key(key: str) -> str | int:
    """The key as it was before `escape_key`."""
    if _WHOLE_NUMBER.fullmatch(key):
        return int(key[2:])
    return _WRITTEN.sub(lambda match: chr(int(match[1], 16)), key)


def to_document(value: Any, where: str = "", depth: int = 0) -> Any:
    """Plain data as MongoDB can hold it: new containers throughout, nothing shared with `value`."""
    if isinstance(value, str):
        return _check_text(value, where)
    if isinstance(value, _KEPT):
        return value
    if isinstance(value, int):
        return int(value) if INT64_MIN <= value <= INT64_MAX else {BIG: str(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if depth >= DEPTH_MAX:
        raise RequestInvalid(f"{_shown(where)}: nested deeper than {DEPTH_MAX} levels.")
    if isinstance(value, Mapping):
        return {
            escape_key(key, where): to_document(inner, f"{where}.{key}" if where else str(key), depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [to_document(inner, f"{where}[{index}]", depth + 1) for index, inner in enumerate(value)]
    raise RequestInvalid(f"{_shown(where)}: {type(value).__name__} is not plain data.")


def from_document(value: Any) -> Any:
    """What was given to `to_document`."""
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get(BIG), str):
            return int(value[BIG])
        return {unescape_key(key): from_document(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [from_document(inner) for inner in value]
    return value


def _check_text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestInvalid(f"{_shown(where)}: the text is not valid Unicode.") from None
    return text


def _shown(where: str) -> str:
    return where[:200] or "data"

"""Arguments about which nothing has to be checked: they may be passed on as they came."""

from __future__ import annotations

from typing import Final

BY_HAND: Final = not __file__.endswith(".py")
"""Compiled, some steps over bytes are less than to decode and to encode again; interpreted they are more."""


def is_plain(args: bytes) -> bool:
    """An array of a few finite numbers, booleans, nils and short texts in ASCII?"""
    return BY_HAND and _is_plain(args, len(args))


def _is_plain(args: bytes, end: int) -> bool:
    raw, at = args, 1
    if end == 0 or raw[0] & 0xF0 != 0x90:
        return False
    for _ in range(raw[0] & 0x0F):
        if at >= end:
            return False
        first = raw[at]
        at += 1
        if first < 0x80 or first >= 0xE0 or first == 0xC0 or first == 0xC2 or first == 0xC3:
            continue
        if first == 0xCA or first == 0xCB:
            size = 4 if first == 0xCA else 8
            if at + size > end or not _is_finite(raw, at, size):
                return False
        elif 0xCC <= first <= 0xD3:
            size = 1 << (first & 3)
            if first == 0xCF and (at >= end or raw[at] >= 0x80):  # too large for a state
                return False
        elif 0xA0 <= first < 0xC0:
            size = first & 0x1F
            if at + size > end or not _is_ascii(raw, at, size):
                return False
        else:
            return False
        at += size
    return at == end


def _is_finite(raw: bytes, at: int, size: int) -> bool:
    if raw[at] & 0x7F != 0x7F:
        return True
    return raw[at + 1] & 0xF0 != 0xF0 if size == 8 else raw[at + 1] & 0x80 == 0


def _is_ascii(raw: bytes, at: int, size: int) -> bool:
    for place in range(at, at + size):  # noqa: SIM110 - compiled, there is no generator
        if raw[place] >= 0x80:
            return False
    return True

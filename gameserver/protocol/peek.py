"""The head of an action, read ahead of its arguments: those are best decoded by the action's own types."""

from __future__ import annotations

from typing import Final

import msgspec

from gameserver.protocol.client_messages import RawAction
from gameserver.protocol.limits import CHANNEL_MAX, NUMBER_MAX

BY_HAND: Final = not __file__.endswith(".py")
"""Compiled, some steps over bytes have read a head before the decoder would be called; interpreted they are slower."""

ARRAY_OF_SIX: Final = 0x96
ACTION: Final = 3
NAME_NUMBER_MAX: Final = 65_535

_decode: Final = msgspec.msgpack.Decoder(RawAction).decode
# Besides its own errors the decoder lets through what Python raises underneath: see `decode`.
_FAILURES: Final = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, ArithmeticError, RecursionError)


class ActionHead:
    """An `Action` whose arguments are still encoded, and nothing about them is checked."""

    __slots__ = ("args", "channel", "flags", "name", "seq")

    channel: int
    seq: int
    name: str | int
    args: bytes | msgspec.Raw
    flags: int


def peek_action(data: bytes) -> ActionHead | None:
    """This message if it is an action, its arguments neither decoded nor checked; None for all else, and nonsense."""
    head = _read_head(data) if BY_HAND else None
    if head is not None:
        return head
    try:
        action = _decode(data)
    except _FAILURES:
        return None
    if not BY_HAND:
        return action  # type: ignore[return-value] # it has the same attributes, and nobody asks for the class
    head = ActionHead.__new__(ActionHead)
    head.channel, head.seq, head.name = action.channel, action.seq, action.name
    head.args, head.flags = action.args, action.flags
    return head


def _read_head(data: bytes) -> ActionHead | None:
    """An action as nearly all are written: called by its number, with flags. None: the decoder knows better."""
    raw, end = data, len(data)
    if end < 2 or raw[0] != ARRAY_OF_SIX or raw[1] != ACTION:
        return None
    channel_end = _uint_end(raw, 2, end)
    seq_end = _uint_end(raw, channel_end, end)
    name_end = _uint_end(raw, seq_end, end)
    args_end = _value_end(raw, name_end, end)
    if not name_end or args_end != end - 1 or raw[args_end] > 1:
        return None
    channel, seq, name = _uint(raw, 2, channel_end), _uint(raw, channel_end, seq_end), _uint(raw, seq_end, name_end)
    if not (0 <= channel <= CHANNEL_MAX and 1 <= seq <= NUMBER_MAX and 0 <= name <= NAME_NUMBER_MAX):
        return None
    head = ActionHead.__new__(ActionHead)
    head.channel, head.seq, head.name = channel, seq, name
    head.args, head.flags = raw[name_end:args_end], raw[args_end]
    return head


# --- steps over msgpack: each tells where something ends; 0: it is not there, or not all of it ------------------------
def _uint_end(raw: bytes, at: int, end: int) -> int:
    if at >= end:
        return 0
    first = raw[at]
    if first < 0x80:
        return at + 1
    if first < 0xCC or first > 0xCF:
        return 0  # the first byte of a message, where the step before this one failed, is none either
    at += 1 + (1 << (first - 0xCC))
    return at if at < end else 0


def _uint(raw: bytes, at: int, stop: int) -> int:
    if stop - at == 1:
        return raw[at]
    value = 0
    for place in range(at + 1, stop):
        value = value << 8 | raw[place]
    return value


def _value_end(raw: bytes, at: int, end: int) -> int:
    """Of any value that is small; 0 for the rarer kinds, too."""
    wanted = 1
    while wanted:
        if at >= end:
            return 0
        first = raw[at]
        at += 1
        wanted -= 1
        if 0x80 <= first < 0x90:
            wanted += 2 * (first - 0x80)
        elif 0x90 <= first < 0xA0:
            wanted += first - 0x90
        elif 0xA0 <= first < 0xC0:
            at += first - 0xA0
        elif first == 0xCA:
            at += 4
        elif first == 0xCB:
            at += 8
        elif 0xCC <= first <= 0xD3:
            at += 1 << (first & 3)
        elif first == 0xC1 or 0xC4 <= first < 0xE0:
            return 0
    return at

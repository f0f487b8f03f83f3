"""Actions: the methods players may call, and the check of what they send, compiled once per class."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from sys import float_info
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, overload
from zlib import crc32

import msgspec

from gameserver.errors import ActionInvalid
from gameserver.match.numbers import number_kinds, read_numbers
from gameserver.match.plain import INT_MAX, INT_MIN, find_unstorable
from gameserver.match.values import Priority

F = TypeVar("F", bound=Callable[..., Any])

_RATE: Final = re.compile(r"([1-9]\d*)/(s|m|h)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_MARK: Final = "__gameserver_action__"
_SCALARS: Final = frozenset({str, bool, type(None)})
_PLAIN: Final = frozenset({str, bytes, bool, NoneType})
_RANGES: Final = {float: (-float_info.max, float_info.max), int: (INT_MIN, INT_MAX)}  # a NaN is in none


@dataclass(frozen=True, slots=True)
class ActionMark:
    """What `@action` leaves on the method."""

    priority: Priority
    rate: tuple[int, int] | None
    """So many, per so many microseconds."""
    name: str


@overload
def action(method: F, /) -> F: ...


@overload
def action(
    *, priority: Priority = Priority.NORMAL, rate: str | None = None, name: str | None = None
) -> Callable[[F], F]: ...


def action(
    method: Any = None,
    /,
    *,
    priority: Priority = Priority.NORMAL,
    rate: str | None = None,
    name: str | None = None,
) -> Any:
    """Let players call a method: `def fire(self, player, target: str) -> bool`.

    The annotations are what is checked before the method runs; the return value (plain data) goes back to the player.
    `priority=Priority.HIGH` runs it on arrival, otherwise it waits for the tick. `rate="10/s"` (or `/m`, `/h`) lets a
    player call it so many times at once, and then so often. `name` is what clients call it, if not the method's name.
    """

    def mark(method: F) -> F:
        if not inspect.isfunction(method):
            raise TypeError(f"@action marks a method, not {method!r}")
        setattr(method, _MARK, ActionMark(Priority(priority), parse_rate(rate), name or method.__name__))
        return method

    return mark if method is None else mark(method)


def parse_rate(rate: str | None) -> tuple[int, int] | None:
    """ "10/s" → (10, 1_000_000)."""
    if rate is None:
        return None
    found = _RATE.fullmatch(rate)
    if found is None:
        raise ValueError(f'a rate is written like "10/s", "30/m" or "5/h", not {rate!r}')
    return int(found[1]), _SECONDS[found[2]] * 1_000_000


def action_mark(method: object) -> ActionMark | None:
    """The mark of an action's method."""
    return getattr(method, _MARK, None)


class ActionSpec:
    """One compiled action of a game class."""

    __slots__ = (
        "_named", "_numbers", "_positional", "_read", "burst_us", "crc", "high", "interval_us", "method", "name",
        "number", "priority",
    )  # fmt: skip

    def __init__(self, cls: type, method: Callable[..., Any], mark: ActionMark, number: int) -> None:
        self.name = mark.name
        self.number = number
        self.crc = name_crc(mark.name)
        self.method = method
        self.priority = mark.priority
        self.high = mark.priority is Priority.HIGH  # a look at an enum's member costs as much as ten of these
        count, period_us = mark.rate or (0, 0)
        # One number per player and action says when its bucket is full again: see `Session.take_rate`.
        self.interval_us = period_us // count if count else 0
        self.burst_us = period_us - self.interval_us
        fields = _fields(cls, method)
        settings: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}
        self._positional = msgspec.defstruct(mark.name.title(), fields, array_like=True, **settings)
        self._named = msgspec.defstruct(mark.name.title(), fields, **settings)
        kinds = [kind for _, kind, _ in fields]
        self._read = _reader(kinds)
        self._numbers = number_kinds(kinds)

    def read(self, args: bytes | msgspec.Raw) -> tuple[Any, ...] | None:
        """Encoded arguments, decoded and checked in one step: what `values` would give for them.

        None: they are wrong, not all there, by name, or of a kind that this cannot do. Decode them, and ask `values`.
        (An integer that is too large for a state, where a float is expected, is that float.)
        """
        if self._numbers is not None and type(args) is bytes:
            numbers = read_numbers(args, self._numbers)
            if numbers is not None:
                return numbers
        try:
            return None if self._read is None else self._read(args)
        except (msgspec.MsgspecError, ValueError):
            return None

    def values(self, args: Any) -> tuple[Any, ...]:
        """The checked arguments in the method's order. Raises `ActionInvalid` saying which one is wrong."""
        if args.__class__ is tuple:  # `read` has done it
            checked: tuple[Any, ...] = args
            return checked
        try:
            if args.__class__ is list:
                made = msgspec.convert(args, self._positional)
                for value in args:
                    kind = value.__class__
                    if kind is float:
                        if not isfinite(value):
                            self._refuse_unstorable(args)
                    elif kind is int:
                        if not INT_MIN <= value <= INT_MAX:
                            self._refuse_unstorable(args)
                    elif kind not in _SCALARS:
                        self._refuse_unstorable(value)
            elif args.__class__ is dict:
                made = msgspec.convert(args, self._named)
                self._refuse_unstorable(args)
            else:
                raise ActionInvalid(f"{self.name}: the arguments are an array or a map, not {type(args).__name__}")
        except msgspec.ValidationError as error:
            raise ActionInvalid(f"{self.name}: {error}") from None
        return msgspec.structs.astuple(made)

    def _refuse_unstorable(self, args: Any) -> None:
        if found := find_unstorable(args, "$"):
            raise ActionInvalid(f"{self.name}: {found}")


def name_crc(name: str | int) -> int:
    """What tells actions with the same arguments apart."""
    return crc32(str(name).encode(errors="replace"))


def _reader(kinds: list[Any]) -> Callable[[bytes | msgspec.Raw], tuple[Any, ...]] | None:
    """A decoder of an array of just these kinds; None if one of them may hold more than a plain value."""
    bounded = [_bounded(kind) for kind in kinds]
    if None in bounded:
        return None
    whole: Any = tuple[tuple(bounded)] if bounded else tuple[()]  # type: ignore[misc]
    return msgspec.msgpack.Decoder(whole).decode


def _bounded(kind: Any, *metas: Any) -> Any:
    """The kind, within what a state can hold; None: that takes more than the decoder can check."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(inner[0], *(meta for meta in inner[1:] if isinstance(meta, msgspec.Meta)))
    if origin in (Union, UnionType) and not metas:
        parts = [_bounded(part) for part in inner]
        return None if None in parts else Union[tuple(parts)]  # noqa: UP007 - made at run time
    if kind in _RANGES:
        low, high = _RANGES[kind]
        if not any(meta.ge is not None or meta.gt is not None for meta in metas):
            metas = (*metas, msgspec.Meta(ge=low))
        if not any(meta.le is not None or meta.lt is not None for meta in metas):
            metas = (*metas, msgspec.Meta(le=high))
    elif kind not in _PLAIN and origin is not Literal:
        return None
    return Annotated[(kind, *metas)] if metas else kind


def _fields(cls: type, method: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """The method's parameters after `self` and the player, for msgspec."""
    where = f"{cls.__name__}.{method.__name__}"
    parameters = list(inspect.signature(method).parameters.values())
    if len(parameters) < 2:
        raise TypeError(f"{where}: an action takes the player first: def {method.__name__}(self, player, …)")
    hints = _hints(where, cls, method)
    fields: list[tuple[str, Any, Any]] = []
    for parameter in parameters[2:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{where}: {parameter} cannot be an action's parameter: list each one, without * or **")
        kind = hints.get(parameter.name, Any)
        _refuse_unsendable(f"{where}: {parameter.name}", kind)
        default = parameter.default
        if default is parameter.empty:
            fields.append((parameter.name, kind, msgspec.field()))
        else:
            fields.append((parameter.name, kind, msgspec.field(default_factory=_copier(default))))
    return fields


def _copier(default: Any) -> Callable[[], Any]:
    if isinstance(default, list | dict | set):
        return default.copy
    return lambda: default


def _hints(where: str, cls: type, method: Callable[..., Any]) -> dict[str, Any]:
    known = dict(getattr(cls, "_locals", {}))
    known[cls.__name__] = cls
    # What a result is declared as is not checked; its names need not be known at run time.
    annotations = {name: hint for name, hint in method.__annotations__.items() if name != "return"}
    first = list(inspect.signature(method).parameters)[:2]
    wanted = {name: hint for name, hint in annotations.items() if name not in first}
    holder = type("Holder", (), {"__annotations__": wanted})
    try:
        return typing.get_type_hints(holder, getattr(method, "__globals__", {}), known, include_extras=True)
    except NameError as error:
        raise TypeError(f"{where}: {error}; an action's types must be known where it is defined") from None


def _refuse_unsendable(where: str, kind: Any) -> None:
    try:
        info = msgspec.inspect.type_info(kind)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where}: {kind!r} cannot be checked: {error}") from None
    pending: list[Any] = [info]
    for found in pending:  # grows while it is walked
        if isinstance(found, msgspec.inspect.CustomType):
            raise TypeError(
                f"{where}: {found.cls.__name__} cannot come from a client: take an id or a key and look it up"
            )
        for name in ("item_type", "key_type", "value_type", "types", "item_types"):
            inner = getattr(found, name, ())
            pending.extend(inner if isinstance(inner, tuple) else (inner,))

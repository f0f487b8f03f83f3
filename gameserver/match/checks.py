"""What a game class must look like, checked when it is defined: a mistake is told before the first player meets it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from gameserver.match.actions import ActionSpec, action_mark
from gameserver.state import Entity, List, Map

if TYPE_CHECKING:
    from gameserver.match.game import Game

HOOKS: Final = {
    "on_create": "options",
    "on_join": "player",
    "on_leave": "player, reason",
    "on_disconnect": "player",
    "on_reconnect": "player",
    "on_tick": "dt",
    "on_end": "reason",
    "on_message": "topic, data",
    "on_upgrade": "old",
    "can_join": "user",
}
"""Methods the match calls, with their parameters after `self`."""

DURABILITIES: Final = ("async", "strict", "snapshot")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_VALUES: Final = (int, float, str, bytes, type(None), list, dict, set, tuple, Entity, Map, List)


def _number(low: float, high: float = float("inf"), *, whole: bool = False) -> Callable[[Any], str | None]:
    kinds = int if whole else int | float

    def check(value: Any) -> str | None:
        if isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high:
            return None
        upper = "" if high == float("inf") else f" and at most {high:g}"
        return f"{'an integer' if whole else 'a number'} of at least {low:g}{upper}"

    return check


def _seconds_or_never(value: Any) -> str | None:
    return None if value is None or not _number(0)(value) else "a number of seconds of at least 0, or None for never"


def _durability(value: Any) -> str | None:
    return None if value in DURABILITIES else f"one of {', '.join(DURABILITIES)}"


def _name(value: Any) -> str | None:
    fits = value is None or (isinstance(value, str) and _NAME.fullmatch(value))
    return None if fits else "None or up to 64 of a-z, 0-9, _, - and . (not first)"


SETTINGS: Final[dict[str, Callable[[Any], str | None]]] = {
    "tick_hz": _number(0, 1000),
    "catchup_ticks_max": _number(1, 1000, whole=True),
    "players_max": _number(1, 100_000, whole=True),
    "spectators_max": _number(0, whole=True),
    "batch_ms": _number(0, 60_000),
    "durability": _durability,
    "state_version": _number(1, whole=True),
    "failures_max": _number(1, whole=True),
    "empty_seconds": _seconds_or_never,
    "seat_hold_seconds": _number(0),
    "hibernates": lambda value: None if value is None or isinstance(value, bool) else "True, False or None",
    "hibernate_seconds": _seconds_or_never,
    "name": _name,
    "options_type": lambda value: None,
}
"""Class settings of a game: what is wrong with a value, if anything, as "must be …"."""


def check_fields(cls: type, taken: frozenset[str]) -> None:
    """Refuse fields that would hide what a game already has. Runs before the fields are made."""
    for name, annotation in inspect.get_annotations(cls).items():
        if "ClassVar" in str(annotation):
            continue
        if name in SETTINGS:
            raise TypeError(f"{cls.__name__}.{name} is a setting, not state: write `{name} = …` without an annotation")
        if name in taken:
            raise TypeError(f"{cls.__name__}.{name}: a game already has `{name}`, give the field another name")


def check_members(cls: type, taken: frozenset[str]) -> None:
    """Refuse settings, hooks, methods and class attributes that cannot work. Runs after the fields are made."""
    for name, value in list(vars(cls).items()):
        where = f"{cls.__name__}.{name}"
        if name == "__init__":
            raise TypeError(f"{where}: a game is set up in on_create(self, options), not in __init__")
        if name.startswith("_"):
            continue
        if name in SETTINGS:
            if wrong := SETTINGS[name](value):
                raise TypeError(f"{where} must be {wrong}, not {value!r}")
        elif name in taken and name not in HOOKS:
            raise TypeError(f"{where}: a game already has `{name}`, give yours another name")
        elif inspect.isfunction(value):
            _check_method(where, name, value)
        elif name in HOOKS:
            raise TypeError(f"{where} must be a method: def {name}(self, {HOOKS[name]})")
        elif name.upper() != name and not _is_class_var(cls, name):
            _check_attribute(where, name, value)


def _check_method(where: str, name: str, method: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(
            f"{where} is a coroutine: a game's methods are plain functions, because a match never waits; "
            "what needs I/O is asked for with self.record(…)"
        )
    if (name in HOOKS or action_mark(method)) and inspect.isgeneratorfunction(method):
        raise TypeError(f"{where} is a generator: its body would never run")
    if name in HOOKS:
        if action_mark(method):
            raise TypeError(f"{where} is called by the match: players cannot call it too, remove @action")
        wanted = HOOKS[name]
        try:
            inspect.signature(method).bind(None, *wanted.split(", "))
        except TypeError as error:
            raise TypeError(f"{where} must be `def {name}(self, {wanted})`: {error}") from None
    elif name.startswith("on_"):
        close = get_close_matches(name, HOOKS, n=1, cutoff=0.8)
        if close:
            raise TypeError(f"{where} is never called: did you mean {close[0]}?")


def _check_attribute(where: str, name: str, value: Any) -> None:
    if type(value).__name__ == "FieldSpec":
        raise TypeError(f"{where} needs a type to be state: `{name}: float = …`")
    if isinstance(value, _VALUES):
        kind = "Any" if value is None else type(value).__name__
        raise TypeError(
            f"{where} is not declared as state and would be lost after a restart: annotate it (`{name}: {kind} = …`); "
            "a constant is written in capitals or annotated with ClassVar"
        )


def _is_class_var(cls: type, name: str) -> bool:
    return "ClassVar" in str(inspect.get_annotations(cls).get(name, ""))


class GameSpec:
    """A game class, compiled: what a match needs of it, in the units it needs it. Not changed once it is made."""

    __slots__ = ("actions", "batch_us", "by_key", "cls", "empty_us", "hold_us", "name", "tick_hz", "ticks")

    def __init__(self, cls: type[Game]) -> None:
        self.cls = cls
        self.name = game_name(cls)
        self.actions = _compile_actions(cls)
        self.by_key: dict[str | int, ActionSpec] = {spec.name: spec for spec in self.actions}
        """By name and by number."""
        self.by_key.update({spec.number: spec for spec in self.actions})
        self.tick_hz: float = cls.tick_hz
        self.ticks = cls.on_tick is not _base_of(cls).on_tick
        """Is there an `on_tick` to call?"""
        self.batch_us = round(cls.batch_ms * 1000)
        self.empty_us = None if cls.empty_seconds is None else round(cls.empty_seconds * 1_000_000)
        self.hold_us = round(cls.seat_hold_seconds * 1_000_000)


_compiled: dict[type, GameSpec] = {}


def compile_game(cls: type[Game]) -> GameSpec:
    """The compiled form of a class, made once. Raises TypeError for an action whose types cannot be checked."""
    found = _compiled.get(cls)
    if found is None:
        found = _compiled[cls] = GameSpec(cls)
    return found


def _base_of(cls: type[Game]) -> type[Game]:
    """`Game` itself: the class in which `on_tick` was first defined."""
    return next(base for base in reversed(cls.__mro__) if "on_tick" in vars(base) and "emit" in vars(base))


def _compile_actions(cls: type[Game]) -> list[ActionSpec]:
    """In the order of definition, base classes first: an action's number is its place."""
    methods: dict[str, Callable[..., Any]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if action_mark(value):
                methods[name] = value
            elif name in methods:
                raise TypeError(f"{base.__name__}.{name} overrides an action: mark it with @action too")
    actions: dict[str, ActionSpec] = {}
    for method in methods.values():
        mark = action_mark(method)
        if mark is None:
            continue
        if mark.name in actions:
            raise TypeError(f"{cls.__name__}: two actions are called {mark.name!r}")
        actions[mark.name] = ActionSpec(cls, method, mark, len(actions))
    return list(actions.values())


def game_name(cls: type[Game]) -> str:
    """The name a class is known by: its `name`, or else its class name in snake case."""
    return cls.name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()

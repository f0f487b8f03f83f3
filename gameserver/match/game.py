"""`Game`: what an author subclasses. Its annotated attributes are the state; the rest is what they may use."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from gameserver.errors import StateError
from gameserver.match.checks import check_fields, check_members
from gameserver.match.outbox import EVERYONE
from gameserver.match.plain import plain
from gameserver.match.player import Player
from gameserver.match.values import PUBLISH, Priority, User
from gameserver.state import Entity, Group

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from random import Random

    from gameserver.match.engine import Match
    from gameserver.match.grid import Grid

_NAME_LENGTH_MAX = 64
_SUMMARY_FIELDS_MAX = 32


class Game(Entity):
    """The rules of a game. One object of your subclass is one match.

    Every method the match calls is a transaction: if it raises, everything it did is undone.
    Nothing but annotated attributes survives a restart, so nothing else can be set.
    """

    # --- settings: override them in the class body, without annotations ----------------------------------------------
    tick_hz: ClassVar[float] = 0
    """Ticks per second; 0: none, the match only moves when somebody acts or a timer is due."""
    catchup_ticks_max: ClassVar[int] = 5
    """After a stall, so many ticks are made up for; what is beyond is skipped and counted."""
    players_max: ClassVar[int] = 100
    spectators_max: ClassVar[int] = 10_000
    batch_ms: ClassVar[float] = 50
    """Without ticks: how long NORMAL actions are collected before they are applied and sent in one frame."""
    durability: ClassVar[str] = "async"
    state_version: ClassVar[int] = 1
    """Raise it when the meaning of the state changes, and write `on_upgrade`."""
    failures_max: ClassVar[int] = 10
    """So many failing calls in a row end the match."""
    empty_seconds: ClassVar[float | None] = 60
    """The match ends after nobody was in it for so long; None: never."""
    seat_hold_seconds: ClassVar[float] = 30
    """How long a player who lost the connection keeps the seat."""
    hibernates: ClassVar[bool | None] = None
    """May a match with nobody connected leave the memory until somebody joins or a timer is due?

    Its ticks do not happen meanwhile, its time goes on. None: games without ticks do.
    """
    hibernate_seconds: ClassVar[float | None] = 60
    """How long nobody has been connected before it does; None: never."""
    name: ClassVar[str | None] = None
    """What clients call the game; by default the class name in snake case."""
    options_type: ClassVar[Any] = dict
    """What the options of a new match are checked against: dict, or a msgspec.Struct, dataclass or TypedDict."""

    if TYPE_CHECKING:
        _match: ClassVar[Match]  # set per object; a ClassVar, so that it is no field and no argument of the constructor

    _taken: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        check_fields(cls, Game._taken)
        super().__init_subclass__(**kwargs)
        check_members(cls, Game._taken)

    # --- hooks: define the ones you need ------------------------------------------------------------------------------
    def on_create(self, options: Any) -> None:
        """The match begins."""

    def can_join(self, user: User) -> bool | str | None:
        """False, or the reason as a text, refuses the user."""
        return True

    def on_join(self, player: Player) -> None:
        """A player came in. If it raises, they do not."""

    def on_leave(self, player: Player, reason: str) -> None:
        """A player is gone for good: already out of `self.players` and of all groups."""

    def on_disconnect(self, player: Player) -> None:
        """A player lost the connection; the seat is kept for `seat_hold_seconds`."""

    def on_reconnect(self, player: Player) -> None:
        """A player is back on the seat, perhaps from another device."""

    def on_tick(self, dt: float) -> None:
        """One step of `dt` seconds (always 1 / tick_hz)."""

    def on_end(self, reason: str) -> None:
        """The match ends: the last chance to change the state and to record something."""

    def on_message(self, topic: str, data: Any) -> None:
        """A match published something under a topic that this one subscribed to (itself, too)."""

    def on_upgrade(self, old: dict[str, Any]) -> None:
        """A match of an older `state_version` is restored.

        Fields of the same name have their values already; `old` holds the game's fields as they were, and
        `old["state_version"]`.
        """

    # --- who and when -------------------------------------------------------------------------------------------------
    @property
    def id(self) -> str:
        """The match's id."""
        return self._match.id

    @property
    def now(self) -> float:
        """Seconds of match time. Never goes back; the seconds of a crash do not count."""
        return self._match.clock_us / 1_000_000

    @property
    def wall_time(self) -> float:
        """Unix seconds of the call that runs. For showing and storing; it may jump."""
        return self._match.wall

    @property
    def random(self) -> Random:
        """Random numbers: seeded, part of the state."""
        return self._match.dice

    @property
    def players(self) -> Mapping[str, Player]:
        """The players in the match by id, in the order they joined. Those who lost the connection are in it."""
        return MappingProxyType(self._match.players)

    @property
    def log(self) -> logging.LoggerAdapter[Any]:
        """A logger whose lines name the match and the game."""
        return self._match.log

    @property
    def summary(self) -> Mapping[str, Any]:
        """What listings show of this match."""
        return MappingProxyType(self._match.summary)

    def set_summary(self, **fields: Any) -> None:
        """Change what listings show of this match; None removes a field."""
        added: dict[str, Any] = plain(fields, "the summary")
        merged = {**self._match.summary, **added}
        kept = {key: value for key, value in merged.items() if value is not None}
        if len(kept) > _SUMMARY_FIELDS_MAX:
            raise StateError(f"a summary has at most {_SUMMARY_FIELDS_MAX} fields, this one would have {len(kept)}")
        self._match.change_summary(kept)

    # --- groups -------------------------------------------------------------------------------------------------------
    def group(self, name: str) -> Group:
        """A named group of players: an audience for entities and events."""
        return self._match.tree.group(name)

    @property
    def spectators(self) -> Group:
        """The audience of those who only watch."""
        return self._match.tree.group("spectators")

    def grid(self, cell_size: float, *, name: str = "grid", spectators: bool = True) -> Grid:
        """A map cut into square cells: entities are shown to the players who are near. See `Grid`."""
        return self._match.grid(name, cell_size, spectators)

    # --- what a game may ask for --------------------------------------------------------------------------------------
    def emit(
        self,
        name: str,
        data: Any = None,
        *,
        to: Player | Group | str | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> None:
        """Send an event: to everyone, a player, or a group (by name, or the group itself).

        HIGH leaves at once, NORMAL and LOW with the next patch; it is never ahead of the changes made with it.
        """
        match = self._match
        if name.__class__ is not str or not 0 < len(plain(name, "an event's name")) <= _NAME_LENGTH_MAX:
            raise StateError(f"an event's name has 1 to {_NAME_LENGTH_MAX} characters, not {name!r:.80}")
        audience = EVERYONE if to is None else self._audience_of(to)
        match.outbox.add_event(Priority(priority), audience, name, plain(data, f"the event {name!r}"))

    def record(self, kind: str, data: dict[str, Any], *, priority: Priority = Priority.NORMAL) -> None:
        """Have a document stored that outlives the match; HIGH ones are written at once, others in batches."""
        if kind.__class__ is not str or not 0 < len(kind) <= _NAME_LENGTH_MAX:
            raise StateError(f"a record's kind has 1 to {_NAME_LENGTH_MAX} characters, not {kind!r:.80}")
        document: dict[str, Any] = plain({**data}, f"the record {kind!r}")
        if kind.startswith("*"):
            raise StateError(f"a record's kind does not begin with a star: {kind!r}")
        self._match.outbox.add_effect(str(plain(kind, "the kind")), document, Priority(priority))

    def publish(self, topic: str, data: Any = None, *, priority: Priority = Priority.NORMAL) -> None:
        """Send a message to all matches of all nodes that have subscribed to the topic: plain data, to `on_message`.

        It leaves once it cannot be taken back, and arrives once or, when something breaks on the way, not at all.
        """
        message = {"topic": _topic(topic), "data": plain(data, f"the message under {topic!r}")}
        self._match.outbox.add_effect(PUBLISH, message, Priority(priority))

    @property
    def topics(self) -> tuple[str, ...]:
        """What this match listens to."""
        return tuple(self._match.topics)

    def subscribe(self, topic: str) -> None:
        """Have messages of this topic come to `on_message` from now on. Part of the state, like timers."""
        self._match.change_topics(_topic(topic), listen=True)

    def unsubscribe(self, topic: str) -> None:
        """Listen to the topic no longer."""
        self._match.change_topics(_topic(topic), listen=False)

    def after(self, seconds: float, method: Callable[..., Any], *args: Any) -> int:
        """Call a method of this game later, with plain arguments; the id is for `cancel`. Survives a restart.

        In games with ticks it runs just before the first tick that is not earlier than its due time.
        """
        name = str(getattr(method, "__name__", ""))
        if getattr(method, "__self__", None) is None or getattr(self, name, None) != method:
            raise StateError(f"after() takes a method of this game, like self.respawn, not {method!r}")
        timer_id: int = self._match.add_timer(seconds, name, args)
        return timer_id

    def cancel(self, timer_id: int | None) -> bool:
        """Forget a timer; False when it has fired or never was."""
        return timer_id is not None and self._match.timers.cancel(timer_id)

    def end(self, reason: str = "finished") -> None:
        """End the match when this call is done."""
        self._match.request_end(reason)

    def _audience_of(self, to: Player | Group | str) -> str:
        if isinstance(to, Player):
            return f"player:{to.id}"
        if isinstance(to, Group):
            return to.name
        if not isinstance(to, str):
            raise StateError(f"an event goes to a player, a group or a group's name, not to {to!r:.80}")
        if to in self._match.players and to not in self._match.tree.groups:
            raise StateError(f"{to!r} is a player's id: write to=self.players[{to!r}]")
        return to


def _topic(topic: str) -> str:
    if topic.__class__ is not str or not 0 < len(topic) <= _NAME_LENGTH_MAX:
        raise StateError(f"a topic has 1 to {_NAME_LENGTH_MAX} characters, not {topic!r:.80}")
    return str(plain(topic, "the topic"))


Game._taken = frozenset(name for name in dir(Game) if not name.startswith("_"))

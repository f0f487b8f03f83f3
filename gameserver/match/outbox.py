"""What author calls leave behind besides state: events and effects, collected until the flush."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gameserver.errors import StateError
from gameserver.match.values import Effect, EventBatch, Priority

if TYPE_CHECKING:
    from collections.abc import Callable

EVERYONE: Final = "everyone"


class Outbox:
    """Append-only until it is taken, so that two lengths are all a transaction needs to undo what it added."""

    __slots__ = ("_effects_max", "_events_max", "effects", "events")

    def __init__(self, events_max: int, effects_max: int) -> None:
        self._events_max = events_max
        self._effects_max = effects_max
        self.events: list[tuple[Priority, str, str, Any]] = []
        """Priority, audience, name, data."""
        self.effects: list[Effect] = []

    def add_event(self, priority: Priority, audience: str, name: str, data: Any) -> None:
        """An event for whoever is in the audience at the flush."""
        if len(self.events) >= self._events_max:
            raise StateError(f"more than {self._events_max} events in one flush")
        self.events.append((priority, audience, name, data))

    def add_effect(self, kind: str, payload: dict[str, Any], priority: Priority) -> None:
        """Something for the world outside."""
        if len(self.effects) >= self._effects_max:
            raise StateError(f"more than {self._effects_max} effects in one flush")
        self.effects.append(Effect(kind, payload, priority, len(self.effects)))

    def undo_to(self, events_count: int, effects_count: int) -> None:
        """Forget what came after."""
        del self.events[events_count:]
        del self.effects[effects_count:]

    def take_events(
        self, receivers: Callable[[str], frozenset[str] | None]
    ) -> tuple[list[EventBatch], list[EventBatch]]:
        """Events by audience: those that go with the patch, and the HIGH ones. Order is kept within each audience."""
        if not self.events:
            return [], []
        batches: dict[tuple[Priority, str], EventBatch] = {}
        for priority, audience, name, data in self.events:
            batch = batches.get((priority, audience))
            if batch is None:
                found = None if audience == EVERYONE else receivers(audience)
                batch = batches[priority, audience] = EventBatch(found, [], priority)
            batch.events.append([name, data])
        self.events = []
        wanted = [batch for batch in batches.values() if batch.receivers is None or batch.receivers]
        return (
            [batch for batch in wanted if batch.priority is not Priority.HIGH],
            [batch for batch in wanted if batch.priority is Priority.HIGH],
        )

    def take_effects(self) -> list[Effect]:
        """The effects in the order they were asked for."""
        effects, self.effects = self.effects, []
        return effects

"""What matches ask of the world, carried out after the gate: today that is records for the document store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec
import structlog

from gameserver.errors import GameServerError
from gameserver.match import PUBLISH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gameserver.cluster.ports import EffectSink
    from gameserver.cluster.topics import Topics
    from gameserver.match import Effect
    from gameserver.storage import RecordSink

log = structlog.get_logger("gameserver.cluster")


class RecordEffects:
    """Hands records to the writer: HIGH ones are written at once, the rest in batches."""

    def __init__(self, records: RecordSink) -> None:
        self._records = records

    def carry_out(
        self, match_id: str, version: int, effects: Sequence[Effect], settled: Callable[[int, int], None]
    ) -> int:
        """Queue each under its idempotency key: carried out again after a restart, it is stored once."""
        for taken, effect in enumerate(effects):
            if not self._record(match_id, version, effect, partial(settled, version, effect.index)):
                return taken
        return len(effects)

    def _record(self, match_id: str, version: int, effect: Effect, done: Callable[[], None]) -> bool:
        # A match that goes on from what a rewound store had left may ask for something else at the same version.
        content = crc32(msgspec.msgpack.encode((effect.kind, effect.payload)))
        key = f"{match_id}:{version}:{effect.index}:{content:08x}"
        try:
            return self._records.record(
                effect.kind, match_id, effect.payload, int(effect.priority), key=key, on_done=done
            )
        except GameServerError as error:
            # What cannot be stored at all is the game's mistake: say which, and do not try for ever.
            log.error("effect_refused", match=match_id, kind=effect.kind, key=key, error=error.message)
            done()
            return True


class RoutedEffects:
    """Messages to other matches go to the topics, all else is a record."""

    def __init__(self, records: EffectSink, topics: Topics) -> None:
        self._records = records
        self._topics = topics

    def carry_out(
        self, match_id: str, version: int, effects: Sequence[Effect], settled: Callable[[int, int], None]
    ) -> int:
        """In order, each to where it belongs."""
        for taken, effect in enumerate(effects):
            if effect.kind == PUBLISH:
                self._topics.publish(match_id, (version, effect.index), effect.payload["topic"], effect.payload["data"])
                settled(version, effect.index)
            elif not self._records.carry_out(match_id, version, (effect,), settled):
                return taken
        return len(effects)


class NoEffects:
    """For a host without a document store: effects are dropped, and said to be."""

    def carry_out(
        self, match_id: str, version: int, effects: Sequence[Effect], settled: Callable[[int, int], None]
    ) -> int:
        """Drop them."""
        for effect in effects:
            settled(version, effect.index)
        log.debug("effects_dropped", match=match_id, version=version, count=len(effects))
        return len(effects)

"""What matches ask of the world, carried out after the gate: today that is records for the document store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gameserver.errors import GameServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gameserver.match import Effect
    from gameserver.storage import RecordSink

log = structlog.get_logger("gameserver.cluster")


class RecordEffects:
    """Hands records to the writer: HIGH ones are written at once, the rest in batches."""

    def __init__(self, records: RecordSink) -> None:
        self._records = records

    def carry_out(self, match_id: str, version: int, effects: Sequence[Effect]) -> None:
        """Queue each under its idempotency key: carried out again after a restart, it is stored once."""
        for effect in effects:
            key = f"{match_id}:{version}:{effect.index}"
            try:
                self._records.record(effect.kind, match_id, effect.payload, int(effect.priority), key=key)
            except GameServerError as error:
                # The writer counts what it drops; what it cannot store at all is the game's mistake: say which.
                log.error("effect_refused", match=match_id, kind=effect.kind, key=key, error=error.message)


class NoEffects:
    """For a host without a document store: effects are dropped, and said to be."""

    def carry_out(self, match_id: str, version: int, effects: Sequence[Effect]) -> None:
        """Drop them."""
        log.debug("effects_dropped", match=match_id, version=version, count=len(effects))

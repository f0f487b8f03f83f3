"""Effects under their keys: what is asked for again is done once, what is something else is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gameserver.cluster import RecordEffects
from gameserver.match import Effect, Priority


class Records:
    """Notes the keys of what it is given."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []

    def record(
        self, kind: str, match_id: str, data: Mapping[str, Any], priority: int = 1, *, key: str | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> bool:  # fmt: skip
        self.keys.append(key)
        return True


async def test_the_same_effect_has_the_same_key_and_another_one_at_its_place_another() -> None:
    """After a restart it is asked for again; in another history of the match something else may be asked for there."""
    records = Records()
    effects = RecordEffects(records)

    def carry_out(version: int, kind: str, payload: dict[str, Any]) -> None:
        effects.carry_out("m1", version, [Effect(kind, payload, Priority.NORMAL, 0)], lambda version, index: None)

    carry_out(4, "score", {"points": 1.5, "who": "ann"})
    carry_out(4, "score", {"points": 1.5, "who": "ann"})
    carry_out(4, "score", {"points": 2.5, "who": "ann"})
    carry_out(4, "prize", {"points": 1.5, "who": "ann"})
    carry_out(5, "score", {"points": 1.5, "who": "ann"})
    first, again, *others = records.keys
    assert first == again
    assert len({first, *others}) == 4

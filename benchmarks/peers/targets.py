"""What this server is to reach, and what the very run measured of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.peers import ours
from benchmarks.peers.servers import BARE, CHECKED, COLYSEUS, OURS, SOCKETIO, UNGATED, WS

Rows = dict[str, dict[str, list[dict[str, float]]]]
"""Of each case, each server, each round."""


@dataclass(frozen=True)
class Target:
    """A bound, and how the figure comes out of the results (None: it was not measured)."""

    what: str
    bound: str
    """A comparison with a number: "≤ 0.70"."""
    figure: Callable[[Rows], float | None]
    shape: str = ".2f"
    strict: bool = False
    """A stricter reading of the target before it."""

    def met(self, value: float) -> bool:
        """Is the value on the right side?"""
        sign, _, number = self.bound.partition(" ")
        limit = float(number)
        return value <= limit if sign == "≤" else value < limit if sign == "<" else value >= limit


def value(case: str, server: str, key: str) -> Callable[[Rows], float | None]:
    """The median over the rounds."""

    def of(rows: Rows) -> float | None:
        rounds = rows.get(case, {}).get(server, [])
        return median(row[key] for row in rounds) if rounds else None

    return of


def pairs(rows: Rows, case: str, one: str, other: str, key: str) -> list[tuple[float, float]]:
    """The figures of two servers, round by round: what disturbed a round disturbed both."""
    found = rows.get(case, {})
    both = zip(found.get(one, []), found.get(other, []), strict=False)
    return [(first[key], second[key]) for first, second in both]


def ratio(case: str, one: str, other: str, key: str) -> Callable[[Rows], float | None]:
    """The median of the rounds' ratios."""

    def of(rows: Rows) -> float | None:
        ratios = [first / second for first, second in pairs(rows, case, one, other, key) if second > 0]
        return median(ratios) if ratios else None

    return of


def difference(case: str, one: str, other: str, key: str) -> Callable[[Rows], float | None]:
    """The median of the rounds' differences."""

    def of(rows: Rows) -> float | None:
        found = pairs(rows, case, one, other, key)
        return median(first - second for first, second in found) if found else None

    return of


def _rooms(case: str, title: str, colyseus: str) -> list[Target]:
    return [
        Target(f"{title}: CPU per delivered frame, × Colyseus", colyseus, ratio(case, OURS, COLYSEUS, "cpu_us")),
        Target(f"{title}: CPU per delivered frame, × bare aiohttp", "≤ 1.15", ratio(case, OURS, BARE, "cpu_us")),
    ]


TARGETS: Sequence[Target] = (
    *_rooms("rooms10", "rooms of 10", "≤ 0.70"),
    Target("rooms of 10: CPU per delivered frame, × python-socketio", "≤ 0.25",
           ratio("rooms10", OURS, SOCKETIO, "cpu_us")),
    *_rooms("rooms50", "rooms of 50", "≤ 0.75"),
    *_rooms("room500", "one room of 500", "≤ 0.75"),
    Target("most clients on one core, × Colyseus", "≥ 1.9", ratio("capacity", OURS, COLYSEUS, "clients")),
    Target("most clients on one core, × Node ws", "≥ 1.2", ratio("capacity", OURS, WS, "clients")),
    Target("HIGH relay at saturation, not journaled: deliveries/s, × Colyseus", "≥ 1.3",
           ratio("saturated", UNGATED, COLYSEUS, "rate")),
    Target("HIGH relay at 18,000/s: journaled and gated, p50 ms over not journaled", "≤ 1.5",
           difference("relay", OURS, UNGATED, "p50_ms")),
    Target("HIGH relay at 18,000/s, journaled and gated: p99, × Colyseus", "≤ 0.5",
           ratio("relay", OURS, COLYSEUS, "p99_ms")),
    Target("HIGH relay at 18,000/s, not journaled: p99, × Colyseus", "≤ 0.5",
           ratio("relay", UNGATED, COLYSEUS, "p99_ms")),
    Target("ingest, pipelined: inputs validated and applied/s, × Colyseus (validating)", "≥ 1.0",
           ratio("ingest", OURS, CHECKED, "rate")),
    Target("ingest, arriving alone: CPU per input, × Colyseus (validating)", "≤ 0.85",
           ratio("ingest", OURS, CHECKED, "alone_us")),
    Target("20 events for a client in one tick: messages with them per tick", "≤ 1.05",
           value("events", OURS, "frames")),
    Target("100 entities, 10 change: bytes per frame, × Colyseus", "≤ 1.0", ratio("entities", OURS, COLYSEUS, "bytes")),
    Target("RSS per connection with a player in a match, kB", "≤ 20", value("connections", OURS, "kb"), ".1f"),
    Target("5,000 idle matches without ticks: % of a core", "< 2",
           lambda rows: _percent(value("matches", ours.STILL, "cpu")(rows))),
    Target("5,000 matches that tick with nobody in them: % of a core", "< 2",
           lambda rows: _percent(value("matches", ours.DESERTED, "cpu")(rows)), strict=True),
    Target("2 workers carry, × one (by CPU per frame on the busiest core, same load)", "≥ 1.8",
           ratio("workers", ours.ONE, ours.TWO, "busiest_us")),
    Target("2 workers with 1,600 clients, × one with 800 (by the same)", "≥ 1.8",
           ratio("workers", ours.HALF, ours.TWO, "busiest_us")),
    Target("2 workers with half of the players through an edge, × one", "≥ 1.8",
           ratio("workers", ours.ONE, ours.TWO_EDGES, "busiest_us"), strict=True),
    Target("owner's CPU with 1,000 spectators behind an edge, × that with 10", "≤ 1.15",
           lambda rows: _over(rows, ours.SPECTATORS[2], ours.SPECTATORS[1])),
)  # fmt: skip


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100


def _over(rows: Rows, one: str, other: str) -> float | None:
    first, second = (value("spectators", name, "owner")(rows) for name in (one, other))
    return None if first is None or second is None or not second else first / second


def summary(rows: Rows) -> list[str]:
    """The table of targets, and the one of stricter readings; what was not measured in this run says so."""
    asked = [target for target in TARGETS if not target.strict]
    strict = [target for target in TARGETS if target.strict]
    said = "Two of them can be read more strictly than one machine allows ([why](FLOOR.md)). Read so:"
    return [*_table(asked, rows), "", said, "", *_table(strict, rows)]


def _table(targets: Sequence[Target], rows: Rows) -> list[str]:
    lines = ["| target | bound | measured | met |", "|---|---|---|---|"]
    for target in targets:
        measured = target.figure(rows)
        shown = "not measured" if measured is None else format(measured, target.shape)
        met = "–" if measured is None else "yes" if target.met(measured) else "**no**"
        lines.append(f"| {target.what} | {target.bound} | {shown} | {met} |")
    return lines

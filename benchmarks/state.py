"""What tracking costs: per tick and per changed field, and that the unchanged part of the state costs nothing.

100 entities with 6 fields; two fields of each changed entity are written per tick, inside a transaction, then the flush
encodes the patch. The same writes on plain objects stand beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from gameserver.state import Entity, Map, Tree, quantized

if TYPE_CHECKING:
    from benchmarks.report import Report

ENTITIES = 100
WRITES = 2


class Unit(Entity):
    """An entity like a game has them."""

    x: float = quantized(0.0, step=0.01)
    y: float = quantized(0.0, step=0.01)
    heading: float = 0.0
    hp: int = 100
    score: int = 0
    name: str = ""


class World(Entity):
    """The root."""

    units: Map[str, Unit]
    scenery: Map[str, Unit]


class PlainUnit:
    """The same without tracking."""

    def __init__(self) -> None:
        self.x = self.y = self.heading = 0.0
        self.hp = 100
        self.score = 0
        self.name = ""


def make_world(scenery: int) -> Tree:
    """A world of 100 units and an amount of scenery that never changes, flushed once."""
    world = World()
    tree = Tree(world)
    for number in range(ENTITIES):
        world.units[f"u{number}"] = Unit(name=f"unit {number}")
    for number in range(scenery):
        world.scenery[f"s{number}"] = Unit(name=f"tree {number}")
    tree.flush()
    return tree


def _write(units: list[Unit] | list[PlainUnit]) -> None:
    for unit in units:
        unit.x += 0.25
        unit.y -= 0.25


def _median_us(run: Callable[[], None], ticks: int, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.process_time_ns()
        for _ in range(ticks):
            run()
        times.append((time.process_time_ns() - started) / ticks / 1000)
    return median(times)


def measure(tree: Tree, changed: int, *, ticks: int, rounds: int) -> tuple[float, float, int]:
    """µs per tick for writes with flush, for the writes alone (rolled back), and the patch's bytes."""
    root = tree.root
    assert isinstance(root, World)  # noqa: S101 - it is what make_world made
    units = list(root.units.values())[:changed]
    size = 0

    def tick() -> None:
        nonlocal size
        mark = tree.mark()
        _write(units)
        tree.check(mark)
        size = len(tree.flush().everyone)

    return _median_us(tick, ticks, rounds), _measure_rollback(tree, units, ticks, rounds), size


def _measure_rollback(tree: Tree, units: list[Unit], ticks: int, rounds: int) -> float:
    def tick() -> None:
        mark = tree.mark()
        _write(units)
        tree.rollback(mark)

    return _median_us(tick, ticks, rounds)


def run(report: Report, *, quick: bool) -> None:
    """All cases of this group."""
    ticks, rounds = (200, 5) if quick else (1000, 11)
    print(f"\nstate: {ENTITIES} entities of 6 fields, {WRITES} written per changed entity and tick")
    for share in (10, 100):
        changed = ENTITIES * share // 100
        plain = _median_us(partial(_write, [PlainUnit() for _ in range(changed)]), ticks, rounds)
        report.add(f"state: plain objects, {share} % changed, per tick", plain, "µs", "no tracking: what is the least")
        small, rollback, size = measure(make_world(0), changed, ticks=ticks, rounds=rounds)
        report.add(f"state: {share} % changed, per tick", small, "µs", f"record and encode, {size} bytes")
        report.add(f"state: {share} % changed, per changed field", small / changed / WRITES, "µs")
        report.add(f"state: {share} % changed and rolled back, per tick", rollback, "µs")
        large, _, _ = measure(make_world(10 * ENTITIES), changed, ticks=ticks, rounds=rounds)
        report.add(
            f"state: {share} % changed, 1,000 unchanged beside them, per tick", large, "µs",
            f"{large / small:.2f} × of that without them",
        )  # fmt: skip

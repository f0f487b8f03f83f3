"""Metrics of matches, with the labelled children looked up once per game and not once per action."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter

    from gameserver.cluster.fanout import FanoutCounts
    from gameserver.match import MatchCounts
    from gameserver.metrics import Metrics


class GameMeters:
    """What the matches of one game count. What they count with every tick is moved into the metrics once per scrape."""

    __slots__ = (
        "_actions", "_metrics", "_name", "failures", "flush_bytes", "flushes", "overruns", "skipped", "tick",
    )  # fmt: skip

    def __init__(self, metrics: Metrics, game: str) -> None:
        self._metrics = metrics
        self._name = game
        self._actions: dict[str, Counter] = {}
        self.tick = metrics.tick_seconds.labels(game)
        self.overruns = metrics.tick_overruns_total.labels(game)
        self.skipped = metrics.ticks_skipped_total.labels(game)
        self.flushes = 0
        self.flush_bytes = 0
        self.failures = metrics.game_errors_total.labels(game)

    def actions(self, outcome: str, count: int = 1) -> None:
        """Count actions by what became of them."""
        child = self._actions.get(outcome)
        if child is None:
            child = self._actions[outcome] = self._metrics.actions_total.labels(self._name, outcome)
        child.inc(count)

    def collect(self) -> None:
        """Move what was counted here into the metrics."""
        self._metrics.flushes_total.labels(self._name).inc(self.flushes)
        self._metrics.flush_bytes_total.labels(self._name).inc(self.flush_bytes)
        self.flushes = self.flush_bytes = 0

    def add_counts(self, counts: MatchCounts, before: MatchCounts) -> None:
        """What a match counted since the last time: once per scrape, not once per action."""
        self.actions("applied", counts.actions - before.actions)
        self.actions("refused", counts.refused - before.refused)
        self.failures.inc(counts.failures - before.failures)
        self.skipped.inc(counts.ticks_skipped - before.ticks_skipped)


class Meters:
    """All games' meters."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._games: dict[str, GameMeters] = {}

    def game(self, name: str) -> GameMeters:
        """The meters of one game."""
        meters = self._games.get(name)
        if meters is None:
            meters = self._games[name] = GameMeters(self.metrics, name)
        return meters

    def collect(self, counts: FanoutCounts) -> None:
        """Move what was counted since the last time into the metrics: once per scrape, not once per frame."""
        metrics = self.metrics
        for game in self._games.values():
            game.collect()
        metrics.frames_sent_total.inc(counts.frames)
        metrics.bytes_sent_total.inc(counts.bytes)
        metrics.events_dropped_total.labels("low").inc(counts.low_events_dropped)
        metrics.events_dropped_total.labels("normal").inc(counts.events_dropped)
        metrics.slow_consumers_total.labels("conflated").inc(counts.slow_consumers)
        metrics.slow_consumers_total.labels("recovered").inc(counts.states)
        metrics.slow_consumers_total.labels("aborted").inc(counts.aborted)

"""What the node's journal, bus and edges have counted, brought to the metrics when somebody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter

    from gameserver.cluster.edge import Edges
    from gameserver.cluster.journal import JournalWriter
    from gameserver.metrics import Metrics
    from gameserver.storage import Bus


class NodeMeters:
    """Moves totals into counters and states into gauges; nothing is counted twice on the way of a message."""

    def __init__(self, metrics: Metrics, writer: JournalWriter, bus: Bus, edges: Edges) -> None:
        self._metrics = metrics
        self._writer = writer
        self._bus = bus
        self._edges = edges
        self._told: dict[Counter, int] = {}

    def update(self) -> None:
        """Bring the metrics up to date."""
        metrics, writer, counts, edges = self._metrics, self._writer, self._bus.counts, self._edges
        for counter, total in (
            (metrics.journal_appends_total, writer.appends),
            (metrics.journal_rounds_total, writer.rounds),
            (metrics.bus_published_total, counts.published),
            (metrics.bus_received_total, counts.received),
            (metrics.bus_dropped_total, counts.dropped),
            (metrics.bus_gaps_total, counts.gaps),
            (metrics.carried_gaps_total, edges.gaps),
        ):
            counter.inc(total - self._told.get(counter, 0))
            self._told[counter] = total
        metrics.journal_down_seconds.set(writer.down_seconds)
        metrics.bus_connected.set(self._bus.connected)
        metrics.carried_matches.set(len(edges.remotes))
        metrics.carried_sessions.set(
            sum(len(seat.members) for remote in edges.remotes.values() for seat in remote.seats.values())
        )

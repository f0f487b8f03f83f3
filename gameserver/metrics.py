"""Every metric of the server, by name, in one place.

An instance has its own registry, so that tests and several servers in one process never share counters.
Labels have few values: game classes, stores, outcomes; never ids of players, matches or connections.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# From a tenth of a millisecond (one action) to seconds (a store that struggles).
SECONDS_BUCKETS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS: Final = array("d", SECONDS_BUCKETS)
_BOUNDS_COUNT: Final = len(SECONDS_BUCKETS)
BYTES_BUCKETS = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)


class Durations:
    """One histogram of what happens thousands of times a second: observing is two additions, without a lock."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = array("q", bytes(8 * (_BOUNDS_COUNT + 1)))
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        at = 0
        while at < _BOUNDS_COUNT and seconds > _BOUNDS[at]:  # most of them are short
            at += 1
        self.counts[at] += 1
        self.seconds += seconds


class DurationsByLabel(Collector):
    """The durations by the value of a label, as the registry reads them."""

    def __init__(self, name: str, text: str, label: str) -> None:
        self._name, self._text, self._label = name, text, label
        self._children: dict[str, Durations] = {}

    def labels(self, value: str) -> Durations:
        """The histogram of one value."""
        return self._children.setdefault(value, Durations())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What the registry asks for."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        bounds = [*map(floatToGoString, SECONDS_BUCKETS), "+Inf"]
        for value, durations in self._children.items():
            counts = map(float, accumulate(durations.counts))
            family.add_metric([value], list(zip(bounds, counts, strict=True)), durations.seconds)
        return [family]


class Metrics:
    """The server's metrics; attributes are named like the metrics, without the `gameserver_` in front."""

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._connections()
        self._matches()
        self._storage()
        self._cluster()
        self._journal_and_bus()
        self._process()

    def render(self) -> bytes:
        """What `/metrics` answers."""
        return generate_latest(self.registry)

    def value(self, name: str, **labels: str) -> float:
        """One sample, 0 when there is none yet; for the console and for tests."""
        return self.registry.get_sample_value(f"gameserver_{name}", labels) or 0.0

    def _connections(self) -> None:
        self.connections_open = self._gauge("connections_open", "Open WebSocket connections.")
        self.direct_receive = self._gauge(
            "direct_receive", "1 if messages are handled as they arrive, 0 if they go through aiohttp's receive()."
        )
        self.connections_accepted_total = self._counter("connections_accepted_total", "WebSocket connections accepted.")
        self.connections_refused_total = self._counter(
            "connections_refused_total", "Connections turned away, by reason.", "reason"
        )
        self.connections_closed_total = self._counter(
            "connections_closed_total", "WebSocket connections closed, by close code.", "code"
        )
        self.messages_received_total = self._counter(
            "messages_received_total", "Messages from clients, by type.", "type"
        )
        self.bytes_received_total = self._counter("bytes_received_total", "Payload bytes from clients.")
        self.frames_sent_total = self._counter("frames_sent_total", "WebSocket frames written to clients.")
        self.bytes_sent_total = self._counter("bytes_sent_total", "Bytes written to clients.")
        self.errors_sent_total = self._counter("errors_sent_total", "Errors told to clients, by code.", "code")
        self.slow_consumers_total = self._counter(
            "slow_consumers_total", "Clients that did not keep up: conflated, recovered or aborted.", "outcome"
        )
        self.events_dropped_total = self._counter(
            "events_dropped_total", "Events not sent to a slow client, by priority.", "priority"
        )
        self.http_requests_total = self._counter(
            "http_requests_total", "HTTP requests, by route and status.", "route", "method", "status"
        )
        self.http_request_seconds = self._histogram("http_request_seconds", "Time to answer, by route.", "route")

    def _matches(self) -> None:
        self.matches = self._gauge("matches", "Matches that this node runs.", "game")
        self.players = self._gauge("players", "Players in matches of this node.", "game")
        self.spectators = self._gauge("spectators", "Spectators of matches of this node.", "game")
        self.matches_still = self._gauge(
            "matches_still", "Matches that stand still until their journal or their records can be written."
        )
        self.matches_created_total = self._counter("matches_created_total", "Matches created.", "game")
        self.matches_restored_total = self._counter(
            "matches_restored_total", "Matches restored from a snapshot.", "game"
        )
        self.matches_ended_total = self._counter("matches_ended_total", "Matches ended, by reason.", "game", "reason")
        self.actions_total = self._counter(
            "actions_total",
            "Actions: applied, refused (by the game, or for their arguments), rejected (before they took a seq).",
            "game",
            "outcome",
        )
        self.tick_seconds = DurationsByLabel(
            "gameserver_tick_seconds", "Time in one wake of a match: its tick and its flush.", "game"
        )
        self.registry.register(self.tick_seconds)
        self.tick_overruns_total = self._counter(
            "tick_overruns_total", "Ticks that took longer than their interval.", "game"
        )
        self.ticks_skipped_total = self._counter("ticks_skipped_total", "Ticks given up after falling behind.", "game")
        self.game_errors_total = self._counter("game_errors_total", "Exceptions in game code.", "game")
        self.flushes_total = self._counter("flushes_total", "Versions committed.", "game")
        self.flush_bytes_total = self._counter("flush_bytes_total", "Encoded bytes of flushes, before fan-out.", "game")

    def _storage(self) -> None:
        self.store_up = self._gauge("store_up", "1 if the store answered its last check.", "store")
        self.store_errors_total = self._counter("store_errors_total", "Requests to a store that failed.", "store")
        self.embedded_restarts_total = self._counter(
            "embedded_restarts_total", "Times an embedded store died and was started again.", "store"
        )
        self.snapshots_total = self._counter("snapshots_total", "Snapshots: saved, refused or failed.", "outcome")
        self.snapshots_quarantined_total = self._counter(
            "snapshots_quarantined_total", "Corrupt snapshots moved aside: look at each of them."
        )
        self.snapshot_seconds = self._histogram("snapshot_seconds", "Time to write one snapshot.")
        self.snapshot_bytes = self._histogram("snapshot_bytes", "Size of one snapshot.", buckets=BYTES_BUCKETS)
        self.records_queued = self._gauge("records_queued", "Records that wait for MongoDB.")
        self.records_held = self._gauge(
            "records_held", "Records that there is no room for in the queue: their matches stand still."
        )
        self.records_total = self._counter("records_total", "Records: written, duplicate or refused.", "outcome")
        self.record_retries_total = self._counter("record_retries_total", "Writes of records that had to be repeated.")

    def _cluster(self) -> None:
        self.nodes = self._gauge("nodes", "Nodes whose lease runs, as this node sees it.")
        self.lease_valid = self._gauge("lease_valid", "1 while this node may act as the owner of its matches.")
        self.lease_renewals_total = self._counter(
            "lease_renewals_total", "Renewals: granted, taken, failed, or left out because the loop stalled.", "outcome"
        )
        self.leases_lost_total = self._counter(
            "leases_lost_total", "Times this node was too late for its own lease and dropped its matches."
        )
        self.takeovers_total = self._counter(
            "takeovers_total", "Matches claimed: run, lost, corrupt, refused, failed or quarantined.", "outcome"
        )
        self.takeover_seconds = self._histogram(
            "takeover_seconds", "From the end of the old owner's lease until the match runs here."
        )
        self.reasserts_total = self._counter(
            "reasserts_total", "Matches put back into a store that had lost them: done or refused.", "outcome"
        )

    def _journal_and_bus(self) -> None:
        self.journal_appends_total = self._counter("journal_appends_total", "Journal entries written.")
        self.journal_rounds_total = self._counter("journal_rounds_total", "Round trips of the journal.")
        self.journal_down_seconds = self._gauge(
            "journal_down_seconds", "For how long the journal could not be written; 0 while it can."
        )
        self.bus_connected = self._gauge("bus_connected", "1 while messages of other nodes can arrive.")
        self.bus_published_total = self._counter("bus_published_total", "Messages sent to other nodes.")
        self.bus_received_total = self._counter("bus_received_total", "Messages received from other nodes.")
        self.bus_dropped_total = self._counter("bus_dropped_total", "Messages to other nodes that were not sent.")
        self.bus_gaps_total = self._counter("bus_gaps_total", "Times messages may have been lost on the way here.")
        self.carried_matches = self._gauge("carried_matches", "Matches of other nodes with players here.")
        self.carried_sessions = self._gauge("carried_sessions", "Sessions here in matches of other nodes.")
        self.carried_gaps_total = self._counter(
            "carried_gaps_total", "Frames of other nodes' matches that were missed and asked for again."
        )

    def _process(self) -> None:
        self.loop_lag_seconds = self._gauge("loop_lag_seconds", "How late the event loop ran its last probe.")
        self.draining = self._gauge("draining", "1 while the server is stopping.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"gameserver_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"gameserver_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = SECONDS_BUCKETS) -> Histogram:
        return Histogram(f"gameserver_{name}", text, labels, registry=self.registry, buckets=buckets)

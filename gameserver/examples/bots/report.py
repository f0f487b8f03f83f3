"""What the bots have seen, counted while they play."""

from __future__ import annotations

import time
from collections import Counter, deque

from rich.console import Console
from rich.table import Table

LATENCIES_MAX = 100_000  # the latest ones: percentiles over a long run are those of now


class Report:
    """Counts and latencies of all bots together."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.connected = 0
        self.players_seen = 0
        self.matches: set[str] = set()
        self.actions = 0  # acknowledged
        self.refused = 0  # by the game's rules: part of playing
        self.sent = 0  # without waiting for an acknowledgement
        self.changes = 0
        self.events: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=LATENCIES_MAX)

    def answered(self, seconds: float) -> None:
        """An action was acknowledged after this long."""
        self.actions += 1
        self._latencies.append(seconds)

    @property
    def seconds(self) -> float:
        """How long the bots have been at it."""
        return time.monotonic() - self.started

    def percentile_ms(self, share: float) -> float:
        """Acknowledgement latency that this share of the actions did not exceed."""
        if not self._latencies:
            return 0.0
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    def latency(self) -> str:
        """Typical and bad, for people."""
        return f"{self.percentile_ms(0.5):.1f} / {self.percentile_ms(0.99):.1f} ms"

    def line(self) -> str:
        """The state of things in one line."""
        return (
            f"{self.connected} bots in {len(self.matches)} matches · {self.actions + self.sent} actions · "
            f"{self.events.total()} events · ack {self.latency()}"
            + (f" · {self.failures.total()} failures" if self.failures else "")
        )

    def print_summary(self, console: Console) -> None:
        """Everything, as a table."""
        seconds = max(0.001, self.seconds)
        table = Table(title=f"{self.players_seen} bots, {seconds:.0f} s", show_header=False)
        table.add_row("matches played in", str(len(self.matches)))
        table.add_row("actions acknowledged", f"{self.actions}  ({self.actions / seconds:.1f}/s)")
        table.add_row("actions refused by the rules", str(self.refused))
        table.add_row("actions sent without waiting", f"{self.sent}  ({self.sent / seconds:.1f}/s)")
        table.add_row("acknowledged after p50 / p99", self.latency())
        table.add_row("state changes seen", f"{self.changes}  ({self.changes / seconds:.1f}/s)")
        for name, count in self.events.most_common():
            table.add_row(f"event {name}", str(count))
        for code, count in self.failures.most_common():
            table.add_row(f"[red]failure {code}", str(count))
        console.print(table)

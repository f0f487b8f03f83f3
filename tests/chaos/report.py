"""What a run adds up to, as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.checks import Findings


@dataclass
class Report:
    """Sums over all rounds."""

    seed: int
    found: Findings = field(default_factory=Findings)
    rounds: Counter[str] = field(default_factory=Counter)
    dropped_elsewhere: int = 0
    """Connections lost by players at nodes that nothing was done to."""
    dropped_at_victims: int = 0
    """… and by the others, while they came back, too."""
    rooms_away_elsewhere: int = 0
    """Times a match was out of reach for players at such nodes while their connection stood."""
    rooms_away_at_victims: int = 0
    not_recovered: int = 0
    unknown: int = 0
    takeovers: list[float] = field(default_factory=list)
    """From the fault to the first frame of the next epoch, for players at nodes that nothing was done to."""
    first_acks: list[float] = field(default_factory=list)
    """From the fault to their first acknowledged action there."""
    pauses: dict[str, float] = field(default_factory=dict)
    """The longest time without a frame for players at nodes that nothing was done to, by kind of fault."""
    pauses_at_victims: dict[str, float] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)
    """The longest time for an acknowledgement, by kind of fault."""
    effects: int = 0
    effects_missing: int = 0
    effects_twice: int = 0
    lag_seconds: float = 0.0
    """How late this very process was at most: no pause is measured better than that."""

    @property
    def good(self) -> bool:
        cut_off = self.dropped_elsewhere or self.rooms_away_elsewhere
        return self.found.good and not (cut_off or self.effects_missing or self.effects_twice)

    def lines(self) -> list[str]:
        """The table."""
        found = self.found
        rows = [
            ("rounds", sum(self.rounds.values())),
            ("acknowledged actions", found.acknowledged),
            ("lost", len(found.lost)),
            ("duplicated", len(found.duplicated)),
            ("other broken promises", len(found.problems)),
            ("outcome_unknown seen (sent again by the SDK)", self.unknown),
            ("sockets dropped: at nodes that nothing was done to", self.dropped_elsewhere),
            ("sockets dropped: at victims, and on the way back", self.dropped_at_victims),
            ("match out of reach, socket kept: there, at victims", _two(self)),
            ("resumed with a full state", self.not_recovered),
            ("visitors: left; left and not heard, seat held", f"{found.left}; {found.leaves_lost}"),
            ("HIGH events not heard by a player", len(found.unheard)),
            ("effects: records expected, missing, twice", _three(self)),
            ("takeover, first frame: p50 / max, s", _spread(self.takeovers)),
            ("takeover, first acknowledgement: p50 / max, s", _spread(self.first_acks)),
            ("this process's own lag, max, s", f"{self.lag_seconds:.2f}"),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {value}" for name, value in rows]
        lines += ["", f"  {'':<{width}}          longest pause in frames, s    longest wait"]
        lines += [f"  {'fault':<{width}}  rounds     elsewhere     at victims   for answer, s"]
        for kind, count in sorted(self.rounds.items()):
            columns = (self.pauses, self.pauses_at_victims, self.waits)
            other, victim, wait = (f"{found[kind]:.2f}" if kind in found else "-" for found in columns)
            lines.append(f"  {kind:<{width}}  {count:>6}  {other:>12}  {victim:>13}  {wait:>14}")
        return lines


def _two(report: Report) -> str:
    return f"{report.rooms_away_elsewhere}, {report.rooms_away_at_victims}"


def _three(report: Report) -> str:
    return f"{report.effects}, {report.effects_missing}, {report.effects_twice}"


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2]:.2f} / {ordered[-1]:.2f}  ({len(ordered)} players)"

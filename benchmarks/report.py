"""Figures, the table people read, the JSON that is kept, and the comparison with the last result that was committed."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.calibration import calibrate

RESULTS = Path(__file__).parent / "results"
BASELINE = RESULTS / "baseline.json"
REGRESSION = 1.15
DISTURBED = 1.10
NANOSECONDS = {"ns": 1.0, "µs": 1e3, "ms": 1e6}


@dataclass
class Figure:
    """One measured value, perhaps several times: what counts is the median.

    Times have ratios too: the value over the calibration step, so that machines can be compared.
    """

    name: str
    unit: str
    note: str = ""
    values: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """In its unit."""
        return median(self.values)

    @property
    def ratio(self) -> float | None:
        """In calibration steps; None for what is no time."""
        return median(self.ratios) if self.ratios else None


@dataclass
class Report:
    """What one run measured."""

    calibrations: list[float] = field(default_factory=list)
    """Nanoseconds per step of the loop, before and after each group."""
    figures: dict[str, Figure] = field(default_factory=dict)
    _open: list[Figure] = field(default_factory=list)
    """The figures of the group that is being measured."""

    def add(self, name: str, value: float, unit: str, note: str = "") -> None:
        """Add a figure, or one more measurement of it; times get a ratio to the calibration loop."""
        figure = self.figures.setdefault(name, Figure(name, unit))
        figure.note = note
        figure.values.append(value)
        self._open.append(figure)
        print(self._line(figure), flush=True)

    @contextlib.contextmanager
    def group(self, name: str) -> Iterator[None]:
        """Calibrate before and after, so that ratios follow a machine that changes its speed."""
        before = calibrate()
        self._open = []
        yield
        after = calibrate()
        self.calibrations += [before, after]
        step = (before + after) / 2
        for figure in self._open:
            if scale := NANOSECONDS.get(figure.unit):
                figure.ratios.append(figure.values[-1] * scale / step)
        off = max(before, after) / min(before, after)
        busy = f", {off - 1:.0%} off: the machine was busy, trust nothing" if off > DISTURBED else ""
        print(f"  {name}: calibration {before:.0f} ns per step before, {after:.0f} after{busy}")
        for figure in self._open:
            if figure.ratios:
                print(f"  {figure.name:<58}{figure.ratios[-1]:>11.1f} × the calibration step")

    @staticmethod
    def _line(figure: Figure) -> str:
        return f"  {figure.name:<58}{figure.values[-1]:>11.2f} {figure.unit:<4}  {figure.note}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """Plain data for the file."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "calibration_ns_per_step": round(median(self.calibrations), 1),
            "figures": {
                figure.name: {"value": round(figure.value, 3), "unit": figure.unit}
                | ({"ratio": round(figure.ratio, 3)} if figure.ratio is not None else {})
                | ({"note": figure.note} if figure.note else {})
                for figure in self.figures.values()
            },
        }

    def write(self, *, baseline: bool) -> Path:
        """Write the result; with `baseline` to the file that is committed and compared with."""
        path = BASELINE if baseline else RESULTS / "local" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        result = self.as_json()
        if baseline and path.exists():  # a run of one group must not throw the other's figures away
            result["figures"] = json.loads(path.read_text())["figures"] | result["figures"]
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        return path

    def worse(self) -> dict[str, str]:
        """Of figures whose ratio is over 15 % worse than in the committed result: by how much."""
        if not BASELINE.exists():
            return {}
        known: dict[str, Any] = json.loads(BASELINE.read_text())["figures"]
        found = {}
        for figure in self.figures.values():
            before, now = known.get(figure.name, {}).get("ratio"), figure.ratio
            if before and now is not None and now > before * REGRESSION:
                times = f"median of {len(figure.ratios)}: " if len(figure.ratios) > 1 else ""
                found[figure.name] = f"{times}{now:.1f} × instead of {before:.1f} × the calibration step"
        return found


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "Python": f"{platform.python_version()} ({Path(sys.executable).resolve()})",  # builds of one version differ too
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")

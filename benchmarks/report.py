"""Figures, the table people read, the JSON that is kept, and the comparison with the last result that was committed."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BASELINE = RESULTS / "baseline.json"
REGRESSION = 1.15


@dataclass
class Figure:
    """One measured value; `ratio` is the value over the calibration step, so that machines can be compared."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    note: str = ""


@dataclass
class Report:
    """What one run measured."""

    calibration_ns: float
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, note: str = "") -> None:
        """Add a figure; times get a ratio to the calibration loop."""
        scale = {"ns": 1.0, "µs": 1e3, "ms": 1e6}.get(unit)
        ratio = value * scale / self.calibration_ns if scale else None
        self.figures.append(Figure(name, value, unit, ratio, note))
        print(self._line(self.figures[-1]), flush=True)

    @staticmethod
    def _line(figure: Figure) -> str:
        ratio = f"{figure.ratio:9.1f} ×" if figure.ratio is not None else " " * 11
        return f"  {figure.name:<58}{figure.value:>11.2f} {figure.unit:<6}{ratio}  {figure.note}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """Plain data for the file."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "calibration_ns_per_step": round(self.calibration_ns, 1),
            "figures": {
                figure.name: {"value": round(figure.value, 3), "unit": figure.unit}
                | ({"ratio": round(figure.ratio, 3)} if figure.ratio is not None else {})
                | ({"note": figure.note} if figure.note else {})
                for figure in self.figures
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

    def compare(self) -> list[str]:
        """Lines about figures whose ratio is over 15 % worse than in the committed result."""
        if not BASELINE.exists():
            return []
        known: dict[str, Any] = json.loads(BASELINE.read_text())["figures"]
        worse = []
        for figure in self.figures:
            before = known.get(figure.name, {}).get("ratio")
            if before and figure.ratio is not None and figure.ratio > before * REGRESSION:
                worse.append(f"{figure.name}: {figure.ratio:.1f} × instead of {before:.1f} × the calibration step")
        return worse


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "Python": platform.python_version(),
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

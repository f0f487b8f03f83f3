"""What the benchmarks conclude from figures: which targets are met, what counts as a regression."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report as reporting
from benchmarks.peers.cases import CASES
from benchmarks.peers.tables import table
from benchmarks.peers.targets import TARGETS, Rows, Target, difference, ratio, summary, value
from benchmarks.report import Report


def rounds(*figures: float) -> list[dict[str, float]]:
    return [{"us": figure} for figure in figures]


@pytest.mark.parametrize(
    ("bound", "measured", "met"),
    [
        ("≤ 0.70", 0.70, True), ("≤ 0.70", 0.71, False), ("< 2", 2.0, False), ("< 2", 1.9, True),
        ("≥ 1.9", 1.9, True), ("≥ 1.9", 1.8, False),
    ],
)  # fmt: skip
def test_a_bound_is_a_comparison(bound: str, measured: float, met: bool) -> None:
    """Each sign, on both sides of its number."""
    assert Target("", bound, lambda _: measured).met(measured) is met


def test_ratios_are_taken_round_by_round() -> None:
    """A round that was slow for both servers changes nothing; a ratio of medians would be 2."""
    rows: Rows = {"case": {"a": rounds(1, 2, 50), "b": rounds(2, 1, 100)}}
    assert ratio("case", "a", "b", "us")(rows) == 0.5
    assert difference("case", "a", "b", "us")(rows) == -1
    assert value("case", "a", "us")(rows) == 2


def test_what_was_not_measured_is_not_judged() -> None:
    """No case, no server, and no round at all."""
    some: list[Rows] = [{}, {"case": {"a": rounds(1)}}, {"case": {"a": rounds(1), "b": []}}]
    for rows in some:
        assert ratio("case", "a", "b", "us")(rows) is None
    lines = [line for line in summary({}) if line.startswith("| ") and not line.startswith("| target")]
    assert [line for line in lines if "| not measured | – |" in line] == lines
    assert len(lines) == len(TARGETS)


def test_targets_name_cases_servers_and_figures_that_there_are() -> None:
    """With every figure of every case at 1, every target has a figure."""
    keys = {case.name: {case.main, *(column.key for column in case.columns), "cpu_us", "alone_us"} for case in CASES}
    rows: Rows = {
        case.name: {server: [dict.fromkeys(keys[case.name], 1.0)] for server in case.servers} for case in CASES
    }
    assert all(target.figure(rows) is not None for target in TARGETS)


def test_tables_warn_of_what_cannot_be_trusted() -> None:
    """A busy load generator, a busy machine, frames that did not arrive, clients left waiting."""
    case = CASES[0]
    figures = dict.fromkeys((column.key for column in case.columns), 1.0)
    good = figures | {"bench_busy": 0.1, "others": 0.0, "waiting": 0}
    assert not any("trust" in line or "busy and" in line for line in table(case, {"a": [good]}))
    bad = good | {"bench_busy": 0.9, "others": 0.5, "waiting": 7, "delivered": 0.5}
    text = "\n".join(table(case, {"a": [good], "b": [bad]}))
    for words in ("may be what was measured: b.", "do not trust: b (50%).", "delivered in time: b.", "b (7)"):
        assert words in text
    assert "Not measured" in "\n".join(table(case, {}))


def test_a_figure_is_worse_by_the_median_of_its_measurements(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One bad measurement is a suspicion; two of three are a regression."""
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps({"figures": {"state: a": {"ratio": 100.0}, "state: bytes": {"value": 1}}}))
    monkeypatch.setattr(reporting, "BASELINE", baseline)
    monkeypatch.setattr(reporting, "calibrate", lambda: 10.0)
    report = Report()

    def measure(microseconds: float) -> dict[str, str]:
        with report.group("state"):
            report.add("state: a", microseconds, "µs")
            report.add("state: bytes", 1000, "B")
        return report.worse()

    assert measure(1.2).keys() == {"state: a"}
    assert measure(1.0) == {}
    assert measure(1.2) == {"state: a": "median of 3: 120.0 × instead of 100.0 × the calibration step"}
    assert report.as_json()["figures"]["state: a"] == {"value": 1.2, "unit": "µs", "ratio": 120.0}

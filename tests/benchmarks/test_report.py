"""Quantiles, tables, the JSON file and the picture, from rows that were made up."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import picture, report
from benchmarks.report import Quantiles, Row
from benchmarks.timeline import Figures, Outcome

FAULTS = ("refused", "abort", "none")


def row(service: str, fault: str, outcome: Outcome = Outcome.ANSWERED, **known: float) -> Row:
    return Row(service, fault, 0, 0, Figures(outcome, **known))


ROWS = [
    row("simulated", "none", gap_ms=800.0),
    row("simulated", "abort", bridge_ms=8.0, answer_ms=500.0, gap_ms=0.0),
    row("simulated", "abort", bridge_ms=4.0, answer_ms=700.0, gap_ms=100.0),
    row("simulated", "refused", session_ms=12.0, turn_answer_ms=1400.0, gap_ms=1410.0),
    row("direct", "abort", Outcome.LOST),
    row("direct", "refused", Outcome.LOST),
]


def printed(rows: list[Row]) -> str:
    console = Console(file=io.StringIO(), width=60)
    report.show(report.summarise(rows, FAULTS), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], Quantiles(1, 5.0, 5.0, 5.0)),
        ([4.0, None, 8.0], Quantiles(2, 6.0, 7.8, 8.0)),
        ([float(n) for n in range(101)], Quantiles(101, 50.0, 95.0, 100.0)),
        ([None], None),
        ([], None),
    ],
)
def test_quantiles(values: list[float | None], expected: Quantiles | None) -> None:
    assert Quantiles.of(values) == expected


def test_a_summary_for_each_service_and_fault_in_a_fixed_order() -> None:
    found = report.summarise(ROWS, FAULTS)
    assert [(summary.service, summary.fault, summary.calls) for summary in found] == [
        ("simulated", "refused", 1),
        ("simulated", "abort", 2),
        ("simulated", "none", 1),
        ("direct", "refused", 1),
        ("direct", "abort", 1),
    ]
    assert found[1].measures["bridge_ms"] == Quantiles(2, 6.0, 7.8, 8.0)
    assert found[4].outcomes == {"lost": 1}
    assert [summary.answered for summary in found] == [1, 2, 1, 0, 0]


def test_the_table_tells_times_and_what_never_came() -> None:
    lines = printed(ROWS).splitlines()
    abort = next(line for line in lines if "abort" in line)
    assert " ".join(abort.split()) == "abort 2 of 2 0 6.0 / 7.8 / 8.0 600 / 690 / 700 50 / 95 / 100"
    assert next(line for line in reversed(lines) if "abort" in line).split()[-3:] == ["never", "for", "ever"]


def test_only_calls_behind_the_orchestrator_can_fail_a_run() -> None:
    bad = [
        row("real", "abort", Outcome.UNANSWERED),
        row("simulated", "abort", Outcome.LOST),
        row("simulated", "failed", Outcome.NO_FAULT),
    ]
    assert report.failed([*ROWS, *bad]) == bad


def test_the_json_file_holds_every_call(tmp_path: Path) -> None:
    path = tmp_path / "failover.json"
    report.write(path, {"seed": 7}, report.summarise(ROWS, FAULTS), ROWS)
    found = json.loads(path.read_text())
    assert found["seed"] == 7
    assert len(found["calls"]) == len(ROWS)
    assert found["calls"][1]["figures"]["bridge_ms"] == 8.0
    assert found["calls"][4]["figures"]["outcome"] == "lost"
    assert found["summary"][1]["measures"]["answer_ms"]["p50"] == 600.0


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[4:]], ids=["all", "healthy", "direct"])
def test_the_picture_is_drawn_of_whatever_was_measured(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "failover.png"
    picture.draw(path, rows)
    assert path.read_bytes().startswith(b"\x89PNG")

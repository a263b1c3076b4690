"""Quantiles, verdicts, tables, the JSON file and the pictures, from rows that were made up."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import heatmap, picture, report
from benchmarks.matrix import Moment
from benchmarks.report import Quantiles, Row, Summary
from benchmarks.timeline import Figures, Outcome


def row(service: str, fault: str, moment: Moment, outcome: Outcome = Outcome.ANSWERED, **known: Any) -> Row:
    return Row(service, fault, moment, 0, 0, Figures(outcome, **known))


MID, OWED = Moment.MID_ANSWER, Moment.ANSWER_OWED
ROWS = [
    row("simulated", "none", MID, sound_ms=300.0, gap_ms=800.0, answered_by="A"),
    row(
        "simulated",
        "abort",
        MID,
        decided_ms=2.0,
        sound_ms=8.0,
        answer_ms=500.0,
        answer_decided_ms=400.0,
        gap_ms=0.0,
        answered_by="B",
    ),
    row(
        "simulated",
        "abort",
        MID,
        decided_ms=4.0,
        sound_ms=4.0,
        answer_ms=700.0,
        answer_decided_ms=500.0,
        gap_ms=100.0,
        answered_by="A",
    ),
    row("simulated", "refused", Moment.CONNECTING, session_ms=12.0, turn_answer_ms=1400.0, gap_ms=1410.0),
    row("direct", "abort", MID, Outcome.LOST),
    row("direct", "refused", Moment.CONNECTING, Outcome.LOST),
]


def summary(*rows: Row) -> Summary:
    (found,) = report.summarise(rows)
    return found


def printed(rows: list[Row]) -> str:
    console = Console(file=io.StringIO(), width=60)
    report.show(report.summarise(rows), {}, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("values", "expected", "shown"),
    [
        ([5.0], Quantiles(1, 5.0, 5.0, 5.0), "5.0"),
        ([4.0, None, 8.0], Quantiles(2, 6.0, 7.8, 8.0), "6.0 / 7.8 / 8.0"),
        ([float(n) for n in range(101)], Quantiles(101, 50.0, 95.0, 100.0), "50 / 95 / 100"),
        ([0.0, 2000.0], Quantiles(2, 1000.0, 1900.0, 2000.0), "1,000 / 1,900 / 2,000"),
        ([None], None, "None"),
        ([], None, "None"),
    ],
)
def test_quantiles(values: list[float | None], expected: Quantiles | None, shown: str) -> None:
    assert Quantiles.of(values) == expected
    assert str(Quantiles.of(values)) == shown


def test_a_summary_for_each_service_and_cell_in_a_fixed_order() -> None:
    found = report.summarise(ROWS)
    assert [(s.service, s.fault, s.moment.value, s.calls) for s in found] == [
        ("simulated", "refused", "connecting", 1),
        ("simulated", "abort", "mid_answer", 2),
        ("simulated", "none", "mid_answer", 1),
        ("direct", "refused", "connecting", 1),
        ("direct", "abort", "mid_answer", 1),
    ]
    assert found[1].measures["sound_ms"] == Quantiles(2, 6.0, 7.8, 8.0)
    assert found[1].answered_by == {"B": 1, "A": 1}
    assert found[4].outcomes == {"lost": 1}
    assert [s.answered for s in found] == [1, 2, 1, 0, 0]


def test_the_table_tells_times_and_what_never_came() -> None:
    lines = printed(ROWS).splitlines()
    abort = next(line for line in lines if "abort" in line)
    assert " ".join(abort.split()) == (
        "abort 2 of 2 A:1 B:1 3.0 / 3.9 / 4.0 6.0 / 7.8 / 8.0 600 / 690 / 700 450 / 500 50 / 95 / 100 kept"
    )
    direct = next(line for line in reversed(lines) if "abort" in line)
    assert direct.count("never") == 2
    assert "for ever" in direct
    assert "1 lost" in direct


@pytest.mark.parametrize(
    ("moment", "known", "shown"),
    [
        (MID, {}, "B:1"),
        (Moment.TOOL_PENDING, {"tool_runs": 1}, "B:1 (tool 1)"),
        (Moment.HANDOVER, {"second_ms": 5.0}, "B:1 (2nd 1)"),
    ],
)
def test_the_table_tells_who_answered_and_what_else_happened(
    moment: Moment, known: dict[str, Any], shown: str
) -> None:
    assert f" {shown} " in printed([row("simulated", "abort", moment, answered_by="B", **known)])


def test_the_tables_for_a_document_have_a_row_for_every_cell() -> None:
    simulated, direct = report.markdown(report.summarise(ROWS), {"simulated": 3}).split("\n\nNo orchestrator")
    assert simulated.splitlines()[-2] == (
        "| `mid_answer` | `abort` | 2 of 2 | A:1 B:1 | 3.0 / 3.9 / 4.0 |  | 6.0 / 7.8 / 8.0 "
        "| 600 / 690 / 700 | 450 / 500 | 50 / 95 / 100 | kept |  |"
    )
    assert direct.count("for ever") == 2


@pytest.mark.parametrize(
    ("fault", "moment", "known", "verdict"),
    [
        ("abort", OWED, {"sound_ms": 19.0}, True),
        ("abort", OWED, {"sound_ms": 21.0}, False),
        ("abort", OWED, {}, False),
        ("abort", Moment.IDLE, {"sound_ms": 800.0}, None),
        ("stall", MID, {"waited_ms": 400.0, "sound_ms": 900.0}, True),
        ("stall", MID, {"waited_ms": 1051.0}, False),
        ("half_open", Moment.IDLE, {}, None),
        ("half_open", Moment.HANDOVER, {"sound_ms": 0.0, "waited_ms": 1500.0}, True),
        ("duplicate", MID, {"sound_ms": 0.0}, None),
    ],
)
def test_each_kind_of_fault_has_its_target(
    fault: str, moment: Moment, known: dict[str, float], verdict: bool | None
) -> None:
    assert summary(row("simulated", fault, moment, **known)).verdict is verdict


def test_a_target_is_not_kept_where_nobody_answers_and_has_no_meaning_without_the_orchestrator() -> None:
    good, lost = (row("simulated", "abort", MID, o, sound_ms=0.0) for o in (Outcome.ANSWERED, Outcome.LOST))
    assert summary(good, lost).verdict is False
    assert summary(row("direct", "abort", MID, Outcome.LOST, sound_ms=0.0)).verdict is None


def test_one_slow_call_in_ten_misses_the_target() -> None:
    rows = [row("simulated", "abort", OWED, sound_ms=ms) for ms in [5.0] * 9 + [201.0]]
    assert summary(*rows).verdict is False


@pytest.mark.parametrize(
    ("outcome", "known", "failures"),
    [
        (Outcome.ANSWERED, {}, []),
        (Outcome.CLOSED, {}, ["closed without an answer"]),
        (Outcome.ANSWERED, {"repeated": True}, ["audio repeated"]),
        (Outcome.ANSWERED, {"tool_runs": 2}, ["the same function run 2 times"]),
        (Outcome.ANSWERED, {"passed_on": ("not JSON", "not JSON")}, ["passed on: not JSON"]),
        (
            Outcome.LOST,
            {"tool_runs": 1, "repeated": True},
            ["lost", "audio repeated"],
        ),
    ],
)
def test_which_promises_a_call_broke(outcome: Outcome, known: dict[str, Any], failures: list[str]) -> None:
    broken = row("simulated", "abort", MID, outcome, **known)
    assert broken.failures == failures
    assert report.failed([*ROWS, broken]) == ([broken] if failures else [])


def test_leaving_tier_a_for_nothing_is_a_flaw() -> None:
    stayed, left = (row("simulated", "garbage", MID, answered_by=tier) for tier in "AB")
    assert summary(stayed, left).flaws == ["1 left Tier A"]
    assert summary(row("simulated", "garbage", Moment.PROMOTION, answered_by="B")).flaws == []
    assert summary(row("simulated", "abort", MID, answered_by="B")).flaws == []


def test_the_json_file_holds_every_call(tmp_path: Path) -> None:
    path = tmp_path / "failover.json"
    report.write(path, {"seed": 7}, report.summarise(ROWS), ROWS)
    found = json.loads(path.read_text())
    assert found["seed"] == 7
    assert len(found["calls"]) == len(ROWS)
    assert found["calls"][1]["figures"]["sound_ms"] == 8.0
    assert found["calls"][4]["failures"] == ["lost"]
    assert found["summary"][1]["measures"]["answer_ms"]["p50"] == 600.0
    assert (found["summary"][1]["moment"], found["summary"][1]["verdict"]) == ("mid_answer", True)
    assert found["targets"]["silent_waited_ms"] == 1000


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[4:]], ids=["all", "healthy", "direct"])
def test_the_picture_is_drawn_of_whatever_was_measured(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "failover.png"
    picture.draw(path, rows)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_cell_of_the_heat_map_tells_the_wait_and_the_silence() -> None:
    cell = summary(*ROWS[1:3])
    colour, text = heatmap.face(cell)
    assert text == "6.0\n(50)"
    slow = summary(row("simulated", "stall", MID, sound_ms=2000.0, gap_ms=2100.0))
    assert heatmap.face(slow)[0] != colour
    lost = summary(row("simulated", "abort", MID, Outcome.LOST), ROWS[1])
    assert heatmap.face(lost) == (heatmap.WRONG, "1 of 2\nnot answered")


@pytest.mark.parametrize("rows", [ROWS, ROWS[4:]], ids=["all", "direct"])
def test_the_heat_map_is_drawn_of_whatever_was_measured(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "failover-matrix.png"
    heatmap.draw(path, report.summarise(rows))
    assert path.read_bytes().startswith(b"\x89PNG")

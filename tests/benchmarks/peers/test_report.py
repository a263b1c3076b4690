"""Tables, the JSON file and the picture, from calls that were made up."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.peers import picture, report
from benchmarks.peers.cases import CASES
from benchmarks.peers.contenders import CONTENDERS
from benchmarks.peers.figures import Figures, Outcome
from benchmarks.peers.measure import Row, refused
from benchmarks.peers.report import Quantiles


def row(contender: str, fault: str, outcome: Outcome = Outcome.ANSWERED, ms: float | None = None) -> Row:
    return Row(contender, fault, 0, 0, Figures(outcome, ms, ms, ms))


ROWS = [
    row("orchestrator", "none", ms=800.0),
    row("livekit", "none", ms=900.0),
    row("litellm", "none", ms=810.0),
    row("direct", "none", Outcome.LOST),
    row("orchestrator", "abort", ms=500.0),
    row("orchestrator", "abort", ms=700.0),
    row("livekit", "abort", ms=4450.0),
    row("livekit", "abort", Outcome.MISSED),
    row("litellm", "abort", Outcome.LOST),
    row("litellm", "abort", Outcome.AGAIN),
    row("direct", "abort", ms=1.0),
]


def printed() -> list[str]:
    console = Console(file=io.StringIO(), width=60)
    report.show(report.summarise(ROWS), 20.0, console)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


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


def test_a_contender_that_fails_without_a_fault_is_not_reported() -> None:
    assert refused(ROWS) == ["direct"]
    assert "direct" not in {summary.contender for summary in report.summarise(ROWS)}


def test_a_call_that_the_benchmark_could_not_place_counts_against_nobody_who_works() -> None:
    missed = row("livekit", "none", Outcome.ERROR)
    assert refused([*ROWS, missed]) == ["direct"]
    assert refused([missed]) == ["livekit"], "it has not shown that it works"


def test_a_summary_for_each_fault_and_contender_in_a_fixed_order() -> None:
    found = report.summarise(list(reversed(ROWS)))
    assert [(summary.fault, summary.contender, summary.calls) for summary in found] == [
        ("none", "orchestrator", 1),
        ("none", "livekit", 1),
        ("none", "litellm", 1),
        ("abort", "orchestrator", 2),
        ("abort", "livekit", 1),
        ("abort", "litellm", 2),
    ]


def test_the_table_tells_times_and_what_never_came() -> None:
    lines = printed()
    abort = lines.index(next(line for line in lines if line.startswith("abort:")))
    ours, livekit, litellm = lines[abort + 2 : abort + 5]
    times = "600 / 690 / 700"
    assert ours == f"this orchestrator 2 of 2 {times} {times} {times}"
    assert livekit.startswith("LiveKit fallback adapter, default 1 of 1 4,450 / 4,450 / 4,450")
    never = "never within 20 s"
    assert litellm == f"LiteLLM proxy, default 0 of 2 1 1 {never} {never} {never}"


def test_the_json_file_holds_every_call_and_who_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    report.write(path, {"seed": 7}, report.summarise(ROWS), ROWS)
    found = json.loads(path.read_text())
    assert (found["seed"], found["refused"], len(found["calls"])) == (7, ["direct"], len(ROWS))
    assert found["calls"][8]["figures"] == {
        "outcome": "lost",
        "sound_ms": None,
        "answer_ms": None,
        "silence_ms": None,
    }


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[3:4]], ids=["all", "one", "nothing to show"])
def test_the_picture_is_drawn_of_whatever_was_measured(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "peers.png"
    picture.draw(path, rows, 20.0)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_picture_has_a_name_for_everything() -> None:
    assert set(picture.TITLES) == set(CASES)
    assert set(picture.LABELS) == set(CONTENDERS)


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ([Outcome.LOST, Outcome.LOST], "call lost"),
        ([Outcome.AGAIN], "turn lost; answered when asked again"),
        ([Outcome.UNANSWERED, Outcome.LOST], "never"),
        ([Outcome.MISSED], "not measured"),
    ],
)
def test_what_is_said_of_calls_that_were_not_answered(outcomes: list[Outcome], words: str) -> None:
    assert picture.outcome([row("litellm", "abort", outcome) for outcome in outcomes]) == words

"""When a soak has failed: what grew, what was left behind, what was lost and what the orchestrator accounts for."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import soak_judge, soak_picture
from benchmarks.soak_judge import Sample, account_for, complaints, drifts, leftovers
from benchmarks.soak_schedule import Bar, Order
from benchmarks.soak_turns import Ending, Lost, Tally

SECONDS = 100.0
MB = 1_000_000
IDLE = {"calls": 0, "tasks": 8, "open_files": 20, "rss_bytes": 300 * MB}


def sample(at: float, rss: float = 400 * MB, tasks: int = 100) -> Sample:
    return Sample(at, int(rss), tasks, 120, 50, 40, 5.0, 50, 10, 9, 0, 3, 0.0)


def tally(**endings: int) -> Tally:
    counts = Counter({Ending(name): number for name, number in endings.items()})
    return Tally(calls=3, asked=sum(endings.values()), endings=counts)


def test_what_is_flat_has_not_grown() -> None:
    found = drifts([sample(at) for at in range(100)], SECONDS)
    assert [drift.name for drift in found] == ["resident memory, bytes", "tasks"]
    assert not any(drift.grown for drift in found)


def test_what_is_made_in_the_beginning_is_no_growth() -> None:
    samples = [
        sample(at, rss=(100 if at < 20 else 400) * MB, tasks=1 if at < 20 else 100) for at in range(100)
    ]
    assert not any(drift.grown for drift in drifts(samples, SECONDS))


@pytest.mark.parametrize(("rss_a_second", "grown"), [(0.5, True), (0.1, False)])
def test_memory_that_grows_beyond_the_tolerance_is_told(rss_a_second: float, grown: bool) -> None:
    """20 MB are allowed of 400, and the windows lie 60 s apart."""
    samples = [sample(at, rss=(400 + rss_a_second * at) * MB) for at in range(100)]
    memory, _ = drifts(samples, SECONDS)
    assert memory.grown is grown
    assert (
        any("grew: resident memory" in told for told in complaints(tally(answered=1), [memory], IDLE, IDLE))
        is grown
    )


def test_tasks_that_pile_up_are_told() -> None:
    _, tasks = drifts([sample(at, tasks=100 + at) for at in range(100)], SECONDS)
    assert (tasks.early, tasks.late, tasks.allowed, tasks.grown) == (130, 189.5, 32.5, True)


def test_a_peak_between_the_windows_is_none() -> None:
    samples = [sample(at, rss=(900 if 50 < at < 60 else 400) * MB) for at in range(100)]
    assert not drifts(samples, SECONDS)[0].grown


def test_a_run_without_samples_has_no_windows() -> None:
    assert drifts([], SECONDS) == drifts([sample(1.0)], SECONDS) == []


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ({}, []),
        ({"tasks": 11, "open_files": 32}, []),
        ({"calls": 1}, ["after all calls there are 1 calls, before them 0"]),
        ({"tasks": 12}, ["after all calls there are 12 tasks, before them 8"]),
        ({"open_files": 33}, ["after all calls there are 33 open files, before them 20"]),
    ],
)
def test_what_calls_leave_behind_is_told(after: dict[str, int], told: list[str]) -> None:
    assert leftovers(IDLE, {**IDLE, **after}) == told


def test_where_the_system_does_not_tell_of_files_nothing_is_said_of_them() -> None:
    assert leftovers({**IDLE, "open_files": None}, {**IDLE, "open_files": None}) == []


def test_turns_that_the_orchestrator_counts_as_closed_are_dropped_and_others_are_lost() -> None:
    found = tally(answered=5, closed=1, lost=3)
    found.lost = [
        Lost("call_a", "", ["turn 0 (voice)"], closed=0),
        Lost("call_b", "soak-call-01.jsonl", ["turn 1 (text)", "turn 2 (voice)"], closed=1),
    ]
    account_for(found, Counter({"call_a": 1, "call_b": 2}))
    assert (found.endings[Ending.DROPPED], found.endings[Ending.LOST], found.endings[Ending.CLOSED]) == (
        2,
        1,
        1,
    )
    assert len(found.wrong) == 1
    assert found.wrong[0].startswith(
        "call_b soak-call-01.jsonl: 1 turns are lost, of turn 1 (text), turn 2 (voice)"
    )


def test_a_run_in_which_nothing_was_answered_is_wrong() -> None:
    assert complaints(tally(), [], IDLE, IDLE) == ["no turn at all was answered"]
    assert complaints(tally(answered=1), [], IDLE, IDLE) == []


def test_the_orchestrators_events_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"type": "turn_ended", "call_id": "call_a", "outcome": "closed"},
        {"type": "turn_ended", "call_id": "call_a", "outcome": "answered"},
        {"type": "call_ended", "call_id": "call_a", "turns": {"answered": 1, "closed": 1}},
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert soak_judge.closed_by_call(path) == {"call_a": 1}
    counted = {"turn_ended": 2, "call_ended": 1, "turns answered": 1, "turns closed": 1}
    assert soak_judge.events_of(path) == counted
    assert soak_judge.events_of(tmp_path / "none") == soak_judge.closed_by_call(tmp_path / "none") == {}


def test_everything_is_written_and_shown(tmp_path: Path) -> None:
    found, samples = tally(answered=4, closed=1), [sample(at) for at in range(100)]
    windows = drifts(samples, SECONDS)
    soak_judge.write(tmp_path / "soak.json", {"seed": 1}, found, samples, windows, ["a thing"])
    written = json.loads((tmp_path / "soak.json").read_text())
    assert (written["seed"], written["turns"]["asked"], written["wrong"]) == (1, 5, ["a thing"])
    assert written["turns"]["by_ending"]["closed"] == 1
    assert len(written["samples"]) == 100
    orders = [Order(36.0, {"fault": "refused"}, Bar.OUTAGE), Order(40.0, None, Bar.OUTAGE)]
    soak_picture.draw(tmp_path / "soak.png", samples, orders, SECONDS)
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
    console = Console(file=io.StringIO(), width=120)
    soak_judge.show(found, windows, Counter({"abort@idle": 3}), console)
    soak_judge.complain([f"thing {number}" for number in range(40)], console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "3 of 1 kinds" in text
    assert "40 things are wrong" in text
    assert "and 10 more in soak.json" in text

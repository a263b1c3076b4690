"""The picture of one call: its states from the orchestrator's rows, its numbered events, and that it can be drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.timeline_drawing import Block, Mark, Picture, Stretch, draw
from benchmarks.timeline_picture import states


def row(time: float, type: str, **fields: Any) -> dict[str, Any]:
    return {"time": time, "type": type, "tier": "A", **fields}


def handover(time: float, to_tier: str, cause: str) -> dict[str, Any]:
    return row(time, "handover", to_tier=to_tier, trigger="fault", cause=cause)


def told(rows: list[dict[str, Any]]) -> list[tuple[float, float, str]]:
    found = states(rows, 100.0, 120.0)
    return [(round(each.start, 3), round(each.end, 3), each.state) for each in found]


def test_states_follow_from_rows() -> None:
    rows = [
        row(100.5, "call_started"),
        handover(102.0, "B", "closed"),
        row(102.25, "preparation_abandoned", purpose="race"),
        handover(107.0, "A", "promoted"),
        row(110.0, "handover", to_tier="B", trigger="deadline", cause="response_timeout"),
        row(110.0, "hedge", result="adopted", after_ms=500.0),
    ]
    assert told(rows) == [
        (0.0, 0.5, "CONNECTING"),
        (0.5, 2.0, "RELAYING"),
        (2.0, 2.25, "RACING"),
        (2.25, 7.0, "LOCAL"),
        (7.0, 7.0, "PROMOTING"),
        (7.0, 9.5, "RELAYING"),
        (9.5, 10.0, "HEDGING"),
        (10.0, 20.0, "LOCAL"),
    ]


def test_a_hedge_that_lost_has_no_beginning_to_draw() -> None:
    rows = [row(100.5, "call_started"), row(103.0, "hedge", result="lost", reason="tier A answered")]
    assert told(rows) == [(0.0, 0.5, "CONNECTING"), (0.5, 20.0, "RELAYING")]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    picture = Picture(
        end=4.0,
        said=[Block(0.5, 1.0, "caller", "Ten of clubs.", "")],
        arrived=[(1.5, 0.5, "A"), (1.6, 0.5, "A"), (3.0, 0.5, "B")],
        played=[Block(1.5, 2.5, "A", "I am still here.", "item_1"), Block(3.0, 3.5, "B", "", "item_2")],
        marks=[Mark(1.5, [(1.5, "heard")]), Mark(1.7, [(1.7, "fault: reset"), (1.71, "handover")])],
        states=[Stretch(0.0, 1.7, "RELAYING"), Stretch(1.7, 1.7, "PROMOTING"), Stretch(1.7, 4.0, "LOCAL")],
    )
    draw(tmp_path / "call.png", picture)
    assert (tmp_path / "call.png").read_bytes().startswith(b"\x89PNG")

"""Columns from recorded calls, and whether they foretell what other calls cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.core.prices import PriceTable
from orchestrator.estimate import Columns, LogUnreadable, NothingToFit, Plan, estimate, fit, read_rows
from orchestrator.estimate.recorded import recorded
from tests.estimate.invented import PROMPT, RUNG, calls, mean_cost

FREE = Plan(call_usd=None, rungs=(RUNG,))
PRICES = PriceTable()


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return list(calls(seed=11, count=1500))


@pytest.fixture(scope="module")
def columns(rows: list[dict[str, Any]]) -> Columns:
    return fit(rows)


def test_the_columns_are_those_of_the_calls(rows: list[dict[str, Any]], columns: Columns) -> None:
    started = {row["call_id"]: row["time"] for row in rows if row["type"] == "call_started"}
    seconds = [row["time"] - started[row["call_id"]] for row in rows if row["type"] == "call_ended"]
    hung_up = [row["turns"]["hung_up"] for row in rows if row["type"] == "call_ended"]
    assert columns.abandon_rate == pytest.approx(np.mean(hung_up))
    assert columns.call_s * (1 - columns.abandon_rate / 2) == pytest.approx(np.mean(seconds))
    assert columns.prompt_tokens == PROMPT
    assert columns.greeting == 0
    assert columns.call_tokens == 28
    # Between 40 and 260 tokens, all equally often.
    assert columns.result_tokens == pytest.approx(150, rel=0.05)
    assert columns.text_kept == pytest.approx(1.0, abs=0.01)
    # This provider finds all of the input before, and nothing of the answer.
    assert (columns.cache_hit, columns.cache_output) == (1.0, 0.0)
    assert columns.barge_in == pytest.approx(0.12, abs=0.01)


def test_talk_is_what_was_talked(rows: list[dict[str, Any]], columns: Columns) -> None:
    heard = [
        row["usage"]["input_tokens"] / 10
        for row in rows
        if row["type"] == "charge" and row["what"] == "transcription"
    ]
    assert columns.utterance_s == pytest.approx(np.mean(heard), rel=0.02)
    wasted = sum(row["unheard_ms"] for row in rows if row["type"] == "waste") / 1000
    found = estimate(columns, FREE, PRICES, calls=2000, seed=2)
    assert found.waste_s == pytest.approx(wasted / 1500, rel=0.06)


def test_an_estimate_comes_to_what_the_calls_cost(rows: list[dict[str, Any]], columns: Columns) -> None:
    found = estimate(columns, FREE, PRICES, calls=8000, seed=4)
    # What is off beyond chance is the estimate's own.
    assert found.cost.mean == pytest.approx(
        mean_cost(rows), rel=0.01 + 2 * found.cost.error / found.cost.mean
    )


def test_other_calls_are_foretold(columns: Columns) -> None:
    others = list(calls(seed=12, count=4000))
    costs = np.array([call.nanodollars for call in recorded(others)])
    chance = (costs.std() / costs.mean()) * (1 / 1500 + 1 / 4000) ** 0.5
    found = estimate(columns, FREE, PRICES, calls=6000, seed=5)
    assert found.cost.mean == pytest.approx(costs.mean(), rel=0.01 + 2.5 * chance)


def test_the_shape_of_the_calls_is_kept(rows: list[dict[str, Any]], columns: Columns) -> None:
    counted = np.array([len([a for a in call.answered if not a.is_tool_call]) for call in recorded(rows)])
    found = estimate(columns, FREE, PRICES, calls=6000, seed=6)
    assert found.turns.mean == pytest.approx(counted.mean(), rel=0.03)
    assert found.turns.p95 == pytest.approx(np.percentile(counted, 95), rel=0.12)


def test_calls_may_be_mixed_in_the_log(rows: list[dict[str, Any]], columns: Columns) -> None:
    two = [row for row in rows if row["call_id"] in ("call_11_0", "call_11_1", "call_11_2")]
    shuffled = sorted(two, key=lambda row: row["time"] % 1000)
    assert fit(shuffled) == fit(two)


def charge(
    turn: int, text: int, audio: int, cached: int, out: tuple[int, int], **more: Any
) -> dict[str, Any]:
    usage = {
        "input_tokens": text + audio,
        "output_tokens": sum(out),
        "input_token_details": {"text_tokens": text, "audio_tokens": audio, "cached_tokens": cached},
        "output_token_details": {"text_tokens": out[0], "audio_tokens": out[1]},
    }
    given = {"what": "response", "rung": RUNG, "model": RUNG, "turn": turn, "nanodollars": 5, "usage": usage}
    return row("charge", **{**given, **more})


def row(kind: str, at: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"time": at, "type": kind, "tier": "A", "call_id": "call_1", **fields}


GREETED = [
    row("call_started", rung=RUNG),
    charge(1, 700, 0, 0, (10, 60)),
    charge(2, 710, 110, 640, (20, 200), response_id="resp_2"),
    row("waste", item_id="item_2", sent_ms=10_000, heard_ms=4_000, unheard_ms=6_000),
    charge(3, 710, 240, 768, (20, 100)),
    row("call_ended", at=60.0, turns={"answered": 2}),
]


def test_a_greeting_and_an_answer_cut_off() -> None:
    found = fit(GREETED)
    assert (found.greeting, found.barge_in, found.unheard_s) == (
        1.0,
        pytest.approx(1 / 3),
        pytest.approx(6.0),
    )
    # 110 less the greeting's 60 are 50 tokens; 240 less 110 and the 80 that were heard are 50 again.
    assert found.utterance_s == pytest.approx(5.0)
    assert found.caller_share == pytest.approx(2 * 5 / 60)
    # 3 s of greeting, 4 s and 5 s in two turns of half a minute.
    assert found.assistant_share == pytest.approx((3 + 4 + 5) / 3 / 30)


def test_an_answer_cut_off_before_it_is_billed() -> None:
    rows = [*GREETED[:3], row("waste", item_id="item_3", sent_ms=3_000, heard_ms=1_000), *GREETED[4:]]
    cut = [answer.heard_s for answer in recorded(rows)[0].answered if answer.cut]
    assert cut == [1.0]
    assert recorded(rows)[0].answered[2].cut


def test_what_is_not_of_the_conversation_is_left_out() -> None:
    beside = [
        charge(0, 50, 0, 0, (400, 0)),
        charge(4, 0, 0, 0, (0, 0), usage={}, estimated=True),
        row("charge", what="agent", model="m", rung="b", turn=5, nanodollars=7, usage={"prompt_tokens": 9}),
    ]
    assert fit([*GREETED[:-1], *beside, GREETED[-1]]) == fit(GREETED)


def test_a_handover_ends_what_grows() -> None:
    """After it everything is told again as text, which is no growth of the conversation."""
    after = [row("handover"), charge(4, 2000, 30, 0, (20, 100)), charge(5, 2020, 160, 2048, (20, 100))]
    found = fit([*GREETED[:-1], *after, GREETED[-1]])
    assert found.prompt_tokens == 700
    # 50, 50, and 160 less 30 and 100.
    assert found.utterance_s == pytest.approx((5 + 5 + 3) / 3)


@pytest.mark.parametrize("rows", [[], [row("call_started")], GREETED[1:], GREETED[:-1]])
def test_nothing_to_fit(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(NothingToFit, match=r"server\.events_path"):
        fit(rows)


def test_a_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in GREETED) + '\n\n{"type": "cut sho')
    assert list(read_rows(path)) == GREETED


@pytest.mark.parametrize("text", ["call,cost\n1,2\n", "[1, 2]\n", '{"time": 1}\n'])
def test_a_file_that_is_no_log(tmp_path: Path, text: str) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(text)
    with pytest.raises(LogUnreadable, match=r"costs\.csv, line 1: expected a JSON object"):
        list(read_rows(path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(LogUnreadable, match="No such file"):
        list(read_rows(tmp_path / "nothing.jsonl"))

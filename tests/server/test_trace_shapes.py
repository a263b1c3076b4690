"""Which spans the rows of a turn become where tiers change in it, and what their models are called."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.server.trace_shapes import Shape, turn_of

AT = 1_772_000_000.0
PARTS = {"agent_first_token": 0.05, "tts_first_audio": 0.05, "first_audio": 0.28}


def row(after: float, type: str, tier: str, **fields: Any) -> dict[str, Any]:
    return {"time": AT + after, "type": type, "tier": tier, "call_id": "call_1", **fields}


def charge(after: float, tier: str, what: str, model: str, **fields: Any) -> dict[str, Any]:
    usual = {"turn": 2, "nanodollars": 1_000, "estimated": False}
    return row(after, "charge", tier, what=what, model=model, **usual, **fields)


def spans(*rows: dict[str, Any]) -> dict[str, Shape]:
    _, inside = turn_of(rows, row(1.0, "turn_ended", "B", turn=2, outcome="answered"))
    return {shape.name: shape for shape in inside}


ANSWER = row(0.9, "answer", "B", status="completed", owed_at=AT, ttfa_ms=350.0, parts=PARTS)


def test_what_the_lost_provider_is_owed_is_no_work_of_tier_b() -> None:
    found = spans(
        charge(0.02, "A", "response", "gpt-realtime-2.1", lingering=True),
        charge(0.02, "A", "transcription", "gpt-transcribe", lingering=True),
        row(0.06, "caller_said", "B", text="my name is Ada"),
        charge(0.4, "B", "agent", "openai/gpt-4.1-mini"),
        ANSWER,
    )
    assert list(found) == ["stt", "agent openai/gpt-4.1-mini", "tts"]
    stt = found["stt"]
    assert (stt.start, stt.end) == pytest.approx((AT, AT + 0.06))
    assert "gen_ai.request.model" not in stt.attributes
    assert "Ada" not in str(found)


def test_transcription_that_costs_something_has_its_model() -> None:
    found = spans(
        charge(0.05, "B", "transcription", "whisper-1"), row(0.06, "caller_said", "B", text="…"), ANSWER
    )
    assert found["stt whisper-1"].end == pytest.approx(AT + 0.05)


def test_a_fixed_prompt_that_answers_in_tier_b_was_preceded_by_transcription_there() -> None:
    parts = {"prompt": 0.002, "first_audio": 0.002}
    answer = row(0.12, "answer", "C", status="completed", owed_at=AT, ttfa_ms=118.0, parts=parts)
    found = spans(row(0.05, "caller_said", "B", text="…"), answer)
    assert list(found) == ["stt", "tts"]
    assert found["stt"].end == pytest.approx(AT + 0.05)


def test_what_was_said_before_the_turn_was_over_is_no_wait_of_it() -> None:
    assert "stt" not in spans(row(-0.5, "caller_said", "B", text="…"), ANSWER)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("openai/gpt-4.1-mini", "openai"),
        ("azure/mini", "azure.ai.openai"),
        ("gemini/flash", "gcp.gemini"),
        ("anthropic/some", "anthropic"),
        ("smollm2-135m", None),
    ],
)
def test_providers_are_called_as_the_conventions_do(model: str, provider: str | None) -> None:
    found = spans(charge(0.4, "B", "agent", model), ANSWER)
    assert found[f"agent {model}"].attributes.get("gen_ai.provider.name") == provider


def test_tier_a_speaks_openais_protocol() -> None:
    answer = row(0.9, "answer", "A", status="completed", owed_at=AT, ttfa_ms=350.0)
    found = spans(charge(0.9, "A", "response", "second-region"), answer)
    assert found["agent second-region"].attributes["gen_ai.provider.name"] == "openai"

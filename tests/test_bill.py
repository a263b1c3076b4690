"""The bill worked out again from a log: against arithmetic of its own, in fractions and without the price table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.bill import BY, bill
from orchestrator.cli import main
from orchestrator.core.prices import ModelPrice, PriceTable

TABLE = PriceTable(
    {
        "gpt-text": ModelPrice(text_in=0.75, text_cached=0.075, text_out=4.5),
        "cartesia": ModelPrice(per_character=0.00005),
        "kokoro": ModelPrice(per_minute=0.002),
    }
)
RUNGS = {"spare": "gpt-realtime-2.1-mini"}

# The published rates once more, as text: dollars per million tokens, per minute, per character.
LARGE = {"text": ("4", "0.4", "24"), "audio": ("32", "0.4", "64"), "image": ("5", "0.5", "0")}
MINI = {"text": ("0.6", "0.06", "2.4"), "audio": ("10", "0.3", "20"), "image": ("0.8", "0.08", "0")}


def by_hand(row: Mapping[str, Any]) -> int:
    """A charge's nano-dollars."""
    used, model = row["usage"], row["model"]
    if row["what"] == "response":
        dollars = response({"gpt-realtime-2.1": LARGE, "spare": MINI}[model], used) / 10**6
    elif row["what"] == "agent":
        cached = used.get("cached_tokens", 0)
        fresh = used["prompt_tokens"] - cached
        dollars = fresh * Fraction("0.75") + cached * Fraction("0.075")
        dollars = (dollars + used["completion_tokens"] * Fraction("4.5")) / 10**6
    elif "characters" in used:
        dollars = used["characters"] * Fraction("0.00005")
    else:
        rate = {"gpt-transcribe": "0.0045", "kokoro": "0.002"}[model]
        dollars = Fraction(str(used["seconds"])) * Fraction(rate) / 60
    return ceil(dollars * 10**9)


def response(rates: Mapping[str, tuple[str, str, str]], used: Mapping[str, Any]) -> Fraction:
    details, total = used["input_token_details"], Fraction(0)
    for kind, (fresh, cached, _) in rates.items():
        tokens = details[f"{kind}_tokens"]
        from_cache = details["cached_tokens_details"][f"{kind}_tokens"]
        total += (tokens - from_cache) * Fraction(fresh) + from_cache * Fraction(cached)
    for kind in ("text", "audio"):
        total += used["output_token_details"][f"{kind}_tokens"] * Fraction(rates[kind][2])
    return total


tokens = st.integers(0, 30_000)


@st.composite
def realtime_usage(draw: st.DrawFn) -> dict[str, Any]:
    into = {f"{kind}_tokens": draw(tokens) for kind in ("text", "audio", "image")}
    cached = {kind: draw(st.integers(0, count)) for kind, count in into.items()}
    out = {f"{kind}_tokens": draw(st.integers(0, 4096)) for kind in ("text", "audio")}
    details = {**into, "cached_tokens": sum(cached.values()), "cached_tokens_details": cached}
    return {
        "input_tokens": sum(into.values()),
        "output_tokens": sum(out.values()),
        "input_token_details": details,
        "output_token_details": out,
    }


seconds = st.integers(0, 600_000).map(lambda ms: ms / 1000)
agent_usage = st.builds(
    lambda prompt, share, out: {
        "prompt_tokens": prompt,
        "cached_tokens": int(prompt * share),
        "completion_tokens": out,
    },
    tokens,
    st.floats(0, 1),
    st.integers(0, 4096),
)


def charge(what: str, model: str, usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    row = {
        "time": 1.0,
        "type": "charge",
        "tier": "A" if what == "response" else "B",
        "call_id": "call_1",
        "what": what,
        "model": model,
        "rung": model,
        "turn": 1,
        "bucket": "acme",
        "user": "u1",
        "usage": usage,
        "estimated": False,
        **more,
    }
    return row if "nanodollars" in row else {**row, "nanodollars": by_hand(row)}


charges = st.one_of(
    st.builds(charge, st.just("response"), st.sampled_from(["gpt-realtime-2.1", "spare"]), realtime_usage()),
    st.builds(
        charge,
        st.just("transcription"),
        st.just("gpt-transcribe"),
        seconds.map(lambda s: {"type": "duration", "seconds": s}),
    ),
    st.builds(charge, st.just("agent"), st.just("gpt-text"), agent_usage),
    st.builds(charge, st.just("speech"), st.just("cartesia"), tokens.map(lambda n: {"characters": n})),
    st.builds(charge, st.just("speech"), st.just("kokoro"), seconds.map(lambda s: {"seconds": s})),
)
placed = st.builds(
    lambda row, call, turn, user: {**row, "call_id": call, "turn": turn, "user": user},
    charges,
    st.sampled_from(["call_1", "call_2"]),
    st.integers(0, 3),
    st.sampled_from(["", "u1", "u2"]),
)


@given(st.lists(placed, max_size=12))
def test_every_charge_comes_to_what_it_does_by_hand(rows: list[dict[str, Any]]) -> None:
    found = bill(rows, TABLE, RUNGS)
    assert found.differences == []
    assert found.total.nanodollars == sum(by_hand(row) for row in rows)
    assert found.total.charges == len(rows)
    for name in BY:
        assert sum(part.nanodollars for part in found.by[name].values()) == found.total.nanodollars
    for user in ("u1", "u2"):
        expected = sum(by_hand(row) for row in rows if row["user"] == user)
        assert (found.by["user"][user].nanodollars if user in found.by["user"] else 0) == expected


SPEECH = charge("speech", "cartesia", {"characters": 100})
USED = {"prompt_tokens": 1000, "completion_tokens": 50}


def test_what_is_told_wrongly_is_found() -> None:
    wrong = {**SPEECH, "nanodollars": SPEECH["nanodollars"] - 1}
    unknown = charge("agent", "gpt-next", USED, nanodollars=7)
    found = bill([SPEECH, wrong, unknown], TABLE, RUNGS)
    assert [(d.row, d.told, d.again) for d in found.differences] == [(2, 4_999_999, 5_000_000), (3, 7, None)]
    assert '[prices."gpt-next"]' in found.differences[1].why
    # What is known counts, and else what was told.
    assert found.total.nanodollars == 5_000_000 + 5_000_000 + 7


def test_what_cannot_be_worked_out_again_is_taken_as_it_was_told() -> None:
    never_came = charge("response", "gpt-realtime-2.1", {}, nanodollars=300, estimated=True)
    by_litellm = charge("agent", "gpt-text", {**USED, "priced_by": "litellm"}, nanodollars=40)
    probe = {"type": "probe", "tier": "A", "call_id": "", "rung": "gpt-realtime-2.1", "cost_usd": 0.000_001_5}
    found = bill([never_came, by_litellm, probe, {**probe, "cost_usd": 0.0}], TABLE, RUNGS)
    assert found.differences == []
    assert (found.taken.charges, found.taken.nanodollars) == (3, 300 + 40 + 1_500)
    assert (found.total.nanodollars, found.total.estimated) == (1_840, 300)
    assert found.by["what"]["probe"].nanodollars == 1_500


def test_a_clients_own_transcription_model_is_priced_as_the_dearest() -> None:
    used = {"type": "duration", "seconds": 30.0}
    # Half a minute at $0.017
    found = bill([charge("transcription", "their-ears", used, nanodollars=8_500_000)], TABLE, RUNGS)
    assert found.differences == []


def test_an_estimate_from_what_was_sent_is_worked_out_again() -> None:
    row = charge("agent", "gpt-text", USED, estimated=True)
    found = bill([row], TABLE, RUNGS)
    assert (found.taken.charges, found.total.estimated) == (0, by_hand(row))


def test_talk_that_nobody_heard_is_added_up() -> None:
    waste = {"type": "waste", "unheard_ms": 1500, "nanodollars": 1_920_000}
    found = bill([waste, {"type": "state"}, waste], TABLE, RUNGS)
    assert (found.unheard_ms, found.unheard, found.total.charges) == (3_000, 3_840_000, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"nanodollars": "5"}, "row 1: expected `nanodollars` to be a whole number of 0 or more, not '5'"),
        ({"nanodollars": None}, "not None"),
        ({"usage": None}, "row 1: expected a charge with `what`, `model` and `usage`"),
        ({"what": "lunch"}, "row 1: expected a charge with `what`"),
        ({"usage": {"characters": "many"}}, "row 1: expected the usage of a speech"),
    ],
)
def test_a_charge_that_is_none_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bill([{**SPEECH, **change}], TABLE, RUNGS)


# The commands


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "CARTESIA_API_KEY", "ORCHESTRATOR_CONFIG", "ORCHESTRATOR_AGENT_MODEL"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rows = [
        SPEECH,
        charge("transcription", "gpt-transcribe", {"type": "duration", "seconds": 20.0}, call_id="call_2"),
        {"type": "waste", "call_id": "call_1", "unheard_ms": 1500, "nanodollars": 1_920_000},
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_bill_as_a_table(log: Path) -> None:
    result = run("bill", log, "--by", "call")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[1:4] == [
        ["call_1", "1", "0.005000", "0.000000"],
        ["call_2", "1", "0.001500", "0.000000"],
        ["total", "2", "0.006500", "0.000000"],
    ]
    assert "Talk that nobody heard: 1.5 s, 0.001920 of the total" in result.output


def test_the_bill_as_json(log: Path) -> None:
    found = json.loads(run("bill", log, "--json").output)
    assert found["total"] == {"charges": 2, "usd": 0.0065, "estimated_usd": 0.0}
    assert found["parts"]["transcription"]["usd"] == 0.0015
    assert found["unheard"] == {"seconds": 1.5, "usd": 0.00192}
    assert found["differences"] == []


def test_a_difference_ends_with_status_1(log: Path) -> None:
    with log.open("a") as file:
        file.write(json.dumps({**SPEECH, "nanodollars": 1}) + "\n")
    result = run("bill", log)
    assert result.exit_code == 1
    assert "row 4: speech of call_1 by cartesia was told as 0.000000 and is 0.005000" in result.output
    assert json.loads(run("bill", log, "--json").output)["differences"][0]["again_usd"] == 0.005


def test_a_file_that_is_no_event_log_is_refused(log: Path, tmp_path: Path) -> None:
    result = run("bill", tmp_path / "absent.jsonl")
    assert (result.exit_code, "absent.jsonl cannot be read" in result.output) == (1, True)
    log.write_text('{"type": "charge"}\n')
    result = run("bill", log)
    assert result.exit_code == 1
    assert "expected `nanodollars`" in result.output
    assert "server.events_path" in result.output


def test_the_prices_of_a_configuration(tmp_path: Path) -> None:
    config = tmp_path / "orchestrator.toml"
    config.write_text(
        '[cartesia]\napi_key = "k"\n[tier_b]\nagent_model = "openai/gpt-4.1-mini"\n'
        '[prices.faster-whisper]\nper_minute = 0.001\n[prices."gpt-transcribe"]\nper_minute = 0.004\n'
    )
    found = json.loads(run("prices", "--json", "--config", config).output)
    told = {entry["used_for"]: entry for entry in found}
    assert list(told) == [
        "Tier A, gpt-realtime-2.1",
        "Tier A, transcription",
        "Tier B, transcription",
        "Tier B, agent",
        "Tier B, speech",
        "Tier C, speech",
    ]
    assert told["Tier A, gpt-realtime-2.1"]["rates"]["audio_out"] == 64
    assert told["Tier A, gpt-realtime-2.1"]["date"] == "2026-11-23"
    own = told["Tier A, transcription"]
    assert own["rates"] == {"per_minute": 0.004}
    assert own["source"].startswith('[prices."gpt-transcribe"] over developers.openai.com')
    assert told["Tier B, transcription"]["rates"] == {"per_minute": 0.001}
    agent = told["Tier B, agent"]
    assert agent["rates"] == {"text_in": 0.4, "text_cached": 0.1, "text_out": 1.6}
    assert agent["source"].startswith("LiteLLM's price map")
    assert agent["date"].startswith("litellm ")
    assert told["Tier B, speech"]["rates"] == {"per_character": 0.00005}
    assert (told["Tier C, speech"]["rates"], told["Tier C, speech"]["source"]) == ({}, "self-hosted")
    assert all(entry["source"] for entry in found)


def test_the_prices_as_a_table() -> None:
    result = run("prices")
    assert result.exit_code == 0, result.output
    assert "audio out, 1M tokens" in result.output
    assert "self-hosted" in result.output

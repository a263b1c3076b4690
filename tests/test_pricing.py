"""What a configuration is billed for: where prices are from, and what has none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator import price_map
from orchestrator.config import WELL_KNOWN, Settings, SettingsError, load_settings
from orchestrator.core.price_list import PUBLISHED, ModelPrice
from orchestrator.server.rungs import RungSpec, configured_rungs


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_") or name in WELL_KNOWN:
            monkeypatch.delenv(name)


def configured(tmp_path: Path, text: str, **overrides: Any) -> Settings:
    file = tmp_path / "orchestrator.toml"
    file.write_text(text)
    return load_settings(file, **overrides)


# LiteLLM's map


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """A price map of our own in its place."""
    made: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(price_map, "_entries", lambda: made)
    return made


VOICE = {
    "input_cost_per_token": 4e-06,
    "cache_read_input_token_cost": 4e-07,
    "output_cost_per_token": 1.6e-05,
    "input_cost_per_audio_token": 3.2e-05,
    "output_cost_per_audio_token": 6.4e-05,
    "input_cost_per_audio_token_batches": 1e-09,
    "source": "https://models.example/pricing",
}


def test_a_voice_models_price(entries: dict[str, dict[str, Any]]) -> None:
    entries["voice"] = VOICE
    found = price_map.listed("response", "acme/voice")
    assert found is not None
    # Cached audio and images have no rate of their own, so they cost what is not cached, and text.
    assert found.price == ModelPrice(32, 32, 64, 4, 0.4, 16, 4, 4)
    assert found.source == "LiteLLM's price map, https://models.example/pricing"
    assert found.date.startswith("litellm ")


@pytest.mark.parametrize("lacks", ["input_cost_per_audio_token", "output_cost_per_audio_token"])
def test_what_cannot_hear_or_speak_is_no_voice_model(entries: dict[str, dict[str, Any]], lacks: str) -> None:
    entries["voice"] = {field: rate for field, rate in VOICE.items() if field != lacks}
    assert price_map.listed("response", "voice") is None


def test_a_transcription_models_price(entries: dict[str, dict[str, Any]]) -> None:
    entries["ears"] = {"input_cost_per_second": 0.000283333333333, "output_cost_per_second": 0.0}
    found = price_map.listed("transcription", "ears")
    assert found is not None
    assert found.price == ModelPrice(per_minute=0.017)
    assert price_map.listed("agent", "ears") is None


def test_a_text_models_price_and_what_its_rates_do_not_tell(entries: dict[str, dict[str, Any]]) -> None:
    entries["text"] = plain = {"input_cost_per_token": 7.5e-07, "output_cost_per_token": 4.5e-06}
    found = price_map.listed("agent", "text")
    assert found is not None
    assert (found.price, found.up_to) == (ModelPrice(text_in=0.75, text_cached=0.75, text_out=4.5), None)

    entries["long"] = {
        **plain,
        "input_cost_per_token_above_272k_tokens": 1.5e-06,
        "output_cost_per_token_above_272k_tokens": 9e-06,
        "input_cost_per_token_above_272k_tokens_priority": 1.0,
    }
    found = price_map.listed("agent", "long")
    assert found is not None
    assert (found.up_to, found.dearest) == (272_000, ModelPrice(text_in=1.5, text_out=9))

    entries["thinks"] = {**plain, "output_cost_per_reasoning_token": 1e-05}
    found = price_map.listed("agent", "thinks")
    assert found is not None
    assert (found.up_to, found.dearest) == (0, ModelPrice(text_in=0.75, text_out=10))

    entries["by request"] = {**plain, "input_cost_per_request": 0.005}
    assert price_map.listed("agent", "by request") is None


@pytest.mark.parametrize("model", sorted(PUBLISHED))
def test_our_list_agrees_with_litellms(model: str) -> None:
    price = PUBLISHED[model].price
    found = price_map.listed("response" if price.audio_out else "transcription", model)
    assert found is not None
    for rate in ("audio_in", "audio_out", "text_in", "text_out", "per_minute"):
        assert getattr(found.price, rate) == pytest.approx(getattr(price, rate), rel=1e-3), rate


# A configuration


def test_a_model_that_is_not_in_our_list_is_in_litellms(tmp_path: Path) -> None:
    settings = configured(
        tmp_path, '[tier_a]\nrungs = ["azure"]\n[tier_a.rung.azure]\nmodel = "azure/gpt-realtime-2.1"'
    )
    assert settings.price_table()["azure/gpt-realtime-2.1"].audio_out == 64


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ('[tier_a]\nrungs = ["whisper-1"]', "whisper-1"),
        ('[tier_a]\nrungs = ["gpt-4.1-mini"]', "gpt-4.1-mini"),
        ('[tier_a]\nrungs = ["faster-whisper"]', "faster-whisper"),
        ('[tier_a]\ntranscription_model = "kokoro"', "kokoro"),
        ('[tier_b]\nagent_model = "tts-1"', "tts-1"),
    ],
)
def test_a_price_for_something_else_is_none(tmp_path: Path, text: str, model: str) -> None:
    with pytest.raises(SettingsError, match=f"the model '{model}' has no price; give it one .*{model}"):
        configured(tmp_path, text)


def test_engines_have_the_prices_of_their_settings(tmp_path: Path) -> None:
    prices = configured(
        tmp_path,
        '[tier_b]\nspeech = "endpoint"\ntts_base_url = "http://h/v1"\ntts_model = "m"\n'
        "tts_usd_per_character = 0.00002\n"
        'stt_base_url = "http://h/v1"\nstt_model = "whisper-1"\nstt_usd_per_minute = 0.001\n',
    ).price_table()
    # The server's model has the name of one of OpenAI's, and a price of its own.
    assert prices["stt-endpoint"].per_minute == 0.001
    assert prices["whisper-1"].per_minute == 0.006
    assert prices["endpoint"].per_character == 0.00002
    assert prices.published("endpoint").source == "tier_b.tts_usd_per_character"
    assert prices["cartesia"].per_character == 0.00005
    assert prices.published("cartesia").date
    assert all(
        prices[own].is_free for own in ("kokoro", "kokoro-torch", "faster-whisper", "embedded/smollm2")
    )


def test_cached_input_of_ones_own_model_costs_what_other_input_does(tmp_path: Path) -> None:
    prices = configured(tmp_path, "[prices.mine]\naudio_in = 5\ntext_in = 2\ntext_cached = 1\n").price_table()
    assert prices["mine"] == ModelPrice(audio_in=5, audio_cached=5, text_in=2, text_cached=1)
    assert prices.published("mine").source == '[prices."mine"]'


# What rungs cost


def rung(settings: Settings, name: str) -> RungSpec:
    return next(rung for rung in configured_rungs(settings) if rung.name == name)


def test_what_there_has_to_be_for_one_more_answer(tmp_path: Path) -> None:
    settings = configured(tmp_path, "", openai__api_key="k")
    # 200 tokens of audio * $64 + 500 of text * $4 per 1M, and at most 16 s written down at $0.0045 a minute:
    #   $0.0128 + $0.002 + $0.0012
    assert rung(settings, "gpt-realtime-2.1").least == 16_000_000
    assert (rung(settings, "kokoro").least, rung(settings, "kokoro").paid) == (0, False)
    assert rung(settings, "prompts").least == 0


def test_a_pipeline_that_is_paid_for(tmp_path: Path) -> None:
    settings = configured(
        tmp_path,
        "[prices.faster-whisper]\nper_minute = 0.006\n",
        cartesia__api_key="k",
        tier_b__agent_model="openai/gpt-4.1-mini",
    )
    found = rung(settings, "cartesia")
    # 500 tokens * $0.40 + 200 * $1.60 per 1M, 200 characters * $0.00005, 16 s at $0.006 a minute:
    #   $0.0002 + $0.00032 + $0.01 + $0.0016
    assert (found.paid, found.least) == (True, 12_120_000)
    # 6,000 tokens * $0.40 + 240 * $1.60 per 1M, 450 characters, half a minute heard
    assert found.usd_per_minute == pytest.approx(0.0024 + 0.000384 + 0.0225 + 0.003)


def test_an_engine_of_ones_own_with_a_price_is_paid(tmp_path: Path) -> None:
    found = rung(configured(tmp_path, "[prices.kokoro]\nper_minute = 0.003\n"), "kokoro")
    # 20 s of speech
    assert (found.paid, found.least, found.usd_per_minute) == (True, 1_000_000, 0.0015)

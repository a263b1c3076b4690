"""Tier B as configured: what its answers cost at most."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cache import DiskStore, RedisStore
from orchestrator import models
from orchestrator.config import load_settings
from orchestrator.config_sections import SIMPLER_SERVICE
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import AnswerRequest, Finished, Message
from orchestrator.server.engines import Engines, TierB, _clip_store, prompts_to_warm
from orchestrator.simulate.brain import Brain
from orchestrator.simulate.llm import LlmSimulator
from orchestrator.simulate.llm import Options as LlmOptions
from tests import planted
from tiers.pipeline.cartesia import KIEFER, CartesiaSpeech
from tiers.pipeline.kokoro import KokoroSpeech
from tiers.speech import engine_id
from tiers.speech_pool import SpeechPool

OWN = "00000000-0000-4000-8000-000000000001"
ASK = AnswerRequest("answer_1", (Message("user", "Where is my order?"),), "Be kind.", max_output_tokens=100)


def tier_b(instructions: str = "", **settings: Any) -> TierB:
    return TierB(Engines(load_settings(**settings)).pipeline, instructions)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CARTESIA_API_KEY", "OPENAI_API_KEY", "ORCHESTRATOR_AGENT_MODEL", "ORCHESTRATOR_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_local_engines_cost_nothing() -> None:
    tier = tier_b()
    assert (tier.worst(ASK), tier.worst_agent(ASK), tier.worst_transcription(60.0)) == (0, 0, 0)


def test_what_is_paid_for_is_bounded_before_it_starts() -> None:
    paid = {"tier_b__agent_model": "openai/gpt-4.1-mini", "cartesia__api_key": planted.CARTESIA}
    tier = tier_b(**paid)
    # 100 tokens of answer are at most 500 characters, of $0.00005 each.
    assert tier.worst(ASK) - tier.worst_agent(ASK) == 25_000_000
    # The operator's line is in the prompt too, a token a byte at most at $0.40 a million.
    longer = tier_b("You can do less than usual.", **paid)
    more = longer.worst_agent(ASK) - tier.worst_agent(ASK)
    assert more == len("\n\nYou can do less than usual.") * 400 + 2 * 400  # two line breaks are escaped


def test_an_endpoint_that_listens_is_paid_by_the_minute() -> None:
    endpoint = {"tier_b__stt_base_url": "http://127.0.0.1:9/v1", "tier_b__stt_model": "m"}
    tier = tier_b(**endpoint, tier_b__stt_usd_per_minute=0.006)
    # 30 s at 0.1 millidollars a second, and the next whole millisecond
    assert tier.worst_transcription(30.0) == 3_000_100


def test_the_local_ears_may_have_a_price_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PRICES", '{"faster-whisper": {"per_minute": 0.006}}')
    assert tier_b().worst_transcription(30.0) == 3_000_100


def test_the_bound_is_quick_enough_for_the_event_loop() -> None:
    tier = tier_b(tier_b__agent_model="openai/gpt-4.1-mini", cartesia__api_key=planted.CARTESIA)
    began = time.perf_counter()
    for _ in range(100):
        tier.worst(ASK)
    assert (time.perf_counter() - began) / 100 < 0.005


def test_a_stand_in_for_a_server_that_listens_may_be_paid_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PRICES", '{"faster-whisper": {"per_minute": 0.006}}')
    paid = {
        "tier_b__stt_base_url": "http://127.0.0.1:9/v1",
        "tier_b__stt_model": "m",
        "tier_b__stt_usd_per_minute": 0.006,
        "tier_b__stt_cloud_model": "openai/whisper-1",
        "models__dir": tmp_path,
    }
    # Without its weights Whisper stands in for nobody. By duration a cloud bills begun seconds.
    assert tier_b(**paid).worst_transcription(30.0) == 3_000_100 + 3_100_000
    (tmp_path / "whisper-tiny.en").mkdir()
    (tmp_path / "whisper-tiny.en" / "model.bin").touch()
    assert tier_b(**paid).worst_transcription(30.0) == 2 * 3_000_100 + 3_100_000
    assert tier_b(**paid, tier_b__stt_fallback=False).worst_transcription(30.0) == 3_000_100 + 3_100_000


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("openai/gpt-4.1-mini", planted.PROVIDER),
        ("gpt-4.1-mini", planted.PROVIDER),
        ("anthropic/claude-sonnet-4-5", None),
        ("claude-sonnet-4-5", None),
    ],
    ids=["OpenAI", "OpenAI, short", "Anthropic", "Anthropic, short"],
)
def test_the_key_of_openai_goes_nowhere_else(model: str, key: str | None) -> None:
    engines = Engines(load_settings(tier_b__agent_model=model, openai__api_key=planted.PROVIDER))
    assert [known.api_key for known in engines.agent._models] == [key]


def test_ones_own_server_is_not_sent_the_key_of_openai() -> None:
    own = {"tier_b__agent_model": "openai/gpt-4.1-mini", "tier_b__agent_base_url": "http://127.0.0.1:9/v1"}
    engines = Engines(load_settings(**own, openai__api_key=planted.PROVIDER))
    assert [known.api_key for known in engines.agent._models] == [None]


def test_models_that_stand_in_are_asked_in_order_each_with_its_own_key_and_at_its_own_cost() -> None:
    two = {
        "tier_b__agent_model": "openai/gpt-4.1-mini",
        "tier_b__agent_fallbacks": "anthropic/claude-haiku-4-5",
    }
    engines = Engines(load_settings(**two, openai__api_key=planted.PROVIDER))
    models = engines.agent._models
    assert [(model.name, model.api_key) for model in models] == [
        ("openai/gpt-4.1-mini", planted.PROVIDER),
        ("anthropic/claude-haiku-4-5", None),
    ]
    alone = [tier_b(tier_b__agent_model=model.name).worst(ASK) for model in models]
    assert tier_b(**two).worst(ASK) == sum(alone)


async def test_the_next_model_answers_where_the_first_is_down(
    text_agent: tuple[LlmSimulator, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's own server is away; the one that stands in is OpenAI's, as LiteLLM finds it."""
    simulator, address = text_agent
    monkeypatch.setenv("OPENAI_API_BASE", address)
    settings = load_settings(
        tier_b__agent_model="openai/gpt-4.1-mini",
        tier_b__agent_base_url="http://127.0.0.1:9/v1",
        tier_b__agent_api_key=planted.AGENT,
        tier_b__agent_fallbacks="openai/gpt-4.1-nano",
        openai__api_key=planted.PROVIDER,
    )
    tier = TierB(Engines(settings).pipeline, settings.tier_b.instructions)
    ask = AnswerRequest("answer_1", (Message("user", "Tell me a story."),), speak=False)
    events = [event async for event in tier.answer(ask)]
    assert isinstance(events[-1], Finished)
    assert events[-1].rung == "openai/gpt-4.1-nano"
    assert [request["model"] for request in map(dict, simulator.requests)] == ["gpt-4.1-nano"]


@pytest.fixture
async def text_agent() -> AsyncIterator[tuple[LlmSimulator, str]]:
    simulator = LlmSimulator(LlmOptions(Brain(), first_token_ms=1, tokens_per_second=5_000))
    async with simulator.start() as origin:
        yield simulator, f"{origin}/v1"


async def test_the_agent_is_told_that_it_is_the_simpler_service(text_agent: tuple[LlmSimulator, str]) -> None:
    simulator, address = text_agent
    settings = load_settings(
        tier_b__agent_model="openai/gpt-4.1-mini",
        tier_b__agent_base_url=address,
        tier_b__agent_api_key=planted.AGENT,
    )
    tier = TierB(Engines(settings).pipeline, settings.tier_b.instructions)
    ask = AnswerRequest("answer_1", (Message("user", "Who are you?"),), "Be kind.", speak=False)
    events = [event async for event in tier.answer(ask)]
    assert isinstance(events[-1], Finished)
    [request] = simulator.requests
    system = request["messages"][0]
    assert system["role"] == "system"
    assert system["content"].startswith("Be kind.")
    assert SIMPLER_SERVICE in system["content"]
    assert "tell the truth: you are the simpler service" in SIMPLER_SERVICE


def test_voices_are_chosen_for_the_sessions_own() -> None:
    chosen = {"tier_b__voices": {"marin": "af_bella"}, "cartesia__voices": {"marin": OWN}}
    engines = Engines(load_settings(cartesia__api_key=planted.CARTESIA, speech__workers=0, **chosen))
    cartesia, kokoro = engines.speech
    assert isinstance(cartesia, CartesiaSpeech)
    assert isinstance(kokoro, KokoroSpeech)
    assert (cartesia._voice_id("marin"), cartesia._voice_id("cedar")) == (OWN, KIEFER)
    assert (kokoro._own("marin"), kokoro._own("cedar")) == ("af_bella", "cedar")
    plain_cartesia, plain_kokoro = Engines(load_settings(cartesia__api_key=planted.CARTESIA)).speech
    assert engine_id(cartesia) != engine_id(plain_cartesia), "what is kept in another voice is not found"
    assert engine_id(kokoro) != engine_id(plain_kokoro)


async def test_the_local_voice_is_a_pool_within_settings_or_in_this_process(tmp_path: Path) -> None:
    own = {"models__dir": tmp_path, "cache__dir": tmp_path}
    pooled = Engines(load_settings(**own, speech__workers=3))
    assert isinstance(pooled.speech[-1], SpeechPool)
    assert pooled.speech[-1].load().workers == 3
    here = Engines(load_settings(**own, speech__workers=0))
    assert isinstance(here.speech[-1], KokoroSpeech)
    assert engine_id(here.speech[-1]) == engine_id(pooled.speech[-1]), "they share their clips"
    await pooled.close()
    await here.close()


async def test_other_weights_are_another_version(tmp_path: Path) -> None:
    sums = tmp_path / "SHA256SUMS"
    versions = []
    for lines in (
        None,
        "a  kokoro/model.onnx\nb  kokoro/voices.npz\n",
        "a  kokoro/model.onnx\nc  kokoro/voices.npz\n",
    ):
        if lines is not None:
            sums.write_text(f"{lines}d  whisper-tiny.en/model.bin\n")
        engines = Engines(load_settings(models__dir=tmp_path, cache__dir=tmp_path))
        versions.append(engine_id(engines.speech[-1]))
        prompts, close = prompts_to_warm(load_settings(models__dir=tmp_path, cache__dir=tmp_path))
        assert prompts._renderer._engine == versions[-1], "what is spoken ahead is found by the server"
        close()
        await engines.close()
    assert versions[0] == "kokoro 82m-1.0"
    assert len(set(versions)) == 3
    sums.write_text("e  whisper-tiny.en/model.bin\n")
    assert models.kokoro_weights(tmp_path) == "", "Whisper has no voice"


async def test_weights_that_are_missing_are_missing_in_a_worker_as_well(tmp_path: Path) -> None:
    engines = Engines(load_settings(models__dir=tmp_path, cache__dir=tmp_path))
    with pytest.raises(ModelMissing, match="orchestrator models fetch"):
        await engines.prompts.render("goodbye")
    await engines.close()


def test_the_store_of_clips_has_the_limits_of_the_settings(tmp_path: Path) -> None:
    disk = _clip_store(load_settings(cache__dir=tmp_path, cache__disk_mb=7))
    assert isinstance(disk, DiskStore)
    assert disk.limit == 7 << 20
    redis = _clip_store(load_settings(redis__url="redis://127.0.0.1:9/0", cache__redis_mb=5))
    assert isinstance(redis, RedisStore)
    assert redis.limit == 5 << 20

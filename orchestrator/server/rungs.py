"""The rungs of a configuration, in order of preference, with what a minute on each roughly costs."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config import Settings
from orchestrator.config_sections import OPENAI_BASE_URL
from orchestrator.core.overrides import Tier
from orchestrator.core.prices import Context, PriceTable
from orchestrator.core.routing import Reason
from orchestrator.pricing import EMBEDDED, transcribers


@dataclass(frozen=True, slots=True)
class RungSpec:
    """A rung of this configuration."""

    tier: Tier
    name: str
    paid: bool = False
    usd_per_minute: float = 0.0
    least: int = 0
    """What there has to be for one more short answer, in nano-dollars: the worst that one in a fresh call can cost."""
    missing: Reason | None = None
    """Why it can never be used as configured; None if it can."""


# One minute of conversation, half of it spoken by us, for the estimates of what a rung costs.
_SPOKEN_CHARACTERS = 450
_AGENT_TOKENS_IN = 6_000
_AGENT_TOKENS_OUT = 240

# One short answer in a fresh call, at worst: without that much left a rung is not worth going to.
_HEARD_S = 15.0
_PROMPT = Context(text_tokens=500)
_SHORT_ANSWER_TOKENS = 200
_SHORT_ANSWER_CHARACTERS = 200
_SHORT_ANSWER_S = 20.0


def configured_rungs(settings: Settings) -> tuple[RungSpec, ...]:
    """The rungs of a configuration in order of preference, with rough prices per minute of conversation."""
    prices = settings.price_table()
    return (
        *(_realtime_rung(settings, prices, name) for name in settings.tier_a.rungs),
        _pipeline_rung(settings, prices),
        RungSpec(Tier.C, "prompts"),
    )


def _realtime_rung(settings: Settings, prices: PriceTable, name: str) -> RungSpec:
    tier_a, rung = settings.tier_a, settings.realtime(name)
    if not tier_a.enabled:
        return RungSpec(Tier.A, name, True, missing=Reason.TIER_DISABLED)
    per_minute = prices.usd_per_minute(rung.model)
    least = prices.worst_response(rung.model, _SHORT_ANSWER_TOKENS, _PROMPT)
    if tier_a.transcription_model:
        per_minute += prices.usd_per_audio_minute(tier_a.transcription_model) / 2
        least += prices.worst_transcription(tier_a.transcription_model, _HEARD_S)
    keyless = rung.api_key is None and rung.base_url == OPENAI_BASE_URL
    missing = Reason.NO_PROVIDER_KEY if keyless else None
    return RungSpec(Tier.A, name, True, round(per_minute, 6), least, missing)


def _pipeline_rung(settings: Settings, prices: PriceTable) -> RungSpec:
    """Free only where nothing it uses has a price."""
    ears = transcribers(settings)
    agent, speech = settings.tier_b.agent_model or EMBEDDED, settings.speech_engine()
    thinking, voice = prices[agent], prices[speech]
    per_minute = (
        (thinking.text_in * _AGENT_TOKENS_IN + thinking.text_out * _AGENT_TOKENS_OUT) / 1e6
        + voice.per_character * _SPOKEN_CHARACTERS
        + (voice.per_minute + prices[ears[0]].per_minute) / 2
    )
    least = (
        sum(
            prices.rates(name).worst_written(_PROMPT.text_tokens, _SHORT_ANSWER_TOKENS)
            for name in settings.tier_b.agent_models or (EMBEDDED,)
        )
        + prices.speech(speech, {"characters": _SHORT_ANSWER_CHARACTERS})
        + prices.speech(speech, {"seconds": _SHORT_ANSWER_S})
        + sum(prices.worst_transcription(name, _HEARD_S) for name in ears)
    )
    return RungSpec(Tier.B, speech, per_minute > 0, round(per_minute, 6), least)

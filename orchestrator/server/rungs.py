"""The rungs of a configuration, in order of preference, with what a minute on each roughly costs."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config import Settings
from orchestrator.core.overrides import Tier


@dataclass(frozen=True, slots=True)
class RungSpec:
    """A rung of this configuration."""

    tier: Tier
    name: str
    paid: bool = False
    usd_per_minute: float = 0.0


# One minute of conversation, half of it spoken by us, for the estimates of what a rung costs.
_SPOKEN_CHARACTERS = 450
_AGENT_TOKENS_IN = 6_000
_AGENT_TOKENS_OUT = 240


def configured_rungs(settings: Settings) -> tuple[RungSpec, ...]:
    """The rungs of a configuration in order of preference, with rough prices per minute of conversation."""
    prices = settings.price_table()
    # Only the first model of Tier A is used today.
    model = settings.tier_a.rungs[0]
    realtime = transcription = 0.0
    if settings.tier_a.enabled:
        realtime = prices.usd_per_minute(model)
        if settings.tier_a.transcription_model:
            transcription = prices.usd_per_audio_minute(settings.tier_a.transcription_model) / 2
    pipeline = _pipeline_usd_per_minute(settings)
    return (
        RungSpec(Tier.A, model, True, round(realtime + transcription, 6)),
        RungSpec(Tier.B, settings.speech_engine(), pipeline > 0, round(pipeline, 6)),
        RungSpec(Tier.C, "prompts"),
    )


def _pipeline_usd_per_minute(settings: Settings) -> float:
    tier_b = settings.tier_b
    agent = settings.agent_price()
    thinking = (agent.text_in * _AGENT_TOKENS_IN + agent.text_out * _AGENT_TOKENS_OUT) / 1e6 if agent else 0.0
    per_character = {
        "cartesia": settings.cartesia.usd_per_character,
        "endpoint": tier_b.tts_usd_per_character or 0.0,
    }.get(settings.speech_engine(), 0.0)
    return thinking + _SPOKEN_CHARACTERS * per_character + (tier_b.stt_usd_per_minute or 0.0) / 2

"""The rungs of a configuration, in order of preference, with what a minute on each roughly costs."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config import Settings
from orchestrator.config_sections import OPENAI_BASE_URL
from orchestrator.core.overrides import Tier
from orchestrator.core.routing import Reason


@dataclass(frozen=True, slots=True)
class RungSpec:
    """A rung of this configuration."""

    tier: Tier
    name: str
    paid: bool = False
    usd_per_minute: float = 0.0
    least: int = 0
    """What one more answer costs at least, in nano-dollars."""
    missing: Reason | None = None
    """Why it can never be used as configured; None if it can."""


# One minute of conversation, half of it spoken by us, for the estimates of what a rung costs.
_SPOKEN_CHARACTERS = 450
_AGENT_TOKENS_IN = 6_000
_AGENT_TOKENS_OUT = 240


def configured_rungs(settings: Settings) -> tuple[RungSpec, ...]:
    """The rungs of a configuration in order of preference, with rough prices per minute of conversation."""
    pipeline = _pipeline_usd_per_minute(settings)
    return (
        *(_realtime_rung(settings, name) for name in settings.tier_a.rungs),
        RungSpec(Tier.B, settings.speech_engine(), pipeline > 0, round(pipeline, 6)),
        RungSpec(Tier.C, "prompts"),
    )


def _realtime_rung(settings: Settings, name: str) -> RungSpec:
    tier_a, prices, rung = settings.tier_a, settings.price_table(), settings.realtime(name)
    if not tier_a.enabled:
        return RungSpec(Tier.A, name, True, missing=Reason.TIER_DISABLED)
    per_minute = prices.usd_per_minute(rung.model)
    if tier_a.transcription_model:
        per_minute += prices.usd_per_audio_minute(tier_a.transcription_model) / 2
    keyless = rung.api_key is None and rung.base_url == OPENAI_BASE_URL
    missing = Reason.NO_PROVIDER_KEY if keyless else None
    return RungSpec(Tier.A, name, True, round(per_minute, 6), missing=missing)


def _pipeline_usd_per_minute(settings: Settings) -> float:
    tier_b = settings.tier_b
    agent = settings.agent_price()
    thinking = (agent.text_in * _AGENT_TOKENS_IN + agent.text_out * _AGENT_TOKENS_OUT) / 1e6
    per_character = {
        "cartesia": settings.cartesia.usd_per_character,
        "endpoint": tier_b.tts_usd_per_character or 0.0,
    }.get(settings.speech_engine(), 0.0)
    return thinking + _SPOKEN_CHARACTERS * per_character + (tier_b.stt_usd_per_minute or 0.0) / 2

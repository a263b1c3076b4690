"""What a configuration can bill, and at which price: published ones, LiteLLM's, and the operator's own on top."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator import price_map
from orchestrator.config_sections import Price
from orchestrator.core.price_list import PUBLISHED, ModelPrice, Published
from orchestrator.core.prices import PriceTable

if TYPE_CHECKING:
    from orchestrator.config import Settings

EMBEDDED = "embedded/smollm2"
WHISPER = "faster-whisper"
STT_ENDPOINT = "stt-endpoint"
"""What `tier_b.stt_base_url` is priced as, whatever its model is called."""
TTS_ENDPOINT = "endpoint"
CARTESIA = "cartesia"
SELF_HOSTED = ("kokoro", "kokoro-torch", WHISPER, EMBEDDED)

_CACHED = {"audio_cached": "audio_in", "text_cached": "text_in", "image_cached": "image_in"}


def price_table(settings: Settings) -> PriceTable:
    """See `Settings.price_table`."""
    prices = dict(_engines(settings))
    for model, what in models(settings).items():
        if (found := _known(what, model)) is not None:
            prices[model] = found
    for name, price in settings.prices.items():
        prices[name] = _own(name, price, prices.get(name) or PUBLISHED.get(name))
    return PriceTable(prices)


def is_priced(settings: Settings, what: price_map.What, model: str) -> bool:
    """Whether the price of a model is known for what it is to do. An operator's own is taken as it is."""
    return model in settings.prices or _known(what, model) is not None


def _known(what: price_map.What, model: str) -> Published | None:
    found = PUBLISHED.get(model)
    if found is None or not _FOR[what](found.price):
        return price_map.listed(what, model)
    return found


_FOR: Mapping[price_map.What, Callable[[ModelPrice], float]] = {
    "response": lambda price: price.audio_out,
    "transcription": lambda price: price.per_minute or price.audio_in,
    "agent": lambda price: 0,
}
"""What a published price has to have to be one of a model that can do it."""


def models(settings: Settings) -> dict[str, price_map.What]:
    """The models that this configuration may use, and what for."""
    tier_a, found = settings.tier_a, dict[str, price_map.What]()
    if tier_a.enabled:
        found.update({settings.realtime(rung).model: "response" for rung in tier_a.rungs})
        if tier_a.transcription_model:
            found[tier_a.transcription_model] = "transcription"
    found.update(dict.fromkeys(settings.tier_b.agent_models, "agent"))
    if settings.tier_b.stt_cloud_model:
        found[settings.tier_b.stt_cloud_model] = "transcription"
    return found


def transcribers(settings: Settings) -> tuple[str, ...]:
    """What writes down the caller's words in Tier B, in order, as the price table has it."""
    tier_b = settings.tier_b
    services = [*([STT_ENDPOINT] if tier_b.stt_base_url else []), *filter(None, [tier_b.stt_cloud_model])]
    return (*services, *([WHISPER] if tier_b.stt_fallback or not services else []))


def _engines(settings: Settings) -> Mapping[str, Published]:
    """The prices of what is not asked for by a model's name."""
    tier_b, cartesia = settings.tier_b, settings.cartesia
    endpoints = {
        TTS_ENDPOINT: (
            ModelPrice(per_character=tier_b.tts_usd_per_character or 0.0),
            "tier_b.tts_usd_per_character",
        ),
        STT_ENDPOINT: (ModelPrice(per_minute=tier_b.stt_usd_per_minute or 0.0), "tier_b.stt_usd_per_minute"),
    }
    return {
        **{name: Published(ModelPrice(), "self-hosted") for name in SELF_HOSTED},
        **{name: Published(price, setting) for name, (price, setting) in endpoints.items()},
        CARTESIA: Published(
            ModelPrice(per_character=cartesia.usd_per_character),
            *(
                ("cartesia.usd_per_character",)
                if "usd_per_character" in cartesia.model_fields_set
                else ("cartesia.ai/pricing, plan Pro", "2026-11-23")
            ),
        ),
    }


def _own(name: str, price: Price, base: Published | None) -> Published:
    """The operator's rates over the known ones. Where none are known, cached input costs what other input does."""
    given = price.model_dump(exclude_none=True)
    if base is None:
        given = {**{cached: given[rate] for cached, rate in _CACHED.items() if rate in given}, **given}
    source = f'[prices."{name}"]'
    if base is None or base.price.is_free:
        return Published(replace(ModelPrice(), **given), source)
    return Published(replace(base.price, **given), f"{source} over {base.source}", base.date)


@dataclass(frozen=True, slots=True)
class Billable:
    """Something that this configuration may be billed for."""

    used_for: str
    name: str
    published: Published


def billables(settings: Settings) -> list[Billable]:
    """All of it, in order of tiers; local engines too, which may have a price of their own."""
    tier_a, tier_b, prices = settings.tier_a, settings.tier_b, settings.price_table()
    used: list[tuple[str, str]] = []
    if tier_a.enabled:
        used += [(f"Tier A, {rung}", settings.realtime(rung).model) for rung in tier_a.rungs]
        if tier_a.transcription_model:
            used.append(("Tier A, transcription", tier_a.transcription_model))
    speech = settings.speech_engine()
    used += [
        *(("Tier B, transcription", name) for name in transcribers(settings)),
        *(("Tier B, agent", name) for name in tier_b.agent_models or (EMBEDDED,)),
        ("Tier B, speech", speech),
    ]
    # The local voice says the prompts, and stands in for a provider's, unless a server does all speech work.
    used.append(("Tier C, speech", speech if speech == TTS_ENDPOINT else "kokoro"))
    return [Billable(used_for, name, prices.published(name)) for used_for, name in used]

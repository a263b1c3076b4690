"""Prices of models that are not in our own list: from LiteLLM's price map, which is a file in its package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from orchestrator.core.price_list import ModelPrice, Published

SOURCE = "LiteLLM's price map"
_OTHER_TIER = re.compile(r"_(batches|priority|flex|ultrafast|balanced|decisions)$")
"""Rates of service tiers that are never asked for here."""
_ABOVE = re.compile(
    r"^(input_cost_per|output_cost_per|cache_read_input|cache_creation_input)_token.*_above_(\d+)k"
)
_APART = ("tiered_pricing", "off_peak_pricing")
_PER_REQUEST = ("input_cost_per_request", "citation_cost_per_token")
"""What rates per token tell nothing of."""

What = Literal["response", "transcription", "agent"]
_HAS_TO_HAVE: Mapping[What, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "response": (("input_cost_per_audio_token",), ("output_cost_per_audio_token",)),
    "transcription": (("input_cost_per_second", "input_cost_per_audio_token"), ()),
    "agent": (("input_cost_per_token",), ("output_cost_per_token",)),
}
"""Fields of which there has to be one, and fields that have to be there."""


def listed(what: What, model: str) -> Published | None:
    """The price of a model by its LiteLLM name, where it is one for `what` it is to do; None where there is none.

    OpenAI's "openai/gpt-x" is listed as "gpt-x".
    """
    entry = _entries().get(model) or _entries().get(model.partition("/")[2])
    if entry is None or any(field in entry for field in _PER_REQUEST):
        return None
    entry = {field: value for field, value in entry.items() if not _OTHER_TIER.search(field)}
    if not any(field in entry for field in _HAS_TO_HAVE[what][0]) or not all(
        field in entry for field in _HAS_TO_HAVE[what][1]
    ):
        return None
    price, named = _price(entry), entry.get("source")
    return Published(price, f"{SOURCE}, {named}" if named else SOURCE, _version(), *_beyond(entry, price))


def _price(entry: Mapping[str, Any]) -> ModelPrice:
    """Cached input that has no rate of its own costs what other input does, and so do images in a conversation."""
    text_in, audio_in = _rate(entry, "input_cost_per_token"), _rate(entry, "input_cost_per_audio_token")
    sees = "input_cost_per_audio_token" in entry
    image_in = _rate(entry, "input_cost_per_image_token", text_in if sees else 0.0)
    seconds = [_rate(entry, f"{way}_cost_per_second", 0.0, 60) for way in ("input", "output")]
    characters = [_rate(entry, f"{way}_cost_per_character", 0.0, 1) for way in ("input", "output")]
    return ModelPrice(
        audio_in=audio_in,
        audio_cached=_rate(entry, "cache_read_input_audio_token_cost", audio_in),
        audio_out=_rate(entry, "output_cost_per_audio_token"),
        text_in=text_in,
        text_cached=_rate(entry, "cache_read_input_token_cost", text_in),
        text_out=_rate(entry, "output_cost_per_token"),
        image_in=image_in,
        image_cached=_rate(entry, "cache_read_input_image_token_cost", image_in),
        per_minute=max(seconds),
        per_character=max(characters),
        cache_write=_rate(entry, "cache_creation_input_token_cost"),
    )


def _rate(entry: Mapping[str, Any], field: str, default: float = 0.0, times: float = 1e6) -> float:
    value = entry.get(field)
    # Binary fractions times a million: nine places are more than any price has.
    return default if value is None else round(float(value) * times, 9 if times > 1 else 15)


def _beyond(entry: Mapping[str, Any], price: ModelPrice) -> tuple[int | None, ModelPrice | None]:
    """Up to how many prompt tokens the plain rates hold, and the highest there are beyond."""
    above = {field: match for field in entry if (match := _ABOVE.match(field))}
    reasoning = _rate(entry, "output_cost_per_reasoning_token", price.text_out)
    apart = any(field in entry for field in _APART) or reasoning != price.text_out
    if not above and not apart:
        return None, None
    tiers = [tier for tier in entry.get("tiered_pricing") or () if isinstance(tier, dict)]
    into = [_rate(entry, field) for field in above if not field.startswith("output")]
    out = [_rate(entry, field) for field in above if field.startswith("output")]
    dearest = ModelPrice(
        text_in=max(
            price.text_in, price.cache_write, *into, *(_rate(tier, "input_cost_per_token") for tier in tiers)
        ),
        text_out=max(
            price.text_out, reasoning, *out, *(_rate(tier, "output_cost_per_token") for tier in tiers)
        ),
    )
    return 0 if apart else min(int(match[2]) * 1000 for match in above.values()), dearest


@cache
def _entries() -> dict[str, dict[str, Any]]:
    """The file itself: importing LiteLLM takes seconds."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).parent / "model_prices_and_context_window_backup.json"
    models: dict[str, dict[str, Any]] = json.loads(path.read_bytes())
    return models


@cache
def _version() -> str:
    return f"litellm {importlib.metadata.version('litellm')}"

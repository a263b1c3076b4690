"""Published prices of the realtime and transcription models, each with its source and date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Rates of one model: US dollars per million tokens, per minute of audio, per character spoken."""

    audio_in: float = 0.0
    audio_cached: float = 0.0
    audio_out: float = 0.0
    text_in: float = 0.0
    text_cached: float = 0.0
    text_out: float = 0.0
    image_in: float = 0.0
    image_cached: float = 0.0
    per_minute: float = 0.0
    per_character: float = 0.0
    cache_write: float = 0.0
    """For text that a provider puts into its cache, where it bills that apart."""

    @property
    def is_free(self) -> bool:
        return not any(getattr(self, rate.name) for rate in fields(self))


@dataclass(frozen=True, slots=True)
class Published:
    """A price and where it is from. `date` is when it was read there, or the version of the list it is in."""

    price: ModelPrice
    source: str
    date: str = ""
    up_to: int | None = None
    """Prompt tokens up to which these rates are all there is to it; None: always. Beyond, LiteLLM knows the price."""
    dearest: ModelPrice | None = None
    """The highest rates there are beyond `up_to`."""


_LARGE = ModelPrice(32, 0.40, 64, 4, 0.40, 24, 5, 0.50)
_LARGE_OLDER = replace(_LARGE, text_out=16)
_MINI = ModelPrice(10, 0.30, 20, 0.60, 0.06, 2.40, 0.80, 0.08)

_PRICES = {
    "gpt-realtime-2.1": _LARGE,
    "gpt-realtime-2": _LARGE,
    "gpt-realtime-1.5": _LARGE_OLDER,
    "gpt-realtime-2.1-mini": _MINI,
    # These four are shut down on 2027-01-20.
    "gpt-realtime": _LARGE_OLDER,
    "gpt-realtime-2025-08-28": _LARGE_OLDER,
    "gpt-realtime-mini": _MINI,
    "gpt-realtime-mini-2025-12-15": _MINI,
    # Transcription. Those with a rate per token bill by token; the others by the minute.
    "gpt-transcribe": ModelPrice(per_minute=0.0045),
    "gpt-live-transcribe": ModelPrice(per_minute=0.017),
    "gpt-realtime-whisper": ModelPrice(per_minute=0.017),
    # These three are shut down on 2027-02-26.
    "gpt-4o-transcribe": ModelPrice(audio_in=2.5, text_in=2.5, text_out=10, per_minute=0.006),
    "gpt-4o-mini-transcribe": ModelPrice(audio_in=1.25, text_in=1.25, text_out=5, per_minute=0.003),
    "whisper-1": ModelPrice(per_minute=0.006),
}

PUBLISHED: Mapping[str, Published] = {
    # Compared with LiteLLM's price map of the same day.
    model: Published(price, f"developers.openai.com/api/docs/models/{model}", "2026-11-23")
    for model, price in _PRICES.items()
}

"""What the realtime and transcription models cost, and what one response or transcript cost.

Rates are US dollars per million tokens as published by OpenAI (developers.openai.com/api/docs/models/*, read
2026-11-23 and compared with LiteLLM's price map of the same day). All results are integer nano-dollars
(1e-9 USD), rounded up once, at the end, so that a sum of prices is never below the bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

NANO = 1_000_000_000
"""Nano-dollars in one dollar."""

_TOKENS_PER_AUDIO_SECOND_IN = 10
"""OpenAI counts a caller's audio as 1 token per 100 ms (guides/realtime-costs)."""
_TOKENS_PER_AUDIO_SECOND_OUT = 20
"""... and a model's audio as 1 token per 50 ms."""


class UnknownPrice(LookupError):
    """A model has no price; the text names the setting that gives it one."""

    def __init__(self, model: str) -> None:
        super().__init__(f"the model {model!r} has no price; {price_remedy(model)}")
        self.model = model


def price_remedy(model: str) -> str:
    """The sentence that tells an operator how to price `model`."""
    return f'give it one in the configuration file under [prices."{model}"]'


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

    @property
    def is_free(self) -> bool:
        return not any(getattr(self, rate.name) for rate in fields(self))


@dataclass(frozen=True, slots=True)
class Context:
    """What a response is given to read and hear, in tokens."""

    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0


_LARGE = ModelPrice(32, 0.40, 64, 4, 0.40, 24, 5, 0.50)
_LARGE_OLDER = replace(_LARGE, text_out=16)
_MINI = ModelPrice(10, 0.30, 20, 0.60, 0.06, 2.40, 0.80, 0.08)

PRICES: Mapping[str, ModelPrice] = {
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


class PriceTable:
    """The published prices with an operator's own on top; looking up a model without a price raises."""

    def __init__(self, overrides: Mapping[str, ModelPrice] | None = None) -> None:
        self._prices = {**PRICES, **(overrides or {})}

    def __contains__(self, model: str) -> bool:
        return model in self._prices

    def __getitem__(self, model: str) -> ModelPrice:
        try:
            return self._prices[model]
        except KeyError:
            raise UnknownPrice(model) from None

    def response(self, model: str, usage: Mapping[str, Any]) -> int:
        """The price of a response from the `usage` object of its ``response.done``.

        Cached tokens are a subset of the input tokens of their modality. Input or output that the details do
        not explain is priced at the dearest rate, so that a provider's new detail never makes a call look
        cheaper than it was.
        """
        price = self[model]
        bill = _Bill()
        _charge_input(bill, price, usage)
        _charge_output(bill, price, usage)
        return bill.nanodollars

    def transcription(self, model: str, usage: Mapping[str, Any]) -> int:
        """The price of a transcript from its `usage`, which is by tokens or by duration.

        A model priced by the minute that reports tokens is billed for the seconds its audio tokens stand for.
        """
        price = self[model]
        bill = _Bill()
        if usage.get("type") == "duration":
            bill.add_seconds(_amount(usage, "seconds"), price.per_minute)
        elif price.audio_in or price.text_in:
            details = usage.get("input_token_details") or {}
            text = _count(details, "text_tokens")
            bill.add(text, price.text_in)
            bill.add(
                max(_count(usage, "input_tokens") - text, _count(details, "audio_tokens")), price.audio_in
            )
            bill.add(_count(usage, "output_tokens"), price.text_out)
        else:
            details = usage.get("input_token_details") or {}
            audio = _count(details, "audio_tokens") or _count(usage, "input_tokens")
            bill.add_seconds(audio / _TOKENS_PER_AUDIO_SECOND_IN, price.per_minute)
        return bill.nanodollars

    def transcribed_seconds(self, model: str, seconds: float) -> int:
        """The price of transcribing `seconds` of audio, for a transcript whose usage never came."""
        bill = _Bill()
        bill.add_seconds(seconds, self.usd_per_audio_minute(model))
        return bill.nanodollars

    def usd_per_audio_minute(self, model: str) -> float:
        """US dollars for transcribing one minute of audio."""
        price = self[model]
        return price.per_minute or price.audio_in * 60 * _TOKENS_PER_AUDIO_SECOND_IN / 1e6

    def worst_response(self, model: str, max_output_tokens: int, context: Context) -> int:
        """The most that one more response can cost: all its output audio, nothing of `context` cached.

        An upper bound of `response` for any usage whose details stay within `context` and the output limit.
        """
        price = self[model]
        bill = _Bill()
        bill.add(context.text_tokens, max(price.text_in, price.text_cached))
        bill.add(context.audio_tokens, max(price.audio_in, price.audio_cached))
        bill.add(context.image_tokens, max(price.image_in, price.image_cached))
        bill.add(max_output_tokens, max(price.audio_out, price.text_out))
        return bill.nanodollars

    def usd_per_minute(self, model: str) -> float:
        """A rough price of one minute of conversation: half of it heard, half of it spoken.

        Leaves out the context that is sent again with every response, which grows with the call's length.
        """
        price = self[model]
        heard = 30 * _TOKENS_PER_AUDIO_SECOND_IN * price.audio_in
        spoken = 30 * _TOKENS_PER_AUDIO_SECOND_OUT * price.audio_out
        return (heard + spoken) / 1e6


def price_response(model: str, usage: Mapping[str, Any]) -> int:
    """`PriceTable.response` with the published prices."""
    return PriceTable().response(model, usage)


def price_transcription(model: str, usage: Mapping[str, Any]) -> int:
    """`PriceTable.transcription` with the published prices."""
    return PriceTable().transcription(model, usage)


def nanodollars(usd: float) -> int:
    """US dollars as integer nano-dollars, to the nearest."""
    return round(usd * NANO)


class _Bill:
    """Adds up in pico-dollars, where every published rate is a whole number, and rounds up at the end."""

    def __init__(self) -> None:
        self._pico = 0

    def add(self, tokens: int, usd_per_million: float) -> None:
        # 1 USD per million tokens is 1e6 pico-dollars per token.
        self._pico += tokens * round(usd_per_million * 1_000_000)

    def add_seconds(self, seconds: float, usd_per_minute: float) -> None:
        self._pico += -(-round(seconds * 1000) * round(usd_per_minute * 1e12) // 60_000)

    @property
    def nanodollars(self) -> int:
        return -(-self._pico // 1000)


def _charge_input(bill: _Bill, price: ModelPrice, usage: Mapping[str, Any]) -> None:
    details = usage.get("input_token_details") or {}
    cached_details = details.get("cached_tokens_details") or {}
    rates = {
        "text": (price.text_in, price.text_cached),
        "audio": (price.audio_in, price.audio_cached),
        "image": (price.image_in, price.image_cached),
    }
    explained = 0
    unattributed = _count(details, "cached_tokens")
    for modality, (fresh_rate, cached_rate) in rates.items():
        tokens = _count(details, f"{modality}_tokens")
        cached = min(_count(cached_details, f"{modality}_tokens"), tokens)
        if not cached_details:
            # Which modality was cached is not told: assume the one where caching saves least, text, first.
            cached = min(unattributed, tokens)
            unattributed -= cached
        bill.add(tokens - cached, fresh_rate)
        bill.add(cached, cached_rate)
        explained += tokens
    bill.add(max(0, _count(usage, "input_tokens") - explained), max(price.audio_in, price.text_in))


def _charge_output(bill: _Bill, price: ModelPrice, usage: Mapping[str, Any]) -> None:
    details = usage.get("output_token_details") or {}
    text, audio = _count(details, "text_tokens"), _count(details, "audio_tokens")
    bill.add(text, price.text_out)
    bill.add(audio, price.audio_out)
    bill.add(max(0, _count(usage, "output_tokens") - text - audio), max(price.audio_out, price.text_out))


def _count(usage: Mapping[str, Any], key: str) -> int:
    """A token count as a provider sends it: absent and null are 0, a negative one is not believed."""
    return max(0, int(usage.get(key) or 0))


def _amount(usage: Mapping[str, Any], key: str) -> float:
    return max(0.0, float(usage.get(key) or 0.0))

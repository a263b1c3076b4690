"""What one response, transcript, text answer or spoken clause cost, and what the next one can cost at most.

All results are integer nano-dollars (1e-9 USD), rounded up once, at the end, so that a sum of prices is never below
the bill. In between it is pico-dollars, in which a published rate per token, character or minute is a whole number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.core.price_list import PUBLISHED, ModelPrice, Published

__all__ = [
    "DEAREST_TRANSCRIPTION",
    "NANO",
    "PRICES",
    "Context",
    "ModelPrice",
    "PriceTable",
    "Published",
    "UnknownPrice",
]

NANO = 1_000_000_000
"""Nano-dollars in one dollar."""

DEAREST_TRANSCRIPTION = "gpt-live-transcribe"
"""What a client's own choice of transcription model is priced as when it has no price of its own."""

PRICES: Mapping[str, ModelPrice] = {model: published.price for model, published in PUBLISHED.items()}

_TOKENS_PER_AUDIO_SECOND_IN = 10
"""OpenAI counts a caller's audio as 1 token per 100 ms (guides/realtime-costs)."""
_TOKENS_PER_AUDIO_SECOND_OUT = 20
"""... and a model's audio as 1 token per 50 ms."""
_WORDS_PER_SECOND = 10
"""Tokens of transcript that a second of talk comes to at most: quick English is half of it."""
_WORDS_BESIDE = 256
"""Tokens that a transcription may be told as a prompt, or write beyond that."""


class UnknownPrice(LookupError):
    """A model has no price; the text names the setting that gives it one."""

    def __init__(self, model: str) -> None:
        super().__init__(f"the model {model!r} has no price; {price_remedy(model)}")
        self.model = model


def price_remedy(model: str) -> str:
    """The sentence that tells an operator how to price `model`."""
    return f'give it one in the configuration file under [prices."{model}"]'


@dataclass(frozen=True, slots=True)
class Context:
    """What a response is given to read, hear and see, in tokens."""

    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0

    def __add__(self, other: Context) -> Context:
        return Context(
            self.text_tokens + other.text_tokens,
            self.audio_tokens + other.audio_tokens,
            self.image_tokens + other.image_tokens,
        )


class PriceTable:
    """The published prices with others on top; looking up a model without a price raises `UnknownPrice`."""

    def __init__(self, own: Mapping[str, ModelPrice | Published] | None = None) -> None:
        given = {
            model: price if isinstance(price, Published) else Published(price, "given")
            for model, price in (own or {}).items()
        }
        self._published = {**PUBLISHED, **given}
        self._rates = {model: Rates(published.price) for model, published in self._published.items()}

    def __contains__(self, model: str) -> bool:
        return model in self._published

    def __getitem__(self, model: str) -> ModelPrice:
        return self.published(model).price

    def published(self, model: str) -> Published:
        """The price with its source and date."""
        try:
            return self._published[model]
        except KeyError:
            raise UnknownPrice(model) from None

    def rates(self, model: str) -> Rates:
        try:
            return self._rates[model]
        except KeyError:
            raise UnknownPrice(model) from None

    def response(self, model: str, usage: Mapping[str, Any]) -> int:
        """The price of a response from the `usage` object of its ``response.done``.

        Cached tokens are a subset of the input tokens of their modality. Input or output that the details do
        not explain is priced at the dearest rate, so that a provider's new detail never makes a call look
        cheaper than it was.
        """
        rates = self.rates(model)
        return _nano(_input(rates, usage) + _output(rates, usage))

    def transcription(self, model: str, usage: Mapping[str, Any]) -> int:
        """The price of a transcript from its `usage`, which is by tokens or by duration.

        A model priced by the minute that reports tokens is billed for the seconds its audio tokens stand for.
        """
        rates = self.rates(model)
        if usage.get("type") == "duration" or "seconds" in usage:
            return rates.listened(_amount(usage, "seconds"))
        details = usage.get("input_token_details") or {}
        text = _count(details, "text_tokens")
        # What is not told to be text is audio.
        audio = max(_count(usage, "input_tokens") - text, _count(details, "audio_tokens"))
        if not rates.by_token:
            heard = details.get("audio_tokens")
            return rates.listened((audio if heard is None else heard) / _TOKENS_PER_AUDIO_SECOND_IN)
        written = _count(usage, "output_tokens") * rates.text_out
        return _nano(text * rates.text_in + audio * rates.audio_in + written)

    def agent(self, model: str, usage: Mapping[str, Any]) -> int:
        """The price of a text model's answer from ``{"prompt_tokens", "completion_tokens"}``.

        ``cached_tokens`` and ``cache_write_tokens`` are parts of the prompt that were read from or put into a cache.
        """
        return self.rates(model).written(usage)

    def speech(self, model: str, usage: Mapping[str, Any]) -> int:
        """The price of speech from ``{"characters": …}`` or, by the minute, ``{"seconds": …}``."""
        return self.rates(model).spoken(usage)

    def charge(self, what: str, model: str, usage: Mapping[str, Any]) -> int:
        """The price of what a charge of the event log was made for."""
        price = {
            "response": self.response,
            "transcription": self.transcription,
            "agent": self.agent,
            "speech": self.speech,
        }[what]
        return price(model, usage)

    def transcribed_seconds(self, model: str, seconds: float) -> int:
        """The price of transcribing `seconds` of audio, for a transcript whose usage never came."""
        return self.rates(model).listened(seconds)

    def usd_per_audio_minute(self, model: str) -> float:
        """What a minute of audio costs a transcription model, or roughly costs where it bills by token."""
        price = self[model]
        return price.per_minute or price.audio_in * 60 * _TOKENS_PER_AUDIO_SECOND_IN / 1e6

    def worst_response(self, model: str, max_output_tokens: int, context: Context) -> int:
        """The most that one more response can cost: all its output audio, nothing of `context` cached.

        An upper bound of `response` for any usage whose details stay within `context` and the output limit.
        """
        rates = self.rates(model)
        return _nano(
            context.text_tokens * rates.worst_text
            + context.audio_tokens * rates.worst_audio
            + context.image_tokens * rates.worst_image
            + max_output_tokens * rates.dearest_out
        )

    def worst_transcription(self, model: str, seconds: float) -> int:
        """The most that writing down `seconds` of talk can cost, however its usage is told.

        By duration a part of a second counts as a whole one; by tokens the transcript is as long as quick talk, and
        there may be a prompt.
        """
        rates = self.rates(model)
        begun = math.floor(seconds) + 1
        by_duration = rates.listened(begun)
        if not rates.by_token:
            return by_duration
        heard = begun * _TOKENS_PER_AUDIO_SECOND_IN * rates.audio_in
        written = (begun * _WORDS_PER_SECOND + _WORDS_BESIDE) * rates.text_out
        return max(by_duration, _nano(heard + written + _WORDS_BESIDE * rates.text_in))

    def usd_per_minute(self, model: str) -> float:
        """A rough price of one minute of conversation: half of it heard, half of it spoken.

        Leaves out the context that is sent again with every response, which grows with the call's length.
        """
        price = self[model]
        heard = 30 * _TOKENS_PER_AUDIO_SECOND_IN * price.audio_in
        spoken = 30 * _TOKENS_PER_AUDIO_SECOND_OUT * price.audio_out
        return (heard + spoken) / 1e6


class Rates:
    """A price in pico-dollars per token, character and minute, which is what is added up."""

    __slots__ = (
        "audio_cached",
        "audio_in",
        "audio_out",
        "by_token",
        "cache_write",
        "dearest_in",
        "dearest_out",
        "image_cached",
        "image_in",
        "per_character",
        "per_minute",
        "text_cached",
        "text_in",
        "text_out",
        "worst_audio",
        "worst_image",
        "worst_text",
    )

    def __init__(self, price: ModelPrice) -> None:
        # 1 USD per million tokens is 1e6 pico-dollars per token.
        self.audio_in, self.audio_cached = round(price.audio_in * 1e6), round(price.audio_cached * 1e6)
        self.text_in, self.text_cached = round(price.text_in * 1e6), round(price.text_cached * 1e6)
        self.image_in, self.image_cached = round(price.image_in * 1e6), round(price.image_cached * 1e6)
        self.audio_out, self.text_out = round(price.audio_out * 1e6), round(price.text_out * 1e6)
        self.cache_write = round(price.cache_write * 1e6) or self.text_in
        self.by_token = bool(self.audio_in or self.text_in)
        minute = price.per_minute or price.audio_in * 60 * _TOKENS_PER_AUDIO_SECOND_IN / 1e6
        self.per_minute, self.per_character = round(minute * 1e12), round(price.per_character * 1e12)
        self.worst_text = max(self.text_in, self.text_cached)
        self.worst_audio = max(self.audio_in, self.audio_cached)
        self.worst_image = max(self.image_in, self.image_cached)
        self.dearest_in, self.dearest_out = (
            max(self.audio_in, self.text_in),
            max(self.audio_out, self.text_out),
        )

    def listened(self, seconds: float) -> int:
        """Nano-dollars for so many seconds of audio, made or heard."""
        return -(-round(seconds * 1e6) * self.per_minute // (60 * 10**6 * 1000))

    def spoken(self, usage: Mapping[str, Any]) -> int:
        """See `PriceTable.speech`."""
        characters = _nano(_count(usage, "characters") * self.per_character)
        return characters + self.listened(_amount(usage, "seconds"))

    def written(self, usage: Mapping[str, Any]) -> int:
        """See `PriceTable.agent`."""
        prompt = _count(usage, "prompt_tokens")
        cached = min(_count(usage, "cached_tokens"), prompt)
        stored = min(_count(usage, "cache_write_tokens"), prompt - cached)
        read = (
            (prompt - cached - stored) * self.text_in + cached * self.text_cached + stored * self.cache_write
        )
        return _nano(read + _count(usage, "completion_tokens") * self.text_out)

    def worst_written(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The most that `written` gives for no more than so many tokens."""
        dearest = max(self.text_in, self.text_cached, self.cache_write)
        return _nano(prompt_tokens * dearest + completion_tokens * self.text_out)


def price_response(model: str, usage: Mapping[str, Any]) -> int:
    """`PriceTable.response` with the published prices."""
    return _TABLE.response(model, usage)


def price_transcription(model: str, usage: Mapping[str, Any]) -> int:
    """`PriceTable.transcription` with the published prices."""
    return _TABLE.transcription(model, usage)


_TABLE = PriceTable()


def nanodollars(usd: float) -> int:
    """US dollars as integer nano-dollars, to the nearest."""
    return round(usd * NANO)


def _nano(pico: int) -> int:
    return -(-pico // 1000)


def _input(rates: Rates, usage: Mapping[str, Any]) -> int:
    details = usage.get("input_token_details") or {}
    cached_details = details.get("cached_tokens_details") or {}
    cost = explained = 0
    unattributed = _count(details, "cached_tokens")
    for modality, fresh_rate, cached_rate in (
        ("text_tokens", rates.text_in, rates.text_cached),
        ("audio_tokens", rates.audio_in, rates.audio_cached),
        ("image_tokens", rates.image_in, rates.image_cached),
    ):
        tokens = _count(details, modality)
        cached = min(_count(cached_details, modality), tokens)
        if not cached_details:
            # Which modality was cached is not told: assume the one where caching saves least, text, first.
            cached = min(unattributed, tokens)
            unattributed -= cached
        cost += (tokens - cached) * fresh_rate + cached * cached_rate
        explained += tokens
    return cost + max(0, _count(usage, "input_tokens") - explained) * rates.dearest_in


def _output(rates: Rates, usage: Mapping[str, Any]) -> int:
    details = usage.get("output_token_details") or {}
    text, audio = _count(details, "text_tokens"), _count(details, "audio_tokens")
    unexplained = max(0, _count(usage, "output_tokens") - text - audio)
    return text * rates.text_out + audio * rates.audio_out + unexplained * rates.dearest_out


def _count(usage: Mapping[str, Any], key: str) -> int:
    """A token count as a provider sends it: absent and null are 0, a negative one is not believed."""
    return max(0, int(usage.get(key) or 0))


def _amount(usage: Mapping[str, Any], key: str) -> float:
    return max(0.0, float(usage.get(key) or 0.0))

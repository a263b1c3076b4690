"""What the parts of an answer cost, and can cost at most; integer nano-dollars.

A request that ends in any way but a refusal is paid for: by its usage where that came, else by an upper bound of what
is known of it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from orchestrator.core.price_list import ModelPrice, Published
from orchestrator.core.prices import NANO, Rates
from orchestrator.protocol.answers import Charge
from orchestrator.protocol.audio import HEAR_RATE

log = logging.getLogger(__name__)

Paid = Callable[[Charge], None]
"""Told of every charge at the moment it is known, from the event loop."""

FREE = ModelPrice()
FRAME_TOKENS = 16
"""What a provider may put around a whole request. Around a message it puts less than its frame has bytes."""
TOOLS_TOKENS = 600
"""What a provider may add to explain the use of tools."""
CHARACTERS_PER_TOKEN = 5
"""An answer may be spoken up to so many characters for each token it may have; English takes four."""
SECONDS_PER_CHARACTER = 0.5
"""Slower than anything is read out at natural speed, digits too."""


def prompt_bound(messages: Any, tools: Any = None) -> int:
    """The most tokens a request can come to: a token is at least one byte of it."""
    size = len(orjson.dumps(messages)) + FRAME_TOKENS
    return size + len(orjson.dumps(tools)) + TOOLS_TOKENS if tools else size


def milliseconds(samples: int, rate: int) -> float:
    """The length of audio in seconds, up to the next whole millisecond."""
    return math.ceil(samples * 1000 / rate) / 1000


@dataclass(frozen=True, slots=True)
class TextPrice:
    """A text model's price, as far as rates tell it; LiteLLM tells the rest."""

    model: str
    published: Published

    def cost(self, litellm: Any, usage: Any) -> tuple[int, dict[str, Any]]:
        """The price of a LiteLLM ``Usage``, and what it was worked out from."""
        used = used_of(usage)
        up_to = self.published.up_to
        if up_to is None or used["prompt_tokens"] <= up_to:
            return Rates(self.published.price).written(used), used
        return by_litellm(litellm, self.model, usage), {**used, "priced_by": "litellm"}

    def worst(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The most that no more than so many tokens can cost."""
        price, up_to = self.published.price, self.published.up_to
        if up_to is not None and prompt_tokens > up_to:
            price = self.published.dearest or price
        return Rates(price).worst_written(prompt_tokens, completion_tokens)

    def estimate(self, prompt_tokens: int, completion_tokens: int) -> tuple[int, dict[str, Any]]:
        """The worst price of so many tokens, as `cost` has it."""
        used: dict[str, Any] = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        cost = self.worst(prompt_tokens, completion_tokens)
        if cost != Rates(self.published.price).written(used):
            used["priced_by"] = "the dearest rates"
        return cost, used


def used_of(usage: Any) -> dict[str, Any]:
    """A LiteLLM ``Usage`` as a charge tells it."""
    details = getattr(usage, "prompt_tokens_details", None)
    used = {
        "prompt_tokens": _tokens(usage, "prompt_tokens"),
        "completion_tokens": _tokens(usage, "completion_tokens"),
    }
    if cached := _tokens(details, "cached_tokens"):
        used["cached_tokens"] = cached
    if stored := _tokens(details, "cache_creation_tokens") or _tokens(usage, "cache_creation_input_tokens"):
        used["cache_write_tokens"] = stored
    return used


def by_litellm(litellm: Any, model: str, usage: Any) -> int:
    """LiteLLM's own calculation, rounded up. Raises whatever LiteLLM does where it knows no price."""
    response = litellm.ModelResponse(usage=usage)
    dollars = float(litellm.completion_cost(completion_response=response, model=model))
    # Its sum of binary fractions may be above the price by less than anybody is billed.
    return math.ceil(round(dollars * NANO, 3))


def _tokens(source: Any, name: str) -> int:
    return max(0, int(getattr(source, name, None) or 0))


class SpeechMeter:
    """One engine's price. `price` is in the engine, where it has one."""

    def __init__(self, engine: Any) -> None:
        self.rung: str = engine.rung
        self._rates = Rates(getattr(engine, "price", FREE))

    @property
    def by_character(self) -> bool:
        return self._rates.per_character > 0

    def text(self, characters: int) -> Charge | None:
        """Text that is sent to the engine."""
        return self._charge({"characters": characters})

    def audio(self, seconds: float) -> Charge | None:
        """Audio that the engine has made."""
        return self._charge({"seconds": seconds})

    def worst(self, characters: int, speed: float) -> int:
        seconds = characters * SECONDS_PER_CHARACTER / min(max(speed, 0.25), 1.0)
        return self._rates.spoken({"characters": characters}) + self._rates.spoken({"seconds": seconds})

    def _charge(self, used: Mapping[str, Any]) -> Charge | None:
        cost = self._rates.spoken(used)
        return Charge("speech", self.rung, cost, used) if cost else None


class HearingMeter:
    """What writing down speech costs by the minute of audio."""

    def __init__(self, name: str, price: ModelPrice) -> None:
        self._name, self._rates = name, Rates(price)

    def audio(self, samples: int, *, estimated: bool = False) -> tuple[Charge, ...]:
        """So many samples at `HEAR_RATE` were given to the transcriber. Nothing where that costs nothing."""
        seconds = milliseconds(samples, HEAR_RATE)
        cost, used = self._rates.listened(seconds), {"type": "duration", "seconds": seconds}
        return (Charge("transcription", self._name, cost, used, estimated),) if cost else ()

    def worst(self, seconds: float) -> int:
        """Nano-dollars at most for so much audio."""
        return self._rates.listened(seconds + 0.001)

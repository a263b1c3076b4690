"""What a configuration's tiers cost at worst, for calls that set money aside before they start anything."""

from __future__ import annotations

import math

from orchestrator.config import Settings
from orchestrator.core.bound import SPOKEN_MS_PER_TOKEN
from orchestrator.core.prices import DEAREST_TRANSCRIPTION, Context, UnknownPrice
from orchestrator.protocol.answers import AnswerRequest
from orchestrator.protocol.wire import Event
from orchestrator.server.engines import TierB
from tiers.prompts.prompts import Prompts


class Costs:
    """`Costs` of `orchestrator.core.context`, and the price of what was used. Amounts are nano-dollars."""

    def __init__(self, settings: Settings, tier_b: TierB, prompts: Prompts) -> None:
        self._prices = settings.price_table()
        self._models = {rung: settings.realtime(rung).model for rung in settings.tier_a.rungs}
        self._tier_b = tier_b
        self._prompts = prompts

    def price(self, model: str, usage: Event) -> int:
        """A response's price by its rung, or a transcription's by its model.

        A transcription model without a price was chosen by a client: the dearest counts.
        """
        if model in self._models and "type" not in usage:
            return self._prices.response(self._models[model], usage)
        try:
            return self._prices.transcription(model, usage)
        except UnknownPrice:
            return self._prices.transcription(DEAREST_TRANSCRIPTION, usage)

    def response(self, rung: str, max_output_tokens: int, context: Context) -> int:
        return self._prices.worst_response(self._models[rung], max_output_tokens, context)

    def transcription(self, model: str, seconds: float) -> int:
        if not model:
            return 0
        known = model if model in self._prices else DEAREST_TRANSCRIPTION
        return self._prices.worst_transcription(known, seconds)

    def answer(self, tier: str, request: AnswerRequest) -> tuple[int, int]:
        if tier != "B":
            return self._prompts.worst(request), 0
        return self._tier_b.worst(request), self._tier_b.worst_agent(request)

    def writing_down(self, seconds: float) -> int:
        return self._tier_b.worst_transcription(seconds)

    def spoken(self, rung: str, ms: float) -> int:
        if rung not in self._models:
            return 0  # Tier B's speech is billed by what was said, and stopped with it
        tokens = math.floor(ms / SPOKEN_MS_PER_TOKEN)
        usage = {"output_tokens": tokens, "output_token_details": {"audio_tokens": tokens}}
        return self._prices.response(self._models[rung], usage)

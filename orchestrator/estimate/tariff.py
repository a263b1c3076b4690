"""What things cost under a plan, all of it from the same price table that the calls are charged by."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.overrides import Tier
from orchestrator.core.prices import Context, PriceTable
from orchestrator.core.routing import Rung
from orchestrator.estimate.columns import Plan
from orchestrator.estimate.history import TOKENS_PER_S_IN, Tokens

LEAST_TOKENS = 150
"""No answer is started that could not be at least so long: 7.5 s of speech."""
TALK_S = 60.0
"""So much of the caller's talk is provided for before an answer is started."""
CHARACTERS_PER_S = 15
"""Of the assistant's talk: 150 words a minute."""


class Tariff:
    """Of one plan. Amounts are nano-dollars. Raises `UnknownPrice` for a model that has none."""

    def __init__(self, plan: Plan, prices: PriceTable) -> None:
        self.prices = prices
        self._plan = plan
        self._per_minute = {rung: prices.usd_per_minute(rung) for rung in plan.rungs}
        self._worst_words = self._worst_transcription(TALK_S)
        engines = plan.tier_b
        named = (engines.transcription, engines.agent, engines.speech)
        tier_b = [prices[name] for name in named if name is not None]
        self.tier_b_is_paid = any(not price.is_free for price in tier_b)

    def response(self, rung: str, tokens: Tokens) -> int:
        """A response of Tier A."""
        return self.prices.response(rung, tokens.usage())

    def words(self, seconds: float, text_tokens: int) -> int:
        """Writing down so much of the caller's talk in Tier A."""
        model = self._plan.transcription_model
        if model is None:
            return 0
        audio = int(seconds * TOKENS_PER_S_IN)
        details = {"text_tokens": 0, "audio_tokens": audio}
        usage = {"input_tokens": audio, "input_token_details": details, "output_tokens": text_tokens}
        return self.prices.transcription(model, usage)

    def worst(self, rung: str, limit: int, text: int, audio: int) -> int:
        """The most that a response of Tier A can cost."""
        return self.prices.worst_response(rung, limit, Context(text, audio))

    def _worst_transcription(self, seconds: float) -> int:
        model = self._plan.transcription_model
        return 0 if model is None else self.prices.worst_transcription(model, seconds)

    def answer_b(self, caller_s: float, context: int, out: int, seconds: float) -> int:
        """A turn of Tier B: what was heard, thought (`context` and `out` in text tokens) and said."""
        if not self.tier_b_is_paid:
            return 0
        engines, prices, cost = self._plan.tier_b, self.prices, 0
        if engines.transcription and caller_s:
            cost += prices.transcription(engines.transcription, {"type": "duration", "seconds": caller_s})
        if engines.agent:
            cost += prices.agent(engines.agent, {"prompt_tokens": context, "completion_tokens": out})
        if engines.speech and seconds:
            # An engine is billed by one of the two; the other one's rate is 0.
            said = {"characters": round(seconds * CHARACTERS_PER_S), "seconds": seconds}
            cost += prices.speech(engines.speech, said)
        return cost

    def least(self, text: int, audio: int, words: int, caller_s: float) -> list[int]:
        """What one more short answer may cost at worst: on each rung of Tier A, then in Tier B."""
        talk = max(TALK_S, caller_s)
        heard = int(talk * TOKENS_PER_S_IN)
        written = self._worst_words if talk == TALK_S else self._worst_transcription(talk)
        rungs = [self.worst(rung, LEAST_TOKENS, text, audio + heard) + written for rung in self._per_minute]
        return [*rungs, self.answer_b(talk, words, LEAST_TOKENS, LEAST_TOKENS / 20)]

    def rungs(self, least: Sequence[int]) -> list[Rung]:
        """What the router has to choose from."""
        *tier_a, tier_b = least
        return [
            *(
                Rung(Tier.A, rung, True, per_minute, enough)
                for (rung, per_minute), enough in zip(self._per_minute.items(), tier_a, strict=True)
            ),
            Rung(Tier.B, "pipeline", self.tier_b_is_paid, 0.0, tier_b),
            Rung(Tier.C, "prompts"),
        ]

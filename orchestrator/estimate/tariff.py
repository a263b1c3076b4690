"""What things cost under a plan, all of it from the same price table that the calls are charged by."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.overrides import Tier
from orchestrator.core.prices import Context, ModelPrice, PriceTable, nanodollars
from orchestrator.core.routing import Rung
from orchestrator.estimate.columns import Plan
from orchestrator.estimate.history import TOKENS_PER_S_IN, Tokens

LEAST_TOKENS = 150
"""No answer is started that could not be at least so long: 7.5 s of speech."""
TALK_S = 60.0
"""So much of the caller's talk is provided for before an answer is started."""
WORDS_PER_S = 5
"""Text tokens, at most, of a second of talk."""
CHARACTERS_PER_S = 15
"""Of the assistant's talk: 150 words a minute."""
_AGENT, _STT = "tier B's agent", "tier B's transcription"


class Tariff:
    """Of one plan. Amounts are nano-dollars. Raises `UnknownPrice` for a model that has none."""

    def __init__(self, plan: Plan, prices: PriceTable) -> None:
        self.prices = prices
        self._plan = plan
        tier_b = plan.tier_b
        self._tier_b = PriceTable(
            {
                _AGENT: ModelPrice(text_in=tier_b.agent_text_in, text_out=tier_b.agent_text_out),
                _STT: ModelPrice(per_minute=tier_b.stt_per_minute),
            }
        )
        self._per_character = nanodollars(tier_b.speech_per_character)
        self._per_minute = {rung: prices.usd_per_minute(rung) for rung in plan.rungs}
        self._worst_words = self.words(TALK_S, int(TALK_S * WORDS_PER_S))

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

    def answer_b(self, caller_s: float, context: int, out: int, seconds: float) -> int:
        """A turn of Tier B: what was heard, thought (`context` and `out` in text tokens) and said."""
        if not self._plan.tier_b.paid:
            return 0
        thought = Tokens(text_fresh=context, text_out=out).usage()
        return (
            self._tier_b.transcription(_STT, {"type": "duration", "seconds": caller_s})
            + self._tier_b.response(_AGENT, thought)
            + self._per_character * round(seconds * CHARACTERS_PER_S)
        )

    def least(self, text: int, audio: int, words: int, caller_s: float) -> list[int]:
        """What one more short answer may cost at worst: on each rung of Tier A, then in Tier B."""
        talk = max(TALK_S, caller_s)
        heard = int(talk * TOKENS_PER_S_IN)
        written = self._worst_words if talk == TALK_S else self.words(talk, int(talk * WORDS_PER_S))
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
            Rung(Tier.B, "pipeline", self._plan.tier_b.paid, 0.0, tier_b),
            Rung(Tier.C, "prompts"),
        ]

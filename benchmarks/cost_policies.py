"""What the calls of the cost benchmark run under: rungs, prices, and the budgets that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.config_sections import Budget, History
from orchestrator.core.context import Policy as CallPolicy
from orchestrator.core.overrides import Tier
from orchestrator.core.prices import Context, ModelPrice, PriceTable
from orchestrator.core.routing import Rung
from orchestrator.core.steps import StepPolicy
from orchestrator.protocol.answers import AnswerRequest, Message, ToolResult
from orchestrator.simulate.usage import OUTPUT_AUDIO_MS_PER_TOKEN

AGENT, SPEECH, EARS, PROMPTS = "text-agent", "voice", "stt", "prompts"
TRANSCRIPTION = "gpt-transcribe"
MODELS = ("gpt-realtime-2.1", "gpt-realtime-2.1-mini")
"""Tier A's rungs in order of preference."""
OWN_PRICES = {
    AGENT: ModelPrice(text_in=0.15, text_out=0.60),
    EARS: ModelPrice(per_minute=0.0048),
    SPEECH: ModelPrice(per_character=15e-6),
}
MOST_CHARACTERS = 5
"""A token that Tier B's agent writes is taken for no more of them when its speech is set aside."""
BREVITY = 0.6
"""How long an answer is, compared with before, once the model was asked to be brief: an assumption."""
MAX_OUTPUT_TOKENS = 1_500
INSTRUCTIONS = (
    "You are the telephone service of a parcel company. Find out what the caller wants, look up what you do not "
    "know, say it in plain words, and ask before you change anything. "
) * 12
TOOL = {
    "type": "function",
    "name": "look_up",
    "description": "Where a parcel is, what a bill says, what a device reports.",
    "parameters": {"type": "object", "properties": {"reference": {"type": "string"}}},
}


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to run the same callers. Money in nano-dollars; a cap of None is none."""

    id: str
    title: str
    call_cap: int | None = None
    bucket_cap: int | None = None
    cut_off: bool = False
    """The call is ended by the benchmark when what was billed has reached a cap: what a plain limit does."""
    steps: StepPolicy = field(default_factory=StepPolicy)
    history: History = "provider"
    cache_hits: float = 1.0
    """Share of responses that find the part of their input which is as before still in the provider's cache."""

    @property
    def core_caps(self) -> tuple[int | None, int | None]:
        """The caps that the core knows of: of the call and of the bucket."""
        return (None, None) if self.cut_off else (self.call_cap, self.bucket_cap)


def setups(call_cap: int, bucket_cap: int | None, expected_s: float) -> list[Setup]:
    """The budgets that are compared with no budget at all. `expected_s`: how long calls usually last."""
    capped = Setup("cut-off", "hard cut-off at the cap", call_cap, bucket_cap, cut_off=True)
    steps = Budget(expected_minutes=expected_s / 60).steps_of("default")
    stepped = replace(capped, id="steps", title="steps", cut_off=False, steps=steps)
    return [
        capped,
        stepped,
        replace(stepped, id="steps-retention", title="steps, history cut in one go", history="retention"),
        replace(stepped, id="steps-text", title="steps, history told as text", history="text"),
    ]


NO_POLICY = Setup("none", "no budget")


HISTORIES: Mapping[History, str] = {
    "provider": "history left alone",
    "retention": "history cut in one go",
    "text": "history told as text",
}


def history_alone(cache_hits: float) -> list[Setup]:
    """The history policies without any cap, to see what each saves by itself; the first does nothing."""
    return [
        Setup(f"{history}-{cache_hits:g}", title, history=history, cache_hits=cache_hits)
        for history, title in HISTORIES.items()
    ]


def prices() -> PriceTable:
    return PriceTable(OWN_PRICES)


def call_policy() -> CallPolicy:
    """The settings of every call, with the retention that `history = "retention"` stands for by default."""
    budget = Budget()
    retention = {
        "type": "retention_ratio",
        "retention_ratio": budget.retention_ratio,
        "token_limits": {"post_instructions": budget.history_tokens},
    }
    return CallPolicy(
        transcription_model=TRANSCRIPTION,
        max_output_tokens=MAX_OUTPUT_TOKENS,
        retention=retention,
        history_tokens=budget.history_tokens,
    )


class Meter:
    """The prices of this benchmark: what things cost, and what they may come to (`core.context.Costs`)."""

    def __init__(self, table: PriceTable) -> None:
        self.table = table

    def price(self, model: str, usage: Mapping[str, Any]) -> int:
        """Of a response or a transcript, by its usage object."""
        return (
            self.table.response(model, usage) if model in MODELS else self.table.transcription(model, usage)
        )

    def speech(self, characters: int) -> int:
        return self.table.speech(SPEECH, {"characters": characters})

    def agent(self, prompt_tokens: int, completion_tokens: int) -> int:
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        return self.table.agent(AGENT, usage)

    # --- at worst ---

    def response(self, rung: str, max_output_tokens: int, context: Context) -> int:
        return self.table.worst_response(rung, max_output_tokens, context)

    def transcription(self, model: str, seconds: float) -> int:
        return self.table.worst_transcription(model, seconds) if model else 0

    def answer(self, tier: str, request: AnswerRequest) -> tuple[int, int]:
        """Tier B: a token for each character that its agent is given, and all that it may write, spoken."""
        if tier != "B":
            return 0, 0
        limit = request.max_output_tokens or MAX_OUTPUT_TOKENS
        agent = self.agent(asked(request), limit)
        return agent + self.speech(limit * MOST_CHARACTERS), agent

    def writing_down(self, seconds: float) -> int:
        return self.table.worst_transcription(EARS, seconds)

    def spoken(self, rung: str, ms: float) -> int:
        """What so much talk was billed as: Tier B's speech is stopped with its answer."""
        if rung not in MODELS:
            return 0
        tokens = int(ms / OUTPUT_AUDIO_MS_PER_TOKEN)
        usage = {"output_tokens": tokens, "output_token_details": {"audio_tokens": tokens}}
        return self.table.response(rung, usage)


def asked(request: AnswerRequest) -> int:
    """Characters that the text agent is given."""
    said = sum(
        len(entry.text) if isinstance(entry, Message) else len(entry.output)
        for entry in request.history
        if isinstance(entry, Message | ToolResult)
    )
    return said + len(request.instructions) + 200 * len(request.tools)


def rungs(meter: Meter, least: Mapping[str, int]) -> list[Rung]:
    """As the router sees them. `least`: by rung, what one more answer needs, where a call knows it better."""
    table = meter.table
    listed = [
        Rung(
            Tier.A,
            model,
            paid=True,
            usd_per_minute=table.usd_per_minute(model),
            least=least.get(model, _LEAST_A[model]),
        )
        for model in MODELS
    ]
    return [
        *listed,
        Rung(Tier.B, SPEECH, paid=True, usd_per_minute=0.02, least=least.get(SPEECH, _LEAST_B)),
        Rung(Tier.C, PROMPTS),
    ]


_METER = Meter(prices())
_LEAST_A = {
    model: _METER.response(model, 200, Context(text_tokens=1_000)) + _METER.transcription(TRANSCRIPTION, 15.0)
    for model in MODELS
}
_LEAST_B = _METER.agent(1_000, 200) + _METER.speech(200) + _METER.writing_down(15.0)

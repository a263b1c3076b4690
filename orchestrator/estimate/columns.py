"""What an estimate is made from: what calls are like (`Columns`), what is decided (`Plan`), how long things take."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from orchestrator.config import Settings
from orchestrator.config_sections import BudgetStep, Cap, History, Steps
from orchestrator.core.steps import Step, StepPolicy
from orchestrator.pricing import EMBEDDED, transcribers

Share = Annotated[float, Field(ge=0, le=1)]
Tokens = Annotated[float, Field(ge=0, le=1_000_000)]
Profile = Annotated[tuple[Annotated[float, Field(ge=0, le=1_000)], ...], Field(max_length=200)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
Milliseconds = Annotated[float, Field(ge=0, le=3_600_000)]
ModelName = Annotated[str, Field(min_length=1)]
Spread = Annotated[float, Field(ge=0, le=3)]


class Inputs(BaseModel):
    """Refuses what it does not know, so that a misspelt column is not silently left at its default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Columns(Inputs):
    """What calls are like. The first five are the planner's; a spread is a standard deviation over its mean."""

    call_s: float = Field(default=240.0, ge=1, le=3600)
    """Mean length of a call that runs its course, in seconds, from connect to hang-up."""
    caller_share: float = Field(default=0.30, ge=0.001, le=1)
    """Share of that time in which the caller talks."""
    assistant_share: Share = 0.45
    """Share of that time in which the assistant is heard. The rest is silence: thinking, tools, pauses."""
    tool_delay_s: Seconds = 0.8
    """Mean time from a tool call to its result."""
    abandon_rate: Share = 0.05
    """Share of calls whose caller hangs up before its course is run, at any moment with the same chance."""

    retry_share: float = Field(default=0.5, ge=0, le=0.99)
    """Share of those who hang up early and call again: a new call beside those of `calls_per_day`."""
    length_spread: Spread = 0.6
    """Of the lengths of calls."""
    length_profile: tuple[Annotated[float, Field(ge=-1_000, le=1_000)], ...] = Field(
        default=(), max_length=200
    )
    """The shape of the calls' lengths: values of equal shares of them, from short to long, in spreads from their mean.

    Empty is a lognormal distribution, as it is usual for calls. `fit` tells the shape it found.
    """
    pace_profile: Profile = ()
    """Turns in a minute, in the same shares of the calls, compared with the mean. Empty: all calls are alike."""
    talk_profile: Profile = ()
    """Talk in a turn, likewise."""
    pace_spread: Spread = 0.2
    """Between calls, of the turns in a minute."""
    utterance_s: float = Field(default=4.0, ge=0.01, le=3600)
    """Mean talk of the caller in one turn; with `caller_share` it says how many turns a call has."""
    turn_spread: Spread = 0.6
    """Of the lengths of utterances and answers within a call."""
    greeting: Share = 1.0
    """Share of calls in which the assistant speaks first."""
    prompt_tokens: Tokens = 800.0
    """Instructions."""
    tool_tokens: Tokens = 400.0
    """Definitions of the tools."""
    tools_per_turn: float = Field(default=0.2, ge=0, le=10)
    """Mean number of tool calls in a turn, each a response of its own."""
    call_tokens: Tokens = 30.0
    """Text tokens of one tool call."""
    result_tokens: Tokens = 120.0
    """... and of its result."""
    text_per_s: float = Field(default=3.5, ge=0, le=100)
    """Text tokens that come with a second of the assistant's talk: its transcript."""
    text_kept: float = Field(default=1.0, ge=0, le=10)
    """So many stay in the history, beside the audio, for one of those."""
    barge_in: Share = 0.1
    """Share of answers that the caller cuts off."""
    unheard_s: Seconds = 3.0
    """Mean talk of an answer cut off that was made and billed, and not heard."""
    cache_hit: Share = 1.0
    """Share of the input of the response before that the next one finds cached."""
    cache_output: Share = 1.0
    """... and of the answer itself. An answer that was cut off is never found."""
    concise_share: float = Field(default=0.7, ge=0.001, le=1)
    """Length of an answer after the step `concise`, compared with before; its limit holds beside that."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.caller_share + self.assistant_share > 1:
            raise PydanticCustomError(
                "shares",
                "caller_share and assistant_share are of the same call, expected at most 1 together, not {sum}; "
                "lower one of them",
                {"sum": f"{self.caller_share + self.assistant_share:g}"},
            )
        shares = len(self.length_profile)
        for name in ("pace_profile", "talk_profile"):
            if len(getattr(self, name)) not in (0, shares):
                raise PydanticCustomError(
                    "profiles",
                    "length_profile and {name} are of the same shares of the calls, expected {shares} values in both, "
                    "not {count} in {name}; leave it out, or give as many",
                    {"name": name, "shares": shares, "count": len(getattr(self, name))},
                )
        return self

    @property
    def turn_s(self) -> float:
        """Mean time from one turn to the next."""
        return self.utterance_s / self.caller_share

    @property
    def turns(self) -> float:
        """Mean number of the caller's turns in a call that runs its course."""
        return self.call_s / self.turn_s

    @property
    def answer_s(self) -> float:
        """Mean talk of the assistant that is heard in one turn."""
        return self.assistant_share * self.turn_s


class TierBEngines(Inputs):
    """What Tier B hears, thinks and speaks with, by the names that the price table has; null costs nothing."""

    transcription: ModelName | None = None
    agent: ModelName | None = None
    speech: ModelName | None = None


class Plan(Inputs):
    """What is decided: how many calls, on which rungs, under which budget."""

    calls_per_day: int = Field(default=1000, ge=1, le=1_000_000_000)
    days_per_month: float = Field(default=30.0, gt=0, le=31)
    rungs: tuple[ModelName, ...] = Field(default=("gpt-realtime-2.1",), min_length=1)
    """Models of Tier A in order of preference."""
    transcription_model: ModelName | None = "gpt-transcribe"
    """What writes down the caller's words in Tier A; null for nothing that is billed."""
    max_output_tokens: int = Field(default=4096, ge=1, le=4096)
    call_usd: Cap | None = 2.0
    """A call's cap; null for none."""
    day_usd: Cap | None = None
    """The bucket's cap for a day; null for none."""
    steps: Steps = ()
    expected_minutes: Annotated[float, Field(ge=0.001, le=10_000)] | None = None
    concise_tokens: int = Field(default=400, ge=50, le=4096)
    history: History = "provider"
    retention_ratio: float = Field(default=0.7, ge=0.2, le=0.95)
    history_tokens: int = Field(default=6_000, ge=1_000, le=128_000)
    outage_share: Share = 0.0
    """Share of calls that Tier B serves from beginning to end, because Tier A is out."""
    tier_b: TierBEngines = TierBEngines()

    @property
    def policy(self) -> StepPolicy:
        """The steps as the core takes them."""
        steps = tuple(Step(step.at, step.action) for step in self.steps)
        expected_s = None if self.expected_minutes is None else self.expected_minutes * 60
        return StepPolicy(steps, expected_s, self.concise_tokens)

    @classmethod
    def of_settings(cls, settings: Settings, bucket: str | None = None, **changes: Any) -> Self:
        """The plan that a configuration stands for, for calls of `bucket`; `changes` are fields of their own."""
        budget, tier_b = settings.budget, settings.tier_b
        name = bucket or budget.default_bucket
        own = budget.buckets.get(name)
        policy = budget.steps_of(name)
        found: dict[str, Any] = {
            "rungs": tuple(settings.realtime(rung).model for rung in settings.tier_a.rungs),
            "transcription_model": settings.tier_a.transcription_model,
            "max_output_tokens": settings.tier_a.max_output_tokens,
            "call_usd": budget.call_usd if own is None or own.call_usd is None else own.call_usd,
            "day_usd": None if own is None else own.usd_per_day,
            "steps": tuple(BudgetStep(at=step.at, action=step.action) for step in policy.steps),
            "expected_minutes": None if policy.expected_s is None else policy.expected_s / 60,
            "concise_tokens": policy.concise_tokens,
            "history": budget.history_of(name),
            "retention_ratio": budget.retention_ratio,
            "history_tokens": budget.history_tokens,
            "tier_b": TierBEngines(
                transcription=transcribers(settings)[0],
                agent=tier_b.agent_model or EMBEDDED,
                speech=settings.speech_engine(),
            ),
        }
        return cls(**{**found, **changes})


class Latencies(Inputs):
    """Milliseconds that the latency budgets are made of, each the mean of what is usual; see docs/cost.md."""

    capture_ms: Milliseconds = 20.0
    """A frame of the client's microphone."""
    network_ms: Milliseconds = 30.0
    """One way, between the client and us."""
    provider_network_ms: Milliseconds = 20.0
    """One way, between us and the provider."""
    relay_ms: Milliseconds = 1.0
    """A frame through this service."""
    playout_ms: Milliseconds = 60.0
    """The client's buffer before it plays."""
    end_of_turn_ms: Milliseconds = 500.0
    """Silence after which the turn is over: the session's silence_duration_ms."""
    first_audio_ms: Milliseconds = 500.0
    """From the end of the turn to the model's first audio in Tier A."""
    tier_b_first_audio_ms: Milliseconds = 1_200.0
    """... and in Tier B."""
    spread: Spread = 0.4
    """Of every one of them but the silence and the frame."""
    interruption_ms: Milliseconds = 200.0
    """From the caller's first sound to the provider's noticing it."""
    retry_ms: Milliseconds = 12_000.0
    """From hanging up to being connected again."""
    handover_ms: Milliseconds = 1_000.0
    """From an outage that is silent to the decision for Tier B; one that shows itself takes no time."""

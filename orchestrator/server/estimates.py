"""POST /v1/estimate: what calls would cost under this replica's settings, or others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from orchestrator.config import Settings
from orchestrator.core.prices import UnknownPrice
from orchestrator.estimate.columns import Columns, Latencies, Plan
from orchestrator.estimate.draws import TooMuch
from orchestrator.estimate.worker import WorkerFailed, estimate_apart, job
from orchestrator.server.api_models import Body

log = logging.getLogger(__name__)

MOST_CALLS = 20_000
MOST_TURNS = 600_000
"""In all calls together, on average."""
TIMEOUT_S = 60.0
MOST_WAITING = 8
"""Estimates that are made one after another; more are turned away."""


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "expected a valid integer, not true or false")
    return value


Whole = Annotated[int, BeforeValidator(_no_bool)]
"""An integer as JSON schema has it: 20.0 is one too."""


class EstimateBody(Body):
    """What is not said in `plan` comes from this replica's settings; `columns` and `latencies` have defaults."""

    columns: Columns = Field(Columns(), description="What calls are like.")
    plan: Plan = Field(Plan(), description="What is decided. What is left out is as this replica has it.")
    latencies: Latencies = Field(Latencies(), description="How long things take.")
    bucket: str | None = Field(None, description="Whose caps and steps hold; none: the default one's.")
    calls: Whole = Field(5_000, ge=1, le=MOST_CALLS, description="Calls to simulate.")
    seed: Whole = Field(1, ge=0, le=2**53, description="The same seed gives the same calls.")


class Amounts(BaseModel):
    """Of all calls; `error` is the standard error of the mean."""

    mean: float
    p50: float
    p95: float
    max: float
    error: float


class Waste(BaseModel):
    """Talk that the caller cut off, and that was billed."""

    usd_per_call: float
    share: float
    seconds_per_call: float


class LatencyBudget(Amounts):
    """Milliseconds; `parts` are means."""

    parts: dict[str, float]


class RecoveryPart(BaseModel):
    ms: Amounts
    per_call: float


class Recoveries(BaseModel):
    seconds_per_call: float
    parts: dict[str, RecoveryPart]


class LatencyBudgets(BaseModel):
    transport_ms: LatencyBudget = Field(description="Microphone to provider, and back to the loudspeaker.")
    reasoning_ms: LatencyBudget = Field(
        description="The caller's last sound to the answer's first, with tools."
    )
    recovery: Recoveries = Field(description="Interruptions, retries and handovers.")


class EstimateAnswer(BaseModel):
    """docs/cost.md says how it is worked out."""

    calls: int
    seed: int
    columns: Columns
    plan: Plan
    latencies: Latencies
    cost_usd: Amounts = Field(description="Of a call.")
    cost_quantiles_usd: list[float] = Field(description="From the cheapest call to the dearest, 101 of them.")
    usd_per_answered_minute: float
    placed_per_day: float = Field(description="Calls, with those that are placed again.")
    usd_per_day: float
    usd_per_month: float
    turns: Amounts = Field(description="The caller's turns in a call.")
    tier_mix: dict[str, float] = Field(description="Share of turns by tier.")
    stepped: dict[str, float] = Field(description="Share of calls that took a step.")
    projected: dict[str, float] = Field(description="Share of calls that took it early, by projection.")
    unpaid: float = Field(description="Share of calls that a cap kept from a rung.")
    waste: Waste
    parts_usd: dict[str, float] = Field(description="A call's cost by what is paid for.")
    latency: LatencyBudgets


class EstimateRefused(Exception):
    """`param` names the field; None where the request is fine and `status` says why it was not carried out."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


@dataclass(slots=True)
class Estimator:
    """Makes one estimate at a time, in a process of low priority, so that calls do not notice."""

    settings: Settings
    timeout_s: float = TIMEOUT_S
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: int = 0

    async def estimate(self, body: EstimateBody) -> dict[str, Any]:
        """As `EstimateAnswer` has it. Raises `EstimateRefused`."""
        wanted = self._job(body)
        if self._waiting >= MOST_WAITING:
            raise EstimateRefused(503, "busy", f"{MOST_WAITING} estimates are being made; try again shortly")
        self._waiting += 1
        try:
            async with self._turn:
                return await estimate_apart(wanted, self.timeout_s)
        except TimeoutError:
            text = f"the estimate was not there after {self.timeout_s:g} s; lower calls, or use `orchestrator estimate`"
            raise EstimateRefused(503, "estimate_too_slow", text) from None
        except TooMuch as error:
            raise EstimateRefused(422, "too_many_turns", str(error), "calls") from None
        except WorkerFailed as error:
            log.error("an estimate failed: %s", error)
            text = "the estimate failed; the server's log says why"
            raise EstimateRefused(500, "estimate_failed", text) from None
        finally:
            self._waiting -= 1

    def _job(self, body: EstimateBody) -> dict[str, Any]:
        columns, plan = body.columns, self._plan(body)
        if body.calls * columns.turns > MOST_TURNS:
            text = (
                f"{body.calls} calls of {columns.turns:.0f} turns on average are more than the {MOST_TURNS:,} turns "
                "that are simulated here; lower calls, or use `orchestrator estimate`"
            )
            raise EstimateRefused(422, "too_many_turns", text, "calls")
        try:
            return job(
                columns, plan, body.latencies, self.settings.price_table(), calls=body.calls, seed=body.seed
            )
        except UnknownPrice as error:
            raise EstimateRefused(422, "unknown_price", str(error), _named(plan, error.model)) from None

    def _plan(self, body: EstimateBody) -> Plan:
        given = body.plan.model_dump(exclude_unset=True)
        try:
            return Plan.of_settings(self.settings, body.bucket, **given)
        except ValidationError as error:
            name = ".".join(["plan", *map(str, error.errors()[0]["loc"])])
            raise EstimateRefused(422, "invalid_plan", f"{name}: {error.errors()[0]['msg']}", name) from None


def _named(plan: Plan, model: str) -> str:
    """The field that names a model."""
    if model in plan.rungs:
        return "plan.rungs"
    engines: Mapping[str, str | None] = plan.tier_b.model_dump()
    found = (f"plan.tier_b.{name}" for name, engine in engines.items() if engine == model)
    return next(found, "plan.transcription_model")

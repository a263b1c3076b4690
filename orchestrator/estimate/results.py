"""What an estimate says. Money is nano-dollars, times are seconds or, where the name says so, milliseconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from orchestrator.core.prices import NANO
from orchestrator.estimate.columns import Columns, Latencies, Plan


@dataclass(frozen=True, slots=True)
class Quantity:
    """Of all calls. `error`: how far the mean is off by chance, as a standard error."""

    mean: float
    p50: float
    p95: float
    max: float
    error: float = 0.0

    @classmethod
    def of(cls, values: ArrayLike) -> Quantity:
        """All zero for no values."""
        found = np.asarray(values, dtype=np.float64)
        if not found.size:
            return cls(0.0, 0.0, 0.0, 0.0)
        p50, p95 = np.percentile(found, [50, 95])
        error = float(found.std(ddof=1) / found.size**0.5) if found.size > 1 else 0.0
        return cls(float(found.mean()), float(p50), float(p95), float(found.max()), error)

    def scaled(self, factor: float) -> dict[str, float]:
        return {name: value * factor for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Recovery:
    """One thing that calls recover from: how long that takes, and how often it happens in a call."""

    name: str
    ms: Quantity
    per_call: float


@dataclass(frozen=True, slots=True)
class Budgets:
    """The three latency budgets, in ms. A part is the mean of what it adds to its budget.

    `transport`: from the microphone to the provider, and from there to the loudspeaker. `reasoning`: from the caller's
    last sound to the answer's first audio, tools included. `recovery`: what goes wrong.
    """

    transport: Quantity
    transport_parts: dict[str, float]
    reasoning: Quantity
    reasoning_parts: dict[str, float]
    recovery: tuple[Recovery, ...]

    @property
    def recovery_s(self) -> float:
        """Seconds of recovery in a call, on average."""
        return sum(part.ms.mean * part.per_call for part in self.recovery) / 1000

    def to_dict(self) -> dict[str, Any]:
        return {
            "transport_ms": {**self.transport.scaled(1), "parts": self.transport_parts},
            "reasoning_ms": {**self.reasoning.scaled(1), "parts": self.reasoning_parts},
            "recovery": {
                "seconds_per_call": self.recovery_s,
                "parts": {
                    part.name: {"ms": part.ms.scaled(1), "per_call": part.per_call} for part in self.recovery
                },
            },
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of `calls` simulated calls; what is said of days and months is scaled to the plan's numbers."""

    calls: int
    seed: int
    columns: Columns
    plan: Plan
    latencies: Latencies
    cost: Quantity
    """Of a call."""
    cost_quantiles: tuple[float, ...]
    """The same from the cheapest to the dearest call, 101 of them."""
    per_answered_minute: float
    """All cost over the minutes in which Tier A or B answered."""
    placed_per_day: float
    """Calls, with those that are placed again."""
    per_day: float
    per_month: float
    turns: Quantity
    """The caller's turns in a call."""
    tier_mix: dict[str, float]
    """Share of turns by the tier that answered."""
    stepped: dict[str, float]
    """Share of calls that took a step."""
    projected: dict[str, float]
    """Share of calls that took it early, because of where they were heading."""
    unpaid: float
    """Share of calls that a cap kept from a rung."""
    waste: float
    """Of a call's cost, on average: talk that was cut off, and billed."""
    waste_s: float
    """Seconds of it in a call."""
    parts: dict[str, float]
    """A call's cost, on average, by what is paid for."""
    budgets: Budgets

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: money in US dollars."""
        return {
            "calls": self.calls,
            "seed": self.seed,
            "columns": self.columns.model_dump(mode="json"),
            "plan": self.plan.model_dump(mode="json"),
            "latencies": self.latencies.model_dump(mode="json"),
            "cost_usd": self.cost.scaled(1 / NANO),
            "cost_quantiles_usd": [amount / NANO for amount in self.cost_quantiles],
            "usd_per_answered_minute": self.per_answered_minute / NANO,
            "placed_per_day": self.placed_per_day,
            "usd_per_day": self.per_day / NANO,
            "usd_per_month": self.per_month / NANO,
            "turns": self.turns.scaled(1),
            "tier_mix": self.tier_mix,
            "stepped": self.stepped,
            "projected": self.projected,
            "unpaid": self.unpaid,
            "waste": {
                "usd_per_call": self.waste / NANO,
                "share": self.waste / self.cost.mean if self.cost.mean else 0.0,
                "seconds_per_call": self.waste_s,
            },
            "parts_usd": {name: amount / NANO for name, amount in self.parts.items()},
            "latency": self.budgets.to_dict(),
        }

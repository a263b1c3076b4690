"""Settings of what operators see: latency budgets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat

from orchestrator.config_sections import Section
from orchestrator.core.latency import Limits


def _none(value: Any) -> Any:
    """An empty variable counts as not set, so that no limit at all is written as ``none``."""
    return None if value in ("", "none") else value


Ms = Annotated[PositiveFloat | None, BeforeValidator(_none)]


class LatencyBudgets(Section):
    """How long parts of the waiting may take, in ms; "none" sets no limit. A breach is told and changes nothing."""

    transport_ms: Ms = 300.0
    """The way: the round trip to the client and, in Tier A, that to the provider."""
    reasoning_ms: Ms = 1500.0
    """From the end of a turn to the first audio of its answer."""
    reasoning_by_tier: dict[Literal["A", "B", "C"], PositiveFloat] = Field(default_factory=dict)
    """The same of some tiers, over `reasoning_ms`."""
    recovery_ms: Ms = 2000.0
    """The silence at a handover, before an answer that is tried again, after a false interruption."""
    ping_s: float = Field(default=10.0, ge=1, le=300)
    """How often the way is measured."""

    def limits(self) -> Limits:
        by_tier = {str(tier): ms for tier, ms in self.reasoning_by_tier.items()}
        return Limits(self.transport_ms, self.reasoning_ms, self.recovery_ms, by_tier)

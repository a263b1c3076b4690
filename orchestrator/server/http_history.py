"""`GET /v1/history`: how the breakers of this replica have changed, and the silences at its handovers."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Literal, Protocol

from fastapi import FastAPI
from pydantic import BaseModel, Field

from orchestrator.server.api_errors import ERRORS
from orchestrator.server.fleet import Fleet
from orchestrator.server.guards import Guards
from orchestrator.server.history import History


class BreakerChangeView(BaseModel):
    at: float = Field(description="Unix seconds.")
    state: Literal["closed", "open", "half_open", "canary"]
    cause: str = Field(description="Empty where nothing was wrong any more.")


class RungHistory(BaseModel):
    rung: str
    changes: list[BreakerChangeView] = Field(
        description="The oldest first, the latest 50 at most; none: as it was in the beginning."
    )


class GapView(BaseModel):
    at: float = Field(description="Unix seconds.")
    tier: str = Field(description="The one that served the call then.")
    trigger: str
    cause: str
    gap_ms: float


class GapSpread(BaseModel):
    """Of the silences that are told, in ms."""

    p50: float | None
    p95: float | None
    max: float | None


class HistoryView(BaseModel):
    began: float = Field(description="Unix seconds: when this replica began to remember.")
    now: float
    breakers: list[RungHistory]
    gaps: list[GapView] = Field(
        description="Silences that callers heard at handovers, the latest 1000 at most."
    )
    gaps_seen: int = Field(description="How many there were since it began.")
    gap_ms: GapSpread


class Service(Protocol):
    @property
    def replica_history(self) -> History: ...

    @property
    def fleet(self) -> Fleet: ...


def add_history(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.get("/v1/history", tags=["operations"], dependencies=guards.metrics, responses=ERRORS)
    async def get_history() -> HistoryView:
        """How this replica's breakers have changed and how long its callers waited at handovers, since it started."""
        history = service.replica_history
        rungs = sorted({*service.fleet.breakers, *history.rungs})
        p50, p95, longest = history.spread()
        return HistoryView(
            began=history.began,
            now=time.time(),
            breakers=[
                RungHistory(
                    rung=rung,
                    changes=[BreakerChangeView.model_validate(asdict(c)) for c in history.changes(rung)],
                )
                for rung in rungs
            ],
            gaps=[GapView.model_validate(asdict(gap)) for gap in history.gaps],
            gaps_seen=history.gaps_seen,
            gap_ms=GapSpread(p50=p50, p95=p95, max=longest),
        )

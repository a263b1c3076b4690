"""`GET /v1/calls` and `GET /v1/calls/{id}`: calls of this replica, their figures and timelines, for operators."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

from orchestrator.core.redaction import Redactor
from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.call_records import CallRecords
from orchestrator.server.event_fields import show
from orchestrator.server.guards import Guards


class PartFigures(BaseModel):
    """A part of the waiting, in ms."""

    count: int = Field(description="How often it was measured.")
    breaches: int
    latest_ms: float | None
    longest_ms: float | None
    limit_ms: float | None = Field(description="Of `latency_budgets`, for the tier of the latest one.")
    parts: dict[str, float] = Field(description="What the latest one consists of.")


class CallFigures(BaseModel):
    """One call. Waits in ms: of its answers, from the end of a turn to the first audio, the median and the longest."""

    call_id: str
    live: bool
    started_at: float
    ended_at: float | None
    tier: str
    rung: str
    reason: str
    tiers: list[str] = Field(description="In the order they were used.")
    user: str
    who: str = Field(description="Whose key or token opened it: `key_` and the key's id, for example.")
    purpose: str
    bucket: str
    spent_usd: float
    turns: int
    ttfa_ms: float | None
    longest_ttfa_ms: float | None
    voice_to_voice_ms: float | None
    longest_voice_to_voice_ms: float | None
    gaps: int
    longest_gap_ms: float | None
    handovers: int
    last_handover_at: float | None
    breaches: int
    failures: int
    recording: Literal["off", "recording", "kept", "failed", "deleted"] | None = Field(
        description="Of its sound; null: this replica records nothing."
    )


class Calls(BaseModel):
    calls: list[CallFigures]
    found: int = Field(description="How many there are, of which `limit` are told.")


class CallTimeline(CallFigures):
    latency: dict[Literal["transport", "reasoning", "recovery"], PartFigures]
    rows: list[dict[str, Any]]
    rows_dropped: int = Field(description="Rows between the first and the latest ones that are not kept.")


class Service(Protocol):
    @property
    def records(self) -> CallRecords: ...

    @property
    def redactor(self) -> Redactor: ...


def add_calls(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.get("/v1/calls", tags=["operations"], dependencies=guards.operator, responses=ERRORS)
    async def list_calls(
        tier: Literal["A", "B", "C"] | None = None,
        bucket: str | None = None,
        purpose: str | None = None,
        user: str | None = None,
        ended: Annotated[bool, Query(description="Those that have ended as well.")] = False,
        sort: Annotated[
            Literal["started", "cost", "wait", "gap"], Query(description="The most of it first.")
        ] = "started",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Calls:
        """Calls in progress at this replica, with their figures."""
        given = {"tier": tier, "bucket": bucket, "purpose": purpose, "user": user}
        wanted = {name: value for name, value in given.items() if value is not None}
        found = service.records.list(ended=ended, wanted=wanted, order=sort)
        calls = [CallFigures.model_validate(record.figures()) for record in found[:limit]]
        return Calls(calls=calls, found=len(found))

    @api.get(
        "/v1/calls/{id}",
        tags=["operations"],
        dependencies=guards.operator,
        responses={**ERRORS, **answers(404, "This replica knows no such call, or no longer.")},
    )
    async def get_call(
        id: str,
        text: Annotated[bool, Query(description="With what was said, by callers and to them.")] = False,
    ) -> CallTimeline:
        """One call of this replica, in progress or one of the last that ended: its figures and its timeline."""
        record = service.records.get(id)
        if record is None:
            message = (
                f"this replica knows no call {id[:80]!r}, or no longer; GET /v1/calls?ended=true lists those it knows, "
                "and other replicas have their own"
            )
            raise ApiError(404, "unknown_call", message, "id")
        rows = [show(row, service.redactor, text=text) for row in record.rows()]
        figures = {**record.figures(), "latency": record.latency.figures()}
        return CallTimeline(**figures, rows=rows, rows_dropped=record.dropped)

"""Drills over HTTP: `/v1/drills`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from orchestrator.core.drills import Drill, report
from orchestrator.core.overrides import OverrideError
from orchestrator.core.redaction import Redactor
from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.api_models import Body
from orchestrator.server.audit import Audit
from orchestrator.server.drills import Drills
from orchestrator.server.guards import Guards, who
from orchestrator.server.store import StoreUnavailable


class DrillBody(Body):
    """What is wrong with one is said by the core; the patterns here are for readers and for clients' tools."""

    practice: str = Field(
        description="lose_provider, or degrade: a handover between two turns.",
        json_schema_extra={"pattern": "^(lose_provider|degrade)$"},
    )
    scope: str = Field(
        "all",
        description="all, call:ID, user:ID, purpose:NAME or bucket:NAME.",
        json_schema_extra={"pattern": r"^(all|(call|user|purpose|bucket):[A-Za-z0-9].*)$"},
    )
    share: float = Field(
        5.0,
        description="Per cent of the calls that begin while it lasts.",
        json_schema_extra={"exclusiveMinimum": 0, "maximum": 100},
    )
    duration: str = Field(
        "15m",
        alias="for",
        description="90s, 15m, 2h, at most 30d.",
        json_schema_extra={"pattern": "^([1-9][0-9]{0,4}[smhd])+$"},
    )
    calls: int = Field(
        100, description="It is practised on so many calls at most.", json_schema_extra={"minimum": 1}
    )
    wrong: int = Field(
        1, description="So many calls that lost a turn end it.", json_schema_extra={"minimum": 1}
    )
    reason: str = Field(max_length=1000, json_schema_extra={"pattern": r"\S"})
    who: str = Field("", max_length=200)


class DrillView(BaseModel):
    """Times are Unix seconds."""

    id: str
    practice: Literal["lose_provider", "degrade"]
    scope: str
    share: float
    until: float
    most: int
    wrong: int
    reason: str
    who: str
    name: str
    typed: str
    created: float
    ended: str = Field(description="Why it is over before its time.")
    running: bool


class Spread(BaseModel):
    p50: float | None
    p95: float | None
    max: float | None


class DrillReport(BaseModel):
    """What the callers of a drill heard, at all replicas."""

    calls: int = Field(description="That were handed over.")
    waiting: int
    skipped: int = Field(description="Left alone, since they were in trouble of their own.")
    turns_answered: int
    turns_lost: int
    gap_ms: Spread = Field(description="Silence at a handover, by the audio that was sent.")
    bridges: int
    back_s: Spread = Field(description="From the handover until Tier A served the call again.")
    not_back: int
    cost_usd: float = Field(description="Charged from the handover until then.")


class DrillWithReport(DrillView):
    report: DrillReport


class DrillViews(BaseModel):
    drills: list[DrillView]


class Service(Protocol):
    @property
    def drills(self) -> Drills: ...

    @property
    def audit(self) -> Audit: ...

    @property
    def redactor(self) -> Redactor: ...


def add_drills(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.get("/v1/drills", tags=["operations"], dependencies=guards.operator, responses=ERRORS)
    async def list_drills() -> DrillViews:
        """Drills of the last days, the newest first."""
        return DrillViews(drills=[DrillView(**_shown(drill)) for drill in service.drills.drills])

    @api.post(
        "/v1/drills", tags=["operations"], dependencies=guards.operator, status_code=201, responses=ERRORS
    )
    async def start_drill(body: DrillBody, request: Request) -> DrillView:
        """Practises a failover on a share of the calls that begin from now on, for a time."""
        identity = who(request)
        try:
            drill = service.drills.begin(
                practice=body.practice,
                scope=body.scope,
                share=body.share,
                duration=body.duration,
                most=body.calls,
                wrong=body.wrong,
                reason=service.redactor.text(body.reason),
                who=identity.id,
                name=identity.name,
                typed=service.redactor.text(body.who),
            )
        except OverrideError as error:
            raise ApiError(422, "invalid_drill", str(error), error.param) from None
        told = drill.to_dict()
        details = {name: told[name] for name in ("practice", "scope", "share", "until", "most", "typed")}
        service.audit.note(identity, "drill.started", drill.id, drill.reason, **details)
        return DrillView(**_shown(drill))

    _add_one(api, service, guards)


def _add_one(api: FastAPI, service: Service, guards: Guards) -> None:
    unknown = {**ERRORS, **answers(404, "There is no such drill.")}
    away = answers(503, "The shared store is away.")

    @api.get(
        "/v1/drills/{id}",
        tags=["operations"],
        dependencies=guards.operator,
        responses={**unknown, **away},
    )
    async def get_drill(id: str) -> DrillWithReport:
        """A drill and what came of it so far."""
        drill = service.drills.find(id)
        if drill is None:
            raise _unknown(f"there is no drill {id[:80]!r}", service.drills.drills)
        try:
            results = await service.drills.results(id)
        except StoreUnavailable:
            raise ApiError(503, "store_away", "the shared store is away; ask again later") from None
        return DrillWithReport(**_shown(drill), report=DrillReport(**report(results)))

    @api.delete(
        "/v1/drills/{id}",
        tags=["operations"],
        dependencies=guards.operator,
        status_code=204,
        responses=unknown,
    )
    async def stop_drill(id: str, request: Request) -> None:
        """Ends a drill: no call is handed over from now on. Its report stays."""
        if service.drills.end(id, "stopped") is None:
            running = [drill for drill in service.drills.drills if not drill.over(time.time())]
            raise _unknown(f"there is no drill {id[:80]!r} that goes on", running)
        service.audit.note(who(request), "drill.stopped", id)


def _unknown(what: str, drills: Sequence[Drill]) -> ApiError:
    known = ", ".join(drill.id for drill in drills) or "none"
    return ApiError(404, "unknown_drill", f"{what}; there are: {known}", "id")


def _shown(drill: Drill) -> dict[str, Any]:
    return {**drill.to_dict(), "running": not drill.over(time.time())}

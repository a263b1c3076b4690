"""Where a call would go, why, and what would change that: `POST /v1/route`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlencode

from fastapi import FastAPI, Request

from orchestrator.config import Settings
from orchestrator.core.budget import CallBudget
from orchestrator.core.explaining import Explanation, WouldChange
from orchestrator.core.latency import Lately
from orchestrator.core.prices import NANO
from orchestrator.core.routing import Decision, RouteRequest
from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.api_models import (
    CandidateBody,
    Connect,
    DecisionBody,
    PassedOver,
    RouteAnswer,
    RouteBody,
    RungLatency,
    SetAsideBody,
)
from orchestrator.server.api_models import WouldChange as WouldChangeBody
from orchestrator.server.fleet import Fleet
from orchestrator.server.guards import Guards


class Service(Protocol):
    @property
    def settings(self) -> Settings: ...

    @property
    def fleet(self) -> Fleet: ...

    @property
    def lately(self) -> Lately: ...


def add_routing(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.post(
        "/v1/route",
        tags=["routing"],
        dependencies=guards.service,
        responses={**ERRORS, **answers(503, "No tier is ready to take a call.")},
    )
    async def route(body: RouteBody, request: Request) -> RouteAnswer:
        """Which tier and rung a new call would get at this moment, why, what would change that, where to connect.

        Nothing is reserved: the call is decided anew when it connects.
        """
        budget = service.settings.budget
        bucket = body.bucket or budget.default_bucket
        wanted = RouteRequest(
            body.call_id, body.user, body.purpose, body.transport, bucket, tuple(body.allowed_tools)
        )
        found = service.fleet.explain(wanted, CallBudget(budget.cap_of_call(bucket)))
        if not found.decision.usable:
            why = " ".join(told.sentence for told in found.candidates)
            message = f"no tier is ready to take a call. {why} /readyz says what is missing"
            raise ApiError(503, "nothing_ready", message)
        took = latency_of(found.decision, service.lately)
        return route_answer(found, connect_to(request, service.settings, wanted), took)


def latency_of(decision: Decision, lately: Lately) -> list[RungLatency]:
    """What the chosen rung and those beside it took lately."""
    rungs = {decision.rung: decision.tier} | {c.rung: c.tier for c in decision.candidates}
    return [
        RungLatency(
            tier=tier.value,
            rung=rung,
            part=usual.part.value,
            count=usual.count,
            median_ms=round(usual.median_ms, 1),
            p95_ms=round(usual.p95_ms, 1),
            limit_ms=usual.limit_ms,
            breaches=usual.breaches,
        )
        for rung, tier in rungs.items()
        for usual in lately.of(rung, time.monotonic())
    ]


def route_answer(found: Explanation, connect: Connect, latency: Sequence[RungLatency] = ()) -> RouteAnswer:
    """An explanation as the API shows it."""
    shown = decision_body(found.decision).model_dump(exclude={"candidates"})
    return RouteAnswer(
        **shown,
        sentence=found.sentence,
        candidates=[
            PassedOver(
                tier=told.candidate.tier.value,
                rung=told.candidate.rung,
                passed_over=told.candidate.passed_over,
                detail=told.candidate.detail,
                decided_by=told.decided_by.value,
                sentence=told.sentence,
            )
            for told in found.candidates
        ],
        would_change=[_would_change(each) for each in found.would_change],
        connect=connect,
        latency=list(latency),
    )


def _would_change(each: WouldChange) -> WouldChangeBody:
    change, decision = each.change, each.decision
    return WouldChangeBody(
        change=change.kind,
        about=change.about,
        amount_usd=change.amount / NANO if change.amount else None,
        at=each.at,
        sentence=each.sentence,
        tier=decision.tier.value if decision.usable else None,
        rung=decision.rung if decision.usable else None,
        reason=decision.reason,
        decided_by=decision.decided_by.value,
    )


def decision_body(decision: Decision) -> DecisionBody:
    """A decision as the API shows it, without sentences."""
    return DecisionBody(
        tier=decision.tier.value,
        rung=decision.rung,
        reason=decision.reason,
        decided_by=decision.decided_by.value,
        override_id=decision.override_id,
        usd_per_minute=decision.usd_per_minute,
        allowed_tools=list(decision.allowed_tools),
        set_aside=[
            SetAsideBody(override_id=aside.override.id, why=aside.why.value, by=aside.by)
            for aside in decision.set_aside
        ],
        candidates=[
            CandidateBody(tier=c.tier.value, rung=c.rung, passed_over=c.passed_over, detail=c.detail)
            for c in decision.candidates
        ],
    )


def connect_to(request: Request, settings: Settings, wanted: RouteRequest) -> Connect:
    """One-way purposes are a POST of a prompt; every conversation is a WebSocket, whatever its tier."""
    base = str(request.base_url).rstrip("/")
    if wanted.purpose in settings.tier_c.one_way_purposes or wanted.transport == "http":
        return Connect(kind="prompt", method="POST", url=f"{base}/v1/prompts/{{name}}")
    told = {"model": settings.realtime(settings.tier_a.rungs[0]).model, "user": wanted.user}
    usual = RouteRequest(bucket=settings.budget.default_bucket)
    if wanted.purpose != usual.purpose:
        told["purpose"] = wanted.purpose
    if wanted.bucket != usual.bucket:
        told["bucket"] = wanted.bucket
    told["tools"] = ",".join(wanted.allowed_tools)
    query = urlencode({name: value for name, value in told.items() if value}, safe=",")
    return Connect(kind="realtime", method="GET", url=f"{base.replace('http', 'ws', 1)}/v1/realtime?{query}")

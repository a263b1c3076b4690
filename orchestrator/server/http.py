"""The HTTP API: health, routing, spoken prompts, status, overrides, approvals. `build_api` makes the application.

Every error has one shape, ``{"error": {"type", "message", "code", "param"}}``, and its message ends with what to
do. Everything but /healthz and /readyz asks `guards.Guards` first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from orchestrator.config import Settings
from orchestrator.core.latency import Lately
from orchestrator.core.prices import NANO
from orchestrator.core.redaction import Redactor
from orchestrator.core.routing import RouteRequest
from orchestrator.server.api_errors import ERRORS, ApiError, Refused, answers
from orchestrator.server.api_models import (
    BucketStatus,
    CallStatus,
    GuardrailStatus,
    Health,
    MoneyStatus,
    ProcessStatus,
    Readiness,
    ReadyPart,
    RungStatus,
    SinkStatus,
    Status,
    StoreStatus,
    VoiceStatus,
)
from orchestrator.server.approvals import Approvals
from orchestrator.server.audit import Audit
from orchestrator.server.broker import Broker
from orchestrator.server.business_events import BusinessEvents
from orchestrator.server.call_records import CallRecords
from orchestrator.server.definitions import Definitions
from orchestrator.server.door import Door
from orchestrator.server.drills import Drills
from orchestrator.server.estimates import EstimateAnswer, EstimateBody, EstimateRefused, Estimator
from orchestrator.server.events import EventLog
from orchestrator.server.fleet import Fleet
from orchestrator.server.guardrails import Guardrails
from orchestrator.server.guards import Guards
from orchestrator.server.history import History
from orchestrator.server.http_approvals import add_approvals
from orchestrator.server.http_audit import add_audit
from orchestrator.server.http_calls import add_calls
from orchestrator.server.http_dashboard import add_dashboard
from orchestrator.server.http_definitions import add_definitions
from orchestrator.server.http_drills import add_drills
from orchestrator.server.http_events import add_events
from orchestrator.server.http_history import add_history
from orchestrator.server.http_metrics import CountRequests, add_metrics
from orchestrator.server.http_overrides import add_overrides, override_view
from orchestrator.server.http_prompts import add_prompts
from orchestrator.server.http_recordings import add_recordings
from orchestrator.server.http_routing import add_routing, decision_body
from orchestrator.server.http_sessions import SECRETS_PATH, add_sessions
from orchestrator.server.http_speech import PATHS as SPEECH_PATHS
from orchestrator.server.http_speech import add_speech
from orchestrator.server.http_summaries import add_summaries
from orchestrator.server.links import Links
from orchestrator.server.metrics import Metrics
from orchestrator.server.openapi import describe, operation_id
from orchestrator.server.prompt_files import PromptVoice
from orchestrator.server.proxies import BehindProxies
from orchestrator.server.recording import Recorder, State
from orchestrator.server.request_limits import RequestLimits
from orchestrator.server.speaking import Speaking
from orchestrator.server.summaries import Summaries
from orchestrator.server.tally import Tally

log = logging.getLogger(__name__)

PROC = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the service, and whether it is ready. One that is not `required` may be missing for ever."""

    name: str
    ready: bool
    detail: str = ""
    required: bool = True
    remedy: str = ""
    """What to do, where it is not ready."""


class Service(Protocol):
    """What the API needs of the process. `prompts` is None until its catalogue is there."""

    @property
    def settings(self) -> Settings: ...

    @property
    def fleet(self) -> Fleet: ...

    @property
    def prompts(self) -> PromptVoice | None: ...

    @property
    def speaking(self) -> Speaking | None: ...

    @property
    def links(self) -> Links: ...

    @property
    def summaries(self) -> Summaries: ...

    @property
    def definitions(self) -> Definitions: ...

    @property
    def lately(self) -> Lately: ...

    def calls(self) -> Sequence[Mapping[str, Any]]:
        """Calls in progress, each as `CallStatus` wants it."""
        ...

    def readiness(self) -> Sequence[Part]: ...

    @property
    def tally(self) -> Tally: ...

    @property
    def approvals(self) -> Approvals: ...

    @property
    def drills(self) -> Drills: ...

    @property
    def business(self) -> BusinessEvents: ...

    @property
    def guardrails(self) -> Guardrails: ...

    @property
    def events(self) -> EventLog: ...

    @property
    def redactor(self) -> Redactor: ...

    @property
    def door(self) -> Door: ...

    @property
    def broker(self) -> Broker: ...

    @property
    def metrics(self) -> Metrics: ...

    def clip_counts(self) -> Mapping[str, int]:
        """How many clips were asked for, by where they came from."""
        ...

    @property
    def audit(self) -> Audit: ...

    @property
    def recorder(self) -> Recorder: ...

    def set_recording_consent(self, call_id: str, consent: bool, who: str) -> tuple[State, str] | None:
        """Of a live call; None: there is none. What becomes of its recording, and why."""
        ...

    def stop_recording(self, call_id: str) -> bool:
        """A live call is recorded no longer, and what there is of it is deleted; False where none is."""
        ...

    @property
    def records(self) -> CallRecords: ...

    @property
    def replica_history(self) -> History: ...


def build_api(service: Service) -> FastAPI:
    """The application; `service` is asked anew for everything, so it may still be starting."""
    settings = service.settings
    guards = Guards(service.door)
    api = FastAPI(
        title="Voice orchestrator",
        summary="Keeps a live voice call alive when its provider is not.",
        generate_unique_id_function=operation_id,
    )
    describe(api)
    _add_error_handlers(api, service)
    _add_health(api, service)
    add_routing(api, service, guards)
    add_sessions(api, service, guards)
    _add_status(api, service, guards)
    _add_estimates(api, service, guards)
    add_definitions(api, service, guards)
    add_prompts(api, service, guards)
    add_speech(api, service, guards)
    add_summaries(api, service, guards)
    add_overrides(api, service, guards)
    add_drills(api, service, guards)
    add_approvals(api, service, guards)
    add_events(api, service, guards)
    add_audit(api, service, guards)
    add_calls(api, service, guards)
    add_recordings(api, service, guards)
    add_history(api, service, guards)
    add_dashboard(api)
    add_metrics(api, service, guards)
    api.add_middleware(RequestLimits, limits=settings.limits, wrong_status=_wrong_status)
    if settings.server.allowed_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.server.allowed_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[
                "X-Cost-USD",
                "X-Cache",
                "X-Audio-Seconds",
                "ETag",
                "Content-Range",
                "Retry-After",
            ],
        )
    api.add_middleware(CountRequests, metrics=service.metrics)
    if service.door.proxies:
        api.add_middleware(BehindProxies, proxies=service.door.proxies)
    return api


def _add_error_handlers(api: FastAPI, service: Service) -> None:
    @api.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        request.state.refusal = error.refusal.code
        identity = getattr(request.state, "identity", None)
        if error.refusal.status == 403 and identity is not None:
            # The route's own pattern: what is in an address may be anybody's words.
            route = getattr(request.scope.get("route"), "path", "")
            service.audit.refused(identity, f"{request.method} {route}", error.refusal.code)
        return JSONResponse(error.refusal.body(), error.refusal.status, error.refusal.headers())

    @api.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid_request(error.errors(), _wrong_status(request.url.path)).response()

    @api.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path
        if error.status_code == 400:  # FastAPI, of a body that no JSON parser can read
            message = "body: not valid JSON in UTF-8; correct that (/openapi.json describes the request)"
            return ApiError(_wrong_status(path), "invalid_request", message, "body").response()
        if error.status_code == 404:
            message = f"there is nothing at {path}; /openapi.json lists what there is"
            return ApiError(404, "not_found", message).response()
        if error.status_code == 405:
            allowed = _methods_of(api, request)
            message = f"{path} does not take {request.method}; use {allowed}"
            return ApiError(405, "method_not_allowed", message, headers={"Allow": allowed}).response()
        return ApiError(error.status_code, "http_error", str(error.detail)).response()

    @api.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        # Starlette logs the traceback itself.
        message = "the server failed to carry out this request; its log says why. It may be tried again."
        return ApiError(500, "internal_error", message).response()


def _wrong_status(path: str) -> int:
    """What a path answers to a request that is not as it should be."""
    return 400 if path.startswith((SPEECH_PATHS, SECRETS_PATH)) else 422


def _methods_of(api: FastAPI, request: Request) -> str:
    """Those of all routes that have this path: Starlette names those of the first one alone."""
    found: set[str] = set()
    for route in api.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(found))


def _invalid_request(errors: Sequence[Any], status: int) -> ApiError:
    """All that is wrong with a request, by the names its author used."""
    problems = []
    for error in errors:
        where = ".".join(str(part) for part in error["loc"][1:])
        message = str(error["msg"]).replace("Input should be", "expected", 1)
        if error["type"] == "extra_forbidden":
            message = "there is no such field"
        elif error["type"] == "model_attributes_type" and not where:
            message = "expected a JSON object, sent with `Content-Type: application/json`"
        elif error["type"] == "json_invalid":
            where, message = "body", f"not valid JSON: {error.get('ctx', {}).get('error', message)}"
        elif isinstance(error.get("input"), int | float):  # texts are not repeated: one may be a secret
            message += f", not {error['input']!r:.40}"
        problems.append((where or "body", message))
    text = "; ".join(f"{where}: {message}" for where, message in problems)
    remedy = "correct that (/openapi.json describes the request)"
    return ApiError(status, "invalid_request", f"{text}; {remedy}", problems[0][0])


def _add_health(api: FastAPI, service: Service) -> None:
    @api.get("/healthz", tags=["health"])
    async def healthz() -> Health:
        """The process runs and its event loop turns."""
        return Health()

    @api.get(
        "/readyz",
        tags=["health"],
        responses={503: {"model": Readiness, "description": "Something required is not ready."}},
    )
    async def readyz(response: Response) -> Readiness:
        """Whether calls can be taken, and which part is not ready."""
        parts = [ReadyPart(**asdict(part)) for part in service.readiness()]
        ready = all(part.ready for part in parts if part.required)
        response.status_code = 200 if ready else 503
        return Readiness(ready=ready, parts=parts)


def _add_status(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.get("/v1/status", tags=["operations"], dependencies=guards.metrics, responses=ERRORS)
    async def get_status(
        calls: Annotated[bool, Query(description="With each call in progress; false: without them.")] = True,
    ) -> Status:
        """Tiers, breakers, overrides, budgets and calls as this replica sees them."""
        return _status(service, calls)


def _add_estimates(api: FastAPI, service: Service, guards: Guards) -> None:
    estimator = Estimator(service.settings)

    @api.post(
        "/v1/estimate",
        tags=["routing"],
        dependencies=guards.service,
        responses={**ERRORS, **answers(503, "Too many estimates at once, or too much to simulate.")},
    )
    async def estimate(body: EstimateBody) -> EstimateAnswer:
        """What calls of a given kind will cost, how they step down and how long they wait, by simulating them.

        Seconds of work, in a process of its own.
        """
        try:
            return EstimateAnswer.model_validate(await estimator.estimate(body))
        except EstimateRefused as error:
            raise ApiError(error.status, error.code, str(error), error.param) from None


def _status(service: Service, with_calls: bool) -> Status:
    fleet = service.fleet
    known = fleet.status()
    calls = service.calls()
    shown = [CallStatus.model_validate(call) for call in calls] if with_calls else []
    return Status(
        replica=known.replica,
        now=time.time(),
        store=StoreStatus(
            kind="redis" if known.store == "redis" else "embedded",
            connected=known.connected,
            away_since=known.away_since,
            unsent=known.unsent,
        ),
        next_call=decision_body(fleet.decide(RouteRequest(bucket=service.settings.budget.default_bucket))),
        rungs=_rungs(fleet),
        overrides=[override_view(override) for override in fleet.overrides],
        buckets=[
            BucketStatus(
                bucket=name,
                spent_usd=bucket.spent / NANO,
                reserved_usd=bucket.reserved / NANO,
                cap_usd=None if bucket.cap is None else bucket.cap / NANO,
            )
            for name, bucket in fleet.ledgers.overview().items()
        ],
        calls=shown,
        money=_money(service.tally),
        business_events=[
            SinkStatus(
                sink=outlet.name,
                sent=outlet.sent,
                waiting=outlet.waiting,
                dropped=outlet.dropped,
                failing=outlet.failing or None,
            )
            for outlet in [*service.business.outlets, *service.summaries.outlets]
        ],
        guardrails=_guardrails(service.guardrails),
        approvals=len(service.approvals.pending()),
        voices=_voices(service.speaking),
        process=_process(len(calls)),
    )


def _guardrails(guardrails: Guardrails) -> list[GuardrailStatus]:
    return [
        GuardrailStatus(
            hook=hook.value,
            allowed=tally.allowed,
            rewritten=tally.rewritten,
            vetoed=tally.vetoed,
            failed=tally.failed,
            mean_ms=round(tally.total_ms / max(tally.allowed + tally.rewritten + tally.vetoed, 1), 1),
            longest_ms=round(tally.longest_ms, 1),
        )
        for hook, tally in guardrails.tallies.items()
    ]


def _voices(speaking: Speaking | None) -> list[VoiceStatus]:
    loads = speaking.loads if speaking is not None else {}
    return [VoiceStatus(rung=rung, **asdict(load)) for rung, load in loads.items()]


def _money(tally: Tally) -> MoneyStatus:
    return MoneyStatus(
        charged_usd={what: amount / NANO for what, amount in sorted(tally.charged.items())},
        estimated_usd=tally.estimated / NANO,
        wasted_usd=tally.wasted / NANO,
        unheard_s=tally.unheard_ms / 1000,
        steps=dict(tally.steps),
        gates_closed=tally.gates_closed,
        spent_up=tally.spent_up,
        unpaid=tally.unpaid,
    )


def _process(calls: int) -> ProcessStatus:
    """Two looks into /proc, which are memory: cheap enough to be asked every second."""
    rss = files = None
    if PROC.exists():
        rss = int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        files = len(os.listdir(PROC / "fd"))
    return ProcessStatus(rss_bytes=rss, tasks=len(asyncio.all_tasks()), calls=calls, open_files=files)


def _rungs(fleet: Fleet) -> list[RungStatus]:
    # Breakers live on the monotonic clock; people and other machines do not.
    offset = time.time() - time.monotonic()
    specs = {spec.name: spec for spec in fleet.rungs}
    found = []
    for name, breaker in fleet.breakers.items():
        spec = specs.get(name)
        times = (breaker.last_success_at, breaker.last_failure_at, breaker.next_probe_at)
        success_at, failure_at, probe_at = (None if at is None else at + offset for at in times)
        found.append(
            RungStatus(
                tier=spec.tier if spec else None,
                rung=name,
                missing=fleet.missing_rung(spec) if spec else None,
                breaker=breaker.state.value,
                cause=breaker.cause.id if breaker.cause else None,
                last_success_at=success_at,
                last_failure_at=failure_at,
                next_probe_at=probe_at,
                paid=spec.paid if spec else False,
                usd_per_minute=spec.usd_per_minute if spec else 0.0,
            )
        )
    return found

"""Requests to the API, one function each: how they are made and how their answers are read. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from orchestrator.client.answers import (
    Approval,
    Approvals,
    Estimate,
    Override,
    Overrides,
    PromptLink,
    Route,
    Session,
    Spoken,
    Status,
)
from orchestrator.client.errors import Invalid, no_orchestrator
from orchestrator.client.operations import (
    AuditPage,
    Calls,
    CallTimeline,
    Drill,
    Drills,
    DrillWithReport,
    History,
)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

ESTIMATE_S = 90.0
"""How long an estimate may take: a server gives itself a minute for each, and makes one at a time."""
AUDIT_PAGE = 1000
"""Entries of the audit trail that are asked for at once where all of them are wanted; a server gives no more."""


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """A request. `repeatable`: carrying it out twice does no harm."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    json: Mapping[str, Any] | None = None
    params: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    timeout_s: float | None = None


def route(
    *, user: str, purpose: str, transport: str, bucket: str | None, allowed_tools: Sequence[str], call_id: str
) -> Ask[Route]:
    body = {
        "call_id": call_id,
        "user": user,
        "purpose": purpose,
        "transport": transport,
        "bucket": bucket,
        "allowed_tools": list(allowed_tools),
    }
    return Ask("POST", "/v1/route", _model(Route), json=body, repeatable=True)


def start_session(*, expires_in_s: int | None, **body: Any) -> Ask[Session]:
    if expires_in_s is not None:
        body["expires_after"] = {"anchor": "created_at", "seconds": expires_in_s}
    return Ask("POST", "/realtime/session", _model(Session), json=_given(body))


def speak(name: str, variables: Mapping[str, Any], **body: Any) -> Ask[Spoken]:
    sent = {"variables": dict(variables), **_given(body)}
    return Ask("POST", _path("prompts", name), _spoken, json=sent, repeatable=True)


def prompt_url(name: str, variables: Mapping[str, Any], **body: Any) -> Ask[PromptLink]:
    sent = {"variables": dict(variables), "output": "url", **_given(body)}
    return Ask("POST", _path("prompts", name), _model(PromptLink), json=sent, repeatable=True)


def synthesize(text: str, **body: Any) -> Ask[Spoken]:
    sent = {"input": text, **_given(body)}
    return Ask("POST", "/v1/audio/speech", _spoken, json=sent, repeatable=True)


def estimate(**body: Any) -> Ask[Estimate]:
    return Ask("POST", "/v1/estimate", _model(Estimate), json=_given(body), timeout_s=ESTIMATE_S)


def status() -> Ask[Status]:
    return Ask("GET", "/v1/status", _model(Status), repeatable=True)


def history() -> Ask[History]:
    return Ask("GET", "/v1/history", _model(History), repeatable=True)


def calls(*, ended: bool, **query: Any) -> Ask[Calls]:
    params = [(name, str(value)) for name, value in _given(query).items()]
    if ended:
        params.append(("ended", "true"))
    return Ask("GET", "/v1/calls", _model(Calls), params=params, repeatable=True)


def call(id: str, *, text: bool) -> Ask[CallTimeline]:
    params = [("text", "true")] if text else []
    return Ask("GET", _path("calls", id), _model(CallTimeline), params=params, repeatable=True)


def overrides() -> Ask[list[Override]]:
    read = _model(Overrides)
    return Ask("GET", "/v1/overrides", lambda response: read(response).overrides, repeatable=True)


def force(
    tier: str, *, scope: str, for_: str, reason: str, who: str, limit: str, share: float, when: str
) -> Ask[Override]:
    body = {"tier": tier, "scope": scope, "for": for_, "reason": reason, "who": who}
    ordered: dict[str, str | float] = {**body, "limit": limit, "share": share, "when": when}
    return Ask("POST", "/v1/overrides", _model(Override), json=ordered)


def extend(id: str, *, for_: str, reason: str, who: str) -> Ask[Override]:
    body = {"for": for_, "reason": reason, "who": who}
    return Ask("PATCH", _path("overrides", id), _model(Override), json=body)


def clear(id: str) -> Ask[None]:
    return Ask("DELETE", _path("overrides", id), lambda response: None)


def approvals() -> Ask[list[Approval]]:
    read = _model(Approvals)
    return Ask("GET", "/v1/approvals", lambda response: read(response).approvals, repeatable=True)


def decide(id: str, decision: str, *, who: str, reason: str) -> Ask[Approval]:
    body = {"decision": decision, "who": who, "reason": reason}
    return Ask("POST", _path("approvals", id), _model(Approval), json=body)


def drills() -> Ask[list[Drill]]:
    read = _model(Drills)
    return Ask("GET", "/v1/drills", lambda response: read(response).drills, repeatable=True)


def drill(id: str) -> Ask[DrillWithReport]:
    return Ask("GET", _path("drills", id), _model(DrillWithReport), repeatable=True)


def start_drill(practice: str, *, for_: str, **words: Any) -> Ask[Drill]:
    return Ask("POST", "/v1/drills", _model(Drill), json={"practice": practice, "for": for_, **words})


def end_drill(id: str) -> Ask[None]:
    return Ask("DELETE", _path("drills", id), lambda response: None)


def audit(*, after: int | None, limit: int) -> Ask[AuditPage]:
    params = [(name, str(value)) for name, value in _given({"after": after, "limit": limit}).items()]
    return Ask("GET", "/v1/audit", _model(AuditPage), params=params, repeatable=True)


def _path(what: str, id: str) -> str:
    if id in ("", ".", ".."):  # which would make it another path
        raise Invalid(f"expected the id or name of one of the {what}, not {id!r}", param="id")
    return f"/v1/{what}/{quote(id, safe='')}"


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was left out."""
    return {name: value for name, value in body.items() if value is not None}


def _model(kind: type[M]) -> Callable[[httpx.Response], M]:
    def read(response: httpx.Response) -> M:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError:
            failure = no_orchestrator(response)
        # Out here it has no context: what pydantic says holds what came, which may be a credential.
        raise failure

    return read


def _spoken(response: httpx.Response) -> Spoken:
    if not response.headers.get("content-type", "").startswith("audio/"):
        raise no_orchestrator(response)
    return Spoken(
        audio=response.content,
        media_type=response.headers["content-type"],
        seconds=_number(response, "x-audio-seconds"),
        cost_usd=_number(response, "x-cost-usd"),
        cache=response.headers.get("x-cache"),
    )


def _number(response: httpx.Response, header: str) -> float | None:
    try:
        return float(response.headers.get(header, ""))
    except ValueError:
        return None

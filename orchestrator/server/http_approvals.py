"""The part of the HTTP API with which people approve tool calls, or reject them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

from fastapi import FastAPI, Request

from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.api_models import ApprovalView, ApprovalViews, VerdictBody
from orchestrator.server.approvals import AlreadyDecided, Approval, Approvals, UnknownApproval, Verdict
from orchestrator.server.audit import Audit
from orchestrator.server.guards import Guards, who
from orchestrator.server.store import StoreUnavailable


class Service(Protocol):
    @property
    def approvals(self) -> Approvals: ...

    @property
    def audit(self) -> Audit: ...


def add_approvals(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.get("/v1/approvals", tags=["operations"], dependencies=guards.operator, responses=ERRORS)
    async def list_approvals() -> ApprovalViews:
        """Tool calls that wait for a person's decision, of all replicas, the oldest first."""
        return ApprovalViews(approvals=[_view(approval) for approval in service.approvals.pending()])

    @api.post(
        "/v1/approvals/{id}",
        tags=["operations"],
        dependencies=guards.operator,
        responses={
            **ERRORS,
            **answers(404, "There is no such approval."),
            **answers(409, "It was decided already, or it is too late."),
            **answers(503, "The shared store is away: nobody can decide."),
        },
    )
    async def decide_approval(id: str, body: VerdictBody, request: Request) -> ApprovalView:
        """Approves a tool call, or rejects it. The first decision counts, at whichever replica it was made."""
        try:
            approval, verdict = await service.approvals.decide(
                id, body.decision == "approve", body.who, body.reason, by=who(request).id
            )
        except UnknownApproval:
            known = ", ".join(approval.id for approval in service.approvals.pending()) or "none"
            raise ApiError(
                404, "unknown_approval", f"there is no approval {id!r}; there are: {known}", "id"
            ) from None
        except AlreadyDecided as error:
            raise ApiError(
                409,
                "already_decided",
                f"{error}; that stands, and GET /v1/approvals lists what can still be decided",
                "id",
            ) from None
        except StoreUnavailable:
            raise ApiError(
                503, "store_away", "the shared store is away, so nobody can decide now; try again shortly"
            ) from None
        service.audit.note(
            who(request),
            f"approval.{verdict.word}",
            approval.id,
            body.reason,
            typed=body.who,
            call_id=approval.call_id,
            tool=approval.tool,
        )
        return _view(approval, verdict)


def _view(approval: Approval, verdict: Verdict | None = None) -> ApprovalView:
    decided: dict[str, Any] = dict.fromkeys(("decision", "who", "reason", "decided_at", "by"))
    if verdict is not None:
        decided = {
            "decision": verdict.word,
            "who": verdict.who,
            "reason": verdict.reason,
            "decided_at": verdict.at,
            "by": verdict.by,
        }
    return ApprovalView(**asdict(approval), **decided)

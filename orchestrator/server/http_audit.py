"""`GET /v1/audit`: the audit trail, in pages, for operators."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

from orchestrator.core.audit import parse
from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.audit import Audit
from orchestrator.server.audit_trails import TrailAway
from orchestrator.server.guards import Guards

log = logging.getLogger(__name__)

READ_S = 10.0
"""How long the trail may take to be read."""
MOST = 1000


class AuditEntry(BaseModel):
    """What somebody did. `hash` is a SHA-256 over `prev`, a line feed and the rest as sorted JSON without spaces."""

    seq: int
    id: str
    time: float
    who: str
    name: str
    action: str
    subject: str
    reason: str
    details: dict[str, Any]
    prev: str
    hash: str


class AuditPage(BaseModel):
    entries: list[AuditEntry]
    last: int = Field(description="How many entries there are.")
    head: str = Field(
        description="That number and the hash of the last entry. Noted elsewhere, it tells a cut."
    )
    waiting: int = Field(description="Entries of this replica that the trail has not taken yet.")
    kept_in: str


class Service(Protocol):
    @property
    def audit(self) -> Audit: ...


def add_audit(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.get(
        "/v1/audit",
        tags=["operations"],
        dependencies=guards.operator,
        responses={**ERRORS, **answers(503, "The trail is away, or its last entry was changed.")},
    )
    async def read_audit(
        after: Annotated[
            int | None, Query(ge=0, description="Entries behind that number; none given: the latest ones.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    ) -> AuditPage:
        """Who did what and why, of all replicas, the oldest of the page first."""
        trail = service.audit.trail
        try:
            async with asyncio.timeout(READ_S):
                head = await trail.head()
                first = max(0, head.seq - limit) if after is None else after
                lines = await trail.read(first, limit)
        except (TrailAway, TimeoutError) as error:
            why = str(error) or "the audit trail took too long to be read"
            raise ApiError(503, "audit_away", f"{why}; try again", headers={"Retry-After": "2"}) from None
        return AuditPage(
            entries=[AuditEntry.model_validate(_shown(line, first + at)) for at, line in enumerate(lines, 1)],
            last=head.seq,
            head=str(head),
            waiting=service.audit.waiting,
            kept_in=trail.where,
        )


def _shown(line: str, seq: int) -> Mapping[str, Any]:
    try:
        return parse(line)
    except (ValueError, RecursionError):
        message = (
            f"entry {seq} of the audit trail is none: it was changed; look at it where it is kept, and read on behind "
            f"it with ?after={seq}"
        )
        raise ApiError(500, "audit_broken", message) from None

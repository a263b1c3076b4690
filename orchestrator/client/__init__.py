"""A Python client of the orchestrator's HTTP API.

    from orchestrator.client import Orchestrator

    with Orchestrator("http://127.0.0.1:8080") as orchestrator:
        print(orchestrator.route(user="42").sentence)

`AsyncOrchestrator` is the same with `await`. docs/client.md tells the rest. It needs httpx, pydantic and tenacity, and
nothing of the server.
"""

from orchestrator.client.answers import (
    Approval,
    Connect,
    Estimate,
    Event,
    Override,
    PassedOver,
    PromptLink,
    Route,
    Session,
    Spoken,
    Status,
    WouldChange,
)
from orchestrator.client.asynchronous import AsyncOrchestrator
from orchestrator.client.errors import (
    Conflict,
    Invalid,
    NotFound,
    OrchestratorError,
    Overloaded,
    Refused,
    ServerFault,
    Unreachable,
)
from orchestrator.client.operations import (
    AuditEntry,
    AuditPage,
    CallFigures,
    Calls,
    CallTimeline,
    Drill,
    DrillReport,
    DrillWithReport,
    History,
)
from orchestrator.client.synchronous import Orchestrator

__all__ = [
    "Approval",
    "AsyncOrchestrator",
    "AuditEntry",
    "AuditPage",
    "CallFigures",
    "CallTimeline",
    "Calls",
    "Conflict",
    "Connect",
    "Drill",
    "DrillReport",
    "DrillWithReport",
    "Estimate",
    "Event",
    "History",
    "Invalid",
    "NotFound",
    "Orchestrator",
    "OrchestratorError",
    "Overloaded",
    "Override",
    "PassedOver",
    "PromptLink",
    "Refused",
    "Route",
    "ServerFault",
    "Session",
    "Spoken",
    "Status",
    "Unreachable",
    "WouldChange",
]

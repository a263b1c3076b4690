"""Why a call moves, in the words of a handover's timeline row: its trigger, its cause, and what they entail."""

from __future__ import annotations

from orchestrator.core.context import Bridge, CallContext
from orchestrator.core.health import Cause
from orchestrator.core.routing import DecidedBy, Decision, Reason

TRIGGERS = {DecidedBy.OVERRIDE: "operator", DecidedBy.HARD_CAP: "budget", DecidedBy.POLICY: "policy"}
"""Of a move between turns, by what decided it. Health moves no call then: it stays until its rung fails it."""

BRIDGES = {
    "deadline": Bridge.LATE,
    "hedge": Bridge.LATE,
    "operator": Bridge.PLANNED,
    "budget": Bridge.PLANNED,
    "policy": Bridge.PLANNED,
}
"""What is said while the answer is not there, by trigger; after a fault, the usual."""

ORDERS = frozenset({Reason.OVERRIDE, Reason.CEILING, Reason.FLOOR})

DEADLINES = frozenset(
    {
        Cause.CONNECT_TIMEOUT,
        Cause.RESPONSE_TIMEOUT,
        Cause.FIRST_AUDIO_TIMEOUT,
        Cause.NEXT_AUDIO_TIMEOUT,
        Cause.DEAF,
    }
)
TERMINAL = frozenset({Cause.BAD_KEY, Cause.NO_CREDIT, Cause.MODEL_NOT_FOUND, Cause.GRANT_REFUSED})
"""Causes that no second try on the same rung can help."""
BLAMELESS = frozenset({Cause.EXPIRED, Cause.GRANT_REFUSED, Cause.DRILL})
"""Causes that say nothing about how other calls would fare, and so are not told to a breaker."""


def trigger_of(cause: Cause) -> str:
    """Of a handover that a provider caused."""
    if cause is Cause.EXPIRED:
        return "expiry"
    return "deadline" if cause in DEADLINES else "fault"


def trigger_between_turns(decision: Decision, rung: str) -> str | None:
    """Why a decision between turns moves a call from its rung; None where it does not."""
    if passed_over(decision).get(rung) in ORDERS:
        return "operator"
    if decision.reason is Reason.BUDGET_STEP:
        return "budget"
    return TRIGGERS.get(decision.decided_by)


def passed_over(decision: Decision) -> dict[str, Reason]:
    """Why each rung that was not chosen was passed over."""
    return {candidate.rung: candidate.passed_over for candidate in decision.candidates}


def row_of(ctx: CallContext, decision: Decision, trigger: str, cause: str) -> dict[str, str]:
    """The fields of a handover's timeline row."""
    return {
        "from_tier": ctx.tier,
        "from_rung": ctx.rung,
        "to_tier": str(decision.tier),
        "to_rung": decision.rung,
        "trigger": trigger,
        "cause": cause,
    }

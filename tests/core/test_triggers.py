"""Why a call moves, in the words of its timeline."""

from __future__ import annotations

import pytest

from orchestrator.core.health import Cause
from orchestrator.core.overrides import Tier
from orchestrator.core.routing import Candidate, DecidedBy, Decision, Reason
from orchestrator.core.triggers import BLAMELESS, DEADLINES, TERMINAL, trigger_between_turns, trigger_of


@pytest.mark.parametrize("cause", Cause)
def test_a_provider_that_fails_is_late_has_expired_or_is_at_fault(cause: Cause) -> None:
    expected = "deadline" if cause in DEADLINES else "expiry" if cause is Cause.EXPIRED else "fault"
    assert trigger_of(cause) == expected


def test_what_is_late_may_be_tried_again() -> None:
    assert not DEADLINES & TERMINAL
    assert Cause.DRILL in BLAMELESS


@pytest.mark.parametrize(
    ("passed_over", "reason", "decided_by", "trigger"),
    [
        (Reason.CEILING, Reason.CEILING, DecidedBy.OVERRIDE, "operator"),
        # An order took it from this rung, and a breaker from the next.
        (Reason.OVERRIDE, Reason.BREAKER_OPEN, DecidedBy.HEALTH, "operator"),
        (Reason.BUDGET_STEP, Reason.BUDGET_STEP, DecidedBy.POLICY, "budget"),
        (Reason.BUDGET_SPENT, Reason.BUDGET_SPENT, DecidedBy.HARD_CAP, "budget"),
        (Reason.ONE_WAY_PURPOSE, Reason.ONE_WAY_PURPOSE, DecidedBy.POLICY, "policy"),
        (Reason.BREAKER_OPEN, Reason.BREAKER_OPEN, DecidedBy.HEALTH, None),
    ],
)
def test_between_turns_a_call_moves_by_order_budget_or_policy_and_not_by_a_breaker(
    passed_over: Reason, reason: Reason, decided_by: DecidedBy, trigger: str | None
) -> None:
    here = Candidate(Tier.A, "realtime", passed_over)
    decision = Decision(Tier.B, "kokoro", reason, decided_by, candidates=(here,))
    assert trigger_between_turns(decision, "realtime") == trigger

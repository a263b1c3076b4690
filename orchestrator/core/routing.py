"""Which tier and rung a call is to use: a pure function of what is known, in microseconds.

Every rung is looked at in order of preference and passed over for the first of these that excludes it: hard
cap (money), then policy, then an operator's override, then health. The first rung that nothing excludes is
chosen, and the decision says which of them decided and why each other rung was not chosen. An override is above
a breaker, yet it cannot choose what a cap or a policy excludes or what is not there at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.core.budget import BudgetState
from orchestrator.core.overrides import Override, Tier, choose_override
from orchestrator.core.steps import StepAction

ONE_WAY_PURPOSES = frozenset({"notification", "order_status_notice", "queue_update", "post_call_summary"})
"""Purposes that say something and want no answer."""


class DecidedBy(StrEnum):
    HARD_CAP = "hard_cap"
    POLICY = "policy"
    OVERRIDE = "override"
    HEALTH = "health"
    DEFAULT = "default"


class Reason(StrEnum):
    """Why a rung was chosen or passed over."""

    DEFAULT = "default"
    BUDGET_SPENT = "budget_spent"
    """Not even one more short answer could be paid for."""
    BUDGET_STEP = "budget_step"
    """A step of the bucket's was taken: the call is to cost less from here on."""
    NO_PROVIDER_KEY = "no_provider_key"
    NOT_READY = "not_ready"
    FAILED_IN_CALL = "failed_in_call"
    """It has just failed this very call, whatever its breaker says."""
    TIER_DISABLED = "tier_disabled"
    ONE_WAY_PURPOSE = "one_way_purpose"
    NO_PROMOTION = "no_promotion"
    OVERRIDE = "override"
    BREAKER_OPEN = "breaker_open"
    NOT_PREFERRED = "not_preferred"
    LAST_RESORT = "last_resort"
    NOTHING_READY = "nothing_ready"


_DECIDES = {
    Reason.BUDGET_SPENT: DecidedBy.HARD_CAP,
    Reason.BUDGET_STEP: DecidedBy.POLICY,
    Reason.NO_PROVIDER_KEY: DecidedBy.HEALTH,
    Reason.NOT_READY: DecidedBy.HEALTH,
    Reason.FAILED_IN_CALL: DecidedBy.HEALTH,
    Reason.TIER_DISABLED: DecidedBy.POLICY,
    Reason.ONE_WAY_PURPOSE: DecidedBy.POLICY,
    Reason.NO_PROMOTION: DecidedBy.POLICY,
    Reason.OVERRIDE: DecidedBy.OVERRIDE,
    Reason.BREAKER_OPEN: DecidedBy.HEALTH,
    Reason.DEFAULT: DecidedBy.DEFAULT,
    Reason.NOT_PREFERRED: DecidedBy.DEFAULT,
    Reason.LAST_RESORT: DecidedBy.HEALTH,
    Reason.NOTHING_READY: DecidedBy.HEALTH,
}


def decides(reason: Reason) -> DecidedBy:
    """Which of hard cap, policy, override and health a reason belongs to; none of them: the order of preference."""
    return _DECIDES[reason]


_NO_CAPS = BudgetState()


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung as the router sees it. `missing` says why it cannot be used at all, None if it can."""

    tier: Tier
    name: str
    paid: bool = False
    usd_per_minute: float = 0.0
    least: int = 0
    """What there has to be left for one more answer, in nano-dollars."""
    missing: Reason | None = None
    breaker_open: bool = False
    cause: str = ""
    """Why the breaker is open."""


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """A call, or one to come. `current` is the tier it is in, None for a new one."""

    call_id: str = ""
    user: str = ""
    purpose: str = "conversation"
    transport: str = "websocket"
    bucket: str = "default"
    allowed_tools: tuple[str, ...] = ()
    current: Tier | None = None


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision is made from. `rungs` are in order of preference: A's, then B's, then C's."""

    rungs: Sequence[Rung]
    overrides: Sequence[Override] = ()
    budget: BudgetState = _NO_CAPS
    one_way_purposes: frozenset[str] = ONE_WAY_PURPOSES
    promote: bool = True
    """Whether a call may move to a better tier than its current one."""
    excluded: frozenset[str] = frozenset()
    """Tiers ("A") and rungs ("gpt-realtime-2.1") that are not to be chosen for this call now."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rung that was not chosen, and why."""

    tier: Tier
    rung: str
    passed_over: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    tier: Tier
    rung: str
    reason: Reason
    decided_by: DecidedBy
    usd_per_minute: float = 0.0
    candidates: tuple[Candidate, ...] = ()
    override_id: str | None = None
    allowed_tools: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """False only where no tier is ready to take a call."""
        return self.reason is not Reason.NOTHING_READY


def decide(request: RouteRequest, view: View, now: float) -> Decision:
    """The rung for `request`. `now` is Unix seconds, the clock of `Override.until`."""
    override = choose_override(
        view.overrides,
        call_id=request.call_id,
        user=request.user,
        purpose=request.purpose,
        bucket=request.bucket,
        now=now,
    )
    usable: list[Rung] = []
    candidates: list[Candidate] = []
    for rung in view.rungs:
        reason, detail = _barred(rung, request, view)
        if reason is None:
            usable.append(rung)
        else:
            candidates.append(Candidate(rung.tier, rung.name, reason, detail))

    if override is not None and any(rung.tier is override.tier for rung in usable):
        return _by_override(override, usable, request, candidates)
    return _by_health(usable, request, view, candidates)


def _by_override(
    override: Override, usable: list[Rung], request: RouteRequest, candidates: list[Candidate]
) -> Decision:
    """An operator's word is above a breaker's, but among the rungs of the tier a healthy one is better."""
    forced = sorted(
        (rung for rung in usable if rung.tier is override.tier), key=lambda rung: rung.breaker_open
    )
    candidates += [
        Candidate(rung.tier, rung.name, Reason.OVERRIDE, override.reason)
        for rung in usable
        if rung.tier is not override.tier
    ]
    return _decision(forced[0], Reason.OVERRIDE, request, candidates, forced[1:], override.id)


def _by_health(
    usable: list[Rung], request: RouteRequest, view: View, candidates: list[Candidate]
) -> Decision:
    if not view.promote and request.current is not None:
        above = [rung for rung in usable if rung.tier < request.current]
        usable = [rung for rung in usable if rung.tier >= request.current]
        candidates += [Candidate(rung.tier, rung.name, Reason.NO_PROMOTION) for rung in above]
    healthy = [rung for rung in usable if not rung.breaker_open]
    doubtful = [rung for rung in usable if rung.breaker_open]
    # Where every rung left is in doubt, a try is better than a dead line.
    last_resort = doubtful.pop() if doubtful and not healthy else None
    candidates += [Candidate(rung.tier, rung.name, Reason.BREAKER_OPEN, rung.cause) for rung in doubtful]
    if healthy:
        reason = _why(healthy[0], view.rungs, candidates)
        return _decision(healthy[0], reason, request, candidates, healthy[1:])
    if last_resort is not None:
        return _decision(last_resort, Reason.LAST_RESORT, request, candidates, ())
    return Decision(Tier.C, "", Reason.NOTHING_READY, DecidedBy.HEALTH, candidates=tuple(candidates))


def _barred(rung: Rung, request: RouteRequest, view: View) -> tuple[Reason | None, str]:
    """Why this rung is out of the question before overrides and health are looked at."""
    if rung.paid and (who := view.budget.short_of(rung.least)) is not None:
        return Reason.BUDGET_SPENT, who
    if (step := _step_that_bars(rung, view)) is not None:
        return Reason.BUDGET_STEP, step
    if rung.missing is Reason.TIER_DISABLED:
        return rung.missing, ""
    if request.purpose in view.one_way_purposes and rung.tier is not Tier.C:
        return Reason.ONE_WAY_PURPOSE, request.purpose
    if rung.missing is None and not view.excluded.isdisjoint((rung.tier.value, rung.name)):
        return Reason.FAILED_IN_CALL, ""
    return rung.missing, ""


def _step_that_bars(rung: Rung, view: View) -> str | None:
    """The budget step this call has taken, if it is above this rung."""
    level = view.budget.level
    if level is None or level is StepAction.CONCISE or rung.tier is Tier.C:
        return None
    if level is StepAction.CHEAPER_RUNG:
        there = [r for r in view.rungs if r.tier is Tier.A and r.missing is None]
        cheapest = min((r.usd_per_minute for r in there), default=0.0)
        bars = rung.tier is Tier.A and rung.usd_per_minute > cheapest
    else:
        bars = rung.tier is Tier.A or level is not StepAction.TIER_B
    return level.value if bars else None


def _why(chosen: Rung, rungs: Sequence[Rung], candidates: Sequence[Candidate]) -> Reason:
    """Why the last better rung was passed over: without that reason the choice would have been that one."""
    passed = {(candidate.tier, candidate.rung): candidate.passed_over for candidate in candidates}
    reason = Reason.DEFAULT
    for rung in rungs:
        if rung is chosen:
            break
        reason = passed[rung.tier, rung.name]
    return reason


def _decision(
    chosen: Rung,
    reason: Reason,
    request: RouteRequest,
    candidates: Sequence[Candidate],
    rest: Sequence[Rung],
    override_id: str | None = None,
) -> Decision:
    not_needed = tuple(Candidate(rung.tier, rung.name, Reason.NOT_PREFERRED) for rung in rest)
    return Decision(
        chosen.tier,
        chosen.name,
        reason,
        decides(reason),
        chosen.usd_per_minute,
        tuple(candidates) + not_needed,
        override_id,
        # A prompt that wants no answer runs no tools.
        () if reason is Reason.ONE_WAY_PURPOSE else request.allowed_tools,
    )

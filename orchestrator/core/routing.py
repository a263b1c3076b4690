"""Which tier and rung a call is to use: a pure function of what is known, in microseconds.

Every rung is looked at in order of preference and passed over for the first of these that excludes it: hard
cap (money), then policy, then an operator's override, then health. The first rung that nothing excludes is
chosen, and the decision says which of them decided and why each other rung was not chosen. An override is above
a breaker, yet it cannot choose what a cap or a policy excludes or what is not there at all. Several may apply (see
`limits`); of them a floor is no order to use what does not work, so that health is above it. That calls are not to be
promoted is the one policy that gives way to an operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.core.budget import BudgetState
from orchestrator.core.limits import Aside, Limits, Place, SetAside, excluding, limits
from orchestrator.core.overrides import Limit, Override, Tier, When, applying
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
    """An operator forces another one."""
    CEILING = "ceiling"
    """An operator wants nothing as good."""
    FLOOR = "floor"
    """An operator wants nothing as bad; of the rung that was chosen: a call moves up to it because of that."""
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
    Reason.CEILING: DecidedBy.OVERRIDE,
    Reason.FLOOR: DecidedBy.OVERRIDE,
    Reason.BREAKER_OPEN: DecidedBy.HEALTH,
    Reason.DEFAULT: DecidedBy.DEFAULT,
    Reason.NOT_PREFERRED: DecidedBy.DEFAULT,
    Reason.LAST_RESORT: DecidedBy.HEALTH,
    Reason.NOTHING_READY: DecidedBy.HEALTH,
}


_LIMITS = {Limit.FORCE: Reason.OVERRIDE, Limit.CEILING: Reason.CEILING, Limit.FLOOR: Reason.FLOOR}


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
    started: float | None = None
    """When it began, in Unix seconds; None: it is about to."""


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
    override: Override | None = None
    """The one that bars it, where one does."""


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
    set_aside: tuple[SetAside, ...] = ()
    """Overrides that apply and count for nothing here."""
    at_once: bool = False
    """A call elsewhere is to follow in the middle of an answer, too."""

    @property
    def usable(self) -> bool:
        """False only where no tier is ready to take a call."""
        return self.reason is not Reason.NOTHING_READY


def decide(request: RouteRequest, view: View, now: float) -> Decision:
    """The rung for `request`. `now` is Unix seconds, the clock of `Override.until`."""
    usable: list[Rung] = []
    candidates: list[Candidate] = []
    for rung in view.rungs:
        reason, detail = _barred(rung, request, view)
        if reason is None:
            usable.append(rung)
        else:
            candidates.append(Candidate(rung.tier, rung.name, reason, detail))
    if not view.overrides or not (orders := orders_for(request, view, now)):
        return _by_health(usable, request, view, candidates, Limits(frozenset()))
    places = [_place(rung) for rung in view.rungs]
    found = limits(orders, [_place(rung) for rung in usable], places)
    if found.force is None and found.floors and not _works(usable, found):
        found = _without_floors(found, usable, places)
    for rung in usable:
        if (bars := excluding(found.standing, _place(rung), places)) is not None:
            reason = _LIMITS[bars.limit]
            candidates.append(Candidate(rung.tier, rung.name, reason, bars.reason, bars))
    left = [rung for rung in usable if _place(rung) in found.allowed]
    if found.force is not None:
        # An operator's word is above a breaker's, but of the rungs that it leaves a healthy one is better.
        left.sort(key=lambda rung: rung.breaker_open)
        return _decision(left[0], Reason.OVERRIDE, request, candidates, left[1:], found, found.force)
    return _by_health(left, request, view, candidates, found)


def orders_for(request: RouteRequest, view: View, now: float) -> list[Override]:
    """The overrides that apply to a call, in the order in which they count."""
    return applying(
        view.overrides,
        call_id=request.call_id,
        user=request.user,
        purpose=request.purpose,
        bucket=request.bucket,
        now=now,
        started=request.started,
    )


def _place(rung: Rung) -> Place:
    return rung.tier, rung.name


def _works(usable: Sequence[Rung], found: Limits) -> bool:
    return any(not rung.breaker_open for rung in usable if _place(rung) in found.allowed)


def _without_floors(found: Limits, usable: Sequence[Rung], places: Sequence[Place]) -> Limits:
    """Nothing that the floors leave works: health is above them."""
    rest = [order for order in found.standing if order.limit is not Limit.FLOOR]
    again = limits(rest, [_place(rung) for rung in usable], places)
    beaten = tuple(SetAside(floor, Aside.HEALTH) for floor in found.floors)
    return Limits(again.allowed, again.standing, found.aside + beaten)


def _by_health(
    usable: list[Rung], request: RouteRequest, view: View, candidates: list[Candidate], found: Limits
) -> Decision:
    lifted = False
    if not view.promote and request.current is not None:
        above = [rung for rung in usable if rung.tier < request.current]
        stay = [rung for rung in usable if rung.tier >= request.current]
        # A floor above the tier that the call is in is an order to leave it.
        lifted = not stay and bool(found.floors)
        if not lifted:
            usable = stay
            candidates += [Candidate(rung.tier, rung.name, Reason.NO_PROMOTION) for rung in above]
    healthy = [rung for rung in usable if not rung.breaker_open]
    doubtful = [rung for rung in usable if rung.breaker_open]
    # Where every rung left is in doubt, a try is better than a dead line.
    last_resort = doubtful.pop() if doubtful and not healthy else None
    candidates += [Candidate(rung.tier, rung.name, Reason.BREAKER_OPEN, rung.cause) for rung in doubtful]
    if healthy:
        reason, bars = _why(healthy[0], view.rungs, candidates)
        if lifted:
            reason, bars = Reason.FLOOR, found.floors[0]
        return _decision(healthy[0], reason, request, candidates, healthy[1:], found, bars)
    if last_resort is not None:
        return _decision(last_resort, Reason.LAST_RESORT, request, candidates, (), found)
    return Decision(
        Tier.C,
        "",
        Reason.NOTHING_READY,
        DecidedBy.HEALTH,
        candidates=tuple(candidates),
        set_aside=found.aside,
    )


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


def _why(
    chosen: Rung, rungs: Sequence[Rung], candidates: Sequence[Candidate]
) -> tuple[Reason, Override | None]:
    """Why the last better rung was passed over: without that reason the choice would have been that one."""
    passed = {(candidate.tier, candidate.rung): candidate for candidate in candidates}
    reason, override = Reason.DEFAULT, None
    for rung in rungs:
        if rung is chosen:
            break
        reason = passed[rung.tier, rung.name].passed_over
        override = passed[rung.tier, rung.name].override
    return reason, override


def _decision(
    chosen: Rung,
    reason: Reason,
    request: RouteRequest,
    candidates: Sequence[Candidate],
    rest: Sequence[Rung],
    found: Limits,
    override: Override | None = None,
) -> Decision:
    not_needed = tuple(Candidate(rung.tier, rung.name, Reason.NOT_PREFERRED) for rung in rest)
    orders = [override, *(c.override for c in candidates if c.tier is request.current)]
    return Decision(
        chosen.tier,
        chosen.name,
        reason,
        decides(reason),
        chosen.usd_per_minute,
        tuple(candidates) + not_needed,
        None if override is None else override.id,
        # A prompt that wants no answer runs no tools.
        () if reason is Reason.ONE_WAY_PURPOSE else request.allowed_tools,
        found.aside,
        any(order is not None and order.when is When.NOW for order in orders),
    )

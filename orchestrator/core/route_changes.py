"""What would change a routing decision: single changes, each made to the `View`, and `decide` asked again.

Nothing is guessed: the changes whose answer is another tier or rung are told, with that answer. Where two things stand
in the way of a rung, no single change brings it back, and none is told for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestrator.core.budget import BudgetState
from orchestrator.core.overrides import Override, Scope, ScopeKind, Tier
from orchestrator.core.routing import Decision, Reason, RouteRequest, Rung, View, decide, orders_for


class ChangeKind(StrEnum):
    """What may become different. `Change.about` is what stands in brackets."""

    OVERRIDE_ENDS = "override_ends"
    """An override that applies is cleared or expires (its id)."""
    OVERRIDE_MADE = "override_made"
    """An operator forces a tier on this very call (the tier)."""
    BREAKER_CLOSES = "breaker_closes"
    """A rung works again, or lets this call in while it is on trial (the rung)."""
    BREAKER_OPENS = "breaker_opens"
    """A rung fails (the rung)."""
    TIER_READY = "tier_ready"
    """A tier's engines are loaded (the tier)."""
    KEY_GIVEN = "key_given"
    """The provider's key is set (the tier)."""
    TIER_ENABLED = "tier_enabled"
    """The settings let the tier be used (the tier)."""
    MORE_MONEY = "more_money"
    """There is so much more (call or bucket)."""
    LESS_MONEY = "less_money"
    """So much more is spent (call or bucket)."""
    DAY_ENDS = "day_ends"
    """At midnight UTC the bucket begins anew (the bucket)."""
    STEP_UNDONE = "step_undone"
    """The call had not taken the step to a cheaper one (the step)."""
    PURPOSE_TWO_WAY = "purpose_two_way"
    """The settings do not name the purpose as one-way (the purpose)."""
    PROMOTION_ALLOWED = "promotion_allowed"
    """Calls may move up again (the tier the call is in)."""
    FAILURE_FORGIVEN = "failure_forgiven"
    """What failed this call has proved itself since (a rung or tier)."""


@dataclass(frozen=True, slots=True)
class Change:
    kind: ChangeKind
    about: str
    amount: int = 0
    """Nano-dollars, where it is about money."""


def changes_of(request: RouteRequest, view: View, now: float) -> list[tuple[Change, Decision]]:
    """Every single change of the kinds above after which another tier or rung is chosen, with that decision.

    Of money the least amount is told by which each other answer is reached.
    """
    view = relevant(request, view)
    current = answer_of(decide(request, view, now))
    found: list[tuple[Change, Decision]] = []
    told: set[tuple[ChangeKind, str, tuple[Tier, str] | None]] = set()
    for change in _considered(request, view, now):
        decision = decide(request, apply(change, request, view, now), now)
        answer = answer_of(decision)
        if answer == current:
            continue
        if change.amount:
            if (change.kind, change.about, answer) in told:
                continue
            told.add((change.kind, change.about, answer))
        found.append((change, decision))
    return found


def answer_of(decision: Decision) -> tuple[Tier, str] | None:
    """What counts as the answer: the tier and the rung; None where no tier is ready."""
    return (decision.tier, decision.rung) if decision.usable else None


def apply(change: Change, request: RouteRequest, view: View, now: float) -> View:
    """The view as it would be after a change."""
    return _APPLY[change.kind](change, request, view, now)


def relevant(request: RouteRequest, view: View) -> View:
    """The view without the overrides of others: there may be many, and each decision looks at all."""
    mine = [
        override
        for override in view.overrides
        if override.matches(
            call_id=request.call_id,
            user=request.user,
            purpose=request.purpose,
            bucket=request.bucket,
            started=request.started,
        )
    ]
    return replace(view, overrides=mine)


def _considered(request: RouteRequest, view: View, now: float) -> Iterator[Change]:
    for override in orders_for(request, view, now):
        yield Change(ChangeKind.OVERRIDE_ENDS, override.id)
    for name in dict.fromkeys(rung.name for rung in view.rungs if rung.breaker_open):
        yield Change(ChangeKind.BREAKER_CLOSES, name)
    for missing, kind in _THERE.items():
        for tier in dict.fromkeys(rung.tier for rung in view.rungs if rung.missing is missing):
            yield Change(kind, tier.value)
    yield from _money(request, view)
    if view.budget.level is not None:
        yield Change(ChangeKind.STEP_UNDONE, view.budget.level.value)
    if request.purpose in view.one_way_purposes:
        yield Change(ChangeKind.PURPOSE_TWO_WAY, request.purpose)
    if request.current is not None and not view.promote:
        yield Change(ChangeKind.PROMOTION_ALLOWED, request.current.value)
    for name in sorted(view.excluded):
        yield Change(ChangeKind.FAILURE_FORGIVEN, name)
    for name in dict.fromkeys(rung.name for rung in view.rungs if not rung.breaker_open):
        yield Change(ChangeKind.BREAKER_OPENS, name)
    for tier in Tier:
        yield Change(ChangeKind.OVERRIDE_MADE, tier.value)


def _money(request: RouteRequest, view: View) -> Iterator[Change]:
    """Amounts at which a rung begins to be affordable, or ceases to be; the least first."""
    needed = {max(1, rung.least) for rung in view.rungs if rung.paid}
    budget = view.budget
    for who, left in (("call", left_of_call(budget)), ("bucket", left_of_bucket(budget))):
        if left is None:
            continue
        for amount in sorted(need - left for need in needed if left < need):
            yield Change(ChangeKind.MORE_MONEY, who, amount)
        for amount in sorted(left - need + 1 for need in needed if left >= need):
            yield Change(ChangeKind.LESS_MONEY, who, amount)
    if budget.bucket_cap is not None and budget.bucket_spent:
        yield Change(ChangeKind.DAY_ENDS, request.bucket)


def left_of_call(budget: BudgetState) -> int | None:
    if budget.call_cap is None:
        return None
    return budget.call_cap - budget.call_spent - budget.call_reserved


def left_of_bucket(budget: BudgetState) -> int | None:
    if budget.bucket_cap is None:
        return None
    return budget.bucket_cap - budget.bucket_spent - budget.bucket_reserved + budget.held


# --- making the changes ---


def _end_override(change: Change, request: RouteRequest, view: View, now: float) -> View:
    return replace(view, overrides=[o for o in view.overrides if o.id != change.about])


def _make_override(change: Change, request: RouteRequest, view: View, now: float) -> View:
    """Nothing stands above the newest one for the call itself."""
    scope = Scope(ScopeKind.CALL, request.call_id)
    made = Override("", Tier(change.about), scope, now + 1, "", "", max(_created(view), now) + 1)
    return replace(view, overrides=[*view.overrides, made])


def _created(view: View) -> float:
    return max((override.created for override in view.overrides), default=0.0)


def _set_breaker(change: Change, request: RouteRequest, view: View, now: float) -> View:
    opens = change.kind is ChangeKind.BREAKER_OPENS
    return replace(
        view,
        rungs=[replace(r, breaker_open=opens) if r.name == change.about else r for r in view.rungs],
    )


def _be_there(change: Change, request: RouteRequest, view: View, now: float) -> View:
    def is_meant(rung: Rung) -> bool:
        kind = None if rung.missing is None else _THERE.get(rung.missing)
        return rung.tier.value == change.about and kind is change.kind

    return replace(view, rungs=[replace(r, missing=None) if is_meant(r) else r for r in view.rungs])


def _move_money(change: Change, request: RouteRequest, view: View, now: float) -> View:
    budget, amount = view.budget, change.amount
    if change.kind is ChangeKind.DAY_ENDS:
        return replace(view, budget=replace(budget, bucket_spent=0))
    if change.kind is ChangeKind.LESS_MONEY:
        if change.about == "call":
            return replace(view, budget=replace(budget, call_spent=budget.call_spent + amount))
        return replace(view, budget=replace(budget, bucket_spent=budget.bucket_spent + amount))
    if change.about == "call":
        return replace(view, budget=replace(budget, call_cap=(budget.call_cap or 0) + amount))
    return replace(view, budget=replace(budget, bucket_cap=(budget.bucket_cap or 0) + amount))


def _undo_step(change: Change, request: RouteRequest, view: View, now: float) -> View:
    return replace(view, budget=replace(view.budget, level=None))


def _let_answer(change: Change, request: RouteRequest, view: View, now: float) -> View:
    return replace(view, one_way_purposes=view.one_way_purposes - {change.about})


def _let_promote(change: Change, request: RouteRequest, view: View, now: float) -> View:
    return replace(view, promote=True)


def _forgive(change: Change, request: RouteRequest, view: View, now: float) -> View:
    return replace(view, excluded=view.excluded - {change.about})


_THERE: Mapping[Reason, ChangeKind] = {
    Reason.NOT_READY: ChangeKind.TIER_READY,
    Reason.NO_PROVIDER_KEY: ChangeKind.KEY_GIVEN,
    Reason.TIER_DISABLED: ChangeKind.TIER_ENABLED,
}
"""What lets rungs be there that are missing for a reason: all those of a tier at once."""

_APPLY: Mapping[ChangeKind, Callable[[Change, RouteRequest, View, float], View]] = {
    ChangeKind.OVERRIDE_ENDS: _end_override,
    ChangeKind.OVERRIDE_MADE: _make_override,
    ChangeKind.BREAKER_CLOSES: _set_breaker,
    ChangeKind.BREAKER_OPENS: _set_breaker,
    ChangeKind.TIER_READY: _be_there,
    ChangeKind.KEY_GIVEN: _be_there,
    ChangeKind.TIER_ENABLED: _be_there,
    ChangeKind.MORE_MONEY: _move_money,
    ChangeKind.LESS_MONEY: _move_money,
    ChangeKind.DAY_ENDS: _move_money,
    ChangeKind.STEP_UNDONE: _undo_step,
    ChangeKind.PURPOSE_TWO_WAY: _let_answer,
    ChangeKind.PROMOTION_ALLOWED: _let_promote,
    ChangeKind.FAILURE_FORGIVEN: _forgive,
}

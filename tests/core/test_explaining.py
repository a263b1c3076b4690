"""Explanations of routing: the facts in the sentences, and that what would change the answer is true and whole."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.budget import BudgetState
from orchestrator.core.explaining import Explanation, explain
from orchestrator.core.health import BreakerState
from orchestrator.core.overrides import Limit, Override, Scope, ScopeKind, Tier, When
from orchestrator.core.route_changes import Change, ChangeKind, answer_of, apply, changes_of
from orchestrator.core.route_sentences import BreakerFacts, span, usd
from orchestrator.core.routing import DecidedBy, Reason, RouteRequest, Rung, View, decide
from orchestrator.core.steps import StepAction

T = TypeVar("T")

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
DOLLAR = 1_000_000_000
A = Rung(Tier.A, "gpt-realtime-2.1", paid=True, usd_per_minute=0.05, least=DOLLAR // 10)
MINI = Rung(Tier.A, "gpt-realtime-2.1-mini", paid=True, usd_per_minute=0.02, least=DOLLAR // 50)
B = Rung(Tier.B, "kokoro")
C = Rung(Tier.C, "prompts")


def forced(tier: Tier, scope: str = "all", *, until: float = NOW + 720, id: str = "ovr_1") -> Override:
    return Override(id, tier, Scope.parse(scope), until, "provider incident", "ann", NOW - 60)


def explained(
    *rungs: Rung,
    request: RouteRequest = RouteRequest(),  # noqa: B008
    overrides: Sequence[Override] = (),
    budget: BudgetState = BudgetState(),  # noqa: B008
    breakers: dict[str, BreakerFacts] | None = None,
    **more: object,
) -> Explanation:
    view = View(rungs or (A, MINI, B, C), overrides, budget, **more)  # type: ignore[arg-type]
    return explain(request, view, NOW, breakers or {})


def sentences(explanation: Explanation) -> dict[str, str]:
    return {told.candidate.rung: told.sentence for told in explanation.candidates}


def changes(explanation: Explanation) -> dict[tuple[str, str], str]:
    """What would change the answer, and the rung that would then be chosen."""
    return {
        (each.change.kind.value, each.change.about): each.decision.rung for each in explanation.would_change
    }


# --- sentences ---


def test_the_first_choice() -> None:
    found = explained()
    assert found.sentence == "gpt-realtime-2.1 (tier A) is the first choice, and nothing stands against it."
    assert sentences(found)["kokoro"] == (
        "kokoro: nothing stands against it, and what was chosen comes first."
    )
    assert {told.decided_by for told in found.candidates} == {DecidedBy.DEFAULT}
    assert changes(found) == {
        ("breaker_opens", "gpt-realtime-2.1"): "gpt-realtime-2.1-mini",
        ("override_made", "B"): "kokoro",
        ("override_made", "C"): "prompts",
    }


def test_a_cap_says_whose_and_by_how_much() -> None:
    budget = BudgetState(bucket_cap=5 * DOLLAR, bucket_spent=4 * DOLLAR, bucket_reserved=DOLLAR * 99 // 100)
    found = explained(request=RouteRequest(bucket="acme"), budget=budget)
    assert sentences(found)[A.name] == (
        "gpt-realtime-2.1: one more answer on it costs up to $0.1000, and bucket acme has $0.0100 left of $5.0000 "
        "today: $0.0900 short."
    )
    assert sentences(found)[MINI.name].endswith("$0.0100 short.")
    assert found.sentence.startswith(
        "kokoro (tier B) is the best rung that is left. gpt-realtime-2.1-mini: one more"
    )
    more = {
        each.change.amount: (each.decision.rung, each.sentence)
        for each in found.would_change
        if each.change.kind is ChangeKind.MORE_MONEY
    }
    assert more == {
        DOLLAR // 100: (MINI.name, "if bucket acme had $0.0100 more"),
        DOLLAR * 9 // 100: (A.name, "if bucket acme had $0.0900 more"),
    }
    (day,) = (each for each in found.would_change if each.change.kind is ChangeKind.DAY_ENDS)
    assert (day.decision.rung, day.at) == (A.name, NOW + 16 * 3600)
    assert day.sentence == "when bucket acme begins anew at midnight UTC, in 16 h"


def test_a_cap_of_the_call() -> None:
    found = explained(budget=BudgetState(call_cap=DOLLAR // 20))
    assert sentences(found)[A.name].endswith("the call has $0.0500 left of $0.0500: $0.0500 short.")
    less = next(each for each in found.would_change if each.change.kind is ChangeKind.LESS_MONEY)
    assert (less.decision.rung, less.change.about) == ("kokoro", "call")
    assert less.sentence == "once the call has spent $0.0300 more"


def test_an_override_says_by_whom_until_when() -> None:
    found = explained(overrides=[forced(Tier.C, "user:42")], request=RouteRequest(user="42"))
    order = "ann forces tier C on user:42 until 2027-01-15 08:12:00 UTC, for another 12 min (ovr_1: provider incident)"
    assert found.sentence == f"prompts (tier C) was ordered: {order}."
    assert sentences(found)[A.name] == f"gpt-realtime-2.1: {order}."
    ends = next(each for each in found.would_change if each.change.kind is ChangeKind.OVERRIDE_ENDS)
    assert (ends.decision.rung, ends.at) == (A.name, NOW + 720)
    assert ends.sentence == (
        "once override ovr_1 is cleared or expires at 2027-01-15 08:12:00 UTC, in 12 min"
    )


def test_an_override_that_cannot_decide_is_spoken_of() -> None:
    found = explained(replace(A, missing=Reason.NO_PROVIDER_KEY), B, C, overrides=[forced(Tier.A)])
    assert found.sentence == (
        "kokoro (tier B) is the best rung that is left. gpt-realtime-2.1: no provider key is set for it. "
        "Override ovr_1 for tier A counts for nothing here: no rung of tier A may be used."
    )
    assert changes(found)["key_given", "A"] == A.name


def test_limits_are_told_as_what_they_are() -> None:
    def order(limit: Limit, tier: Tier, **more: object) -> Override:
        return replace(forced(tier), limit=limit, **more)  # type: ignore[arg-type]

    ceiling = order(Limit.CEILING, Tier.B, share=20.0, name="desk", typed="ann")
    request = RouteRequest(call_id="call_1")
    assert ceiling.matches(call_id="call_1", user="", purpose="", bucket=""), "of the share"
    found = explained(overrides=[ceiling], request=request)
    told = (
        "desk (ann) allows nothing better than tier B on all for 20 per cent of the calls that began since until "
        "2027-01-15 08:12:00 UTC, for another 12 min (ovr_1: provider incident)"
    )
    assert sentences(found)[A.name] == f"{A.name}: {told}."
    assert found.sentence == f"kokoro (tier B) is the best rung that is left. {MINI.name}: {told}."
    assert (found.decision.reason, found.decision.override_id) == (Reason.CEILING, "ovr_1")
    floor = order(Limit.FLOOR, Tier.B)
    assert sentences(explained(overrides=[floor]))["prompts"].startswith(
        "prompts: ann allows nothing worse than tier B on all"
    )


def test_an_override_that_counts_for_nothing_says_against_what() -> None:
    floor = replace(forced(Tier.A, id="floor"), limit=Limit.FLOOR)
    broken = [replace(rung, breaker_open=True) for rung in (A, MINI)]
    found = explained(*broken, B, C, overrides=[floor])
    assert found.decision.tier is Tier.B
    assert found.sentence.endswith(
        "Override floor for nothing worse than tier A counts for nothing here: nothing as good as tier A works, "
        "and health is above a floor."
    )
    force = forced(Tier.C, "user:42", id="force")
    found = explained(overrides=[floor, force], request=RouteRequest(user="42"))
    assert found.decision.tier is Tier.C
    assert found.sentence.endswith(
        "Override floor for nothing worse than tier A counts for nothing here: force leaves nothing of it, and is "
        "more specific."
    )
    older = replace(forced(Tier.B, "user:42", id="older"), created=NOW - 90)
    found = explained(overrides=[older, force], request=RouteRequest(user="42"))
    assert found.sentence.endswith(
        "Override older for tier B counts for nothing here: force leaves nothing of it, and is newer."
    )
    rung = replace(forced(Tier.A, id="rung"), rung=MINI.name)
    gone = replace(MINI, missing=Reason.NOT_READY)
    found = explained(A, gone, B, C, overrides=[rung])
    assert found.sentence.endswith(
        f"Override rung for rung {MINI.name} counts for nothing here: that rung may not be used."
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            BreakerFacts(BreakerState.OPEN, "refused", NOW - 95, NOW + 3),
            "its breaker is open since 2027-01-15 07:58:25 UTC (1 min 35 s), refused; its next probe is due in 3 s",
        ),
        (BreakerFacts(BreakerState.OPEN, "refused", NOW - 1, NOW), "refused; its next probe is due now"),
        (BreakerFacts(BreakerState.HALF_OPEN, "deaf", NOW - 5, NOW + 30), "deaf; a probe is under way"),
        (
            BreakerFacts(BreakerState.CANARY, "no_credit", NOW - 60, NOW + 5, 1, 3),
            "it is on trial after no_credit since 2027-01-15 07:59:00 UTC (1 min), 1 of 3 responses completed, and "
            "this call is not among the few that try it",
        ),
        (None, "its breaker is open (refused)"),
    ],
)
def test_a_breaker_says_since_when_why_and_when_it_is_probed(
    facts: BreakerFacts | None, expected: str
) -> None:
    broken = replace(A, breaker_open=True, cause="refused")
    found = explained(broken, B, C, breakers={A.name: facts} if facts else {})
    assert sentences(found)[A.name].endswith(f"{expected}.")
    assert changes(found)["breaker_closes", A.name] == A.name


def test_policies() -> None:
    found = explained(request=RouteRequest(purpose="queue_update"))
    assert sentences(found)["kokoro"] == (
        "kokoro: the purpose queue_update wants no answer, so a prompt of tier C says it."
    )
    assert changes(found) == {("purpose_two_way", "queue_update"): A.name}
    found = explained(budget=BudgetState(level=StepAction.TIER_B))
    assert "has taken the step tier_b to cost less" in sentences(found)[A.name]
    assert changes(found)["step_undone", "tier_b"] == A.name
    found = explained(request=RouteRequest(current=Tier.B), promote=False)
    assert sentences(found)[A.name].endswith("calls stay in the tier they are in, this one in B.")
    assert changes(found)["promotion_allowed", "B"] == A.name
    found = explained(excluded=frozenset({A.name}))
    assert changes(found)["failure_forgiven", A.name] == A.name


def test_the_last_resort_and_nothing_at_all() -> None:
    broken = [replace(rung, breaker_open=True) for rung in (A, B)]
    found = explained(*broken, replace(C, missing=Reason.NOT_READY))
    assert found.sentence.startswith("Every rung that is left is in doubt; kokoro (tier B) is tried")
    assert changes(found)["tier_ready", "C"] == "prompts"
    nothing = explained(replace(C, missing=Reason.NOT_READY))
    assert (nothing.sentence, nothing.decision.usable) == ("No rung can take the call.", False)
    assert changes(nothing) == {("tier_ready", "C"): "prompts"}


def test_lengths_and_amounts() -> None:
    assert [span(s) for s in (-1, 0, 59.6, 60, 61, 3600, 3725, 90_000)] == [
        "0 s", "0 s", "1 min", "1 min", "1 min 1 s", "1 h", "1 h 2 min", "1 d 1 h",
    ]  # fmt: skip
    assert [usd(n) for n in (0, 1, 900_000, DOLLAR, 1234 * DOLLAR)] == [
        "$0.0000", "$0.000000001", "$0.000900000", "$1.0000", "$1,234.0000",
    ]  # fmt: skip


# --- what would change the answer, beside every single change that there is ---

_MOST = 16
"""More money than any of these views can be short of, or have."""
_amounts = st.integers(0, 5)
_caps = st.one_of(st.none(), st.integers(0, 9))


def usually(value: T, *others: T) -> st.SearchStrategy[T]:
    """Where everything is unusual at once, one thing hides another."""
    return st.one_of(*[st.just(value)] * 3, st.sampled_from([value, *others]))


_rungs = st.tuples(
    *(
        st.builds(
            replace,
            st.just(rung),
            paid=st.booleans(),
            least=_amounts,
            breaker_open=usually(False, True),
            missing=usually(None, Reason.NOT_READY, Reason.NO_PROVIDER_KEY, Reason.TIER_DISABLED),
        )
        for rung in (A, MINI, B, replace(B, name="cartesia"), C)
    )
)
_requests = st.builds(
    RouteRequest,
    call_id=st.sampled_from(["", "c1"]),
    user=st.sampled_from(["", "u1"]),
    purpose=usually("conversation", "notification"),
    current=usually(None, *Tier),
)
_overrides = st.lists(
    st.builds(
        Override,
        id=st.sampled_from(["ovr_1", "ovr_2", "ovr_3"]),
        tier=st.sampled_from(Tier),
        scope=st.sampled_from(["all", "user:u1", "call:c1", "purpose:notification"]).map(Scope.parse),
        until=st.sampled_from([NOW, NOW + 1, NOW + 60]),
        reason=st.just("drill"),
        who=st.just("ann"),
        created=st.sampled_from([NOW - 1, NOW]),
        limit=st.sampled_from(Limit),
        share=st.sampled_from([100.0, 100.0, 50.0]),
        when=st.sampled_from(When),
    ),
    max_size=2,
    unique_by=lambda override: override.id,
)
_budgets = st.builds(
    BudgetState,
    call_spent=_amounts,
    call_cap=_caps,
    bucket_spent=_amounts,
    bucket_cap=_caps,
    call_reserved=st.integers(0, 1),
    bucket_reserved=st.integers(0, 1),
    held=st.integers(0, 1),
    level=usually(None, *StepAction),
)
_views = st.builds(
    View,
    _rungs,
    overrides=_overrides,
    budget=_budgets,
    promote=st.booleans(),
    excluded=st.one_of(
        *[st.just(frozenset[str]())] * 3,
        st.sets(st.sampled_from(["A", "B", "C", A.name, MINI.name, B.name]), max_size=2).map(frozenset),
    ),
)

Key = tuple[str, str, int]


def single_changes(request: RouteRequest, view: View) -> Iterator[tuple[Key, View]]:
    """Every single change of the considered kinds, made without `route_changes`: of money every amount in turn."""
    for override in view.overrides:
        rest = [o for o in view.overrides if o is not override]
        yield ("override_ends", override.id, 0), replace(view, overrides=rest)
    for tier in Tier:
        order = Override("new", tier, Scope(ScopeKind.CALL, request.call_id), NOW + 9, "", "", NOW + 9)
        yield ("override_made", tier.value, 0), replace(view, overrides=[*view.overrides, order])
    for at, rung in enumerate(view.rungs):
        kind = "breaker_closes" if rung.breaker_open else "breaker_opens"
        toggled = [*view.rungs]
        toggled[at] = replace(rung, breaker_open=not rung.breaker_open)
        yield (kind, rung.name, 0), replace(view, rungs=toggled)
    for missing, kind in (
        (Reason.NOT_READY, "tier_ready"),
        (Reason.NO_PROVIDER_KEY, "key_given"),
        (Reason.TIER_DISABLED, "tier_enabled"),
    ):
        for tier in Tier:
            there = [
                replace(r, missing=None) if (r.tier, r.missing) == (tier, missing) else r for r in view.rungs
            ]
            yield (kind, tier.value, 0), replace(view, rungs=there)
    yield from money_changes(request, view)
    level = str(view.budget.level)
    yield ("step_undone", level, 0), replace(view, budget=replace(view.budget, level=None))
    two_way = view.one_way_purposes - {request.purpose}
    yield ("purpose_two_way", request.purpose, 0), replace(view, one_way_purposes=two_way)
    yield ("promotion_allowed", str(request.current), 0), replace(view, promote=True)
    for name in view.excluded:
        yield ("failure_forgiven", name, 0), replace(view, excluded=view.excluded - {name})


def money_changes(request: RouteRequest, view: View) -> Iterator[tuple[Key, View]]:
    budget = view.budget
    for who in ("call", "bucket"):
        cap, spent = getattr(budget, f"{who}_cap"), getattr(budget, f"{who}_spent")
        for amount in range(1, _MOST + 1):
            if cap is not None:
                richer = replace(budget, **{f"{who}_cap": cap + amount})
                yield ("more_money", who, amount), replace(view, budget=richer)
            poorer = replace(budget, **{f"{who}_spent": spent + amount})
            yield ("less_money", who, amount), replace(view, budget=poorer)
    yield ("day_ends", request.bucket, 0), replace(view, budget=replace(budget, bucket_spent=0))


@settings(max_examples=600, deadline=None)
@given(_requests, _views)
def test_what_would_change_the_answer_is_true_and_whole(request: RouteRequest, view: View) -> None:
    now = answer_of(decide(request, view, NOW))
    expected: dict[Key, object] = {}
    least: set[object] = set()
    for (kind, about, amount), changed in single_changes(request, view):
        answer = answer_of(decide(request, changed, NOW))
        if answer == now or (amount and (kind, about, answer) in least):
            continue
        least.add((kind, about, answer))
        expected[kind, about, amount] = answer
    told = {
        (each.change.kind.value, each.change.about, each.change.amount): answer_of(each.decision)
        for each in explain(request, view, NOW, {}).would_change
    }
    assert told == expected


@given(_requests, _views)
def test_every_change_applied_gives_the_stated_answer(request: RouteRequest, view: View) -> None:
    for change, decision in changes_of(request, view, NOW):
        assert decide(request, apply(change, request, view, NOW), NOW).rung == decision.rung
        assert answer_of(decision) != answer_of(decide(request, view, NOW))


@given(_requests, _views)
def test_an_explanation_is_of_the_very_decision(request: RouteRequest, view: View) -> None:
    found, decision = explain(request, view, NOW, {}), decide(request, view, NOW)
    assert found.decision == decision
    assert [told.candidate for told in found.candidates] == list(decision.candidates)
    for told in found.candidates:
        assert told.sentence.startswith(f"{told.candidate.rung}: ")
        assert told.sentence.endswith(".")


def test_others_overrides_cost_nothing_and_an_explanation_little() -> None:
    overrides = [forced(Tier.C, f"user:{n}", id=f"ovr_{n}") for n in range(500)]
    budget = BudgetState(0, 5 * DOLLAR, 4 * DOLLAR, 5 * DOLLAR)
    view = View([replace(A, breaker_open=True), MINI, B, C], overrides, budget)
    request = RouteRequest(call_id="c1", user="7", bucket="acme")
    took = []
    for _ in range(200):
        began = time.perf_counter()
        found = explain(request, view, NOW, {})
        took.append(time.perf_counter() - began)
    print(f"median {statistics.median(took) * 1e3:.2f} ms for {len(found.would_change)} changes")
    # About 0.5 ms; the bound leaves room for a busy machine.
    assert statistics.median(took) < 5e-3
    assert changes(found)["override_ends", "ovr_7"] == MINI.name


def test_a_change_of_money_names_what_it_is_about() -> None:
    change = Change(ChangeKind.MORE_MONEY, "call", 3)
    view = View([A], budget=BudgetState(call_cap=1))
    assert apply(change, RouteRequest(), view, NOW).budget.call_cap == 4

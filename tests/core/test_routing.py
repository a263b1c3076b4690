"""Routing: who decides, in which order, how fast, and without touching anything."""

from __future__ import annotations

import ast
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchestrator.core
from orchestrator.core.budget import BudgetState
from orchestrator.core.limits import allowed_by
from orchestrator.core.overrides import Limit, Override, Scope, ScopeKind, Tier, When
from orchestrator.core.routing import DecidedBy, Decision, Reason, RouteRequest, Rung, View, decide
from orchestrator.core.steps import StepAction

A = Rung(Tier.A, "gpt-realtime-2.1", paid=True, usd_per_minute=0.05)
MINI = Rung(Tier.A, "gpt-realtime-2.1-mini", paid=True, usd_per_minute=0.02)
B = Rung(Tier.B, "kokoro")
C = Rung(Tier.C, "prompts")
SPENT = BudgetState(call_spent=2, call_cap=2)


def forced(tier: Tier, scope: str = "all", until: float = 1e12) -> Override:
    return Override("ovr_1", tier, Scope.parse(scope), until, "drill", "ann", 0.0)


def broken(rung: Rung, cause: str = "refused") -> Rung:
    return replace(rung, breaker_open=True, cause=cause)


def missing(rung: Rung, reason: Reason = Reason.NOT_READY) -> Rung:
    return replace(rung, missing=reason)


def choose(
    rungs: Sequence[Rung] = (A, B, C),
    request: RouteRequest = RouteRequest(),  # noqa: B008
    overrides: Sequence[Override] = (),
    budget: BudgetState = BudgetState(),  # noqa: B008
    promote: bool = True,
    excluded: frozenset[str] = frozenset(),
) -> Decision:
    view = View(rungs, overrides, budget, promote=promote, excluded=excluded)
    return decide(request, view, now=1000.0)


def told(decision: Decision) -> tuple[str, str, str]:
    return decision.tier.value, decision.reason.value, decision.decided_by.value


def test_the_best_rung_is_the_default() -> None:
    decision = choose()
    assert told(decision) == ("A", "default", "default")
    assert (decision.rung, decision.usd_per_minute) == ("gpt-realtime-2.1", 0.05)
    assert [(c.tier.value, c.passed_over.value) for c in decision.candidates] == [
        ("B", "not_preferred"),
        ("C", "not_preferred"),
    ]


def test_an_open_breaker_moves_down() -> None:
    decision = choose([broken(A, "no_credit"), B, C])
    assert told(decision) == ("B", "breaker_open", "health")
    assert (decision.candidates[0].rung, decision.candidates[0].detail) == ("gpt-realtime-2.1", "no_credit")
    assert told(choose([broken(A), broken(B), C])) == ("C", "breaker_open", "health")


def test_the_next_rung_of_the_same_tier_comes_first() -> None:
    decision = choose([broken(A), MINI, B, C])
    assert (decision.tier, decision.rung) == (Tier.A, "gpt-realtime-2.1-mini")


def test_without_a_provider_key_tier_b_serves() -> None:
    decision = choose([missing(A, Reason.NO_PROVIDER_KEY), B, C])
    assert told(decision) == ("B", "no_provider_key", "health")
    assert told(choose([missing(A, Reason.TIER_DISABLED), B, C])) == ("B", "tier_disabled", "policy")


@pytest.mark.parametrize("budget", [SPENT, BudgetState(bucket_spent=9, bucket_cap=9)])
def test_a_spent_budget_leaves_what_is_free(budget: BudgetState) -> None:
    assert told(choose(budget=budget)) == ("B", "budget_spent", "hard_cap")
    paid_b = replace(B, paid=True)
    assert told(choose([A, paid_b, C], budget=budget)) == ("C", "budget_spent", "hard_cap")


@pytest.mark.parametrize(
    "purpose", ["notification", "order_status_notice", "queue_update", "post_call_summary"]
)
def test_one_way_purposes_are_prompts(purpose: str) -> None:
    decision = choose(request=RouteRequest(purpose=purpose, allowed_tools=("refund",)))
    assert told(decision) == ("C", "one_way_purpose", "policy")
    assert decision.allowed_tools == ()


def test_tools_go_along_with_a_conversation() -> None:
    assert choose(request=RouteRequest(allowed_tools=("refund",))).allowed_tools == ("refund",)


def test_an_override_decides_for_its_scope() -> None:
    decision = choose(overrides=[forced(Tier.C, "user:u1")], request=RouteRequest(user="u1"))
    assert told(decision) == ("C", "override", "override")
    assert decision.override_id == "ovr_1"
    assert [(c.tier.value, c.passed_over.value, c.detail) for c in decision.candidates] == [
        ("A", "override", "drill"),
        ("B", "override", "drill"),
    ]
    assert told(choose(overrides=[forced(Tier.C, "user:u1")], request=RouteRequest(user="u2")))[0] == "A"
    assert told(choose(overrides=[forced(Tier.C, until=1000.0)]))[0] == "A"


def test_an_override_is_above_health() -> None:
    assert told(choose([broken(A), B, C], overrides=[forced(Tier.A)])) == ("A", "override", "override")
    assert choose([broken(A), MINI, B, C], overrides=[forced(Tier.A)]).rung == "gpt-realtime-2.1-mini"


def test_the_hard_cap_is_above_an_override() -> None:
    assert told(choose(overrides=[forced(Tier.A)], budget=SPENT)) == ("B", "budget_spent", "hard_cap")


def test_policy_is_above_an_override() -> None:
    decision = choose(overrides=[forced(Tier.A)], request=RouteRequest(purpose="notification"))
    assert told(decision) == ("C", "one_way_purpose", "policy")


def test_the_hard_cap_is_above_policy() -> None:
    decision = choose(
        [A, replace(B, paid=True), C], request=RouteRequest(purpose="notification"), budget=SPENT
    )
    assert told(decision) == ("C", "budget_spent", "hard_cap")


def test_an_override_cannot_choose_what_is_not_there() -> None:
    decision = choose([missing(A, Reason.NO_PROVIDER_KEY), B, C], overrides=[forced(Tier.A)])
    assert told(decision) == ("B", "no_provider_key", "health")


def test_a_call_may_be_kept_from_moving_up() -> None:
    request = RouteRequest(current=Tier.B)
    assert told(choose(request=request, promote=True)) == ("A", "default", "default")
    decision = choose(request=request, promote=False)
    assert told(decision) == ("B", "no_promotion", "policy")
    assert told(choose([A, broken(B), C], request=request, promote=False))[0] == "C"
    # A new call has nothing to stay in, and an operator may move any.
    assert told(choose(promote=False))[0] == "A"
    assert told(choose(request=request, promote=False, overrides=[forced(Tier.A)]))[0] == "A"


def test_a_tier_that_failed_this_call_is_left_out() -> None:
    decision = choose(excluded=frozenset({"A"}))
    assert told(decision) == ("B", "failed_in_call", "health")
    assert told(choose(excluded=frozenset({"A"}), overrides=[forced(Tier.A)]))[0] == "B"


def test_a_rung_that_failed_this_call_leaves_its_neighbours() -> None:
    failed = frozenset({"gpt-realtime-2.1"})
    decision = choose([A, MINI, B, C], excluded=failed)
    assert told(decision) == ("A", "failed_in_call", "health")
    assert decision.rung == "gpt-realtime-2.1-mini"
    assert choose([A, MINI, B, C], excluded=failed, overrides=[forced(Tier.A)]).rung == MINI.name
    assert told(choose([A, MINI, B, C], excluded=failed | {MINI.name}))[0] == "B"
    assert told(choose([A, MINI, B, C], excluded=failed, budget=SPENT)) == ("B", "budget_spent", "hard_cap")


def test_a_doubtful_rung_is_better_than_a_dead_line() -> None:
    decision = choose([broken(A), broken(B), missing(C)])
    assert told(decision) == ("B", "last_resort", "health")
    assert decision.usable


def test_nothing_ready() -> None:
    decision = choose([missing(A), missing(B), missing(C)])
    assert told(decision) == ("C", "nothing_ready", "health")
    assert not decision.usable
    assert not choose([]).usable


def limited(limit: Limit, tier: Tier, rung: str = "", scope: str = "all", **more: object) -> Override:
    return replace(forced(tier, scope), limit=limit, rung=rung, **more)  # type: ignore[arg-type]


ALL = (A, MINI, B, C)


def test_one_rung_may_be_forced() -> None:
    decision = choose(ALL, overrides=[limited(Limit.FORCE, Tier.A, MINI.name)])
    assert (decision.rung, *told(decision)) == (MINI.name, "A", "override", "override")
    assert [(c.rung, c.passed_over.value) for c in decision.candidates] == [
        (A.name, "override"), ("kokoro", "override"), ("prompts", "override"),
    ]  # fmt: skip
    broken_mini = choose([A, broken(MINI), B, C], overrides=[limited(Limit.FORCE, Tier.A, MINI.name)])
    assert broken_mini.rung == MINI.name, "an operator's word is above a breaker's"


def test_a_ceiling_is_no_better_than_that() -> None:
    decision = choose(ALL, overrides=[limited(Limit.CEILING, Tier.A, MINI.name)])
    assert (decision.rung, *told(decision)) == (MINI.name, "A", "ceiling", "override")
    assert told(choose([A, MINI, broken(B), C], overrides=[limited(Limit.CEILING, Tier.B)])) == (
        "C", "breaker_open", "health",
    )  # fmt: skip
    doubtful = choose([A, MINI, broken(B), broken(C)], overrides=[limited(Limit.CEILING, Tier.B)])
    assert told(doubtful) == ("C", "last_resort", "health"), "a ceiling holds even then"


def test_a_floor_is_no_worse_than_that_unless_nothing_else_works() -> None:
    floor = limited(Limit.FLOOR, Tier.B)
    assert told(choose(ALL, overrides=[floor])) == ("A", "default", "default")
    decision = choose([broken(A), MINI, B, C], overrides=[floor])
    assert [(c.rung, c.passed_over.value) for c in decision.candidates] == [
        ("prompts", "floor"), (A.name, "breaker_open"), ("kokoro", "not_preferred"),
    ]  # fmt: skip
    beaten = choose([broken(A), broken(MINI), broken(B), C], overrides=[floor])
    assert told(beaten) == ("C", "breaker_open", "health")
    assert [(a.override.id, a.why.value) for a in beaten.set_aside] == [("ovr_1", "health")]


def test_a_floor_takes_a_call_up_where_calls_stay() -> None:
    request = RouteRequest(current=Tier.B)
    up = choose(ALL, request, [limited(Limit.FLOOR, Tier.A)], promote=False)
    assert (*told(up), up.override_id) == ("A", "floor", "override", "ovr_1")
    assert told(choose(ALL, request, [limited(Limit.FLOOR, Tier.B)], promote=False))[0] == "B"


def test_several_hold_at_once_and_the_most_specific_counts_first() -> None:
    between = [limited(Limit.CEILING, Tier.B), limited(Limit.FLOOR, Tier.B)]
    assert told(choose(ALL, overrides=between)) == ("B", "ceiling", "override")
    user, request = limited(Limit.FLOOR, Tier.A, scope="user:u1", id="user"), RouteRequest(user="u1")
    decision = choose(ALL, request, [limited(Limit.CEILING, Tier.B), user])
    assert told(decision) == ("A", "default", "default")
    assert [(a.override.id, a.why.value, a.by) for a in decision.set_aside] == [
        ("ovr_1", "contradicted", "user")
    ]
    newer = limited(Limit.CEILING, Tier.C, id="newer", created=1.0)
    decision = choose(ALL, overrides=[forced(Tier.B), newer])
    assert (*told(decision), decision.override_id) == ("C", "ceiling", "override", "newer")
    # A force that means nothing usable leaves the others their say.
    gone = choose([missing(A), missing(MINI), B, C], request, [
        limited(Limit.FORCE, Tier.A, scope="user:u1", id="force"), limited(Limit.CEILING, Tier.C)])  # fmt: skip
    assert told(gone) == ("C", "ceiling", "override")


def test_a_call_is_to_follow_at_once_where_the_order_against_it_says_so() -> None:
    now = limited(Limit.FORCE, Tier.B, when=When.NOW)
    assert choose(ALL, RouteRequest(current=Tier.A), [now]).at_once
    assert not choose(ALL, RouteRequest(current=Tier.A), [forced(Tier.B)]).at_once
    ceiling = limited(Limit.CEILING, Tier.B, when=When.NOW)
    assert choose([A, MINI, broken(B), C], RouteRequest(current=Tier.A), [ceiling]).at_once


_rungs = st.tuples(
    *(
        st.builds(
            replace,
            st.just(rung),
            paid=st.booleans(),
            breaker_open=st.booleans(),
            missing=st.sampled_from(
                [None, None, Reason.NOT_READY, Reason.NO_PROVIDER_KEY, Reason.TIER_DISABLED]
            ),
        )
        for rung in (A, MINI, B, C)
    )
)
_requests = st.builds(
    RouteRequest,
    user=st.sampled_from(["", "u1"]),
    purpose=st.sampled_from(["conversation", "notification"]),
    current=st.sampled_from([None, *Tier]),
)
_views = st.builds(
    View,
    _rungs,
    overrides=st.lists(
        st.builds(
            limited,
            st.sampled_from(Limit),
            st.sampled_from(Tier),
            st.sampled_from(["", "", A.name, B.name]),
            st.sampled_from(["all", "user:u1"]),
            id=st.sampled_from(["o1", "o2", "o3"]),
            when=st.sampled_from(When),
        ),
        max_size=3,
        unique_by=lambda override: override.id,
    ),
    budget=st.sampled_from([BudgetState(), SPENT]),
    promote=st.booleans(),
    excluded=st.sets(st.sampled_from(["A", "B", "C", A.name, MINI.name, B.name])).map(frozenset),
)


@given(_requests, _views)
def test_what_every_decision_promises(request: RouteRequest, view: View) -> None:
    decision = decide(request, view, now=0.0)
    rungs = {(rung.tier, rung.name): rung for rung in view.rungs}
    passed = {(c.tier, c.rung) for c in decision.candidates}
    if not decision.usable:
        assert passed == set(rungs)
        return
    chosen = rungs[decision.tier, decision.rung]
    # Every rung is accounted for, once.
    assert passed == set(rungs) - {(chosen.tier, chosen.name)}
    assert len(decision.candidates) == len(rungs) - 1
    # Nothing that costs money is chosen without money, nothing that is not there, nothing just failed.
    assert not (chosen.paid and view.budget.short_of(0))
    assert chosen.missing is None
    assert not {chosen.tier.value, chosen.name} & view.excluded
    if request.purpose == "notification":
        assert chosen.tier is Tier.C
    if chosen.breaker_open:
        assert decision.reason in (Reason.OVERRIDE, Reason.LAST_RESORT)
    if decision.decided_by is DecidedBy.DEFAULT:
        assert chosen is view.rungs[0]
    # An override that does not hold in the decision is told, with why.
    aside = {each.override.id for each in decision.set_aside}
    for order in view.overrides:
        if order.scope.kind is not ScopeKind.ALL and request.user != "u1":
            continue
        places = [(rung.tier, rung.name) for rung in view.rungs]
        assert order.id in aside or (chosen.tier, chosen.name) in allowed_by(order, places)


def test_a_decision_takes_microseconds() -> None:
    overrides = [forced(Tier.C, f"user:{n}") for n in range(20)]
    view = View([broken(A), B, C], overrides, BudgetState(1, 2, 3, 4))
    request = RouteRequest(call_id="c1", user="u1", purpose="support", bucket="acme")
    took = []
    for _ in range(2000):
        began = time.perf_counter()
        decide(request, view, 1000.0)
        took.append(time.perf_counter() - began)
    # About 40 µs with twenty overrides, 15 without; the bound leaves room for a busy machine.
    assert statistics.median(took) < 200e-6


def test_a_decision_touches_nothing() -> None:
    """No file, socket, process or import: whatever Python itself would audit."""
    touched: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event.split(".")[0] in {"open", "socket", "subprocess", "os", "import", "exec"}:
            touched.append(event)

    sys.addaudithook(watch)
    try:
        choose([broken(A), B, C], overrides=[forced(Tier.C, "user:u1")], budget=SPENT)
    finally:
        watching = False
    assert touched == []


@pytest.mark.parametrize(
    "module",
    [
        "routing",
        "limits",
        "health",
        "budget",
        "prices",
        "overrides",
        "drills",
        "explaining",
        "route_changes",
        "route_sentences",
    ],
)
def test_the_core_cannot_do_io(module: str) -> None:
    """These modules import nothing that could: no clock, no socket, no file, no event loop."""
    source = Path(orchestrator.core.__path__[0], f"{module}.py").read_text()
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    harmless = {
        "__future__",
        "collections",
        "collections.abc",
        "dataclasses",
        "datetime",  # times are written with it, and read from no clock: see below
        "enum",
        "hashlib",
        "math",
        "re",
        "typing",
    }
    assert {name for name in imported - harmless if not name.startswith("orchestrator.core.")} == set()
    assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name) and n.id == "open"]
    clocks = {"now", "today", "utcnow"}
    assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute) and n.attr in clocks]


# --- money ---


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (None, ("A", "default", "default")),
        (StepAction.CONCISE, ("A", "default", "default")),
        (StepAction.TIER_B, ("B", "budget_step", "policy")),
        (StepAction.TIER_C, ("C", "budget_step", "policy")),
        (StepAction.GOODBYE, ("C", "budget_step", "policy")),
    ],
)
def test_a_step_bars_what_is_above_it(level: StepAction | None, expected: tuple[str, str, str]) -> None:
    assert told(choose([A, B, C], budget=BudgetState(level=level))) == expected


def test_the_cheaper_rung_is_the_cheapest_that_is_there() -> None:
    budget = BudgetState(level=StepAction.CHEAPER_RUNG)
    decision = choose([A, MINI, B, C], budget=budget)
    assert (decision.rung, decision.reason) == (MINI.name, Reason.BUDGET_STEP)
    assert (decision.candidates[0].rung, decision.candidates[0].detail) == (A.name, "cheaper_rung")
    alone = choose([A, missing(MINI, Reason.NO_PROVIDER_KEY), B, C], budget=budget)
    assert alone.rung == A.name


def test_an_operator_cannot_force_what_a_step_bars() -> None:
    forced_a = forced(Tier.A)
    decision = choose([A, B, C], overrides=[forced_a], budget=BudgetState(level=StepAction.TIER_B))
    assert told(decision) == ("B", "budget_step", "policy")


@pytest.mark.parametrize(
    ("budget", "tier"),
    [
        (BudgetState(call_cap=100, call_spent=50), "A"),
        (BudgetState(call_cap=100, call_spent=51), "B"),
        (BudgetState(call_cap=100, call_spent=20, call_reserved=31), "B"),
        (BudgetState(bucket_cap=100, bucket_spent=51), "B"),
        (BudgetState(bucket_cap=100, bucket_spent=20, bucket_reserved=60, held=30), "A"),
        (BudgetState(bucket_cap=100, bucket_spent=20, bucket_reserved=60, held=29), "B"),
    ],
)
def test_a_rung_whose_next_answer_cannot_be_paid_for_is_passed_over(budget: BudgetState, tier: str) -> None:
    decision = choose([replace(A, least=50), B, C], budget=budget)
    assert decision.tier.value == tier
    if tier == "B":
        assert told(decision) == ("B", "budget_spent", "hard_cap")

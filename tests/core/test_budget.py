"""Budgets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.budget import BudgetState, CallBudget


def test_a_call_spends_to_its_cap() -> None:
    budget = CallBudget(cap=100)
    budget.spend(60)
    assert (budget.remaining, budget.exhausted) == (40, False)
    budget.spend(40)
    assert (budget.remaining, budget.exhausted) == (0, True)
    budget.spend(5)
    assert (budget.spent, budget.remaining) == (105, 0)


def test_a_reservation_holds_money_until_it_is_settled() -> None:
    budget = CallBudget(cap=100, spent=30)
    assert budget.reserve(60)
    assert not budget.reserve(20)
    assert budget.remaining == 10
    budget.settle(60, 25)
    assert (budget.spent, budget.reserved, budget.remaining) == (55, 0, 45)


def test_without_a_cap_nothing_runs_out() -> None:
    budget = CallBudget(cap=None)
    budget.spend(10**15)
    assert budget.reserve(10**15)
    assert (budget.remaining, budget.exhausted) == (None, False)


@pytest.mark.parametrize("act", [CallBudget.spend, CallBudget.reserve])
def test_negative_amounts_are_refused(act: Any) -> None:
    with pytest.raises(ValueError, match="0 or more nano-dollars, not -1"):
        act(CallBudget(cap=None), -1)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_no_more_is_ever_reserved_than_there_is(steps: list[tuple[int, int]]) -> None:
    budget = CallBudget(cap=100)
    for wanted, cost in steps:
        if budget.reserve(wanted):
            assert budget.spent + budget.reserved <= 100
            budget.settle(wanted, min(wanted, cost))
    assert budget.spent <= 100
    assert budget.reserved == 0


@pytest.mark.parametrize(
    ("state", "who"),
    [
        (BudgetState(), None),
        (BudgetState(call_spent=5, call_cap=6), None),
        (BudgetState(call_spent=6, call_cap=6), "call"),
        (BudgetState(bucket_spent=9, bucket_cap=8), "bucket"),
        (BudgetState(call_spent=10**12, bucket_spent=10**12), None),
        (BudgetState(call_spent=0, call_cap=0), "call"),
    ],
)
def test_which_budget_is_spent_up(state: BudgetState, who: str | None) -> None:
    assert state.short_of(0) == who

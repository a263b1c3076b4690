"""Budgets."""

from __future__ import annotations

import pytest

from orchestrator.core.budget import BudgetState, CallBudget


def test_a_call_spends_to_its_cap() -> None:
    budget = CallBudget(cap=100)
    budget.spend(60)
    assert budget.remaining == 40
    budget.spend(45)
    assert (budget.spent, budget.remaining) == (105, 0)


def test_what_is_reserved_is_not_there_any_more() -> None:
    assert CallBudget(cap=100, spent=30, reserved=60).remaining == 10


def test_without_a_cap_nothing_runs_out() -> None:
    budget = CallBudget(cap=None)
    budget.spend(10**15)
    assert budget.remaining is None


def test_negative_amounts_are_refused() -> None:
    with pytest.raises(ValueError, match="0 or more nano-dollars, not -1"):
        CallBudget(cap=None).spend(-1)
    with pytest.raises(ValueError, match="use None for no cap"):
        CallBudget(cap=-1)


@pytest.mark.parametrize(
    ("state", "who"),
    [
        (BudgetState(), None),
        (BudgetState(call_spent=5, call_cap=6), None),
        (BudgetState(call_spent=6, call_cap=6), "call"),
        (BudgetState(bucket_spent=9, bucket_cap=8), "bucket"),
        (BudgetState(call_spent=10**12, bucket_spent=10**12), None),
        (BudgetState(call_spent=0, call_cap=0), "call"),
        (BudgetState(call_spent=5, call_reserved=3, call_cap=8), "call"),
        (BudgetState(bucket_spent=5, bucket_reserved=3, bucket_cap=8), "bucket"),
        (BudgetState(bucket_spent=5, bucket_reserved=3, held=1, bucket_cap=8), None),
    ],
)
def test_which_budget_is_spent_up(state: BudgetState, who: str | None) -> None:
    assert state.short_of(0) == who

"""The plan of the comparison: the same seed gives the same calls, and the simulator knows every fault in it."""

from __future__ import annotations

import random

import pytest

from benchmarks.peers.cases import CASES, GONE, Case, schedule
from orchestrator.simulate.faults import parse_fault


def test_the_first_call_has_no_fault_and_every_round_has_every_fault_once() -> None:
    planned = list(schedule(tuple(CASES), 20, random.Random(1)))
    assert planned[0].case.name == "none"
    orders = [[plan.case.name for plan in planned if plan.round == number] for number in range(20)]
    assert all(sorted(order) == sorted(CASES) for order in orders)
    assert len({tuple(order) for order in orders}) > 15
    assert all(plan.case.after_ms[0] <= plan.after_ms <= plan.case.after_ms[1] for plan in planned)


def test_calls_without_a_fault_are_always_among_them() -> None:
    planned = list(schedule(("abort",), 2, random.Random(1)))
    assert [plan.case.name for plan in planned[:2]] == ["none", "abort"]
    assert sorted(plan.case.name for plan in planned[2:]) == ["abort", "none"]


def test_a_seed_repeats_a_plan() -> None:
    plans = [list(schedule(tuple(CASES), 5, random.Random(seed))) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_the_simulator_knows_every_fault(case: Case) -> None:
    if case.moment is not None:
        assert parse_fault(dict(case.fault(case.after_ms[1]))).moment == case.moment


def test_a_provider_that_is_gone_refuses_for_good() -> None:
    fault = parse_fault(dict(GONE))
    assert (fault.id, fault.moment, fault.remaining) == ("refused", "connecting", None)

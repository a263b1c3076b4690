"""Drills: whom they are for, when they strike, what is counted; and that the call takes a real fault's path."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.call import State
from orchestrator.core.drills import Drill, Plan, Practice, Result, make_drill, noted, plan_for, report
from orchestrator.core.overrides import OverrideError, Scope
from orchestrator.core.routing import DecidedBy
from tests.core.bench import Bench

DRILL = Drill("drl_1", Practice.LOSE_PROVIDER, Scope.parse("all"), 20.0, 900.0, 10, 1, "monthly", "k", 100.0)
WHO = {"user": "u1", "purpose": "support", "bucket": "acme"}


def plans(drill: Drill, began: float = 200.0, count: int = 2000) -> list[Plan]:
    found = (plan_for([drill], call_id=f"call_{n}", **WHO, started=began) for n in range(count))
    return [plan for plan in found if plan is not None]


def test_a_drill_is_for_its_share_of_the_calls_that_begin_while_it_lasts() -> None:
    found = plans(DRILL)
    assert 0.17 < len(found) / 2000 < 0.23
    assert {plan.turn for plan in found} == {1, 2}
    before = [plan for plan in found if plan.after_ms is None]
    assert 0.4 < len(before) / len(found) < 0.6
    assert all(100 <= plan.after_ms <= 900 for plan in found if plan.after_ms is not None)
    assert not plans(DRILL, began=99.0)
    assert not plans(DRILL, began=900.0)
    assert not plans(replace(DRILL, ended="stopped"))
    assert not plans(replace(DRILL, scope=Scope.parse("bucket:other")))
    assert len(plans(replace(DRILL, scope=Scope.parse("bucket:acme"), share=100.0))) == 2000
    assert Drill.from_dict(DRILL.to_dict()) == DRILL


@given(st.integers(1, 5), st.one_of(st.none(), st.floats(100, 900)), st.integers(1, 9), st.floats(0, 2000))
def test_a_provider_is_lost_before_the_answer_or_in_it(
    turn: int, after: float | None, at: int, sent: float
) -> None:
    cuts = Plan("d", Practice.LOSE_PROVIDER, turn, after).cuts(at, sent)
    assert cuts == (at >= turn and (sent == 0 if after is None else sent >= after))
    assert not Plan("d", Practice.DEGRADE, turn, after).cuts(at, sent)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"practice": "panic"}, "practice"),
        ({"reason": " "}, "reason"),
        ({"most": 0}, "calls"),
        ({"wrong": 0}, "wrong"),
        ({"share": 0.0}, "share"),
        ({"duration": "x"}, "for"),
        ({"scope": "x"}, "scope"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], param: str) -> None:
    words = {"practice": "degrade", "scope": "all", "share": 5.0, "duration": "1m", "most": 1, "wrong": 1}
    words |= {"reason": "r", "who": "k", "name": "", "typed": ""} | change
    with pytest.raises(OverrideError) as caught:
        make_drill(id="d", now=0.0, **words)  # type: ignore[arg-type]
    assert caught.value.param == param


def test_a_report_counts_what_callers_heard() -> None:
    result = Result("c1", struck=True)
    for at, (type, fields) in enumerate(
        [
            ("charge", {"nanodollars": 5}),
            ("bridge", {}),
            ("gap", {"cause": "drill", "gap_ms": 320.0}),
            ("gap", {"cause": "closed", "gap_ms": 9000.0}),
            ("turn_ended", {"outcome": "answered"}),
            ("turn_ended", {"outcome": "stopped"}),
            ("handover", {"to_tier": "A"}),
            ("charge", {"nanodollars": 7}),
            ("call_ended", {}),
        ]
    ):
        result = noted(result, type, fields, float(at))
    assert result == Result("c1", True, "", 1, 0, 320.0, 1, 6.0, 5, True)
    lost = noted(Result("c2", struck=True), "turn_closed", {}, 1.0)
    found = report([result, lost, Result("c3", skipped="why"), Result("c4")])
    assert (found["calls"], found["waiting"], found["skipped"]) == (2, 1, 1)
    assert (found["turns_answered"], found["turns_lost"], found["not_back"]) == (1, 1, 1)
    assert found["gap_ms"] == {"p50": 320.0, "p95": 320.0, "max": 320.0}
    assert report([])["back_s"] == {"p50": None, "p95": None, "max": None}


# --- in a call ---


def test_a_provider_lost_in_mid_answer_is_nobodys_fault_and_loses_no_turn(bench: Bench) -> None:
    bench.connect()
    bench.call.drill = Plan("drl_1", Practice.LOSE_PROVIDER, 1, 300.0)
    bench.turn()
    bench.begin_answer()
    assert bench.call.state is State.RELAYING, "200 ms of the answer were sent"
    bench.delta()
    bench.delta()
    assert bench.call.state is not State.RELAYING
    row = bench.rows("handover")[0]
    assert (row["trigger"], row["cause"], row["owed"]) == ("fault", "drill", 1)
    assert bench.failures() == [], "no breaker learns from it"
    assert bench.rows("drill") == [{"drill_id": "drl_1", "practice": "lose_provider", "skipped": ""}]
    bench.answer("Your order is on its way.")
    assert [each["outcome"] for each in bench.rows("turn_ended")] == ["answered"]
    bench.wait(3.5)
    assert bench.call.state is State.PROMOTING, "and it goes back without waiting for a proof"
    bench.check()


def test_a_provider_lost_before_its_answer(bench: Bench) -> None:
    bench.connect()
    bench.call.drill = Plan("drl_1", Practice.LOSE_PROVIDER, 1, None)
    bench.turn()
    bench.response_created("resp_1")
    assert bench.rows("handover")[0]["cause"] == "drill"
    bench.answer("Your order is on its way.")
    assert [each["outcome"] for each in bench.rows("turn_ended")] == ["answered"]
    bench.check()


def test_degrading_is_silent_and_between_turns(bench: Bench) -> None:
    bench.connect()
    bench.call.drill = Plan("drl_1", Practice.DEGRADE, 1, None)
    bench.turn()
    bench.begin_answer()
    assert bench.call.state is State.RELAYING
    bench.end_answer()
    assert bench.call.state is State.LOCAL
    row = bench.rows("handover")[0]
    assert (row["trigger"], row["cause"], row["owed"]) == ("operator", "drill", 0)
    assert not bench.rows("bridge")
    bench.check()


def test_a_call_in_trouble_is_left_alone(bench: Bench) -> None:
    bench.connect()
    bench.call.drill = Plan("drl_1", Practice.LOSE_PROVIDER, 1, None)
    bench.tier, bench.decided_by = "B", DecidedBy.HEALTH
    bench.turn()
    bench.response_created("resp_1")
    assert bench.call.state is State.RELAYING
    assert bench.rows("drill")[0]["skipped"] == "the call is about to be elsewhere"
    assert bench.call.drill is None

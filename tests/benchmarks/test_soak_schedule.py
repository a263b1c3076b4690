"""The faults of a soak: the same for the same seed, every cell before any twice, nothing left armed."""

from __future__ import annotations

import random
from collections import Counter

from benchmarks.soak_schedule import BAR_S, CELLS, FAULTS_A_BAR, PATTERN, Bar, schedule
from orchestrator.simulate.faults import CATALOGUE, Moment, parse_fault

PASS_S = BAR_S * len(PATTERN)


def test_the_same_seed_gives_the_same_faults() -> None:
    first, again, other = (schedule(120.0, 50, random.Random(seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    short, long = (schedule(seconds, 50, random.Random(7)) for seconds in (60.0, 120.0))
    assert long[: len(short)] == short


def test_every_cell_is_dealt_before_any_is_dealt_again() -> None:
    bars = -(-len(CELLS) // FAULTS_A_BAR)
    passes = -(-bars // PATTERN.count(Bar.FAULTS))
    orders = [o for o in schedule(passes * PASS_S, 50, random.Random(1)) if o.bar is Bar.FAULTS and o.fault]
    dealt = Counter((order.fault["fault"], order.fault["moment"]) for order in orders if order.fault)
    assert set(dealt) == set(CELLS) == {(f, m) for f, kind in CATALOGUE.items() for m in kind.moments}
    assert max(dealt.values()) <= 2


def test_the_provider_takes_every_command_and_is_disarmed_at_the_end_of_every_bar() -> None:
    orders = schedule(2 * PASS_S, 50, random.Random(3))
    assert [order.at for order in orders] == sorted(order.at for order in orders)
    armed_since: float | None = None
    for order in orders:
        if order.fault is None:
            armed_since = None
            continue
        parse_fault(order.fault)
        armed_since = order.at if armed_since is None else armed_since
        assert order.at - armed_since < BAR_S
    assert armed_since is None


def test_in_an_outage_every_session_ends_and_none_begins() -> None:
    orders = [o for o in schedule(PASS_S, 50, random.Random(4)) if o.bar is Bar.OUTAGE]
    faults = [order.fault for order in orders if order.fault is not None]
    assert {fault["moment"] for fault in faults} == set(Moment)
    refusal = next(fault for fault in faults if fault["moment"] == Moment.CONNECTING)
    assert refusal["count"] == "forever"
    assert all(fault["count"] == 50 for fault in faults if fault is not refusal)


def test_while_calls_go_back_faults_strike_what_is_prepared_for_them() -> None:
    orders = [o for o in schedule(PASS_S, 50, random.Random(5)) if o.bar is Bar.RETURN and o.fault]
    assert len(orders) == FAULTS_A_BAR
    assert {order.fault["moment"] for order in orders if order.fault} == {Moment.REPLAYING}


def test_a_run_that_is_shorter_than_a_bar_has_no_faults() -> None:
    assert schedule(BAR_S - 0.1, 50, random.Random(6)) == []

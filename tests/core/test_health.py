"""The breaker: its table by examples, its promises by any sequence of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.core.health import Breaker, BreakerPolicy, BreakerState, Cause, ProbeKind

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
SESSION, RESPONSE = ProbeKind.SESSION, ProbeKind.RESPONSE


def test_a_new_breaker_doubts_nothing() -> None:
    breaker = Breaker()
    assert breaker.state is CLOSED
    assert breaker.probe_due(1e9) is None
    assert (breaker.last_success_at, breaker.last_failure_at, breaker.cause) == (None, None, None)


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause.fatal])
def test_a_fatal_cause_opens_at_once(cause: Cause) -> None:
    breaker = Breaker()
    assert breaker.on_failure(cause, 10.0) is OPEN
    assert (breaker.cause, breaker.last_failure_at) == (cause, 10.0)
    assert breaker.probe_due(10.9) is None
    assert breaker.probe_due(11.0) is cause.proof


def test_which_causes_are_fatal() -> None:
    fatal = {cause.id for cause in Cause if cause.fatal}
    assert fatal == {"bad_key", "no_credit", "model_not_found", "refused", "connect_timeout"}


@pytest.mark.parametrize("cause", [cause for cause in Cause if not cause.fatal])
def test_other_causes_open_at_the_second_within_the_window(cause: Cause) -> None:
    breaker = Breaker()
    assert breaker.on_failure(cause, 0.0) is CLOSED
    assert breaker.on_failure(cause, 29.9) is OPEN


def test_failures_far_apart_do_not_add_up() -> None:
    breaker = Breaker()
    for now in (0.0, 30.0, 60.0, 90.0):
        assert breaker.on_failure(Cause.CLOSED, now) is CLOSED


def test_one_failure_makes_a_probe_due_soon() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.RESPONSE_FAILED, 5.0)
    assert breaker.next_probe_at == 6.0
    assert breaker.probe_due(6.0) is RESPONSE
    breaker.on_probe(6.0)
    assert breaker.state is CLOSED
    assert breaker.on_success(RESPONSE, 6.2) is CLOSED
    assert breaker.next_probe_at is None
    # Its doubt is gone: the next single failure does not open.
    assert breaker.on_failure(Cause.RESPONSE_FAILED, 7.0) is CLOSED


def test_sessions_do_not_excuse_failed_responses() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.RESPONSE_TIMEOUT, 0.0)
    breaker.on_success(SESSION, 1.0)
    assert breaker.on_failure(Cause.RESPONSE_TIMEOUT, 2.0) is OPEN
    assert breaker.on_success(SESSION, 3.0) is OPEN
    assert breaker.on_success(RESPONSE, 4.0) is CLOSED


def test_a_session_excuses_a_lost_connection() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.REFUSED, 0.0)
    assert breaker.on_success(SESSION, 1.0) is CLOSED
    assert (breaker.cause, breaker.last_success_at) == (None, 1.0)


def test_one_response_fault_among_others_owes_a_response() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.EMPTY_RESPONSE, 0.0)
    breaker.on_failure(Cause.REFUSED, 1.0)
    assert breaker.owed is RESPONSE
    assert breaker.on_success(SESSION, 2.0) is OPEN


def test_failed_probes_wait_longer_and_longer() -> None:
    breaker = Breaker(BreakerPolicy(probe_after_s=1.0, probe_max_s=5.0))
    breaker.on_failure(Cause.REFUSED, 0.0)
    waits = []
    now = 0.0
    for _ in range(5):
        assert breaker.next_probe_at is not None
        waits.append(breaker.next_probe_at - now)
        now = breaker.next_probe_at
        breaker.on_probe(now)
        assert breaker.state is HALF_OPEN
        breaker.on_failure(Cause.REFUSED, now)
        assert breaker.state is OPEN
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_calls_that_report_the_same_outage_do_not_move_the_probe() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.REFUSED, 0.0)
    for now in (0.1, 0.5, 0.9):
        breaker.on_failure(Cause.CLOSED, now)
    assert breaker.next_probe_at == 1.0


def test_opening_again_soon_is_the_same_outage() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.REFUSED, 0.0)
    breaker.on_success(SESSION, 1.0)
    breaker.on_failure(Cause.REFUSED, 2.0)
    assert breaker.next_probe_at == 4.0
    breaker.on_success(SESSION, 4.0)
    breaker.on_failure(Cause.REFUSED, 100.0)
    assert breaker.next_probe_at == 101.0


def test_a_probe_that_never_reports_is_made_again() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.REFUSED, 0.0)
    breaker.on_probe(1.0)
    assert breaker.probe_due(30.9) is None
    assert breaker.probe_due(31.0) is SESSION


def test_a_probe_made_elsewhere_is_waited_for() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.REFUSED, 0.0)
    breaker.postpone(1.0)
    assert (breaker.state, breaker.next_probe_at) == (OPEN, 3.0)


def test_jitter_only_shortens_within_its_share() -> None:
    breaker = Breaker(BreakerPolicy(jitter=0.25), random=lambda: 0.5)
    breaker.on_failure(Cause.REFUSED, 0.0)
    assert breaker.next_probe_at == pytest.approx(1.0 - 0.125)


def test_another_replicas_finding_opens_and_closes() -> None:
    breaker = Breaker()
    breaker.trip(Cause.RATE_LIMITED, 0.0)
    assert (breaker.state, breaker.owed) == (OPEN, RESPONSE)
    breaker.clear(5.0)
    assert (breaker.state, breaker.next_probe_at, breaker.owed) == (CLOSED, None, None)


def test_causes_are_parsed_by_their_id() -> None:
    for cause in Cause:
        assert Cause.parse(cause.id) is cause
    with pytest.raises(ValueError, match="expected a cause out of bad_key"):
        Cause.parse("gremlins")


class BreakerMachine(RuleBasedStateMachine):
    """Any traffic, any time: what a breaker promises whatever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = BreakerPolicy(failures=2, window_s=10.0, probe_after_s=1.0, probe_max_s=8.0)
        self.random = 0.0
        self.breaker = Breaker(self.policy, lambda: self.random)
        self.now = 0.0
        self.response_fault_since_proof = False
        self.fault_since_proof = False

    @rule(seconds=st.floats(0, 20), random=st.floats(0, 0.999))
    def time_passes(self, seconds: float, random: float) -> None:
        self.now += seconds
        self.random = random

    @rule(cause=st.sampled_from(Cause))
    def failure(self, cause: Cause) -> None:
        was_closed = self.breaker.state is CLOSED
        state = self.breaker.on_failure(cause, self.now)
        self.fault_since_proof = True
        self.response_fault_since_proof |= cause.proof is RESPONSE
        if cause.fatal or not was_closed:
            assert state is OPEN
        assert self.breaker.cause is cause
        assert self.breaker.last_failure_at == self.now

    @rule()
    def two_failures_in_a_row_open(self) -> None:
        self.failure(Cause.RESPONSE_FAILED)
        self.failure(Cause.RESPONSE_FAILED)
        assert self.breaker.state is OPEN

    @rule()
    def session(self) -> None:
        before = self.breaker.state
        state = self.breaker.on_success(SESSION, self.now)
        if self.response_fault_since_proof:
            assert state is before
        else:
            assert state is CLOSED
            self.fault_since_proof = False

    @rule()
    def response(self) -> None:
        assert self.breaker.on_success(RESPONSE, self.now) is CLOSED
        self.fault_since_proof = self.response_fault_since_proof = False

    @precondition(lambda self: self.breaker.next_probe_at is not None)
    @rule()
    def the_due_probe_starts(self) -> None:
        assert self.breaker.next_probe_at is not None
        self.now = max(self.now, self.breaker.next_probe_at)
        due = self.breaker.probe_due(self.now)
        assert due is (RESPONSE if self.response_fault_since_proof else SESSION)
        was_open = self.breaker.is_open
        self.breaker.on_probe(self.now)
        assert self.breaker.state is (HALF_OPEN if was_open else CLOSED)

    @invariant()
    def doubt_always_has_a_probe_and_only_doubt_has_one(self) -> None:
        assert (self.breaker.next_probe_at is not None) == self.fault_since_proof
        assert (self.breaker.owed is not None) == self.fault_since_proof
        if self.breaker.is_open:
            assert self.fault_since_proof

    @invariant()
    def no_probe_is_further_away_than_the_longest_wait(self) -> None:
        if self.breaker.next_probe_at is not None:
            assert self.breaker.next_probe_at <= self.now + self.policy.probe_max_s


TestBreakerMachine = BreakerMachine.TestCase


@given(st.lists(st.sampled_from(Cause), min_size=1, max_size=30), st.floats(0, 0.999))
def test_no_storm_of_failures_brings_a_probe_forward(causes: list[Cause], random: float) -> None:
    """A thousand calls failing at once are one outage: one probe, after the usual wait."""
    breaker = Breaker(random=lambda: random)
    for cause in causes:
        breaker.on_failure(cause, 100.0)
    assert breaker.next_probe_at == pytest.approx(100.0 + 1.0 * (1 - 0.25 * random))

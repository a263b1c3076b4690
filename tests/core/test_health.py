"""The breaker: its table by examples, its promises by any sequence of events."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import orchestrator.core.health as health
from orchestrator.core.health import Breaker, BreakerPolicy, BreakerState, Cause, ProbeKind, is_canary

CLOSED, OPEN, HALF_OPEN, CANARY = BreakerState
SESSION, RESPONSE = ProbeKind.SESSION, ProbeKind.RESPONSE


def recovered(breaker: Breaker, now: float) -> Breaker:
    """Proved and through its canaries, at once."""
    breaker.on_success(SESSION, now)
    for _ in range(1 + breaker.policy.canary_successes):
        breaker.on_success(RESPONSE, now)
    assert breaker.state is CLOSED
    return breaker


def documented() -> set[tuple[str, str, str]]:
    """The table of the module's docstring: (state, event, next state)."""
    assert health.__doc__ is not None
    row = re.compile(r" {4}([A-Z_]+) +([a-z]+) +([A-Z_]+)(?:  .*)?")
    found = (row.fullmatch(line) for line in health.__doc__.splitlines())
    return {(match[1], match[2], match[3]) for match in found if match}


def test_the_table_is_the_one_in_the_docstring() -> None:
    table = {(state.name, event.value, after.name) for (state, event), after in health._NEXT.items()}
    assert documented() == table


def test_the_table_is_the_one_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| ([A-Z_]+) \| ([a-z]+) \| ([A-Z_]+) \|", text, re.MULTILINE)
    assert set(rows) == documented()


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
    assert breaker.proved_at is None
    assert breaker.on_failure(Cause.RESPONSE_TIMEOUT, 2.0) is OPEN
    assert breaker.on_success(SESSION, 3.0) is OPEN
    assert breaker.on_success(RESPONSE, 4.0) is CANARY
    assert breaker.proved_at == 4.0


def test_a_session_excuses_a_lost_connection() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.CLOSED, 0.0)
    assert breaker.on_success(SESSION, 1.0) is CLOSED
    assert (breaker.cause, breaker.last_success_at, breaker.proved_at) == (None, 1.0, 1.0)
    breaker.on_failure(Cause.REFUSED, 2.0)
    assert breaker.on_success(SESSION, 3.0) is CANARY


def test_calls_that_live_on_do_not_show_that_new_sessions_open() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.REFUSED, 0.0)
    for now in range(1, 20):
        assert breaker.on_success(RESPONSE, float(now)) is OPEN
    assert breaker.on_success(SESSION, 20.0) is CANARY
    # Where nothing is open they show that the rung serves.
    breaker = Breaker()
    breaker.on_failure(Cause.PING_TIMEOUT, 0.0)
    breaker.on_success(RESPONSE, 1.0)
    assert (breaker.owed, breaker.next_probe_at) == (None, None)


def test_one_response_fault_among_others_owes_a_response() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.EMPTY_RESPONSE, 0.0)
    breaker.on_failure(Cause.REFUSED, 1.0)
    assert breaker.owed is RESPONSE
    assert breaker.on_success(SESSION, 2.0) is OPEN
    assert breaker.on_success(RESPONSE, 2.0) is CANARY


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
    recovered(breaker, 1.0)
    breaker.on_failure(Cause.REFUSED, 30.9)
    assert breaker.next_probe_at == 32.9
    recovered(breaker, 33.0)
    breaker.on_failure(Cause.REFUSED, 63.0)
    assert breaker.next_probe_at == 64.0


def test_an_old_outage_does_not_delay_the_probe_of_a_new_doubt() -> None:
    breaker = Breaker()
    breaker.on_failure(Cause.REFUSED, 0.0)
    for _ in range(6):
        breaker.on_probe(0.0)
        breaker.on_failure(Cause.REFUSED, 0.0)
    assert breaker.wait_s == 30.0
    recovered(breaker, 1.0)
    breaker.on_failure(Cause.CLOSED, 100.0)
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


def test_another_replicas_findings() -> None:
    breaker = Breaker()
    breaker.trip(Cause.RATE_LIMITED, 0.0)
    assert (breaker.state, breaker.owed) == (OPEN, RESPONSE)
    breaker.prove(3.0, elsewhere=True)
    assert (breaker.state, breaker.proved_at) == (CANARY, 3.0)
    # Whoever proved it takes the first canary.
    assert not breaker.admits(NOT_CHOSEN, 7.9)
    assert breaker.admits(NOT_CHOSEN, 8.0)
    breaker.clear(9.0)
    assert (breaker.state, breaker.next_probe_at, breaker.owed, breaker.cause) == (CLOSED, None, None, None)
    assert breaker.proved_at == 9.0
    breaker.trip(Cause.RATE_LIMITED, 10.0)
    breaker.clear(11.0)
    assert breaker.state is CLOSED


# Canaries


def on_trial(policy: BreakerPolicy | None = None, now: float = 0.0) -> Breaker:
    breaker = Breaker(policy, rung="r")
    breaker.on_failure(Cause.REFUSED, now)
    breaker.on_success(SESSION, now)
    assert breaker.state is CANARY
    return breaker


CHOSEN = next(id for id in map(str, range(1000)) if is_canary(id, "r", 0.1))
NOT_CHOSEN, ANOTHER, *_ = (id for id in map(str, range(20)) if not is_canary(id, "r", 0.1))


@given(st.text(), st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_the_choice_of_canaries_is_pure_and_grows_with_the_share(
    call_id: str, rung: str, one: float, other: float
) -> None:
    assert is_canary(call_id, rung, one) == is_canary(call_id, rung, one)
    assert not is_canary(call_id, rung, 0.0)
    assert is_canary(call_id, rung, 1.0)
    if is_canary(call_id, rung, min(one, other)):
        assert is_canary(call_id, rung, max(one, other))


def test_the_share_is_kept_and_rungs_choose_differently() -> None:
    ids = [f"call_{n:012x}" for n in range(10_000)]
    first, second = ({id for id in ids if is_canary(id, rung, 0.1)} for rung in ("one", "two"))
    assert 900 < len(first) < 1100
    assert 900 < len(second) < 1100
    assert 50 < len(first & second) < 150


def test_the_choice_is_the_same_on_every_machine() -> None:
    """Replicas of different versions of Python or processors agree: these were computed once."""
    chosen = [n for n in range(80) if is_canary(f"call_{n}", "gpt-realtime-2.1", 0.1)]
    assert chosen == [4, 20, 43, 46, 68, 74]


def test_open_admits_none_and_closed_all() -> None:
    breaker = Breaker(rung="r")
    assert breaker.admits(NOT_CHOSEN, 0.0)
    breaker.on_failure(Cause.REFUSED, 0.0)
    assert not breaker.admits(CHOSEN, 100.0)
    breaker.on_probe(1.0)
    assert not breaker.admits(CHOSEN, 100.0)


def test_the_first_call_is_a_canary_and_then_a_share_of_them() -> None:
    breaker = on_trial()
    assert breaker.admits(NOT_CHOSEN, 0.0)
    breaker.on_start(NOT_CHOSEN, 0.0)
    # It is told the same whenever it asks; the next one is not let in as well.
    assert breaker.admits(NOT_CHOSEN, 3.0)
    assert not breaker.admits(ANOTHER, 3.0)
    assert breaker.admits(CHOSEN, 3.0)


def test_asking_takes_no_turn() -> None:
    breaker = on_trial()
    for now in (0.0, 1.0, 2.0):
        assert breaker.admits(ANOTHER, now)
        assert breaker.admits(NOT_CHOSEN, now)


def test_when_no_canary_came_the_next_call_is_one() -> None:
    breaker = on_trial()
    breaker.on_start(CHOSEN, 1.0)
    assert not breaker.admits(ANOTHER, 5.9)
    assert breaker.admits(ANOTHER, 6.0)
    breaker.on_start(NOT_CHOSEN, 6.0)
    assert not breaker.admits(ANOTHER, 10.9)
    assert breaker.admits(ANOTHER, 11.0)


def test_completed_responses_end_the_trial() -> None:
    breaker = on_trial()
    assert breaker.cause is Cause.REFUSED
    for _ in range(5):
        assert breaker.on_success(SESSION, 1.0) is CANARY
    assert breaker.on_success(RESPONSE, 2.0) is CANARY
    assert breaker.on_success(RESPONSE, 3.0) is CANARY
    assert breaker.on_success(RESPONSE, 4.0) is CLOSED
    assert (breaker.cause, breaker.next_probe_at, breaker.owed) == (None, None, None)


@pytest.mark.parametrize("cause", Cause)
def test_one_failure_ends_the_trial_and_doubles_the_wait(cause: Cause) -> None:
    breaker = on_trial()
    breaker.on_start(NOT_CHOSEN, 0.0)
    assert breaker.on_failure(cause, 1.0) is OPEN
    assert breaker.next_probe_at == 3.0
    assert breaker.owed is cause.proof
    breaker.on_probe(3.0)
    breaker.on_success(SESSION, 3.0)
    breaker.on_success(RESPONSE, 3.0)
    assert breaker.state is CANARY
    # A new trial begins from nothing.
    breaker.on_start(ANOTHER, 3.0)
    assert not breaker.admits(NOT_CHOSEN, 3.0)
    breaker.on_failure(cause, 3.5)
    assert breaker.next_probe_at == 7.5


def test_where_no_call_comes_probes_end_the_trial() -> None:
    breaker = on_trial()
    for number in range(1, 4):
        now = 5.0 * number
        assert breaker.probe_due(now - 0.1) is None
        assert breaker.probe_due(now) is RESPONSE
        breaker.on_probe(now)
        assert breaker.state is CANARY
        breaker.on_success(RESPONSE, now)
    assert breaker.state is CLOSED


def test_an_idle_probe_made_elsewhere_is_waited_for() -> None:
    breaker = on_trial()
    breaker.postpone(5.0)
    assert breaker.next_probe_at == 10.0
    breaker.on_failure(Cause.REFUSED, 6.0)
    assert breaker.next_probe_at == 8.0


def test_causes_are_parsed_by_their_id() -> None:
    for cause in Cause:
        assert Cause.parse(cause.id) is cause
    with pytest.raises(ValueError, match="expected a cause out of bad_key"):
        Cause.parse("gremlins")


class BreakerMachine(RuleBasedStateMachine):
    """Any traffic, any time: what a breaker promises whatever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = BreakerPolicy(
            failures=2, window_s=10.0, probe_after_s=1.0, probe_max_s=8.0, canary_after_s=3.0
        )
        self.random = 0.0
        self.breaker = Breaker(self.policy, lambda: self.random, "r")
        self.now = 0.0
        self.state = CLOSED
        self.owed: set[ProbeKind] = set()
        self.responses = 0

    def steps(self, *events: str) -> None:
        """What the documented table says of these events, one after the other."""
        table = {(state, event): after for state, event, after in documented()}
        for event in events:
            self.state = BreakerState[table.get((self.state.name, event), self.state.name)]

    @rule(seconds=st.floats(0, 20), random=st.floats(0, 0.999))
    def time_passes(self, seconds: float, random: float) -> None:
        self.now += seconds
        self.random = random

    @rule(cause=st.sampled_from(Cause))
    def failure(self, cause: Cause) -> None:
        before = self.state
        self.breaker.on_failure(cause, self.now)
        if before is CLOSED and not cause.fatal and self.breaker.state is CLOSED:
            self.owed.add(cause.proof)
            return
        self.steps("trip")
        self.owed = {cause.proof} | (set() if before is CANARY else self.owed)

    @rule()
    def two_failures_in_a_row_open(self) -> None:
        self.failure(Cause.RESPONSE_FAILED)
        self.failure(Cause.RESPONSE_FAILED)
        assert self.breaker.state is OPEN

    @rule(kind=st.sampled_from(ProbeKind))
    def success(self, kind: ProbeKind) -> None:
        self.breaker.on_success(kind, self.now)
        assert self.breaker.last_success_at == self.now
        if self.state is CLOSED:
            self.owed = set() if kind is RESPONSE else self.owed - {kind}
        elif self.state is CANARY:
            self.responses += kind is RESPONSE
            if self.responses == self.policy.canary_successes:
                self.steps("recovery")
                self.owed = set()
        else:
            self.owed -= {kind}
            if not self.owed:
                self.trial()

    def trial(self) -> None:
        self.steps("proof")
        self.owed, self.responses = {RESPONSE}, 0
        assert self.breaker.proved_at == self.now

    @precondition(lambda self: self.breaker.next_probe_at is not None)
    @rule()
    def the_due_probe_starts(self) -> None:
        assert self.breaker.next_probe_at is not None
        self.now = max(self.now, self.breaker.next_probe_at)
        assert self.breaker.probe_due(self.now) is (RESPONSE if RESPONSE in self.owed else SESSION)
        self.breaker.on_probe(self.now)
        self.steps("probe")

    @precondition(lambda self: self.breaker.next_probe_at is not None)
    @rule()
    def somebody_else_probes(self) -> None:
        self.breaker.postpone(self.now)

    @rule(cause=st.sampled_from(Cause))
    def another_replica_opens(self, cause: Cause) -> None:
        before = self.state
        self.breaker.trip(cause, self.now)
        self.steps("trip")
        self.owed = {cause.proof} | (set() if before is CANARY else self.owed)

    @rule()
    def another_replica_proves(self) -> None:
        was_open = self.breaker.is_open
        self.breaker.prove(self.now, elsewhere=True)
        if was_open:
            self.trial()

    @rule()
    def another_replica_closes(self) -> None:
        self.breaker.clear(self.now)
        self.steps("proof", "recovery")
        self.owed = set()

    @rule(call_id=st.text(max_size=3))
    def a_call_asks_and_starts(self, call_id: str) -> None:
        if self.breaker.admits(call_id, self.now):
            assert self.state in (CLOSED, CANARY)
            self.breaker.on_start(call_id, self.now)
            assert self.breaker.admits(call_id, self.now + 2.9)
        else:
            assert self.state is not CLOSED

    @invariant()
    def no_event_leaves_the_table(self) -> None:
        assert self.breaker.state is self.state

    @invariant()
    def doubt_always_has_a_probe_and_only_doubt_has_one(self) -> None:
        assert (self.breaker.next_probe_at is not None) == bool(self.owed)
        assert self.breaker.owed is (RESPONSE if RESPONSE in self.owed else SESSION if self.owed else None)
        if self.state is not CLOSED:
            assert self.owed
            assert self.breaker.cause is not None

    @invariant()
    def no_probe_is_further_away_than_the_longest_wait(self) -> None:
        if self.breaker.next_probe_at is not None:
            assert self.breaker.next_probe_at <= self.now + self.policy.probe_max_s

    @invariant()
    def on_trial_a_call_is_let_in_within_the_wait(self) -> None:
        if self.state is CANARY:
            assert self.breaker.admits("", self.now + self.policy.canary_after_s)

    @invariant()
    def there_is_a_way_back_from_everywhere(self) -> None:
        """Told nothing but that its probes succeed, it closes in the end."""
        breaker, now = copy.deepcopy(self.breaker), self.now
        for _ in range(2 + self.policy.canary_successes):
            if breaker.next_probe_at is None:
                break
            now = max(now, breaker.next_probe_at)
            breaker.on_probe(now)
            breaker.on_success(SESSION, now)
            breaker.on_success(RESPONSE, now)
        assert (breaker.state, breaker.next_probe_at) == (CLOSED, None)


TestBreakerMachine = BreakerMachine.TestCase


@given(st.lists(st.sampled_from(Cause), min_size=1, max_size=30), st.floats(0, 0.999))
def test_no_storm_of_failures_brings_a_probe_forward(causes: list[Cause], random: float) -> None:
    """A thousand calls failing at once are one outage: one probe, after the usual wait."""
    breaker = Breaker(random=lambda: random)
    for cause in causes:
        breaker.on_failure(cause, 100.0)
    assert breaker.next_probe_at == pytest.approx(100.0 + 1.0 * (1 - 0.25 * random))

"""Steps by share of a cap, and by where a call is heading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.steps import RECENT, Share, Step, StepAction, Stepper, StepPolicy

STEPS = (
    Step(0.6, StepAction.CONCISE),
    Step(0.8, StepAction.CHEAPER_RUNG),
    Step(0.9, StepAction.TIER_B),
    Step(1.0, StepAction.GOODBYE),
)
NO_CAP = Share(0, None)


def stepper(expected_s: float | None = None) -> Stepper:
    return Stepper(StepPolicy(STEPS, expected_s))


def taken(stepper: Stepper, call: Share, bucket: Share = NO_CAP, elapsed_s: float = 60.0) -> list[str]:
    return [step.action.value for step in stepper.advance(call, bucket, elapsed_s)]


@pytest.mark.parametrize(
    ("spent", "actions"),
    [
        (59, []),
        (60, ["concise"]),
        (85, ["concise", "cheaper_rung"]),
        (100, ["concise", "cheaper_rung", "tier_b", "goodbye"]),
        (130, ["concise", "cheaper_rung", "tier_b", "goodbye"]),
    ],
)
def test_every_step_up_to_the_share_is_taken_gentlest_first(spent: int, actions: list[str]) -> None:
    assert taken(stepper(), Share(spent, 100)) == actions


def test_a_step_is_taken_once_and_stays() -> None:
    call = stepper()
    assert taken(call, Share(60, 100)) == ["concise"]
    assert taken(call, Share(61, 100)) == []
    assert taken(call, Share(10, 100)) == []
    assert call.concise
    assert call.level is StepAction.CONCISE


def test_the_bucket_counts_as_the_call_does_whichever_is_further_gone() -> None:
    assert taken(stepper(), Share(10, 100), Share(80, 100)) == ["concise", "cheaper_rung"]
    assert taken(stepper(), NO_CAP, Share(59, 100)) == []


def test_a_cap_of_nothing_is_spent_from_the_start() -> None:
    assert "goodbye" in taken(stepper(), Share(0, 0))


def test_no_projection_without_an_expected_length_or_enough_answers() -> None:
    blind, new = stepper(), stepper(600.0)
    for call in (blind, new):
        for _ in range(RECENT - 1):
            call.note_answer(10)
    blind.note_answer(10)
    assert taken(blind, Share(40, 100)) == []
    assert taken(new, Share(30, 100)) == []


def test_a_call_that_is_heading_past_its_cap_steps_early_one_step_at_a_time() -> None:
    call = stepper(expected_s=600.0)
    for _ in range(4):
        call.note_answer(10)
    # 4 answers in a minute at 10 each: 36 more would come to 400 of 100.
    (step,) = call.advance(Share(40, 100), NO_CAP, 60.0)
    assert (step.action, step.cause) == (StepAction.CONCISE, "projection")
    assert step.share == pytest.approx(4.0)
    assert taken(call, Share(40, 100)) == [], "what it saves has to show first"
    for _ in range(3):
        call.note_answer(10)
    assert taken(call, Share(45, 100), elapsed_s=100.0) == ["cheaper_rung"]


def test_dearer_and_dearer_answers_are_projected_to_go_on_so() -> None:
    flat, growing = stepper(expected_s=120.0), stepper(expected_s=120.0)
    for flat_cost, growing_cost in zip([10, 10, 10, 10], [7, 9, 11, 13], strict=True):
        flat.note_answer(flat_cost)
        growing.note_answer(growing_cost)
    share = Share(40, 100)
    # 4 more answers are to come: at 10 each, or at 12 and 2 more for each next one.
    assert flat.projected(share, 60.0) == pytest.approx(0.8)
    assert growing.projected(share, 60.0) == pytest.approx((40 + 4 * (12 + 2 * 4 / 2)) / 100)


def test_a_projection_never_ends_a_call() -> None:
    call = Stepper(StepPolicy((Step(1.0, StepAction.GOODBYE), Step(1.0, StepAction.TIER_C)), 600.0))
    for _ in range(20):
        call.note_answer(10)
    assert call.advance(Share(90, 100), NO_CAP, 60.0) == []


@given(
    spends=st.lists(st.integers(0, 40), max_size=30),
    expected=st.one_of(st.none(), st.floats(10, 3600)),
    cap=st.integers(1, 500),
)
def test_steps_only_go_forward_and_none_is_taken_twice(
    spends: list[int], expected: float | None, cap: int
) -> None:
    call, seen, spent = stepper(expected), [], 0
    for number, cost in enumerate(spends, 1):
        spent += cost
        call.note_answer(cost)
        before = call.level
        seen += [step.action for step in call.advance(Share(spent, cap), NO_CAP, number * 10.0)]
        assert before is None or (call.level is not None and call.level.rank >= before.rank)
        due = {step.action for step in STEPS if spent >= step.at * cap}
        assert due <= call.taken, "money that is gone is never overlooked"
    assert len(seen) == len(set(seen))

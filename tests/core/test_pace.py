"""What is learned of a rung's pace, and what deadlines come of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.pace import ENOUGH, DeadlinePolicy, Pace, Step

POLICY = DeadlinePolicy({Step.SESSION: 1.0, Step.RESPONSE: 1.0, Step.FIRST_AUDIO: 1.0}, 0.8, 2.5)


def paced(*seconds: float) -> Pace:
    pace = Pace()
    for each in seconds:
        pace.note(Step.RESPONSE, each)
    return pace


def test_a_rung_that_is_not_known_has_the_configured_deadline() -> None:
    assert Pace().deadline(Step.RESPONSE, POLICY) == 1.0
    assert paced(*[0.1] * (ENOUGH - 1)).deadline(Step.RESPONSE, POLICY) == 1.0


def test_the_deadline_follows_the_slow_end_of_what_is_usual() -> None:
    assert paced(*[0.6] * 20).deadline(Step.RESPONSE, POLICY) == pytest.approx(1.0)
    assert paced(*[1.2] * 20).deadline(Step.RESPONSE, POLICY) == pytest.approx(1.9)


@given(st.lists(st.floats(0, 60), max_size=200))
def test_the_deadline_stays_between_floor_and_ceiling(seconds: list[float]) -> None:
    assert 0.8 <= paced(*seconds).deadline(Step.RESPONSE, POLICY) <= 2.5


def test_a_configured_deadline_outside_floor_and_ceiling_widens_them() -> None:
    slow, quick = (DeadlinePolicy({Step.RESPONSE: start}, 0.8, 2.5) for start in (4.0, 0.3))
    assert paced(*[30.0] * 20).deadline(Step.RESPONSE, slow) == 4.0
    assert paced(*[0.0] * 20).deadline(Step.RESPONSE, quick) == 0.3


def test_a_rung_that_became_slower_moves_its_deadline_up_by_what_still_arrives() -> None:
    pace = paced(*[0.5] * 20)
    for _ in range(60):
        pace.note(Step.RESPONSE, 0.97 * pace.deadline(Step.RESPONSE, POLICY))
    assert pace.deadline(Step.RESPONSE, POLICY) == 2.5


def test_the_usual_time_of_several_steps_is_known_when_all_are() -> None:
    pace = paced(0.2)
    assert pace.usual(Step.RESPONSE, Step.FIRST_AUDIO) is None
    pace.note(Step.FIRST_AUDIO, 0.3)
    assert pace.usual(Step.RESPONSE, Step.FIRST_AUDIO) == pytest.approx(0.5)

"""Token buckets: what they let through, and how long they ask to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.rates import FULL, Rate, taken, wait_s


def test_a_burst_and_then_the_rate() -> None:
    rate = Rate(per_s=2.0, burst=3)
    full_at, now = FULL, 100.0
    for _ in range(3):
        assert wait_s(full_at, rate, now) == 0
        full_at = taken(full_at, rate, now)
    assert wait_s(full_at, rate, now) == pytest.approx(0.5)
    assert wait_s(full_at, rate, now + 0.4) == pytest.approx(0.1)
    assert wait_s(full_at, rate, now + 0.5) == 0


def test_nothing_is_saved_up_beyond_the_burst() -> None:
    rate = Rate(per_s=1.0, burst=2)
    full_at = taken(FULL, rate, 0.0)
    for _ in range(2):
        assert wait_s(full_at, rate, 1e6) == 0
        full_at = taken(full_at, rate, 1e6)
    assert wait_s(full_at, rate, 1e6) == pytest.approx(1.0)


def test_a_minute_and_what_of_it_may_come_at_once() -> None:
    assert Rate.per_minute(60, 10) == Rate(1.0, 10)
    assert Rate.per_minute(3, 10) == Rate(0.05, 1)


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (1, 0.5)])
def test_a_rate_that_lets_nothing_through_is_refused(per_s: float, burst: float) -> None:
    with pytest.raises(ValueError, match="expected per_s > 0 and burst >= 1"):
        Rate(per_s, burst)


@given(
    st.floats(0.01, 1000),
    st.floats(1, 100),
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_never_more_than_the_burst_and_the_rate_and_a_wait_is_long_enough(
    per_s: float, burst: float, gaps: list[float]
) -> None:
    rate, full_at, now, let = Rate(per_s, burst), FULL, 1000.0, 0
    begun = now
    for gap in gaps:
        now += gap
        wait = wait_s(full_at, rate, now)
        if wait:
            assert wait_s(full_at, rate, now + wait + 1e-6) == 0
            continue
        full_at, let = taken(full_at, rate, now), let + 1
        assert let <= burst + (now - begun) * per_s + 1e-6

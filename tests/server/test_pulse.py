"""The event loop's delay, with a clock that is told how late it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.config import Settings
from orchestrator.server.metrics import Metrics
from orchestrator.server.pulse import EVERY_S, feel
from tests.server.test_http import no_environment

__all__ = ["no_environment"]


class Ended(Exception):
    pass


async def test_what_holds_the_loop_up_is_felt_and_counted() -> None:
    now, delays = 100.0, iter((0.0, 0.3, -0.05))
    metrics, felt = Metrics(Settings()), []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + _next(delays)

    def late(seconds: float) -> None:
        felt.append(round(seconds, 6))
        metrics.loop_late(seconds)

    with pytest.raises(Ended):
        await feel(late, clock=lambda: now, sleep=sleep)
    assert felt == [0.0, 0.3, 0.0]
    assert now == pytest.approx(100 + 3 * EVERY_S + 0.25)
    text = metrics.expose().decode()
    assert 'orchestrator_loop_delay_seconds_bucket{le="0.25"} 2.0' in text
    assert "orchestrator_loop_delay_seconds_count 3.0" in text


def _next(delays: Iterator[float]) -> float:
    try:
        return next(delays)
    except StopIteration:
        raise Ended from None

"""How much one connection may send."""

from __future__ import annotations

from orchestrator.server.frame_limits import Allowance, FrameLimits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_let_through_and_then_no_more_than_comes_by_the_clock() -> None:
    clock = Clock()
    allowance = Allowance(10.0, 20.0, clock)
    assert all(allowance.take(1) for _ in range(20))
    assert not allowance.take(1)
    clock.now = 1.0
    assert [allowance.take(1) for _ in range(10)] == [True] * 9 + [False]  # the refused one counted


def test_never_more_than_a_burst_is_saved_up() -> None:
    clock = Clock()
    allowance = Allowance(10.0, 20.0, clock)
    clock.now = 1_000.0
    assert sum(allowance.take(1) for _ in range(100)) <= 41


def test_a_client_that_catches_up_after_a_minute_is_within_the_defaults() -> None:
    limits = FrameLimits()
    messages = Allowance(limits.messages_per_s, limits.messages_per_s * limits.burst_s, Clock())
    sizes = Allowance(limits.bytes_per_s, limits.bytes_per_s * limits.burst_s, Clock())
    minute = 60 * 50
    assert all(messages.take(1) and sizes.take(1_400) for _ in range(minute))

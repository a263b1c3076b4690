"""How often something may happen: token buckets as plain functions, the clock passed in.

A bucket is kept as one number, the time at which it is full again. One that is full already needs no memory: it is
as good as one that was never used, so that whoever keeps buckets may forget those at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

FULL = 0.0
"""A bucket that nothing was ever taken from."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` things a second in the long run, and `burst` at once after a quiet time. Both above 0, `burst` from 1."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError(f"expected per_s > 0 and burst >= 1, got {self.per_s} and {self.burst}")

    @classmethod
    def per_minute(cls, times: float, burst_s: float) -> Rate:
        """What may come in a minute; what that is in `burst_s` seconds may come at once."""
        return cls(times / 60, max(1.0, times / 60 * burst_s))


def wait_s(full_at: float, rate: Rate, now: float) -> float:
    """Seconds until one may be taken out of a bucket that is full at `full_at`; 0 is now."""
    # Rounding must not ask for a wait that is shorter than any clock shows.
    left = max(full_at, now) + 1 / rate.per_s - now - rate.burst / rate.per_s
    return left if left > 1e-9 else 0.0


def taken(full_at: float, rate: Rate, now: float) -> float:
    """The bucket after one was taken out, which `wait_s` must have said is possible."""
    return max(full_at, now) + 1 / rate.per_s

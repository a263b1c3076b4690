"""How much one connection may send: an allowance that fills up by the clock, and what a message may be made of.

Looking at the clock for each frame would cost more than the frame is worth: an allowance is used up first, and only
then it is worked out how much has been added meanwhile. So a client may send twice the burst at once at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Of each connection. `messages_per_s` and `bytes_per_s` may be exceeded by what `burst_s` seconds of them are."""

    message_bytes: int = 16 * 1024 * 1024
    fragments: int = 1_000
    messages_per_s: float = 1_000.0
    bytes_per_s: float = 4.0 * 1024 * 1024
    burst_s: float = 20.0


class Allowance:
    """`per_s` units a second, of which as many as `burst` may be saved up."""

    __slots__ = ("_at", "_burst", "_clock", "_left", "_per_s")

    def __init__(self, per_s: float, burst: float, clock: Clock = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._left, self._at = burst, clock()

    def take(self, units: float) -> bool:
        """Use some up; False where there are not so many."""
        self._left -= units
        return self._left >= 0 or self._refilled()

    def _refilled(self) -> bool:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        return self._left >= 0

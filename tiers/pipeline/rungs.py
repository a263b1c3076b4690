"""Which speech engine to try first: each is a rung, and one that failed rests for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tiers.speech import Speech


class RungHealth(Protocol):
    """Whether a rung is worth trying: a breaker per rung, seen from here."""

    def usable(self, rung: str) -> bool: ...

    def failed(self, rung: str, cause: str) -> None: ...

    def worked(self, rung: str) -> None: ...


class Resting:
    """The health that one process knows by itself: a rung that failed rests for `seconds`."""

    def __init__(self, seconds: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._until: dict[str, float] = {}

    def usable(self, rung: str) -> bool:
        return self._clock() >= self._until.get(rung, 0.0)

    def failed(self, rung: str, cause: str) -> None:
        self._until[rung] = self._clock() + self._seconds

    def worked(self, rung: str) -> None:
        self._until.pop(rung, None)


def in_order(speech: Sequence[Speech], health: RungHealth) -> list[Speech]:
    """Usable rungs as configured, then the others: a resting rung is better than silence."""
    return sorted(speech, key=lambda rung: not health.usable(rung.rung))

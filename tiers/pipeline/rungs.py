"""Which rung to try first, speech engine or text model: one that failed rests for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from tiers.pipeline.errors import Cause

R = TypeVar("R")


class RungHealth(Protocol):
    """Whether a rung is worth trying: a breaker per rung, seen from here."""

    def usable(self, rung: str) -> bool:
        """Asked once for each try; of those who ask for a rung that had failed, not all may be let in."""
        ...

    def failed(self, rung: str, cause: Cause) -> None: ...

    def worked(self, rung: str) -> None: ...


class Resting:
    """The health that one process knows by itself: a rung that failed rests for `seconds`.

    One that did not like the request is not ill.
    """

    def __init__(self, seconds: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._until: dict[str, float] = {}

    def usable(self, rung: str) -> bool:
        return self._clock() >= self._until.get(rung, 0.0)

    def failed(self, rung: str, cause: Cause) -> None:
        if cause is not Cause.BAD_REQUEST:
            self._until[rung] = self._clock() + self._seconds

    def worked(self, rung: str) -> None:
        self._until.pop(rung, None)


def in_order(rungs: Sequence[R], name: Callable[[R], str], health: RungHealth) -> list[R]:
    """Usable rungs as configured, then the others: a resting rung is better than silence."""
    return sorted(rungs, key=lambda rung: not health.usable(name(rung)))

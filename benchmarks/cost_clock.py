"""The clock of the cost benchmark: time passes from one thing that is to happen to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Clock:
    """Simulated seconds, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self.at(self.now + seconds, do)

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (max(when, self.now), next(self._order), do))

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._due:
            self.now, _, do = heapq.heappop(self._due)
            do()

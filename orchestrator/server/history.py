"""What this replica remembers of its breakers and of the silences at handovers, in bounded memory.

It begins when the process does, and is gone with it; what is to be kept for longer belongs into a Prometheus.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.server.events import Row

CHANGES = 50
"""Of each breaker, at most: the latest."""
GAPS = 1000
"""The latest silences, at most."""


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """`at` is Unix seconds; `cause` is "" where nothing was wrong any more."""

    at: float
    state: str
    cause: str


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence that a caller heard at a handover. `at` is Unix seconds; `tier` is that which served the call then."""

    at: float
    tier: str
    trigger: str
    cause: str
    gap_ms: float


class History:
    """`row` is a listener of the `EventLog`, `breaker` is told of changes by the fleet. `began` is Unix seconds."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.gaps: deque[Gap] = deque(maxlen=GAPS)
        self.gaps_seen = 0
        """Since it began; those before the latest `GAPS` are forgotten."""
        self._breakers: dict[str, deque[BreakerChange]] = {}

    def row(self, row: Row) -> None:
        """A row of the timeline; it neither waits nor raises for what a row lacks."""
        if row["type"] != "gap":
            return
        self.gaps_seen += 1
        tier, trigger, cause = (str(row.get(name) or "") for name in ("tier", "trigger", "cause"))
        self.gaps.append(Gap(row["time"], tier, trigger, cause, float(row.get("gap_ms", 0.0))))

    def breaker(self, rung: str, state: str, cause: str, at: float) -> None:
        """The breaker of `rung` has another state from now on."""
        changes = self._breakers.setdefault(rung, deque(maxlen=CHANGES))
        if not changes or (changes[-1].state, changes[-1].cause) != (state, cause):
            changes.append(BreakerChange(at, state, cause))

    def changes(self, rung: str) -> Sequence[BreakerChange]:
        """Of one breaker, the oldest first; none: it is as it was in the beginning."""
        return tuple(self._breakers.get(rung, ()))

    @property
    def rungs(self) -> Sequence[str]:
        """Those whose breakers have changed."""
        return tuple(sorted(self._breakers))

    def spread(self) -> tuple[float | None, float | None, float | None]:
        """The median, the 95th percentile and the longest of the silences that are remembered, in ms."""
        found = sorted(gap.gap_ms for gap in self.gaps)
        if not found:
            return None, None, None
        # Nearest rank: every figure is one that was measured.
        median, p95 = (found[math.ceil(share * len(found)) - 1] for share in (0.5, 0.95))
        return median, p95, found[-1]

"""How fast a rung has been lately, and so how long it may take before it counts as failing.

One `Pace` per rung, shared by the calls of a process. Lengths are seconds. A deadline starts at its configured
value and, once enough was seen, follows what is usual for the rung, between a floor and a ceiling: a reasoning
model may take longer without being dead, and a quick one is given up on sooner. Only what arrived counts: a rung
that becomes slower moves its deadline up step by step, one that falls silent does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

KEPT = 64
"""Latest samples of a step that count."""
ENOUGH = 10
"""Samples below which a deadline stays as it was configured."""
MARGIN = 1.5
"""A deadline is this many times the slow end (p95) of what is usual, and `SLACK_S` more."""
SLACK_S = 0.1


class Step(Enum):
    """What a rung is timed at."""

    SESSION = "session"
    """From connecting to ``session.created``."""
    RESPONSE = "response"
    """From the end of the caller's turn, or the client's request, to ``response.created``."""
    FIRST_AUDIO = "first_audio"
    """From the same moment to the first audio."""
    ANSWER = "answer"
    """Tiers B and C: from the moment an answer is owed to its first audio, the bridge apart."""


PROVIDER_STEPS = (Step.SESSION, Step.RESPONSE, Step.FIRST_AUDIO)
"""Those that have a deadline."""


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """`start`: each step's deadline until the rung is known. `floor_s` and `ceiling_s` bound what is learned."""

    start: Mapping[Step, float]
    floor_s: float = 0.8
    ceiling_s: float = 2.5


class Pace:
    """One rung's latencies."""

    def __init__(self) -> None:
        self._samples: dict[Step, deque[float]] = {step: deque(maxlen=KEPT) for step in Step}

    def note(self, step: Step, seconds: float) -> None:
        """The step took that long."""
        self._samples[step].append(seconds)

    def deadline(self, step: Step, policy: DeadlinePolicy) -> float:
        """How long the step may take. A configured start outside floor and ceiling widens them."""
        start = policy.start[step]
        slow = self._quantile(step, 0.95, ENOUGH)
        if slow is None:
            return start
        floor, ceiling = min(policy.floor_s, start), max(policy.ceiling_s, start)
        return min(max(MARGIN * slow + SLACK_S, floor), ceiling)

    def usual(self, *steps: Step) -> float | None:
        """The median of these steps taken together; None while one of them was never seen."""
        known = [self._quantile(step, 0.5, 1) for step in steps]
        return None if None in known else sum(filter(None, known))

    def _quantile(self, step: Step, share: float, least: int) -> float | None:
        samples = sorted(self._samples[step])
        return samples[min(int(share * len(samples)), len(samples) - 1)] if len(samples) >= least else None


class HedgeCap:
    """Bounds how many turns may be answered twice. Each turn earns `share` of a hedge; at most `burst` are saved up.

    One per process, full at the start, so that a rare slow answer is always hedged and a slow day is not.
    """

    def __init__(self, share: float = 0.1, burst: float = 5.0) -> None:
        self._share = share
        self._burst = burst
        self._room = burst if share > 0 else 0.0

    def note_turn(self) -> None:
        self._room = min(self._room + self._share, self._burst)

    def take(self) -> bool:
        """Room for one more hedge, taken; False where there is none."""
        if self._room < 1.0:
            return False
        self._room -= 1.0
        return True


class Paces:
    """The paces of all rungs that calls of this process have used."""

    def __init__(self) -> None:
        self._rungs: dict[str, Pace] = {}

    def of(self, rung: str) -> Pace:
        pace = self._rungs.get(rung)
        if pace is None:
            pace = self._rungs[rung] = Pace()
        return pace

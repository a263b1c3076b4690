"""How a call gets cheaper before its money is gone: steps by share of a cap, and by where the call is heading.

A step is taken between turns and stays for the rest of the call. What a step bars the router passes over
(`routing.py`); shorter answers and the goodbye are the call's own doing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

RECENT = 4
"""Answers whose cost tells a call's pace."""


class StepAction(StrEnum):
    """What a step does, from the gentlest to the last."""

    CONCISE = "concise"
    """Shorter answers: a lower output limit and a word to the model."""
    CHEAPER_RUNG = "cheaper_rung"
    """Tier A on its cheapest rung."""
    TIER_B = "tier_b"
    TIER_C = "tier_c"
    GOODBYE = "goodbye"
    """The call is ended with a spoken goodbye."""

    @property
    def rank(self) -> int:
        return _ORDER.index(self)


_ORDER = tuple(StepAction)
_PROJECTED = frozenset({StepAction.CONCISE, StepAction.CHEAPER_RUNG, StepAction.TIER_B})
"""Steps that a projection may take early; the others wait for the money to be really gone."""


@dataclass(frozen=True, slots=True)
class Step:
    """`at`: the share of the call's or the bucket's cap, above 0 and at most 1, from which it is taken."""

    at: float
    action: StepAction


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """A bucket's steps. `expected_s`: how long its calls usually last; None makes no projections."""

    steps: tuple[Step, ...] = ()
    expected_s: float | None = None
    concise_tokens: int = 400
    """Output limit of a concise answer: 400 tokens are 20 seconds of speech."""
    hold_answers: int = 3
    """After a step that a projection took, so many answers show what it saves before another is taken."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken, and why: ``share`` of a cap, or the ``projection``."""

    action: StepAction
    cause: str
    share: float


@dataclass(slots=True)
class Stepper:
    """The steps of one call. Money in nano-dollars, time in seconds since the call began."""

    policy: StepPolicy
    taken: set[StepAction] = field(default_factory=set)
    _costs: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    _answers: int = 0
    _held_until: int = 0

    @property
    def level(self) -> StepAction | None:
        """The furthest step taken."""
        return max(self.taken, key=lambda action: action.rank, default=None)

    @property
    def concise(self) -> bool:
        return StepAction.CONCISE in self.taken

    def note_answer(self, cost: int) -> None:
        """An answer in the conversation was paid for."""
        self._costs.append(cost)
        self._answers += 1

    def advance(self, call: Share, bucket: Share, elapsed_s: float) -> list[Taken]:
        """The steps to take now, gentlest first; `taken` has them from here on."""
        share = max(call.of_cap, bucket.of_cap)
        new = [Taken(s.action, "share", share) for s in self._ahead() if share >= s.at]
        if not new and (early := self._early(call, elapsed_s)) is not None:
            new = [early]
            self._held_until = self._answers + self.policy.hold_answers
        self.taken.update(step.action for step in new)
        return new

    def projected(self, call: Share, elapsed_s: float) -> float | None:
        """The share of its cap that the call will have spent at its expected end; None where nobody can tell.

        Answers go on coming at the pace so far, each dearer than the one before by what the last few show.
        """
        expected = self.policy.expected_s
        if expected is None or not call.cap or len(self._costs) < RECENT or elapsed_s <= 0:
            return None
        left = max(0.0, (expected - elapsed_s) * self._answers / elapsed_s)
        half = RECENT // 2
        costs = list(self._costs)
        early, late = sum(costs[:half]) / half, sum(costs[half:]) / (RECENT - half)
        growth = max(0.0, (late - early) / (RECENT - half))
        return (call.spent + left * (late + growth * left / 2)) / call.cap

    def _ahead(self) -> Sequence[Step]:
        return [step for step in self.policy.steps if step.action not in self.taken]

    def _early(self, call: Share, elapsed_s: float) -> Taken | None:
        """The next step, if the call is on its way past its cap."""
        ahead = [step for step in self._ahead() if step.action in _PROJECTED]
        projected = self.projected(call, elapsed_s)
        if not ahead or projected is None or projected <= 1 or self._answers < self._held_until:
            return None
        return Taken(min(ahead, key=lambda step: step.action.rank).action, "projection", projected)


@dataclass(frozen=True, slots=True)
class Share:
    """Money spent of a cap; None: there is no cap."""

    spent: int
    cap: int | None

    @property
    def of_cap(self) -> float:
        if self.cap is None:
            return 0.0
        return self.spent / self.cap if self.cap else 1.0

"""The callers of the cost benchmark: who rings, how long they talk, when they interrupt, and when they give up.

Three kinds of calls, none of them drawn from the families that the estimator assumes: lengths are mixtures of
empirical tables and Weibull draws, talk is gamma, pauses are a mixture. A caller is drawn from the seed and its
number alone, so that every policy is put to the same callers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

WINDOW_S = 0.032
"""Talk comes in whole windows of speech detection."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing the caller says, and the answer it would get from a model with all the room it likes; seconds."""

    talk_s: float
    answer_s: float
    pause_s: float
    """From the end of the answer to what the caller says next."""
    tools: tuple[float, ...] = ()
    """How long each function that the model calls for it takes."""
    interrupted_at: float | None = None
    """Share of the answer after which the caller speaks up."""
    goes_on: bool = False
    """The caller asks for the rest of an answer that broke off."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One caller, who hangs up after the last turn."""

    number: int
    kind: str
    turns: tuple[Turn, ...]
    gives_up_at: float | None = None
    """The share of the answer to the last turn after which the caller loses patience."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of call. `turns`: a table of how many turns, with weights, or shape, scale and least of a Weibull."""

    share: float
    turns: Mapping[int, float] | tuple[float, float, int]
    talk: tuple[float, float]
    """Shape and mean of a gamma."""
    answer: tuple[float, float]
    """Shape and scale of a Weibull."""
    tool_share: float
    interrupts: float
    gives_up: float
    """Chance for each turn, once three are over."""
    thinks: tuple[float, float] = (0.0, 0.0)
    """Share of the turns before which the caller goes and tries something, and how long that takes on average."""


KINDS: Mapping[str, Kind] = {
    "order status": Kind(
        0.55, {2: 14, 3: 27, 4: 25, 5: 16, 6: 10, 8: 8}, (2.2, 2.4), (1.6, 7.0), 0.45, 0.06, 0.015
    ),
    "question about a bill": Kind(
        0.27, {4: 9, 6: 20, 7: 22, 9: 21, 11: 16, 14: 12}, (1.8, 4.1), (1.7, 10.5), 0.30, 0.10, 0.01
    ),
    "troubleshooting": Kind(0.18, (1.4, 21.0, 8), (2.0, 3.3), (1.5, 12.5), 0.20, 0.14, 0.012, (0.35, 14.0)),
}
MOST_TURNS = 70


@dataclass(slots=True)
class Callers:
    """All callers of one seed."""

    seed: int
    _kinds: list[str] = field(default_factory=lambda: list(KINDS))

    def plan(self, number: int) -> Plan:
        dice = random.Random(f"{self.seed} {number}")
        name = dice.choices(self._kinds, [kind.share for kind in KINDS.values()])[0]
        kind = KINDS[name]
        turns: list[Turn] = []
        for index in range(_turns(kind, dice)):
            turns.append(_turn(kind, dice))
            if index >= 3 and dice.random() < kind.gives_up:
                return Plan(number, name, tuple(turns), dice.uniform(0.05, 0.6))
        return Plan(number, name, tuple(turns))


def _turns(kind: Kind, dice: random.Random) -> int:
    if isinstance(kind.turns, tuple):
        shape, scale, least = kind.turns
        return min(MOST_TURNS, least + round(dice.weibullvariate(scale, shape)))
    return dice.choices(list(kind.turns), list(kind.turns.values()))[0]


def _turn(kind: Kind, dice: random.Random) -> Turn:
    shape, mean = kind.talk
    talk = max(0.5, dice.gammavariate(shape, mean / shape))
    answer_shape, scale = kind.answer
    tools: tuple[float, ...] = ()
    if dice.random() < kind.tool_share:
        tools = tuple(dice.triangular(0.2, 4.0, 0.8) for _ in range(1 + (dice.random() < 0.15)))
    pause = 0.3 + dice.gammavariate(1.5, 0.5)
    thinks, long = kind.thinks
    if dice.random() < thinks:
        pause += dice.gammavariate(1.3, long / 1.3)
    interrupted = dice.betavariate(2.0, 2.5) if dice.random() < kind.interrupts else None
    return Turn(
        talk_s=round(talk / WINDOW_S) * WINDOW_S,
        answer_s=min(60.0, max(1.5, dice.weibullvariate(scale, answer_shape))),
        pause_s=pause,
        tools=tools,
        interrupted_at=interrupted,
    )

"""What goes wrong in the calls, and in which order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """One way in which the primary provider fails; without a moment it does not."""

    name: str
    help: str
    moment: str | None = None
    after_ms: tuple[int, int] = (0, 0)
    """How far into the moment: drawn anew for each round, the same for all contenders."""
    forever: bool = False
    """Every connection of the call meets it, not the first one alone."""
    gone: bool = False
    """Once the call is up, the provider refuses every further connection."""

    def fault(self, after_ms: int) -> Mapping[str, Any]:
        """The fault as the simulator takes it."""
        count = "forever" if self.forever else 1
        return {"fault": self.name, "moment": self.moment, "after_ms": after_ms, "count": count}


GONE: Mapping[str, Any] = {"fault": "refused", "moment": "connecting", "count": "forever"}

CASES = {
    case.name: case
    for case in (
        Case("none", "nothing fails: shows that a contender works at all; always included"),
        Case(
            "refused",
            "every connection is reset before the handshake is answered",
            "connecting",
            forever=True,
        ),
        Case("hang", "no handshake is ever answered", "connecting", forever=True),
        Case(
            "abort",
            "the connection is reset in the middle of an answer, then refused",
            "mid_answer",
            (300, 2500),
            gone=True,
        ),
        Case("close_1011", "the same with close code 1011", "mid_answer", (300, 2500), gone=True),
        Case("stall", "an answer stops in the middle; the connection stays", "mid_answer", (300, 2500)),
        Case("silent_turn", "not a word after the caller's turn; the connection stays", "answer_owed"),
        Case("failed", "response.done says failed, where an answer was owed", "answer_owed", (1, 300)),
    )
}


@dataclass(frozen=True, slots=True)
class Planned:
    """One call for every contender, placed at the same time."""

    round: int
    case: Case
    after_ms: int
    pause: float
    """Seconds of silence before the caller speaks."""


def schedule(faults: Sequence[str], rounds: int, dice: random.Random) -> Iterator[Planned]:
    """`none` first of all, for a contender that fails it is out; then every fault once a round, in changing order."""
    names = [name for name in CASES if name in faults and name != "none"]
    for number in range(rounds):
        order = dice.sample([*names, "none"], len(names) + 1)
        if number == 0:
            order = ["none", *(name for name in order if name != "none")]
        for name in order:
            case = CASES[name]
            yield Planned(number, case, dice.randint(*case.after_ms), round(dice.uniform(0.2, 0.6), 3))

"""When which fault is armed in a soak: drawn from a seed, so that a run can be repeated.

Time goes by in bars of six seconds: with single faults, calm ones, one in which the whole provider is down, and one
in which calls go back and faults strike the sessions that are prepared for them. What did not strike in its bar is
disarmed: it would strike in the next one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle
from typing import Any

from orchestrator.simulate.faults import CATALOGUE, FaultId, Moment

BAR_S = 6.0
FAULTS_A_BAR = 7
OUTAGE_S = 4.0
"""How long of its bar an outage lasts."""
AFTER_MS = {Moment.MID_ANSWER: 1500, Moment.CONNECTING: 200}
"""How far into its moment a fault may strike; 300 ms elsewhere."""
BURSTS = (1, 1, 1, 3)
"""How many calls a fault strikes."""
REFUSALS = (
    FaultId.REFUSED,
    FaultId.HTTP_5XX,
    FaultId.HTTP_429,
    FaultId.HANG,
    FaultId.MUTE,
    FaultId.LATE_REFUSAL_1013,
)
"""What new sessions get in an outage."""
ENDINGS = (FaultId.ABORT, FaultId.CLOSE_1011, FaultId.HALF_OPEN)
"""What becomes of the sessions that are up when an outage begins."""
Cell = tuple[FaultId, Moment]
CELLS: tuple[Cell, ...] = tuple(
    (fault, moment) for fault, kind in CATALOGUE.items() for moment in kind.moments
)


class Bar(StrEnum):
    FAULTS = "faults"
    CALM = "calm"
    OUTAGE = "outage"
    RETURN = "return"


PATTERN = (
    *(Bar.FAULTS, Bar.FAULTS, Bar.CALM),
    *(Bar.FAULTS, Bar.FAULTS, Bar.CALM),
    *(Bar.OUTAGE, Bar.RETURN, Bar.CALM),
)


@dataclass(frozen=True, slots=True)
class Order:
    """One command to the provider, `at` seconds after the start; without a fault all are disarmed."""

    at: float
    fault: dict[str, Any] | None
    bar: Bar


def schedule(seconds: float, calls: int, dice: random.Random) -> list[Order]:
    """All commands of a run, in order. Every cell is dealt once before any is dealt again."""
    decks = {
        Bar.FAULTS: _deal(CELLS, dice),
        Bar.RETURN: _deal([cell for cell in CELLS if cell[1] is Moment.REPLAYING], dice),
    }
    orders: list[Order] = []
    for number, bar in zip(range(int(seconds // BAR_S)), cycle(PATTERN), strict=False):
        start = number * BAR_S
        if bar in decks:
            times = sorted(start + dice.uniform(0.0, 0.8 * BAR_S) for _ in range(FAULTS_A_BAR))
            orders += [Order(at, _fault(next(decks[bar]), dice), bar) for at in times]
        elif bar is Bar.OUTAGE:
            orders += [Order(start, fault, bar) for fault in _outage(calls, dice)]
            orders.append(Order(start + OUTAGE_S, None, bar))
        if bar is not Bar.CALM:
            orders.append(Order(start + BAR_S, None, bar))
    return orders


def _deal(cells: Sequence[Cell], dice: random.Random) -> Iterator[Cell]:
    while True:
        yield from dice.sample(cells, len(cells))


def _fault(cell: Cell, dice: random.Random) -> dict[str, Any]:
    fault, moment = cell
    after_ms = dice.randint(0, AFTER_MS.get(moment, 300))
    return {
        "fault": fault.value,
        "moment": moment.value,
        "after_ms": after_ms,
        "count": dice.choice(BURSTS),
    }


def _outage(calls: int, dice: random.Random) -> Iterator[dict[str, Any]]:
    """Every session ends where it stands, and there is no new one."""
    yield {"fault": dice.choice(REFUSALS).value, "moment": Moment.CONNECTING.value, "count": "forever"}
    ending = dice.choice(ENDINGS).value
    for moment in Moment:
        if moment is not Moment.CONNECTING:
            yield {"fault": ending, "moment": moment.value, "count": calls}

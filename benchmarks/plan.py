"""Which calls a run places: how many of each cell, in which order, and on which lane."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.matrix import FREQUENT, HEADLINES, MAIN, Cell
from benchmarks.scenes import after_ms
from benchmarks.services import Service


@dataclass(frozen=True, slots=True)
class Planned:
    """One call to place."""

    round: int
    cell: Cell
    after_ms: int
    pause: float
    """Seconds of silence before the caller speaks."""
    outage: bool = True
    """After the fault the provider stays dead for the rest of the call; else it strikes once."""


Counts = Mapping[Cell, int]
"""How many calls to place, by cell."""
Plans = Mapping[Service, Sequence[Planned]]


@dataclass(frozen=True, slots=True)
class Calls:
    """How many calls are placed of one cell."""

    frequent: int
    """Of a main fault where an answer is owed."""
    main: int
    """Of a main fault at another moment."""
    other: int
    real: int
    """Of a headline, with the local models."""
    direct: int
    """Of a headline, without the orchestrator."""

    def simulated(self, cell: Cell) -> int:
        """Of this cell, with simulated engines."""
        if cell in FREQUENT:
            return self.frequent
        return self.main if cell.fault in MAIN else self.other


def plans(
    cells: Sequence[Cell], calls: Calls, engines: str, dice: random.Random, *, blip: bool = False
) -> dict[Service, list[Planned]]:
    """The calls to place on each service. `engines`: "simulated", "real" or "both"."""
    headlines = [cell for cell in HEADLINES if cell in cells]
    counts: dict[Service, Counts] = {
        Service.SIMULATED: {cell: calls.simulated(cell) for cell in cells} if engines != "real" else {},
        Service.REAL: dict.fromkeys(headlines, calls.real) if engines != "simulated" else {},
        Service.DIRECT: dict.fromkeys(headlines, calls.direct),
    }
    found = {service: list(schedule(c, dice, outage=not blip)) for service, c in counts.items()}
    return {service: planned for service, planned in found.items() if planned}


def schedule(counts: Counts, dice: random.Random, *, outage: bool = True) -> Iterator[Planned]:
    """Rounds with every cell at most once, in another order each time; the calls of a cell are spread over all of
    them. So every part of a run is alike, and whatever the machine does meets all cells."""
    rounds = max(counts.values(), default=0)
    chosen = {cell: set(dice.sample(range(rounds), count)) for cell, count in counts.items()}
    for number in range(rounds):
        cells = [cell for cell, numbers in chosen.items() if number in numbers]
        for cell in dice.sample(cells, len(cells)):
            yield Planned(
                number, cell, dice.randint(*after_ms(cell)), round(dice.uniform(0.1, 0.3), 3), outage
            )


def deal(planned: Sequence[Planned], lanes: int) -> list[list[Planned]]:
    """The calls of each lane, dealt one after the other; no lane is left without any."""
    return [list(planned[lane::lanes]) for lane in range(min(lanes, len(planned)))]

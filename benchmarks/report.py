"""The figures of all calls as quantiles, a table and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.timeline import Figures, Outcome

MEASURES = ("session_ms", "bridge_ms", "answer_ms", "turn_bridge_ms", "turn_answer_ms", "gap_ms")
COLUMNS = {
    "session_ms": "connect to session",
    "bridge_ms": "fault to bridge",
    "answer_ms": "fault to answer",
    "gap_ms": "longest silence",
}
WIDTH = 130
NEVER = {"answer_ms": "never", "gap_ms": "for ever"}
"""What to print where no call was answered."""
SERVED_BY = {
    "simulated": "The orchestrator, with simulated engines of stated latency in Tier B",
    "real": "The orchestrator, with its local models in Tier B",
    "direct": "No orchestrator: straight to the provider",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One measured call: what was done to it, and what came of it."""

    service: str
    """Who served it: "simulated" or "real" engines behind the orchestrator, or "direct": no orchestrator."""
    fault: str
    round: int
    after_ms: int
    """How far into its moment the fault was to strike."""
    figures: Figures
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """In milliseconds; p95 is interpolated between the neighbouring calls."""

    count: int
    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Quantiles | None:
        """None of no values at all; None among the values does not count."""
        found = np.array([value for value in values if value is not None], dtype=np.float64)
        if not found.size:
            return None
        p50, p95 = np.percentile(found, [50, 95])
        return cls(found.size, round(float(p50), 2), round(float(p95), 2), round(float(found.max()), 2))

    def __str__(self) -> str:
        return " / ".join(_number(value) for value in (self.p50, self.p95, self.max))


@dataclass(frozen=True, slots=True)
class Summary:
    """All calls of one service and fault."""

    service: str
    fault: str
    calls: int
    outcomes: dict[str, int]
    repeated: int
    measures: dict[str, Quantiles | None]

    @property
    def answered(self) -> int:
        return self.outcomes.get(Outcome.ANSWERED.value, 0)


def summarise(rows: Sequence[Row], faults: Sequence[str]) -> list[Summary]:
    """One summary for each service and fault; services in order of their first row, faults in the order given."""
    services = list(dict.fromkeys(row.service for row in rows))
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (services.index(row.service), faults.index(row.fault))):
        groups.setdefault((row.service, row.fault), []).append(row)
    found = []
    for (service, fault), group in groups.items():
        figures = [row.figures for row in group]
        outcomes = [each.outcome.value for each in figures]
        found.append(
            Summary(
                service,
                fault,
                len(group),
                {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
                sum(each.repeated for each in figures),
                {name: Quantiles.of(getattr(each, name) for each in figures) for name in MEASURES},
            )
        )
    return found


def failed(rows: Sequence[Row]) -> list[Row]:
    """Calls behind the orchestrator that were not answered as they should have been."""
    return [row for row in rows if row.service != "direct" and row.figures.outcome is not Outcome.ANSWERED]


def show(summaries: Sequence[Summary], console: Console) -> None:
    """Print a table for each service. Nothing is cut off where the window is too narrow."""
    console.width = max(console.width, WIDTH)
    for service in dict.fromkeys(summary.service for summary in summaries):
        table = Table(title=SERVED_BY[service], title_justify="left", box=None, header_style="dim")
        for column in ("fault", "answered", "repeated"):
            table.add_column(column, no_wrap=True)
        for column in COLUMNS.values():
            table.add_column(column, justify="right", no_wrap=True)
        for summary in summaries:
            if summary.service == service:
                table.add_row(
                    summary.fault,
                    f"{summary.answered} of {summary.calls}",
                    str(summary.repeated),
                    *(_cell(summary, name) for name in COLUMNS),
                )
        console.print(table)
    console.print("Milliseconds: p50 / p95 / max. A silent fault is timed from the deadline that notices it.")


def _cell(summary: Summary, name: str) -> str:
    if not summary.answered and name in NEVER:
        return NEVER[name]
    return str(summary.measures[name] or "")


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def write(path: Path, about: dict[str, Any], summaries: Sequence[Summary], rows: Sequence[Row]) -> None:
    """All of it as JSON."""
    content = {
        **about,
        "summary": [asdict(summary) for summary in summaries],
        "calls": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(content, indent=1, default=_plain) + "\n")


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form")

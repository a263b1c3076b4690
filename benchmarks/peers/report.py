"""All calls as a table and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import report as cells
from benchmarks.peers.cases import CASES
from benchmarks.peers.contenders import CONTENDERS
from benchmarks.peers.figures import Outcome
from benchmarks.peers.measure import Row, refused

MEASURES = {
    "sound_ms": "first sound",
    "answer_ms": "answer",
    "silence_ms": "longest silence",
}
WIDTH = 140


class Quantiles(cells.Quantiles):
    """In whole milliseconds, as far as they are shown: peers differ by more."""

    def __str__(self) -> str:
        return " / ".join(f"{value:,.0f}" for value in (self.p50, self.p95, self.max))


@dataclass(frozen=True, slots=True)
class Summary:
    """All calls of one contender with one fault."""

    fault: str
    contender: str
    outcomes: dict[str, int]
    measures: dict[str, Quantiles | None]

    def count(self, outcome: Outcome) -> int:
        return self.outcomes.get(outcome.value, 0)

    @property
    def calls(self) -> int:
        """Those that say something."""
        return sum(self.outcomes.values()) - self.count(Outcome.MISSED) - self.count(Outcome.ERROR)


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Fault by fault, contenders in their order; those that failed without a fault are left out."""
    out = refused(rows)
    found = []
    for fault in CASES:
        for contender in CONTENDERS:
            group = [r.figures for r in rows if (r.fault, r.contender) == (fault, contender)]
            if not group or contender in out:
                continue
            outcomes = [each.outcome.value for each in group]
            counts = {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
            measures = {name: Quantiles.of(getattr(each, name) for each in group) for name in MEASURES}
            found.append(Summary(fault, contender, counts, measures))
    return found


def show(summaries: Sequence[Summary], watch_s: float, console: Console) -> None:
    """Print a table for each fault. Nothing is cut off where the window is too narrow."""
    console.width = max(console.width, WIDTH)
    for fault in dict.fromkeys(summary.fault for summary in summaries):
        title = f"\n[bold]{fault}[/]: {CASES[fault].help}"
        table = Table(title=title, title_justify="left", title_style="", box=None, header_style="dim")
        table.add_column("", no_wrap=True)
        for column in ("answered", "asked again", "call lost"):
            table.add_column(column, justify="right", no_wrap=True)
        for column in MEASURES.values():
            table.add_column(column, justify="right", no_wrap=True)
        for summary in summaries:
            if summary.fault == fault:
                cells = [_cell(summary, name, watch_s) for name in MEASURES]
                table.add_row(CONTENDERS[summary.contender].title, *_counts(summary), *cells)
        console.print(table)
    console.print(
        "\nMilliseconds, p50 / p95 / max; from a fault that cuts an answer off, otherwise from the caller's last word. "
        "Asked again: not answered, but answered when the caller said it once more."
    )


def _counts(summary: Summary) -> tuple[str, str, str]:
    again, lost = summary.count(Outcome.AGAIN), summary.count(Outcome.LOST)
    return f"{summary.count(Outcome.ANSWERED)} of {summary.calls}", str(again or ""), str(lost or "")


def _cell(summary: Summary, name: str, watch_s: float) -> str:
    if summary.measures[name] is not None:
        return str(summary.measures[name])
    return f"never within {watch_s:g} s" if summary.calls else ""


def write(path: Path, about: dict[str, Any], summaries: Sequence[Summary], rows: Sequence[Row]) -> None:
    """All of it as JSON, the calls of refused contenders too."""
    content = {
        **about,
        "refused": refused(rows),
        "summary": [asdict(summary) for summary in summaries],
        "calls": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(content, indent=1, default=_plain) + "\n")


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form")

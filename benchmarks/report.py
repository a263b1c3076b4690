"""The figures of all calls as quantiles, verdicts, tables and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.matrix import CELLS, FAULTS, Cell, Kind, Moment
from benchmarks.timeline import Figures, Outcome

MEASURES = (
    "session_ms", "decided_ms", "waited_ms", "sound_ms", "answer_ms", "sound_decided_ms", "answer_decided_ms",
    "bridge_ms", "turn_answer_ms", "gap_ms", "second_ms",
)  # fmt: skip
COLUMNS = {
    "decided_ms": "decided",
    "waited_ms": "of it waited",
    "sound_ms": "first sound",
    "answer_ms": "answer",
    "answer_decided_ms": "from decision",
    "gap_ms": "silence",
}
SHORT = {"waited_ms", "answer_decided_ms"}
"""Columns that leave the p95 out."""
WIDTH = 170
NEVER = {"sound_ms": "never", "answer_ms": "never", "gap_ms": "for ever"}
"""What to print where no call was answered."""
SERVED_BY = {
    "simulated": "The orchestrator, with simulated engines of stated latency in Tier B",
    "real": "The orchestrator, with its local models in Tier B",
    "direct": "No orchestrator: straight to the provider",
}
HARD_MS = {"p50": 20.0, "p95": 50.0, "max": 200.0}
"""First sound after a fault that shows at once, where an answer is owed."""
SILENT_MS, NOTICED_MS = 1000.0, 50.0
"""How long a caller may wait until a silent fault is decided, and until the client knows of it."""
TARGETS = (
    f"Targets: after a hard fault in an answer that is owed, first sound within {HARD_MS['p50']:g} ms at p50, "
    f"{HARD_MS['p95']:g} ms at p95, {HARD_MS['max']:g} ms at most; a silent fault decided within "
    f"{SILENT_MS:g} ms of waiting; no turn lost, closed without an answer or answered twice, no function run twice."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One measured call: what was done to it, and what came of it."""

    service: str
    """Who served it: "simulated" or "real" engines behind the orchestrator, or "direct": no orchestrator."""
    fault: str
    moment: Moment
    round: int
    after_ms: int
    """How far into its moment the fault was to strike."""
    figures: Figures
    lost: str = ""
    lane: int = 0
    """The stack of processes that the call was placed on, of those side by side."""

    @property
    def cell(self) -> Cell:
        return CELLS[self.fault, self.moment]

    @property
    def failures(self) -> list[str]:
        """Which promises were broken in this call."""
        figures = self.figures
        found = [] if figures.outcome is Outcome.ANSWERED else [figures.outcome.value]
        if figures.repeated:
            found.append("audio repeated")
        if figures.tool_runs > 1:
            found.append(f"the same function run {figures.tool_runs} times")
        return found + [f"passed on: {what}" for what in dict.fromkeys(figures.passed_on)]


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
        if self.count == 1:
            return number(self.max)
        return " / ".join(number(value) for value in (self.p50, self.p95, self.max))


@dataclass(frozen=True, slots=True)
class Summary:
    """All calls of one service and cell."""

    service: str
    fault: str
    moment: Moment
    calls: int
    outcomes: dict[str, int]
    answered_by: dict[str, int]
    """Calls by the tier that answered."""
    repeated: int
    tools_repeated: int
    passed_on: int
    tool_runs: int
    """How often one function was run with the same arguments, at most."""
    second_struck: int
    """Handovers in which the second fault struck too."""
    measures: dict[str, Quantiles | None]

    @property
    def cell(self) -> Cell:
        return CELLS[self.fault, self.moment]

    @property
    def answered(self) -> int:
        return self.outcomes.get(Outcome.ANSWERED.value, 0)

    @property
    def flaws(self) -> list[str]:
        """What went wrong, in words of the table."""
        missed = [f"{count} {outcome}" for outcome, count in self.outcomes.items() if outcome != "answered"]
        counts = {
            "audio repeated": self.repeated,
            "function repeated": self.tools_repeated,
            "passed on": self.passed_on,
            "left Tier A": self._left_for_nothing,
        }
        return missed + [f"{count} {what}" for what, count in counts.items() if count]

    @property
    def _left_for_nothing(self) -> int:
        stays = self.cell.kind is Kind.HARMLESS and self.moment not in (Moment.HANDOVER, Moment.PROMOTION)
        return self.answered - self.answered_by.get("A", 0) if stays and self.service != "direct" else 0

    @property
    def verdict(self) -> bool | None:
        """Whether the cell keeps the target of its kind; None where none applies."""
        if self.service == "direct":
            return None
        # Every handover begins with a connection that is reset.
        if (self.cell.kind is Kind.HARD or self.moment is Moment.HANDOVER) and self.cell.owed:
            sound = self.measures["sound_ms"]
            heard = sound is not None and all(getattr(sound, name) <= ms for name, ms in HARD_MS.items())
            return heard and self.answered == self.calls
        if self.cell.kind is Kind.SILENT and self.moment is not Moment.PROMOTION:
            waited = self.measures["waited_ms"]
            return None if waited is None else waited.max <= SILENT_MS + NOTICED_MS
        return None


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """One summary for each service and cell; services in order of their first row, cells in the matrix's."""
    services = list(dict.fromkeys(row.service for row in rows))
    moments = list(Moment)
    groups: dict[tuple[str, Moment, str], list[Row]] = {}
    for row in sorted(
        rows,
        key=lambda row: (services.index(row.service), moments.index(row.moment), FAULTS.index(row.fault)),
    ):
        groups.setdefault((row.service, row.moment, row.fault), []).append(row)
    return [_summary(*key, group) for key, group in groups.items()]


def _summary(service: str, moment: Moment, fault: str, group: Sequence[Row]) -> Summary:
    figures = [row.figures for row in group]
    answered = [each for each in figures if each.outcome is Outcome.ANSWERED]
    return Summary(
        service,
        fault,
        moment,
        len(group),
        _counts(each.outcome.value for each in figures),
        _counts(each.answered_by for each in answered),
        repeated=sum(each.repeated for each in figures),
        tools_repeated=sum(each.tool_runs > 1 for each in figures),
        tool_runs=max((each.tool_runs for each in figures), default=0),
        passed_on=sum(bool(each.passed_on) for each in figures),
        second_struck=sum(each.second_ms is not None for each in figures),
        measures={name: Quantiles.of(getattr(each, name) for each in figures) for name in MEASURES},
    )


def _counts(values: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def failed(rows: Sequence[Row]) -> list[Row]:
    """Calls behind the orchestrator in which it did not do what it promises."""
    return [row for row in rows if row.service != "direct" and row.failures]


def served_by(service: str, lanes: Mapping[Any, int]) -> str:
    """Who served, and how many calls at a time; `lanes` by service."""
    count = lanes.get(service, 1)
    how = f"{count} stacks side by side, each with one call at a time" if count > 1 else "one call at a time"
    return f"{SERVED_BY[service]}; {how}"


def show(summaries: Sequence[Summary], lanes: Mapping[Any, int], console: Console) -> None:
    """Print a table for each service and moment."""
    console = Console(file=console.file, width=max(WIDTH, console.width))
    for service in dict.fromkeys(summary.service for summary in summaries):
        console.print(f"\n[bold]{served_by(service, lanes)}[/]")
        for moment in Moment:
            chosen = [s for s in summaries if (s.service, s.moment) == (service, moment)]
            if chosen:
                console.print(_table(moment, chosen))
    console.print(
        "Milliseconds: p50 / p95 / max (two numbers: p50 / max). docs/benchmarks.md says what each figure means."
    )
    console.print(TARGETS)


def _table(moment: Moment, summaries: Sequence[Summary]) -> Table:
    table = Table(title=moment.value, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in ("fault", "answered", "by"):
        table.add_column(name, no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    table.add_column("wrong", style="red")
    for summary in summaries:
        verdict, wrong = _ends(summary)
        colour = "red" if summary.verdict is False else "green"
        table.add_row(summary.fault, *_cells(summary), f"[{colour}]{verdict}[/]", wrong)
    return table


def _cells(summary: Summary) -> list[str]:
    answered = f"{summary.answered} of {summary.calls}"
    return [answered, _by(summary), *(_cell(summary, name) for name in COLUMNS)]


def _ends(summary: Summary) -> tuple[str, str]:
    return {True: "kept", False: "missed", None: ""}[summary.verdict], "; ".join(summary.flaws)


def _by(summary: Summary) -> str:
    tiers = " ".join(f"{tier or '-'}:{count}" for tier, count in sorted(summary.answered_by.items()))
    if summary.moment is Moment.HANDOVER:
        return f"{tiers} (2nd {summary.second_struck})"
    return f"{tiers} (tool {summary.tool_runs})" if summary.tool_runs else tiers


def _cell(summary: Summary, name: str) -> str:
    if not summary.answered and name in NEVER:
        return NEVER[name]
    found = summary.measures[name]
    if found is not None and found.count > 1 and name in SHORT:
        return f"{number(found.p50)} / {number(found.max)}"
    return str(found or "")


def number(value: float) -> str:
    """Milliseconds, as precise as they are worth."""
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"


def write(path: Path, about: dict[str, Any], summaries: Sequence[Summary], rows: Sequence[Row]) -> None:
    """All of it as JSON."""
    content = {
        **about,
        "targets": {"hard_sound_ms": HARD_MS, "silent_waited_ms": SILENT_MS},
        "summary": [
            {**asdict(summary), "verdict": summary.verdict, "flaws": summary.flaws} for summary in summaries
        ],
        "calls": [{**asdict(row), "failures": row.failures} for row in rows],
    }
    path.write_text(json.dumps(content, indent=1, default=_plain) + "\n")


def markdown(summaries: Sequence[Summary], lanes: Mapping[Any, int]) -> str:
    """The tables for a document: one a service, a row a cell."""
    found = []
    for service in dict.fromkeys(summary.service for summary in summaries):
        head = ["moment", "fault", "answered", "by", *COLUMNS.values(), "target", "wrong"]
        rows = [
            [f"`{s.moment}`", f"`{s.fault}`", *_cells(s), *_ends(s)]
            for s in summaries
            if s.service == service
        ]
        lines = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]
        found.append("\n".join([f"{served_by(service, lanes)}:", "", *lines]))
    return "\n\n".join(found) + "\n"


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form")

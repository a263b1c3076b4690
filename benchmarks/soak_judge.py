"""What a soak has shown: samples of the process over time, and whether anything grew, was lost or was out of order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.soak_turns import Ending, Tally

EARLY = (0.2, 0.4)
"""The first window compared, as shares of the run: what is loaded once has been loaded by then."""
LATE = (0.8, 1.0)
RSS_SHARE = 0.05
RSS_BYTES = 16_000_000
"""Memory may differ between the windows by this share or this much, whichever is more."""
TASKS_SHARE = 0.25
TASKS = 10
"""So may the tasks: calls in Tier B have more of them than calls in Tier A, and the mix varies."""
IDLE_TASKS = 3
"""How many more tasks there may be after all calls than before the first: some are made once, when first needed."""
IDLE_FILES = 12
"""The same for sockets and files: connections to engines are kept open for the next call."""
SHOWN = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """The orchestrator and the callers at one moment, `at` seconds after the start."""

    at: float
    rss_bytes: int
    tasks: int
    open_files: int
    calls: int
    """As the orchestrator knows them."""
    tier_a: int
    """Of these, served by Tier A."""
    status_ms: float
    """How long the orchestrator took to say so: how busy its event loop is."""
    up: int
    asked: int
    answered: int
    closed: int
    handovers: int
    client_lag_ms: float
    """How late this sample was taken: how busy the callers' own event loop is."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One figure in both windows."""

    name: str
    early: float
    late: float
    allowed: float

    @property
    def grown(self) -> bool:
        return self.late - self.early > self.allowed

    def __str__(self) -> str:
        return f"{self.name}: {self.early:,.0f} early in the run, {self.late:,.0f} late (allowed: +{self.allowed:,.0f})"


def drifts(samples: Sequence[Sample], seconds: float) -> list[Drift]:
    """Medians of both windows. A run that is too short to have both gives none."""

    def window(shares: tuple[float, float]) -> list[Sample]:
        low, high = (share * seconds for share in shares)
        return [sample for sample in samples if low <= sample.at <= high]

    early, late = window(EARLY), window(LATE)
    if not early or not late:
        return []
    rss = [median(sample.rss_bytes for sample in part) for part in (early, late)]
    tasks = [median(sample.tasks for sample in part) for part in (early, late)]
    return [
        Drift("resident memory, bytes", *rss, max(RSS_SHARE * rss[0], RSS_BYTES)),
        Drift("tasks", *tasks, max(TASKS_SHARE * tasks[0], TASKS)),
    ]


def leftovers(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What calls left behind: `process` of the status before the first call and after the last."""
    found = []
    for name, allowed in (("calls", 0), ("tasks", IDLE_TASKS), ("open_files", IDLE_FILES)):
        if (after[name] or 0) - (before[name] or 0) > allowed:
            found.append(
                f"after all calls there are {after[name]} {name.replace('_', ' ')}, before them {before[name]}"
            )
    return found


def complaints(
    tally: Tally, found: Sequence[Drift], before: dict[str, Any], after: dict[str, Any]
) -> list[str]:
    """Everything that a soak must not show, as sentences."""
    wrong = list(tally.wrong)
    if not tally.endings[Ending.ANSWERED]:
        wrong.append("no turn at all was answered")
    wrong += [f"grew: {drift}" for drift in found if drift.grown]
    return wrong + leftovers(before, after)


def closed_by_call(path: Path) -> Counter[str]:
    """How many turns of each call the orchestrator has counted as closed without an answer, by its events."""
    rows = (json.loads(line) for line in path.read_bytes().splitlines()) if path.exists() else ()
    return Counter(
        row["call_id"] for row in rows if row["type"] == "turn_ended" and row["outcome"] == "closed"
    )


def account_for(tally: Tally, closed: Counter[str]) -> None:
    """Tell turns that got nothing apart: those the orchestrator has counted as closed are dropped, not lost."""
    for lost in tally.lost:
        counted = min(len(lost.turns), max(0, closed[lost.call_id] - lost.closed))
        tally.endings[Ending.LOST] -= counted
        tally.endings[Ending.DROPPED] += counted
        if missing := len(lost.turns) - counted:
            tally.wrong.append(
                f"{lost.call_id} {lost.file}: {missing} turns are lost, of {', '.join(lost.turns)}; the orchestrator "
                f"counts {closed[lost.call_id]} as closed"
            )


def events_of(path: Path) -> dict[str, int]:
    """How often the orchestrator noted what, by the file of its events."""
    counts: Counter[str] = Counter()
    if path.exists():
        for line in path.read_bytes().splitlines():
            row = json.loads(line)
            counts[row["type"]] += 1
            for outcome, number in (row.get("turns") or {}).items():
                counts[f"turns {outcome}"] += number
    return dict(sorted(counts.items()))


def show(tally: Tally, found: Sequence[Drift], struck: Counter[str], console: Console) -> None:
    table = Table(title="What became of every turn", title_justify="left", box=None, header_style="dim")
    table.add_column("turns")
    table.add_column("", justify="right")
    table.add_row("asked", f"{tally.asked:,}")
    for ending in Ending:
        table.add_row(ending.value.replace("_", " "), f"{tally.endings[ending]:,}")
    table.add_row("calls", f"{tally.calls:,}", style="dim")
    table.add_row("handovers", f"{tally.handovers:,}", style="dim")
    table.add_row("faults that struck", f"{struck.total():,} of {len(struck)} kinds", style="dim")
    console.print(table)
    for drift in found:
        console.print(f"[{'red' if drift.grown else 'green'}]{drift}[/]", highlight=False)


def complain(wrong: Sequence[str], console: Console) -> None:
    if not wrong:
        console.print("[green]Nothing was lost, nothing grew, every event was in order.[/]")
        return
    console.print(f"[red]{len(wrong)} things are wrong:[/]")
    for sentence in wrong[:SHOWN]:
        console.print(f"  {sentence}", style="red", highlight=False, markup=False)
    if len(wrong) > SHOWN:
        console.print(f"  and {len(wrong) - SHOWN} more in soak.json", style="red")


def write(
    path: Path,
    about: dict[str, Any],
    tally: Tally,
    samples: Sequence[Sample],
    found: Sequence[Drift],
    wrong: Sequence[str],
) -> None:
    """All of it as JSON."""
    content = {
        **about,
        "calls": tally.calls,
        "handovers": tally.handovers,
        "turns": {
            "asked": tally.asked,
            "by_ending": {ending.value: tally.endings[ending] for ending in Ending},
            "by_kind": dict(tally.kinds),
            "answers_by_tier": dict(tally.tiers),
        },
        "drift": [{**asdict(drift), "grown": drift.grown} for drift in found],
        "wrong": list(wrong),
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")

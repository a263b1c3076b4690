"""The figures of the cost benchmark: sums and quantiles by setup, a table, and the JSON file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.cost_calls import Result
from benchmarks.cost_estimate import Check
from benchmarks.cost_policies import MODELS, NO_POLICY, PROMPTS, SPEECH, Setup
from benchmarks.cost_run import Day
from orchestrator.core.steps import StepAction

LOST = "lost"
ANSWERED_BY = {
    MODELS[0]: "Tier A",
    MODELS[1]: "cheaper rung",
    SPEECH: "Tier B",
    PROMPTS: "fixed prompt",
    LOST: "no answer",
}
"""By whom a turn was answered, from the best to nobody, and how that is called."""
NANO = 1e9
STEPS = (StepAction.CONCISE.value, StepAction.CHEAPER_RUNG.value, StepAction.TIER_B.value)
"""The default ones."""


@dataclass(frozen=True, slots=True)
class Overspend:
    """What went beyond a cap, in US dollars."""

    cap: float | None
    times: int
    total: float
    largest: float

    @classmethod
    def of(cls, spent: Iterable[int], cap: int | None) -> Overspend:
        """Of amounts and a cap in nano-dollars."""
        over = [] if cap is None else [amount - cap for amount in spent if amount > cap]
        return cls(
            None if cap is None else cap / NANO, len(over), sum(over) / NANO, max(over, default=0) / NANO
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """All calls of one setup. Money in US dollars."""

    setup: str
    title: str
    calls: int
    total: float
    mean: float
    p50: float
    p95: float
    max: float
    over_call_cap: Overspend
    over_bucket_cap: Overspend
    unmetered: float
    """What was billed and not metered; negative where more was metered than will be billed."""
    endings: dict[str, int]
    turns: int
    """That the callers had in mind."""
    answered: dict[str, int]
    """Turns by who answered them; "lost": nobody."""
    cut_short: int
    """Answers that a lower output limit ended before their end."""
    stepped: dict[str, float]
    """Share of calls that took each step."""
    unpaid: int
    """Responses that began with no money set aside for them."""
    mean_s: float

    @property
    def lost(self) -> int:
        return self.answered.get(LOST, 0)


def summarise(setup: Setup, days: Sequence[Day]) -> Summary:
    """The figures of all buckets of a setup."""
    results = [result for day in days for result in day.results]
    spent = np.array([result.spent for result in results], dtype=np.float64) / NANO
    p50, p95 = np.percentile(spent, [50, 95])
    answered: Counter[str] = Counter({LOST: sum(result.lost for result in results)})
    for result in results:
        answered.update(result.answered)
    steps = Counter(step for result in results for step in dict.fromkeys(result.steps))
    return Summary(
        setup=setup.id,
        title=setup.title,
        calls=len(results),
        total=round(float(spent.sum()), 6),
        mean=round(float(spent.mean()), 6),
        p50=round(float(p50), 6),
        p95=round(float(p95), 6),
        max=round(float(spent.max()), 6),
        over_call_cap=Overspend.of((result.spent for result in results), setup.call_cap),
        over_bucket_cap=Overspend.of((_spent(day) for day in days), setup.bucket_cap),
        unmetered=round(sum(result.billed - result.spent for result in results) / NANO, 6),
        endings=dict(Counter(result.ended for result in results)),
        turns=sum(result.wanted for result in results),
        answered=dict(answered),
        cut_short=sum(result.cut_short for result in results),
        stepped={step: count / len(results) for step, count in steps.items()},
        unpaid=sum(result.unpaid for result in results),
        mean_s=sum(result.seconds for result in results) / len(results),
    )


def _spent(day: Day) -> int:
    return sum(result.spent for result in day.results)


@dataclass(frozen=True, slots=True)
class Dear:
    """The calls that would cost more than their cap if there were none, under one setup."""

    setup: str
    title: str
    calls: int
    turns: int
    answered: dict[str, int]
    """Turns by who answered them; "lost": nobody."""
    cut_off: int


def dear(setup: Setup, numbers: Collection[int], results: Iterable[Result]) -> Dear:
    """`numbers`: which calls these are."""
    chosen = [result for result in results if result.number in numbers]
    answered: Counter[str] = Counter({LOST: sum(result.lost for result in chosen)})
    for result in chosen:
        answered.update(result.answered)
    return Dear(
        setup=setup.id,
        title=setup.title,
        calls=len(chosen),
        turns=sum(result.wanted for result in chosen),
        answered=dict(answered),
        cut_off=sum(result.ended == "cut off" for result in chosen),
    )


@dataclass(frozen=True, slots=True)
class History:
    """What a history policy makes of long calls, in US dollars."""

    policy: str
    title: str
    cache_hits: float
    calls: int
    mean: float
    saving: float
    """Share of what the same calls cost with the same cache, if the history is left alone."""

    @classmethod
    def of(cls, setup: Setup, days: Sequence[Day], before: Sequence[History]) -> History:
        """`before` holds the same calls with their history left alone, unless this is that."""
        results = [result for day in days for result in day.results]
        mean = sum(result.spent for result in results) / len(results) / NANO
        alone = [
            each.mean for each in before if each.policy == "provider" and each.cache_hits == setup.cache_hits
        ]
        saved = 1 - mean / alone[0] if alone and alone[0] else 0.0
        return cls(setup.history, setup.title, setup.cache_hits, len(results), mean, saved)


# -- showing ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: its first column is what the rows are about, the others are figures."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, title=self.title, title_justify="left")
        for index, head in enumerate(self.heads):
            table.add_column(head, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [self.heads, ["---", *["---:"] * (len(self.heads) - 1)], *self.rows]
        return "\n".join([f"{self.title}:", "", *(f"| {' | '.join(line)} |" for line in lines)])


def grids(summaries: Sequence[Summary], histories: Sequence[History], checks: Sequence[Check]) -> list[Grid]:
    """All that a run has found, as tables."""
    found = [_costs(summaries), _turns(summaries)]
    return [*found, *([_histories(histories)] if histories else []), _estimates(checks)]


def show(tables: Iterable[Grid], console: Console) -> None:
    """Print the tables."""
    for grid in tables:
        console.print(grid.rich())


def _costs(summaries: Sequence[Summary]) -> Grid:
    heads = ("total", "mean", "p50", "p95", "dearest", "calls above the cap", "most above", "bucket above")
    rows = []
    for each in summaries:
        call, bucket = each.over_call_cap, each.over_bucket_cap
        money = [f"{value:.3f}" for value in (each.mean, each.p50, each.p95, each.max)]
        over = ["", ""] if call.cap is None else [f"{call.times:,}", f"{call.largest:.4f}"]
        shared = "" if bucket.cap is None else f"{bucket.largest:.4f}"
        rows.append([each.title, f"{each.total:,.2f}", *money, *over, shared, f"{each.unmetered:.4f}"])
    calls = summaries[0].calls
    return Grid(f"What {calls:,} calls cost, in US dollars", ["budget", *heads, "not metered"], rows)


def _turns(summaries: Sequence[Summary]) -> Grid:
    heads = ["cut off", "goodbye", *ANSWERED_BY.values(), "broken off", *(f"took {step}" for step in STEPS)]
    rows = []
    for each in summaries:
        answered = [f"{each.answered.get(by, 0) / each.turns:.1%}" for by in list(ANSWERED_BY)[:-1]]
        ended = [f"{each.endings.get(end, 0):,}" for end in ("cut off", "goodbye")]
        steps = [f"{each.stepped.get(step, 0.0):.1%}" for step in STEPS]
        rows.append([each.title, *ended, *answered, f"{each.lost:,}", f"{each.cut_short:,}", *steps])
    turns = summaries[0].turns
    title = f"What the callers got: calls that ended early, {turns:,} turns by who answered, calls by step"
    return Grid(title, ["budget", *heads], rows)


def _histories(histories: Sequence[History]) -> Grid:
    rows = [
        [
            each.title,
            f"{each.cache_hits:.0%}",
            f"{each.mean:.3f}",
            "" if each.policy == "provider" else f"{each.saving:.1%}",
        ]
        for each in histories
    ]
    title = f"What the history of {histories[0].calls:,} long calls costs without a cap, in US dollars"
    return Grid(title, ["history", "responses that find the cache", "a call", "saved"], rows)


def _estimates(checks: Sequence[Check]) -> Grid:
    rows = [
        [each.title, f"{each.predicted:.4f}", f"{each.mean:.4f}", f"{each.error:+.2%}"] for each in checks
    ]
    title = f"What the estimate says of {checks[0].calls:,} calls that it was not fitted to, in US dollars"
    return Grid(title, ["budget", "estimated", "metered", "off"], rows)


def markdown(tables: Iterable[Grid]) -> str:
    """The tables, to paste."""
    return "\n\n".join(grid.markdown() for grid in tables) + "\n"


def write(
    path: Path,
    about: Mapping[str, Any],
    summaries: Sequence[Summary],
    dears: Sequence[Dear],
    histories: Sequence[History],
    checks: Sequence[Check],
) -> None:
    """All figures as JSON."""
    found = {
        **about,
        "setups": [asdict(summary) for summary in summaries],
        "above_the_cap": [asdict(found) for found in dears],
        "histories": [asdict(history) for history in histories],
        "estimates": [{**asdict(check), "error": check.error} for check in checks],
    }
    path.write_text(json.dumps(found, indent=1) + "\n")


def failures(summaries: Sequence[Summary], checks: Sequence[Check], tolerance: float) -> list[str]:
    """Which promises were broken: caps under the steps, and the estimate without a budget."""
    wrong = []
    for each in summaries:
        if each.setup.startswith("steps"):
            wrong += [
                f"{each.title}: {over.times} {what} spent up to ${over.largest:.6f} more than the cap"
                for what, over in (("calls", each.over_call_cap), ("buckets", each.over_bucket_cap))
                if over.times
            ]
            if each.unmetered > 0:
                wrong.append(f"{each.title}: ${each.unmetered:.6f} was billed and not metered")
    wrong += [
        f"the estimate is {check.error:+.2%} off, more than {tolerance:.0%}"
        for check in checks
        if check.setup == NO_POLICY.id and abs(check.error) > tolerance
    ]
    return wrong

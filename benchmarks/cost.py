"""What budgets do to the cost of calls: the same simulated callers under no budget, a plain limit, and steps.

    python -m benchmarks.cost

The calls go through the real call core, router, meter and ledger, with doubles of the provider and of Tier B that
bill as those do. docs/benchmarks.md says what is assumed of callers and prices.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import cost_estimate, cost_picture, cost_report, machine
from benchmarks.cost_callers import KINDS, Callers
from benchmarks.cost_calls import Result
from benchmarks.cost_policies import (
    MAX_OUTPUT_TOKENS,
    NO_POLICY,
    OWN_PRICES,
    Setup,
    history_alone,
    setups,
)
from benchmarks.cost_run import (
    CALLS_PER_BUCKET,
    LONG_CALLS,
    LONG_TURNS,
    Day,
    Job,
    Run,
    jobs,
    workers,
)
from orchestrator.core.prices import nanodollars
from orchestrator.estimate import Columns

WIDTH = 170
RESULTS = Path(__file__).parent / "results"
TOLERANCE = 0.03
CACHE_HITS = (1.0, 0.5)
"""Shares of responses that find their prefix cached, under which the history policies are compared."""


class Benchmark:
    """One run of all setups."""

    def __init__(self, run: Run, progress: Progress, calls: int, seed: int) -> None:
        self._run = run
        self._progress = progress
        self._calls = calls
        self._seed = seed
        self.summaries: list[cost_report.Summary] = []
        self.setups: list[Setup] = []
        self.results: dict[str, list[Result]] = {}

    def days(self, title: str, wanted: list[Job]) -> list[Day]:
        """Run jobs and show how far they are."""
        task = self._progress.add_task(title, total=sum(len(job.numbers) for job in wanted))
        days = []
        for day in self._run(wanted):
            days.append(day)
            self._progress.advance(task, len(day.results))
        return sorted(days, key=lambda day: int(day.bucket.split()[1]))

    def setup(self, setup: Setup, wanted: list[Job] | None = None) -> None:
        """All calls under one setup."""
        days = self.days(setup.title, wanted or jobs(setup, range(self._calls), self._seed))
        self.summaries.append(cost_report.summarise(setup, days))
        self.setups.append(setup)
        self.results[setup.id] = [result for day in days for result in day.results]

    def without_budget(self) -> tuple[Columns, frozenset[int]]:
        """All calls without a budget. The estimator's columns, fitted to one half of them, and which half that is."""
        callers = Callers(self._seed)
        fitted, _ = cost_estimate.halves(callers.plan(number) for number in range(self._calls))
        wanted = jobs(NO_POLICY, range(self._calls), self._seed)
        with cost_estimate.row_files(wanted, fitted) as (with_rows, files):
            self.setup(NO_POLICY, with_rows)
            return cost_estimate.fit(files), fitted

    def estimates(self, columns: Columns, fitted: frozenset[int], calls: int) -> list[cost_estimate.Check]:
        """What the estimator says of the calls that it has not seen: without a budget, and with steps."""
        return [
            cost_estimate.check(setup, columns, self.results[setup.id], fitted, calls=calls, seed=self._seed)
            for setup in self.setups
            if not setup.cut_off
        ]

    def dears(self, cap: int) -> list[cost_report.Dear]:
        """The calls that cost more than `cap` without a budget, under each setup."""
        numbers = {result.number for result in self.results[NO_POLICY.id] if result.spent > cap}
        return [cost_report.dear(setup, numbers, self.results[setup.id]) for setup in self.setups]

    def histories(self) -> list[cost_report.History]:
        """What each history policy makes of long calls without any cap, with a good cache and with a poor one."""
        callers = Callers(self._seed)
        long = [n for n in range(self._calls) if len(callers.plan(n).turns) >= LONG_TURNS][:LONG_CALLS]
        found: list[cost_report.History] = []
        for hits in CACHE_HITS if long else ():
            for setup in history_alone(hits):
                days = self.days(f"{setup.title}, {hits:.0%} cached", jobs(setup, long, self._seed))
                found.append(cost_report.History.of(setup, days, found))
        return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--calls", type=click.IntRange(2), default=10_000, show_default=True, help="Simulated callers.")
@click.option("--seed", type=int, help="Draws the callers; random by default.")
@click.option(
    "--call-cap", type=click.FloatRange(0.0, min_open=True), default=1.00, show_default=True,
    help="What one call may spend, in US dollars.",
)  # fmt: skip
@click.option(
    "--bucket-cap", type=click.FloatRange(0.0, min_open=True), default=40.0, show_default=True,
    help=f"What {CALLS_PER_BUCKET} calls on one day may spend together, in US dollars.",
)  # fmt: skip
@click.option(
    "--estimate-calls", type=click.IntRange(1), default=10_000, show_default=True,
    help="Calls of the estimates that are held against half of the callers.",
)  # fmt: skip
@click.option("--processes", type=click.IntRange(1), help="By default one for each processor.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS,
    help="Folder for the figures and the picture; benchmarks/results by default.",
)  # fmt: skip
def main(
    calls: int,
    seed: int | None,
    call_cap: float,
    bucket_cap: float,
    estimate_calls: int,
    processes: int | None,
    output: Path,
) -> None:
    """Place the same simulated calls under no budget, a plain limit that ends calls, and steps.

    Ends with status 1 if steps let a call or a bucket spend more than its cap, if something was billed and not
    metered, or if the estimate fitted to half of the calls is more than 3 % off the mean of the other half.
    """
    seed = secrets.randbelow(2**32) if seed is None else seed
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(f"Seed {seed}; repeat these callers with --seed {seed}.", highlight=False)
    began = time.monotonic()
    about = _about(seed, calls, call_cap, bucket_cap)
    caps = nanodollars(call_cap), nanodollars(bucket_cap)
    with _progress(console) as progress, workers(processes or os.cpu_count() or 1) as run:
        bench = Benchmark(run, progress, calls, seed)
        columns, fitted = bench.without_budget()
        for setup in setups(*caps, bench.summaries[0].mean_s):
            bench.setup(setup)
        histories, dears = bench.histories(), bench.dears(caps[0])
        checks = bench.estimates(columns, fitted, estimate_calls)
    about["columns"] = columns.model_dump()
    about["took_s"] = round(time.monotonic() - began, 1)
    tables = cost_report.grids(bench.summaries, histories, checks)
    cost_report.show(tables, console)
    output.mkdir(parents=True, exist_ok=True)
    cost_report.write(output / "cost.json", about, bench.summaries, dears, histories, checks)
    (output / "cost.md").write_text(cost_report.markdown(tables))
    costs = {name: [result.spent / 1e9 for result in found] for name, found in bench.results.items()}
    cost_picture.draw(output / "cost.png", bench.summaries, dears, costs)
    console.print(f"Written: cost.json, cost.md and cost.png, in {output}", highlight=False)
    _judge(cost_report.failures(bench.summaries, checks, TOLERANCE), console)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _about(seed: int, calls: int, call_cap: float, bucket_cap: float) -> dict[str, Any]:
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "calls": calls,
        "kinds": {name: kind.share for name, kind in KINDS.items()},
        "call_cap_usd": call_cap,
        "bucket_cap_usd": bucket_cap,
        "calls_per_bucket": CALLS_PER_BUCKET,
        "max_output_tokens": MAX_OUTPUT_TOKENS,
        "tier_b_prices": {name: vars_of(price) for name, price in OWN_PRICES.items()},
        "machine": machine.describe(),
        "load_before": machine.load(),
    }


def vars_of(price: Any) -> dict[str, float]:
    """The rates of a price that are not zero."""
    return {name: getattr(price, name) for name in price.__slots__ if getattr(price, name)}


def _judge(wrong: Iterable[str], console: Console) -> None:
    for text in (found := list(wrong)):
        console.print(f"[red]{text}[/]", highlight=False)
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Holds the estimator (`orchestrator/estimate`) to the calls of the cost benchmark.

Its columns are fitted to the event-log rows of one half of the calls, without a budget; what it then says of their
cost, without a budget and with steps, is compared with the other half. It knows nothing of how the calls were drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from benchmarks.cost_callers import Plan
from benchmarks.cost_calls import Result
from benchmarks.cost_policies import (
    AGENT,
    BREVITY,
    EARS,
    MAX_OUTPUT_TOKENS,
    MODELS,
    SPEECH,
    TRANSCRIPTION,
    Setup,
    prices,
)
from benchmarks.cost_run import Job
from orchestrator import estimate as estimator
from orchestrator.config_sections import BudgetStep


@dataclass(frozen=True, slots=True)
class Check:
    """An estimate against calls that it has not seen; US dollars per call."""

    setup: str
    title: str
    predicted: float
    calls: int
    mean: float
    """Of these calls, as metered."""
    fitted_mean: float
    """Of the calls that the columns were fitted to, under the same budget."""

    @property
    def error(self) -> float:
        return self.predicted / self.mean - 1


def halves(plans: Iterable[Plan]) -> tuple[frozenset[int], frozenset[int]]:
    """Two halves of the calls, alike in kinds and lengths: every other one of each, from short to long."""
    ranked = sorted(plans, key=lambda plan: (plan.kind, len(plan.turns), plan.number))
    numbers = [plan.number for plan in ranked]
    return frozenset(numbers[::2]), frozenset(numbers[1::2])


@contextmanager
def row_files(wanted: list[Job], numbers: frozenset[int]) -> Iterator[tuple[list[Job], list[Path]]]:
    """The jobs with files for the rows of these calls; the files are gone afterwards."""
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.jsonl" for index in range(len(wanted))]
        pairs = zip(wanted, files, strict=True)
        yield [replace(job, rows_of=numbers, rows_to=file) for job, file in pairs], files


def fit(files: Iterable[Path]) -> estimator.Columns:
    """The columns of the calls whose rows are in these files."""
    rows = (orjson.loads(line) for file in files for line in file.read_bytes().splitlines())
    return estimator.fit(rows).model_copy(update={"concise_share": BREVITY})


def plan_of(setup: Setup) -> estimator.Plan:
    """A setup as the estimator is told of it. A bucket's cap is left out: it is shared by calls of one day."""
    expected = setup.steps.expected_s
    return estimator.Plan(
        rungs=MODELS if setup.steps.steps else MODELS[:1],
        transcription_model=TRANSCRIPTION,
        max_output_tokens=MAX_OUTPUT_TOKENS,
        call_usd=None if setup.call_cap is None else setup.call_cap / 1e9,
        steps=tuple(BudgetStep(at=step.at, action=step.action) for step in setup.steps.steps),
        expected_minutes=None if expected is None else expected / 60,
        history=setup.history,
        tier_b=estimator.TierBEngines(transcription=EARS, agent=AGENT, speech=SPEECH),
    )


def check(
    setup: Setup,
    columns: estimator.Columns,
    results: Iterable[Result],
    fitted: frozenset[int],
    *,
    calls: int,
    seed: int,
) -> Check:
    """What the columns say of a setup, against those of its calls that they were not fitted to."""
    found = estimator.estimate(columns, plan_of(setup), prices(), calls=calls, seed=seed)
    spent: dict[bool, list[int]] = {True: [], False: []}
    for result in results:
        spent[result.number in fitted].append(result.spent)
    means = {known: sum(amounts) / len(amounts) / 1e9 for known, amounts in spent.items()}
    predicted = found.cost.mean / 1e9
    return Check(setup.id, setup.title, predicted, len(spent[False]), means[False], means[True])

"""Runs the setups of the cost benchmark, a bucket at a time on several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.cost_callers import Callers
from benchmarks.cost_calls import Bucket, Result, Rows
from benchmarks.cost_policies import Meter, Setup, prices

CALLS_PER_BUCKET = 100
LONG_TURNS = 25
"""Calls with so many turns have a history that a history policy can do something about."""
LONG_CALLS = 300
"""So many of them are enough to see it."""


@dataclass(frozen=True, slots=True)
class Job:
    """One bucket's day under one setup. `rows_of`: the calls whose event-log rows are wanted, in the file `rows_to`."""

    setup: Setup
    bucket: str
    numbers: tuple[int, ...]
    seed: int
    rows_of: frozenset[int] = frozenset()
    rows_to: Path | None = None


@dataclass(slots=True)
class Day:
    """What became of one bucket's day."""

    setup: str
    bucket: str
    results: list[Result]
    settled: int
    """By the ledger, in nano-dollars; 0 where the core was told of no cap."""
    reserved: int
    """What the ledger still had set aside at the end: nothing, if all is well."""


def run(job: Job) -> Day:
    """Simulate one day; the same job gives the same results."""
    callers = Callers(job.seed)
    rows: Rows | None = [] if job.rows_to is not None else None
    plans = [callers.plan(number) for number in job.numbers]
    bucket = Bucket(job.bucket, job.setup, Meter(prices()), plans, job.seed, rows)
    results = sorted(bucket.run(), key=lambda result: result.number)
    if job.rows_to is not None and rows is not None:
        wanted = {f"call_{number}" for number in job.rows_of}
        lines = (orjson.dumps(row) + b"\n" for row in rows if row["call_id"] in wanted)
        job.rows_to.write_bytes(b"".join(lines))
    return Day(job.setup.id, job.bucket, results, bucket.ledger.settled, bucket.ledger.reserved)


def jobs(setup: Setup, numbers: Sequence[int], seed: int) -> list[Job]:
    """The calls of a setup, in buckets of a hundred."""
    return [
        Job(
            setup,
            f"bucket {start // CALLS_PER_BUCKET}",
            tuple(numbers[start : start + CALLS_PER_BUCKET]),
            seed,
        )
        for start in range(0, len(numbers), CALLS_PER_BUCKET)
    ]


Run = Callable[[Iterable[Job]], Iterator[Day]]


@contextmanager
def workers(processes: int) -> Iterator[Run]:
    """A function that runs jobs on so many processes and gives their days as they end."""
    with ProcessPoolExecutor(processes, initializer=os.nice, initargs=(10,)) as pool:

        def run_all(wanted: Iterable[Job]) -> Iterator[Day]:
            for done in as_completed([pool.submit(run, job) for job in wanted]):
                yield done.result()

        yield run_all

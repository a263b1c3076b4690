"""The rows of what prompts cost, as a table on the screen and in a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from benchmarks.prompts_load import Measured


@dataclass(frozen=True, slots=True)
class Row:
    """`what` was measured how. `target`: whether it was kept; None where there is none."""

    what: str
    how: str
    measured: Measured
    target: bool | None = None
    note: str = ""


def sources(found: Measured) -> str:
    return ", ".join(f"{count:,} {cache or 'of unknown source'}" for cache, count in found.caches.items())


def _cells(row: Row) -> list[str]:
    found = row.measured
    rate = f"{found.per_second:,.0f}" if row.how == "flat out" else ""
    first = f"{found.first_p50_ms:,.1f}" if row.what.startswith("two sentences") else ""
    verdict = {True: "kept", False: "missed", None: ""}[row.target]
    times = [
        f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
        for value in (found.p50_ms, found.p99_ms, found.max_ms)
    ]
    return [row.what, row.how, f"{found.count:,}", rate, *times, first, verdict, row.note]


HEAD = ("what", "how", "answers", "a second", "p50 ms", "p99 ms", "max ms", "first byte p50 ms", "target", "")


def table(rows: Sequence[Row]) -> Table:
    made = Table(title="A prompt over HTTP", box=box.SIMPLE_HEAD, title_justify="left")
    for place, head in enumerate(HEAD):
        made.add_column(head, justify="right" if 2 <= place <= 7 else "left", no_wrap=place != 9)
    for row in rows:
        made.add_row(*_cells(row))
    return made


def markdown(rows: Sequence[Row]) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

"""How commands show things to people: tables that fit the terminal, and times in words."""

from __future__ import annotations

import os

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 120
"""Where there is no terminal, lines are so long, unless COLUMNS says otherwise."""
WORDS = 24
"""What a column of longer texts needs at least; shorter than that, it is no longer read with ease."""


def make_console() -> Console:
    """As wide as the terminal, or as COLUMNS says. Colours only on a terminal."""
    known = os.isatty(1) or "COLUMNS" in os.environ
    return Console(width=None if known else PIPE_COLUMNS, highlight=False)


class Rows(Table):
    """A table without lines. Where it would not fit, each row is told in words: its first cell, and below it the
    others with their names."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._needs(console, options) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        if self.title:
            yield Text(str(self.title), style="italic")
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            first, *others = (Text.from_markup(cell) if isinstance(cell, str) else cell for cell in cells)
            yield Text.assemble((first.plain.strip(), "bold"))
            named = [
                Text.assemble((f"{name} ", "dim"), cell) if name else cell
                for name, cell in zip((column.header for column in self.columns[1:]), others, strict=True)
                if cell.plain.strip()
            ]
            yield Padding(Text("  ").join(named), (0, 0, 0, 2))

    def _needs(self, console: Console, options: ConsoleOptions) -> int:
        widths = []
        for column in self.columns:
            cells = (Measurement.get(console, options, cell).maximum for cell in column.cells)
            widths.append(max(min(WORDS, max(cells, default=0)), len(str(column.header))))
        return sum(widths) + 2 * len(widths) - 2


def make_table(title: str, *columns: str) -> Table:
    """Columns under a title; what is too long goes on in the next line."""
    table = Rows(title=title, title_justify="left", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def ago(then: float | None, now: float, suffix: str = "") -> str:
    """From one Unix second to another, in words like ``1h 5m``."""
    if then is None:
        return "never" if suffix else ""
    seconds = max(0, round(now - then))
    text = f"{seconds}s"
    for size, unit, smaller, smaller_unit in _UNITS:
        if seconds >= size:
            text = f"{seconds // size}{unit} {seconds % size // smaller}{smaller_unit}"
            break
    return text + suffix

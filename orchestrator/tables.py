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
"""What a column of long texts needs at least; longer words are cut."""
WHOLE = 8
"""A column this narrow is never broken: "1500 ms" is one word."""
GAP = 2
"""Between two columns."""
SHORT = 3
"""A first cell of so few characters is a number or a tier, and names no row alone."""


def make_console() -> Console:
    """As wide as the terminal, or as COLUMNS says. Colours only on a terminal."""
    known = os.isatty(1) or "COLUMNS" in os.environ
    return Console(width=None if known else PIPE_COLUMNS, highlight=False)


class Rows(Table):
    """A table without lines. Where not even its words have room, each row is told: its first cells, and below them
    the others with the names of their columns."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(console, options)
        if widths is None:
            yield from self._told()
            return
        for column, width in zip(self.columns, widths, strict=True):
            column.width = width
        yield from super().__rich_console__(console, options)

    def _widths(self, console: Console, options: ConsoleOptions) -> list[int] | None:
        """Of each column: what its longest cell needs, or less, but no less than its words; None: there is no room."""
        fewest, most = [], []
        for column in self.columns:
            sizes = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells)]
            longest = max(size.maximum for size in sizes)
            words = min(WORDS, max(size.minimum for size in sizes))
            if longest <= WHOLE:
                words = longest
            fewest.append(WORDS if longest > 2 * WORDS else words)
            most.append(max(longest, words))
        spare = options.max_width - GAP * (len(fewest) - 1) - sum(fewest)
        if spare < 0:
            return None
        # What lacks the least gets all of it; long texts share what is left.
        widths = list(fewest)
        lacking = sorted(range(len(fewest)), key=lambda at: most[at] - fewest[at])
        for done, at in enumerate(lacking):
            share = spare // (len(lacking) - done) if most[at] > 2 * WORDS else spare
            given = min(most[at] - fewest[at], share)
            widths[at] += given
            spare -= given
        return widths

    def _told(self) -> RenderResult:
        if self.title:
            yield Text(str(self.title), style="italic")
        names = [str(column.header) for column in self.columns]
        for row in zip(*(column.cells for column in self.columns), strict=True):
            cells = [Text.from_markup(cell) if isinstance(cell, str) else cell for cell in row]
            first = 1 if len(cells[0].plain) > SHORT else 2
            yield Text("  ").join(cell for cell in cells[:first] if cell.plain)
            others = [
                Text.assemble((f"{name} ", "dim"), cell) if name else cell
                for name, cell in zip(names[first:], cells[first:], strict=True)
                if cell.plain.strip()
            ]
            yield Padding(Text("  ").join(others), (0, 0, 0, 2))


def make_table(title: str, *columns: str) -> Table:
    """Columns under a title; what is too long goes on in the next line."""
    table = Rows(
        title=title,
        title_justify="left",
        box=None,
        header_style="dim",
        padding=(0, GAP, 0, 0),
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def decision(reason: str, decided_by: str) -> str:
    """Why a rung was chosen, in brackets."""
    return f"({reason})" if reason == decided_by else f"({reason}, decided by {decided_by})"


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

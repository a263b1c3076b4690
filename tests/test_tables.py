"""Tables of the command line in terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from orchestrator.tables import ago, make_console, make_table

REASON = "the provider answers nobody in the middle of the night, and nobody knows why"


def shown(table: Table, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(cell_len(line) <= width for line in lines)
    return [line.rstrip() for line in lines]


def trail() -> Table:
    table = make_table("Audit trail", "#", "time", "who", "action", "reason")
    table.add_row("1", "2026-11-27 00:15:51", "ann", "override.made", REASON)
    table.add_row("12", "2026-11-27 00:16:00", "bob", "[red]override.cleared[/]", "")
    return table


def test_what_fits_stands_in_one_line() -> None:
    lines = shown(trail(), 150)
    assert lines[0] == "Audit trail"
    assert lines[1].split() == ["#", "time", "who", "action", "reason"]
    assert lines[2] == f"1   2026-11-27 00:15:51  ann  override.made     {REASON}"
    assert len(lines) == 4


def test_long_texts_go_on_in_the_next_line_and_words_stay_whole() -> None:
    lines = shown(trail(), 90)
    assert "override.cleared" in lines[-1]
    assert len(lines) > 4
    told = " ".join(" ".join(line.split()) for line in lines)
    for word in (*REASON.split(), "2026-11-27", "00:15:51", "override.made"):
        assert word in told


def test_where_there_is_no_room_each_row_is_told() -> None:
    lines = shown(trail(), 50)
    assert lines[:2] == ["Audit trail", "1  2026-11-27 00:15:51"]
    told = " ".join(" ".join(line.split()) for line in lines)
    assert f"who ann action override.made reason {REASON}" in told
    # What is empty is not told.
    assert lines[-2:] == ["12  2026-11-27 00:16:00", "  who bob  action override.cleared"]


@pytest.mark.parametrize("width", [*range(8, 60, 3), 80, 120])
def test_nothing_is_lost_and_no_line_is_too_long_in_any_terminal(width: int) -> None:
    told = "".join("".join(shown(trail(), width)).split())
    for text in (REASON, "override.cleared", "bob"):
        assert all(word in told for word in text.split())


def test_a_pipe_gets_long_lines_unless_columns_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.isatty", lambda descriptor: False)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert make_console().width == 120
    monkeypatch.setenv("COLUMNS", "71")
    assert make_console().width == 71


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (59.4, "59s"), (61, "1m 1s"), (3_900, "1h 5m"), (90_000, "1d 1h")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert ago(1000.0, 1000.0 + seconds) == words

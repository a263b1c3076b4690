"""`orchestrator prices` and `orchestrator bill`: what this configuration pays, and what recorded calls have cost."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.asking import config_option, settings_or_end
from orchestrator.bill import BY, Bill, Sum, bill
from orchestrator.core.prices import NANO, ModelPrice
from orchestrator.estimate.recorded import LogUnreadable, read_rows
from orchestrator.pricing import billables

_UNITS: Mapping[str, str] = {
    "audio_in": "audio in",
    "audio_cached": "audio in, cached",
    "audio_out": "audio out",
    "text_in": "text in",
    "text_cached": "text in, cached",
    "text_out": "text out",
    "image_in": "image in",
    "image_cached": "image in, cached",
    "cache_write": "text in, put into the cache",
    "per_minute": "minute of audio",
    "per_character": "character",
}
_MOST_DIFFERENCES = 10

_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command(
    epilog="""\b
Examples:
  orchestrator prices
  orchestrator prices --config /etc/orchestrator.toml --json
"""
)
@_json_option
@config_option
def prices(as_json: bool, config: Path | None) -> None:
    """Show what this configuration can be billed for, at which price, and where that is from.

    Rates are US dollars: for a million tokens, for a minute of audio, for a character.
    """
    found: list[dict[str, Any]] = [
        {
            "used_for": entry.used_for,
            "name": entry.name,
            "rates": _rates(entry.published.price),
            "source": entry.published.source,
            "date": entry.published.date,
        }
        for entry in billables(settings_or_end(config))
    ]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = _table("used for", "model or engine", "unit", "$", "source", "date")
    for entry in found:
        rates = entry["rates"] or {"": 0.0}
        for number, (rate, dollars) in enumerate(rates.items()):
            told = [entry["used_for"], entry["name"]], [entry["source"], entry["date"]]
            first, last = told if number == 0 else ([""] * 2, [""] * 2)
            unit = _UNITS[rate] + ("" if rate.startswith("per_") else ", 1M tokens") if rate else "free"
            table.add_row(*map(escape, (*first, unit, f"{dollars:.10g}", *last)))
    _console().print(table)


@click.command(
    epilog="""\b
Examples:
  orchestrator bill events.jsonl --by bucket
  orchestrator bill events.jsonl --config /etc/orchestrator.toml --json | jq .differences

\b
The file is what server.events_path names. A charge that is not what its usage comes to ends with status 1.
"""
)
@click.argument("events", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--by", type=click.Choice(BY), default="what", show_default=True, help="What to split it by.")
@_json_option
@config_option
@click.pass_context
def bill_command(ctx: click.Context, events: Path, by: str, as_json: bool, config: Path | None) -> None:
    """Work out the bill of the calls in EVENTS again, from what was used, at the prices of the settings."""
    settings = settings_or_end(config)
    models = {rung: settings.realtime(rung).model for rung in settings.tier_a.rungs}
    try:
        found = bill(read_rows(events), settings.price_table(), models)
    except LogUnreadable as error:
        raise click.ClickException(str(error)) from None
    except ValueError as error:
        raise click.ClickException(
            f"{events} cannot be billed: {error}; give the file that server.events_path names"
        ) from None
    if as_json:
        click.echo(json.dumps(_as_json(found, by), indent=2))
    else:
        _show(found, by)
    if found.differences:
        ctx.exit(1)


def _rates(price: ModelPrice) -> dict[str, float]:
    return {rate: getattr(price, rate) for rate in _UNITS if getattr(price, rate)}


def _as_json(found: Bill, by: str) -> dict[str, Any]:
    """Money in US dollars, exact to the nano-dollar."""
    return {
        "total": _sum(found.total),
        "by": by,
        "parts": {key: _sum(part) for key, part in found.by[by].items()},
        "taken_as_told": _sum(found.taken),
        "unheard": {"seconds": found.unheard_ms / 1000, "usd": found.unheard / NANO},
        "differences": [
            {
                "row": difference.row,
                "call": difference.call,
                "what": difference.what,
                "model": difference.model,
                "told_usd": difference.told / NANO,
                "again_usd": None if difference.again is None else difference.again / NANO,
                "why": difference.why,
            }
            for difference in found.differences
        ],
    }


def _sum(part: Sum) -> dict[str, Any]:
    return {
        "charges": part.charges,
        "usd": part.nanodollars / NANO,
        "estimated_usd": part.estimated / NANO,
    }


def _show(found: Bill, by: str) -> None:
    console = _console()
    table = _table(by, "charges", "$", "of it estimated")
    for key, part in sorted(found.by[by].items(), key=lambda entry: -entry[1].nanodollars):
        table.add_row(escape(key), str(part.charges), _usd(part.nanodollars), _usd(part.estimated))
    table.add_section()
    total = found.total
    table.add_row("total", str(total.charges), _usd(total.nanodollars), _usd(total.estimated))
    console.print(table)
    if found.taken.charges:
        taken = found.taken
        console.print(
            f"{taken.charges} charges of {_usd(taken.nanodollars)} are taken as they were told: "
            "their usage never came, or is billed by more than rates"
        )
    if found.unheard_ms:
        console.print(
            f"Talk that nobody heard: {found.unheard_ms / 1000:.1f} s, {_usd(found.unheard)} of the total"
        )
    for difference in found.differences[:_MOST_DIFFERENCES]:
        again = "unknown" if difference.again is None else _usd(difference.again)
        console.print(
            f"[red]row {difference.row}[/]: {difference.what} of {escape(difference.call)} by "
            f"{escape(difference.model)} was told as {_usd(difference.told)} and is {again}"
            + (f": {escape(difference.why)}" if difference.why else "")
        )
    if (more := len(found.differences) - _MOST_DIFFERENCES) > 0:
        console.print(f"... and {more} more; --json has them all")


def _usd(nanodollars: int) -> str:
    return f"{nanodollars / NANO:.6f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        right = column in ("$", "charges", "of it estimated")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _console() -> Console:
    return Console(width=None if os.isatty(1) or "COLUMNS" in os.environ else 140, highlight=False)

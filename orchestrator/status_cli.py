"""`orchestrator status`: how things stand, at one replica."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from orchestrator.asking import as_json_text, asking, config_option, json_option, url_option
from orchestrator.client import Status
from orchestrator.tables import ago, decision, make_console, make_table

SHOWN_CALLS = 20
"""So many calls, the latest, are listed among how things stand; `orchestrator calls` has them all."""


@click.command(
    short_help="Show tiers, breakers, overrides, budgets and calls.",
    epilog="""\b
Examples:
  orchestrator status
  orchestrator status --json | jq .next_call
  orchestrator status --json | jq -r '.rungs[] | select(.breaker != "closed") | .rung'
""",
)
@json_option
@url_option
@config_option
def status(as_json: bool, url: str | None, config: Path | None) -> None:
    """Show where a new call would go, tiers, breakers, overrides, budgets and calls, as one replica sees them."""
    with asking(url, config) as orchestrator:
        found = orchestrator.status()
    if as_json:
        click.echo(as_json_text(found))
    else:
        _show(found)


def _show(found: Status) -> None:
    console = make_console()
    following = found.next_call
    console.print(
        f"A new call gets tier [bold]{following.tier}[/] {escape(following.rung)} "
        f"{decision(following.reason, following.decided_by)}"
    )
    store = found.store
    if not store.connected:
        console.print(
            f"[red]Redis is away for {ago(store.away_since, found.now)}[/]: "
            f"carrying on with the last view, {store.unsent} writes wait"
        )
    if found.approvals:
        console.print(
            f"[yellow]Tool calls wait for a person: {found.approvals}[/], see: orchestrator approvals list"
        )
    for sink in found.business_events:
        if sink.dropped or sink.failing:
            why = f" ({escape(sink.failing)})" if sink.failing else ""
            console.print(
                f"[red]Business events to {sink.sink}{why}[/]: {sink.waiting} wait, {sink.dropped} dropped"
            )
    console.print(by_tier(found))
    for table in status_tables(found):
        console.print(table)
    if len(found.calls) > SHOWN_CALLS:
        console.print(f"[dim]{len(found.calls) - SHOWN_CALLS} more; see: orchestrator calls[/]")


def status_tables(found: Status, *, most_calls: int = SHOWN_CALLS) -> list[Table]:
    """How things stand, as tables; those that would be empty are left out."""
    tables = (_rungs(found), _overrides(found), _buckets(found), calls_table(found, most_calls))
    return [table for table in tables if table.row_count]


def by_tier(found: Status) -> str:
    tiers = Counter(call.tier for call in found.calls)
    if not tiers:
        return "No calls."
    parts = ", ".join(f"{tiers[tier]} in tier [bold]{tier}[/]" for tier in sorted(tiers))
    return f"{len(found.calls)} calls: {parts}"


def _rungs(found: Status) -> Table:
    table = make_table("Rungs", "tier", "rung", "breaker", "cause", "last success", "last failure", "$/min")
    for rung in found.rungs:
        state = rung.missing or rung.breaker
        colour = "green" if state == "closed" else "red"
        table.add_row(
            rung.tier or "",
            rung.rung,
            f"[{colour}]{state}[/]",
            rung.cause or "",
            ago(rung.last_success_at, found.now, " ago"),
            ago(rung.last_failure_at, found.now, " ago"),
            f"{rung.usd_per_minute:.4f}",
        )
    return table


def _overrides(found: Status) -> Table:
    table = make_table("Overrides", "id", "limit", "of", "scope", "share", "left", "reason", "who")
    for each in found.overrides:
        cells = (
            each.id,
            each.limit + (" now" if each.when == "now" else ""),
            f"{each.tier}/{each.rung}" if each.rung else each.tier,
            each.scope,
            f"{each.share:g}%",
            ago(found.now, each.until),
            each.reason,
            each.name + (f" ({each.typed})" if each.typed else ""),
        )
        table.add_row(*map(escape, cells))
    return table


def _buckets(found: Status) -> Table:
    from orchestrator.calls_cli import bar

    table = make_table("Buckets today", "bucket", "", "spent $", "set aside $", "cap $")
    for each in found.buckets:
        cap = "none" if each.cap_usd is None else f"{each.cap_usd:.2f}"
        figures = (f"{each.spent_usd:.4f}", f"{each.reserved_usd:.4f}", cap)
        table.add_row(escape(each.bucket), bar(each), *figures)
    return table


def calls_table(found: Status, most: int, *, brief: bool = False) -> Table:
    """The latest calls in progress; `brief`: for a screen with other things on it."""
    more = () if brief else ("reason", "purpose")
    table = make_table("Calls", "call", "tier", "rung", *more, "user", "bucket", "for", "$")
    for call in sorted(found.calls, key=lambda call: -call.started_at)[:most]:
        told = () if brief else (call.reason, call.purpose)
        names = (call.call_id, call.tier, call.rung, *told, call.user, call.bucket)
        table.add_row(*map(escape, names), ago(call.started_at, found.now), f"{call.spent_usd:.4f}")
    return table

"""`orchestrator route`: where a call would go, why, and what would change that."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from orchestrator.asking import as_json_text, asking, config_option, json_option, url_option
from orchestrator.client import Route
from orchestrator.tables import decision, make_console, make_table


@click.command(
    short_help="Ask where a call would go, why, and what would change that.",
    epilog="""\b
Examples:
  orchestrator route
  orchestrator route --user 42 --purpose support --bucket acme
  orchestrator route --json | jq -r .connect.url

\b
Exit codes: 0 there is a rung for it; 5 no tier is ready (the message says why of each); others: orchestrator --help.
""",
)
@click.option("--user", default="", help="Whose call it would be.")
@click.option("--purpose", default="conversation", show_default=True, help="What it would be for.")
@click.option("--bucket", help="The budget it would be charged to; by default the server's default one.")
@click.option(
    "--transport",
    type=click.Choice(["websocket", "http"]),
    default="websocket",
    show_default=True,
    help="http: it asks for prompts alone.",
)
@click.option("--tool", "tools", multiple=True, help="A tool it may use; may be given more than once.")
@click.option("--call-id", default="", help="Its id, which decides whether it tries a rung that is on trial.")
@json_option
@url_option
@config_option
def route(
    user: str,
    purpose: str,
    bucket: str | None,
    transport: str,
    tools: tuple[str, ...],
    call_id: str,
    as_json: bool,
    url: str | None,
    config: Path | None,
) -> None:
    """Ask where a new call would go at this moment. Nothing is reserved."""
    with asking(url, config) as orchestrator:
        found = orchestrator.route(
            user=user,
            purpose=purpose,
            bucket=bucket,
            transport=transport,
            allowed_tools=tools,
            call_id=call_id,
        )
    if as_json:
        click.echo(as_json_text(found))
    else:
        _show(found)


def _show(found: Route) -> None:
    console = make_console()
    console.print(
        f"Tier [bold]{found.tier}[/] {escape(found.rung)} {decision(found.reason, found.decided_by)}, "
        f"about ${found.usd_per_minute:.4f} a minute"
    )
    console.print(escape(found.sentence))
    if found.candidates:
        table = make_table("Passed over", "tier", "rung", "decided by", "why")
        for each in found.candidates:
            why = each.sentence.removeprefix(f"{each.rung}: ")
            table.add_row(each.tier, escape(each.rung), each.decided_by, escape(why))
        console.print(table)
    if found.would_change:
        table = make_table("What would change it", "then tier", "rung", "")
        for change in found.would_change:
            table.add_row(change.tier or "none", escape(change.rung or "is ready"), escape(change.sentence))
        console.print(table)
    if found.latency:
        console.print(_latency(found))
    console.print(f"Connect: {found.connect.method} {escape(found.connect.url)}", soft_wrap=True)


def _latency(found: Route) -> Table:
    table = make_table(
        "What callers waited lately", "tier", "rung", "part", "median", "95%", "limit", "times", "too long"
    )
    for each in found.latency:
        limit = "none" if each.limit_ms is None else f"{each.limit_ms:.0f} ms"
        table.add_row(
            *map(escape, (each.tier, each.rung, each.part)),
            f"{each.median_ms:.0f} ms",
            f"{each.p95_ms:.0f} ms",
            limit,
            str(each.count),
            f"[yellow]{each.breaches}[/]" if each.breaches else "",
        )
    return table

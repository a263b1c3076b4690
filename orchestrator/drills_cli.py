"""`orchestrator drill`: practise a failover on some calls, and read what their callers heard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from orchestrator.cli import ask_server, config_option, login, make_table, url_option


@click.group(
    epilog="""\b
Examples:
  orchestrator drill start lose_provider --share 5 --for 15m --reason "monthly drill"
  orchestrator drill status drl_1f2e3d4c
  orchestrator drill stop drl_1f2e3d4c
"""
)
def drill() -> None:
    """Practise a failover on a share of new calls, and read what their callers heard."""


@drill.command()
@click.argument("practice", type=click.Choice(["lose_provider", "degrade"]))
@click.option("--scope", default="all", show_default=True, help="Whom it is for.")
@click.option("--share", type=float, default=5.0, show_default=True, help="Per cent of the new calls.")
@click.option("--for", "duration", default="15m", show_default=True, help="How long: 90s, 15m, 2h.")
@click.option("--calls", type=int, default=100, show_default=True, help="On so many calls at most.")
@click.option(
    "--wrong", type=int, default=1, show_default=True, help="So many calls that lost a turn end it."
)
@click.option("--reason", required=True, help="Why; others read it.")
@url_option
@config_option
def start(
    practice: str,
    scope: str,
    share: float,
    duration: str,
    calls: int,
    wrong: int,
    reason: str,
    url: str | None,
    config: Path | None,
) -> None:
    """Begin a drill: calls lose their provider in mid-turn, or degrade between two turns."""
    body = {"practice": practice, "scope": scope, "share": share, "for": duration, "calls": calls}
    body |= {"wrong": wrong, "reason": reason, "who": login()}
    made = ask_server(url, config, "POST", "/v1/drills", body)
    click.echo(
        f"Drill {made['id']} practises {practice} on {share:g}% of the new calls of {made['scope']} for {duration}. "
        f"Its report: orchestrator drill status {made['id']}"
    )


@drill.command()
@click.argument("id", required=False)
@click.option("--json", "as_json", is_flag=True, help="The answer of the API as it is.")
@url_option
@config_option
def status(id: str | None, as_json: bool, url: str | None, config: Path | None) -> None:
    """Show the drill ID with its report, or all drills."""
    found = ask_server(url, config, "GET", f"/v1/drills/{id}" if id else "/v1/drills")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif id:
        click.echo(told(found))
    else:
        table = make_table("Drills", "id", "practice", "scope", "share", "calls", "running", "reason", "who")
        for each in found["drills"]:
            running = each["ended"] or ("yes" if each["running"] else "no")
            cells = (each["id"], each["practice"], each["scope"], f"{each['share']:g}%", str(each["most"]))
            table.add_row(*map(escape, (*cells, running, each["reason"], each["name"])))
        Console().print(table)


@drill.command()
@click.argument("id")
@url_option
@config_option
def stop(id: str, url: str | None, config: Path | None) -> None:
    """End the drill ID before its time; its report stays."""
    ask_server(url, config, "DELETE", f"/v1/drills/{id}")
    click.echo(f"Drill {id} is over.")


def told(found: Mapping[str, Any]) -> str:
    """A drill and its report for people."""
    report = found["report"]
    ended = f" ({found['ended']})" if found["ended"] else ""
    lines = [
        f"Drill {found['id']}: {found['practice']} on {found['share']:g}% of {found['scope']}, "
        f"{'running' if found['running'] else 'over'}{ended}",
        f"  {found['reason']} - {found['name']}",
        f"  calls handed over  {report['calls']} of at most {found['most']}"
        f"; {report['waiting']} to come, {report['skipped']} left alone",
        f"  turns answered     {report['turns_answered']}",
        f"  turns lost         {report['turns_lost']}",
        f"  gaps heard         {_spread(report['gap_ms'], 'ms')}",
        f"  bridges            {report['bridges']}",
        f"  back in Tier A     {_spread(report['back_s'], 's')}; {report['not_back']} not back",
        f"  cost meanwhile     ${report['cost_usd']:.4f}",
    ]
    return "\n".join(lines)


def _spread(figures: Mapping[str, float | None], unit: str) -> str:
    if figures["p50"] is None:
        return "none"
    return ", ".join(f"{name} {figures[name]:.{0 if unit == 'ms' else 1}f} {unit}" for name in figures)

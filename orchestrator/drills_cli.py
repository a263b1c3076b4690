"""`orchestrator drill`: practise a failover on some calls, and read what their callers heard."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.markup import escape

from orchestrator.asking import as_json_text, asking, config_option, json_option, login, url_option
from orchestrator.client import Drill, DrillWithReport
from orchestrator.client.operations import Spread
from orchestrator.tables import ago, make_console, make_table


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


@drill.command(
    short_help="Begin a drill.",
    epilog="""\b
Examples:
  orchestrator drill start lose_provider --share 5 --for 15m --reason "monthly drill"
  orchestrator drill start lose_provider --scope bucket:acme --share 100 --calls 3 --reason "first try"
  orchestrator drill start degrade --share 2 --for 1h --calls 50 --reason "is Tier B good enough?"

\b
lose_provider: the provider's session counts as dead in the middle of a turn, as in an outage.
degrade:       a handover between two turns, as by an operator's force.

\b
Scopes: all, call:ID, user:ID, purpose:NAME, bucket:NAME. Calls go back to Tier A as after a real outage. A drill ends
by itself as soon as --wrong calls have lost a turn.
""",
)
@click.argument("practice", type=click.Choice(["lose_provider", "degrade"]))
@click.option("--scope", default="all", show_default=True, help="Whom it is for.")
@click.option("--share", type=float, default=5.0, show_default=True, help="Per cent of the new calls.")
@click.option("--for", "duration", default="15m", show_default=True, help="How long: 90s, 15m, 2h.")
@click.option("--calls", type=int, default=100, show_default=True, help="On so many calls at most.")
@click.option(
    "--wrong", type=int, default=1, show_default=True, help="So many calls that lost a turn end it."
)
@click.option("--reason", required=True, help="Why; others read it.")
@click.option("--who", help="Who you are; by default your login name.")
@json_option
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
    who: str | None,
    as_json: bool,
    url: str | None,
    config: Path | None,
) -> None:
    """Begin a drill on a share of the calls that begin while it lasts."""
    with asking(url, config) as orchestrator:
        made = orchestrator.start_drill(
            practice,
            scope=scope,
            share=share,
            for_=duration,
            calls=calls,
            wrong=wrong,
            reason=reason,
            who=who or login(),
        )
    if as_json:
        click.echo(as_json_text(made))
        return
    click.echo(
        f"Drill {made.id} practises {practice} on {share:g}% of the new calls of {made.scope} for {duration}. "
        f"Its report: orchestrator drill status {made.id}"
    )


@drill.command(
    short_help="Show a drill with its report, or all drills.",
    epilog="""\b
Examples:
  orchestrator drill status
  orchestrator drill status drl_1f2e3d4c
  orchestrator drill status drl_1f2e3d4c --json | jq .report.gap_ms
""",
)
@click.argument("id", required=False)
@json_option
@url_option
@config_option
def status(id: str | None, as_json: bool, url: str | None, config: Path | None) -> None:
    """Show the drill ID with its report, or the drills of the last days."""
    with asking(url, config) as orchestrator:
        if id is None:
            drills = orchestrator.drills()
        else:
            found = orchestrator.drill(id)
    if id is not None:
        click.echo(as_json_text(found) if as_json else told(found))
    elif as_json:
        click.echo(as_json_text({"drills": [each.model_dump(mode="json") for each in drills]}))
    elif not drills:
        click.echo("There were no drills. Begin one with: orchestrator drill start")
    else:
        _show(drills)


def _show(drills: Sequence[Drill]) -> None:
    table = make_table("Drills", "id", "practice", "scope", "share", "calls", "running", "reason", "who")
    now = time.time()
    for each in drills:
        running = f"{ago(now, each.until)} still" if each.running else each.ended or "over"
        cells = (each.id, each.practice, each.scope, f"{each.share:g}%", f"at most {each.most}")
        table.add_row(*map(escape, (*cells, running, each.reason, _who(each))))
    make_console().print(table)


@drill.command(
    short_help="End a drill before its time.",
    epilog="""\b
Example:
  orchestrator drill stop drl_1f2e3d4c
""",
)
@click.argument("id")
@json_option
@url_option
@config_option
def stop(id: str, as_json: bool, url: str | None, config: Path | None) -> None:
    """End the drill ID before its time; its report stays."""
    with asking(url, config) as orchestrator:
        orchestrator.end_drill(id)
    click.echo(as_json_text({"stopped": id}) if as_json else f"Drill {id} is over.")


def _who(found: Drill) -> str:
    return found.name + (f" ({found.typed})" if found.typed else "")


def told(found: DrillWithReport) -> str:
    """A drill and its report for people."""
    report = found.report
    ended = f" ({found.ended})" if found.ended else ""
    lines = [
        f"Drill {found.id}: {found.practice} on {found.share:g}% of {found.scope}, "
        f"{'running' if found.running else 'over'}{ended}",
        f"  {found.reason} - {_who(found)}",
        f"  calls handed over  {report.calls} of at most {found.most}"
        f"; {report.waiting} to come, {report.skipped} left alone",
        f"  turns answered     {report.turns_answered}",
        f"  turns lost         {report.turns_lost}",
        f"  gaps heard         {_spread(report.gap_ms, 'ms')}",
        f"  bridges            {report.bridges}",
        f"  back in Tier A     {_spread(report.back_s, 's')}; {report.not_back} not back",
        f"  cost meanwhile     ${report.cost_usd:.4f}",
    ]
    return "\n".join(lines)


def _spread(figures: Spread, unit: str) -> str:
    named = (("median", figures.p50), ("95th percentile", figures.p95), ("longest", figures.max))
    digits = 0 if unit == "ms" else 1
    return (
        ", ".join(f"{name} {value:.{digits}f} {unit}" for name, value in named if value is not None) or "none"
    )

"""`orchestrator approvals`: see which tool calls wait for a person, and decide about them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from orchestrator.asking import as_json_text, asking, config_option, json_option, login, url_option
from orchestrator.client import Approval
from orchestrator.tables import ago, make_console, make_table

_who_option = click.option("--who", help="Who you are; by default your login name. It is written down.")


@click.group(
    epilog="""\b
Examples:
  orchestrator approvals list                                what waits, and for how long still
  orchestrator approvals approve apr_1f2e3d4c5b6a
  orchestrator approvals reject apr_1f2e3d4c5b6a --reason "over the limit"
"""
)
def approvals() -> None:
    """See which tool calls wait for a person, and decide about them.

    A tool with `approval = true` runs only after somebody's yes, while the caller is told to wait. The first decision
    counts, and nobody's in time (approvals.timeout_s) is a no.
    """


@approvals.command(
    "list",
    epilog="""\b
Examples:
  orchestrator approvals list
  orchestrator approvals list --json | jq '.approvals[].id'
""",
)
@json_option
@url_option
@config_option
def list_command(as_json: bool, url: str | None, config: Path | None) -> None:
    """Show what waits for a decision, the oldest first."""
    with asking(url, config) as orchestrator:
        found = orchestrator.approvals()
    if as_json:
        click.echo(as_json_text({"approvals": [each.model_dump(mode="json") for each in found]}))
    elif not found:
        click.echo("Nothing waits for approval.")
    else:
        _show(found)


@approvals.command(
    short_help="Let a tool call run.",
    epilog="""\b
Example:
  orchestrator approvals approve apr_1f2e3d4c5b6a --reason "a good customer"
""",
)
@click.argument("id")
@click.option("--reason", default="", help="Why; it is written down.")
@_who_option
@json_option
@url_option
@config_option
def approve(id: str, **options: Any) -> None:
    """Let the tool call ID run (`orchestrator approvals list` shows them)."""
    _decide("approve", id, **options)


@approvals.command(
    short_help="Do not let a tool call run.",
    epilog="""\b
Example:
  orchestrator approvals reject apr_1f2e3d4c5b6a --reason "over the limit"
""",
)
@click.argument("id")
@click.option("--reason", required=True, help="Why: it is written down, and the agent is told.")
@_who_option
@json_option
@url_option
@config_option
def reject(id: str, **options: Any) -> None:
    """Do not let the tool call ID run (`orchestrator approvals list` shows them)."""
    _decide("reject", id, **options)


def _decide(
    decision: str,
    id: str,
    *,
    reason: str,
    who: str | None,
    as_json: bool,
    url: str | None,
    config: Path | None,
) -> None:
    with asking(url, config) as orchestrator:
        decide = orchestrator.approve if decision == "approve" else orchestrator.reject
        made = decide(id, who=who or login(), reason=reason)
    if as_json:
        click.echo(as_json_text(made))
        return
    click.echo(f"{str(made.decision).capitalize()}: {made.tool} in call {made.call_id} ({made.summary}).")


def _show(found: Sequence[Approval]) -> None:
    table = make_table(
        "Approvals", "id", "left", "call", "user", "tool", "what is about to happen", "arguments"
    )
    now = time.time()
    for each in found:
        arguments = json.dumps(each.arguments, ensure_ascii=False)
        names = (each.call_id, each.user, each.tool, each.summary, arguments)
        table.add_row(each.id, ago(now, each.expires_at), *map(escape, names))
    make_console().print(table)

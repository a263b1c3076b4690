"""`orchestrator approvals`: see which tool calls wait for a person, and decide about them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from orchestrator.cli import ago, ask_server, config_option, login, make_table, url_option

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
@click.option("--json", "as_json", is_flag=True, help="The answer of GET /v1/approvals as it is.")
@url_option
@config_option
def list_command(as_json: bool, url: str | None, config: Path | None) -> None:
    """Show what waits for a decision, the oldest first."""
    found = ask_server(url, config, "GET", "/v1/approvals")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found["approvals"]:
        click.echo("Nothing waits for approval.")
    else:
        _show(found)


@approvals.command(short_help="Let a tool call run.")
@click.argument("id")
@click.option("--reason", default="", help="Why; it is written down.")
@_who_option
@url_option
@config_option
def approve(id: str, reason: str, who: str | None, url: str | None, config: Path | None) -> None:
    """Let the tool call ID run (`orchestrator approvals list` shows them)."""
    _decide("approve", id, reason, who, url, config)


@approvals.command(short_help="Do not let a tool call run.")
@click.argument("id")
@click.option("--reason", required=True, help="Why: it is written down, and the agent is told.")
@_who_option
@url_option
@config_option
def reject(id: str, reason: str, who: str | None, url: str | None, config: Path | None) -> None:
    """Do not let the tool call ID run (`orchestrator approvals list` shows them)."""
    _decide("reject", id, reason, who, url, config)


def _decide(
    decision: str, id: str, reason: str, who: str | None, url: str | None, config: Path | None
) -> None:
    body = {"decision": decision, "who": who or login(), "reason": reason}
    made = ask_server(url, config, "POST", f"/v1/approvals/{id}", body)
    click.echo(
        f"{made['decision'].capitalize()}: {made['tool']} in call {made['call_id']} ({made['summary']})."
    )


def _show(found: Mapping[str, Any]) -> None:
    console = Console(width=None if os.isatty(1) else 120)
    table = make_table(
        "Approvals", "id", "left", "call", "user", "tool", "what is about to happen", "arguments"
    )
    now = time.time()
    for approval in found["approvals"]:
        arguments = json.dumps(approval["arguments"], ensure_ascii=False)
        names = (approval["call_id"], approval["user"], approval["tool"], approval["summary"], arguments)
        table.add_row(approval["id"], ago(now, approval["expires_at"]), *map(escape, names))
    console.print(table)

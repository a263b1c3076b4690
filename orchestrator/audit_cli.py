"""`orchestrator audit`: look at the audit trail, export it, and check that nothing in it was changed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import click
from rich.markup import escape

from orchestrator.asking import as_json_text, asking, config_option, json_option, url_option
from orchestrator.client import AuditEntry
from orchestrator.client.asks import AUDIT_PAGE
from orchestrator.core.audit import AuditBroken, Head, canonical, verify
from orchestrator.tables import make_console, make_table


@click.group(
    epilog="""\b
Examples:
  orchestrator audit list                            who did what lately
  orchestrator audit export > audit.jsonl            all of it, one JSON line an entry
  orchestrator audit head                            note this elsewhere, every day
  orchestrator audit verify audit.jsonl --head HEAD  was anything changed, or cut off since?
"""
)
def audit() -> None:
    """Look at the audit trail: who did what and why.

    Each entry holds the hash of the one before it, so that a change made to the trail afterwards is found. It is in
    Redis where redis.url (REDIS_URL) is set, else in the file of audit.path.
    """


@audit.command(
    "list",
    short_help="Show the latest entries.",
    epilog="""\b
Examples:
  orchestrator audit list
  orchestrator audit list --after 1000 --limit 200
  orchestrator audit list --json | jq '.entries[] | select(.action == "override.made")'
""",
)
@click.option("--limit", type=click.IntRange(1, AUDIT_PAGE), default=30, show_default=True, help="How many.")
@click.option("--after", type=click.IntRange(0), help="From behind that entry on, by its number.")
@json_option
@url_option
@config_option
def list_(limit: int, after: int | None, as_json: bool, url: str | None, config: Path | None) -> None:
    """Show the latest entries, of all replicas."""
    with asking(url, config) as orchestrator:
        page = orchestrator.audit(after=after, limit=limit)
    if as_json:
        click.echo(as_json_text(page))
        return
    console = make_console()
    table = make_table(f"Audit trail, {page.last} entries in {escape(page.kept_in)}", *_COLUMNS)
    for entry in page.entries:
        table.add_row(*map(escape, _row(entry)))
    console.print(table)
    if page.waiting:
        console.print(f"[yellow]{page.waiting} entries of this replica wait to be written[/]")


_COLUMNS = ("#", "time (UTC)", "who", "action", "subject", "reason", "details")


def _row(entry: AuditEntry) -> tuple[str, ...]:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.time))
    who = entry.who if entry.who == entry.name else f"{entry.name} ({entry.who})"
    shown = {name: value for name, value in entry.details.items() if name != "caps"}
    details = " ".join(
        f"{name}={_time(value) if name == 'until' else _short(value)}"
        for name, value in shown.items()
        if value not in ("", None)
    )
    return str(entry.seq), at, who, entry.action, entry.subject, entry.reason, details


def _time(value: Any) -> str:
    if not isinstance(value, int | float):
        return _short(value)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@audit.command(
    short_help="Write all of it as JSON lines.",
    epilog="""\b
Examples:
  orchestrator audit export > audit.jsonl
  orchestrator audit export --after 1041 >> audit.jsonl     what is new since
""",
)
@click.option("--after", type=click.IntRange(0), default=0, help="Only from behind that entry on.")
@click.option(
    "--output", type=click.File("w", lazy=True), default="-", help="A file; by default standard output."
)
@url_option
@config_option
def export(after: int, output: TextIO, url: str | None, config: Path | None) -> None:
    """Write the whole trail as JSON lines, the oldest first, as `verify` takes them."""
    with asking(url, config) as orchestrator:
        for entry in orchestrator.audit_entries(after=after):
            output.write(canonical(entry.model_dump()) + "\n")


@audit.command(
    short_help="Print where the trail ends, to note elsewhere.",
    epilog="""\b
Examples:
  orchestrator audit head >> heads.txt
  orchestrator audit export | orchestrator audit verify - --head "$(tail -1 heads.txt)"
""",
)
@json_option
@url_option
@config_option
def head(as_json: bool, url: str | None, config: Path | None) -> None:
    """Print the number and the hash of the last entry.

    Whoever can write where the trail is kept can cut off its end, or write all of it anew. Kept somewhere else, the
    head finds that out: `orchestrator audit verify FILE --head HEAD`.
    """
    with asking(url, config) as orchestrator:
        page = orchestrator.audit(limit=1)
    click.echo(as_json_text({"head": page.head, "entries": page.last}) if as_json else page.head)


@audit.command(
    "verify",
    short_help="Check that nothing was changed.",
    epilog="""\b
Examples:
  orchestrator audit export | orchestrator audit verify -
  orchestrator audit verify /var/lib/orchestrator/audit.jsonl --head 1041:9f2c…

\b
Exit codes: 0 nothing was changed; 1 something was (the first entry that is wrong is named); 2 a wrong command line.
""",
)
@click.argument("file", type=click.File("rb"))
@click.option("--head", "known", help="As `audit head` printed it: finds what was cut off since.")
@json_option
def verify_(file: Any, known: str | None, as_json: bool) -> None:
    """Check FILE, as exported or as it is kept ("-": standard input): every entry and its place."""
    try:
        expected = None if known is None else Head.parse(known)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--head") from None
    try:
        found = verify((line.removesuffix(b"\n") for line in file), expected)
    except AuditBroken as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "first_wrong": error.seq, "why": error.why}))
        else:
            click.echo(f"BROKEN at {error}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps({"ok": True, "entries": found.seq, "head": str(found)}))
        return
    click.echo(f"{found.seq} entries, nothing was changed. Head: {found}")
    if expected is None:
        click.echo("Whether its end was cut off only a head noted before can tell: see --head.")

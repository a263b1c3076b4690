"""`orchestrator calls`, `call`, `budget`: calls in progress, one of them in detail, and what is being spent."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from orchestrator.asking import as_json_text, asking, config_option, json_option, url_option
from orchestrator.client import CallFigures, Calls
from orchestrator.client.answers import Bucket
from orchestrator.core.prices import NANO
from orchestrator.tables import ago, make_console, make_table

DAY_S = 86_400.0
BAR = 20
_EXITS = "\b\nExit codes: orchestrator --help.\n"
_SOON_S = 3600.0
"""So soon after midnight a day's spending says nothing of the rest of it."""


@click.command(
    short_help="Show calls in progress.",
    epilog=f"""\b
Examples:
  orchestrator calls                        the latest first
  orchestrator calls --tier B --sort cost   those in Tier B, the dearest first
  orchestrator calls --ended --sort wait    the slowest, with those that are over
  orchestrator call call_1f2e3d4c5b6a       one of them in detail

{_EXITS}""",
)
@click.option(
    "--tier", type=click.Choice(["A", "B", "C"], case_sensitive=False), metavar="[A|B|C]", help="Only those."
)
@click.option("--bucket", help="Only those on that budget.")
@click.option("--purpose", help="Only those for that purpose.")
@click.option("--user", help="Only those of that user.")
@click.option("--ended", is_flag=True, help="With those that are over.")
@click.option(
    "--sort",
    type=click.Choice(["started", "cost", "wait", "gap"]),
    default="started",
    show_default=True,
    help="The latest, the dearest, the slowest, or that with the longest gap first.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@json_option
@url_option
@config_option
def calls(as_json: bool, url: str | None, config: Path | None, **wanted: Any) -> None:
    """Show calls of one replica: where they are, what they cost, how long callers waited."""
    with asking(url, config) as orchestrator:
        found = orchestrator.calls(**wanted)
    if as_json:
        click.echo(as_json_text(found))
        return
    if not found.calls:
        more = "" if wanted["ended"] else " With --ended those that are over are shown too."
        click.echo(f"No such call.{more}" if _narrowed(wanted) else f"No calls.{more}")
        return
    console = make_console()
    console.print(_calls(found))
    if found.found > len(found.calls):
        console.print(f"[dim]{found.found - len(found.calls)} more; see --limit[/]")


def _narrowed(wanted: Mapping[str, Any]) -> bool:
    return any(wanted[name] is not None for name in ("tier", "bucket", "purpose", "user"))


def _calls(found: Calls) -> Table:
    now = time.time()
    table = make_table("", "call", "tier", "rung", "user", "purpose", "bucket", "for", "$", "wait", "gaps")
    for call in found.calls:
        since = ago(call.started_at, call.ended_at or now)
        table.add_row(
            *map(escape, (call.call_id, _tiers(call), call.rung, call.user, call.purpose, call.bucket)),
            f"[dim]{since}, over[/]" if call.ended_at else since,
            f"{call.spent_usd:.4f}",
            _ms(call.longest_voice_to_voice_ms or call.longest_ttfa_ms),
            f"[yellow]{call.gaps}, {_ms(call.longest_gap_ms or 0.0)}[/]" if call.gaps else "",
        )
    return table


def _tiers(call: CallFigures) -> str:
    return ">".join(call.tiers[-4:]) or call.tier


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} ms"


@click.command(
    short_help="Show one call: its figures and its timeline.",
    epilog=f"""\b
Examples:
  orchestrator call call_1f2e3d4c5b6a
  orchestrator call call_1f2e3d4c5b6a --text    with what was said

{_EXITS}""",
)
@click.argument("id")
@click.option("--text", is_flag=True, help="With what was said, by callers and to them.")
@json_option
@url_option
@config_option
def call(id: str, text: bool, as_json: bool, url: str | None, config: Path | None) -> None:
    """Show the call ID, in progress or one of the last that ended, as the replica of --url has seen it."""
    with asking(url, config) as orchestrator:
        found = orchestrator.call(id, text=text)
    if as_json:
        click.echo(as_json_text(found))
        return
    console = make_console()
    over = found.ended_at
    console.print(
        f"[bold]{escape(found.call_id)}[/] {'over' if over else 'in progress'}, "
        f"{ago(found.started_at, over or time.time())}: tier {escape(' > '.join(found.tiers))} "
        f"({escape(found.rung)}), {escape(found.purpose)}, bucket {escape(found.bucket)}"
        + (f", user {escape(found.user)}" if found.user else "")
        + (f", opened by {escape(found.who)}" if found.who else "")
    )
    console.print(_figures(found))
    table = make_table("", "after", "tier", "what", "")
    for number, row in enumerate(found.rows):
        if found.rows_dropped and number == len(found.rows) - 450:
            table.add_row("", "", f"[dim]{found.rows_dropped} rows are not kept[/]", "")
        table.add_row(*timeline_row(row, found.started_at))
    console.print(table)


def _figures(call: CallFigures) -> str:
    parts = [f"${call.spent_usd:.4f}", f"{call.turns} turns", f"{call.handovers} handovers"]
    if call.ttfa_ms is not None:
        parts.append(f"first audio after {_ms(call.ttfa_ms)} (longest {_ms(call.longest_ttfa_ms)})")
    if call.voice_to_voice_ms is not None:
        parts.append(f"voice to voice {_ms(call.voice_to_voice_ms)}")
    if call.gaps:
        parts.append(f"{call.gaps} gaps, the longest {_ms(call.longest_gap_ms or 0.0)}")
    if call.breaches:
        parts.append(f"{call.breaches} latency breaches")
    if call.recording not in (None, "off"):
        parts.append(f"recording {call.recording}")
    return ", ".join(parts)


_LOUD = {
    "handover": "bold yellow",
    "provider_lost": "red",
    "answer_failed": "red",
    "gap": "yellow",
    "latency_breach": "yellow",
}
_IDS = frozenset(
    {"time", "type", "tier", "call_id", "bucket", "user", "usage", "item_id", "response_id", "owed_at"}
)


def timeline_row(row: Mapping[str, Any], begin: float) -> tuple[str, str, str, str]:
    """A row of a timeline as cells: when, tier, what, and what belongs to it."""
    colour = _LOUD.get(row["type"])
    what = f"[{colour}]{row['type']}[/]" if colour else row["type"]
    rest = " ".join(
        f"${value / NANO:.4f}" if name == "nanodollars" else f"{name}={_told(name, value, begin)}"
        for name, value in row.items()
        if name not in _IDS and value not in (None, "", [], {})
    )
    return f"{row['time'] - begin:8.2f}s", row["tier"], what, escape(rest)


def _told(name: str, value: Any, begin: float) -> str:
    if name.endswith("_at") and isinstance(value, float):
        return f"{value - begin:.2f}s"  # like the row's own time
    return _short(value)


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(_rounded(value), ensure_ascii=False)


def _rounded(value: Any) -> Any:
    """To four digits, also where it is nested."""
    match value:
        case float():
            short = float(f"{value:.4g}")
            return int(short) if short.is_integer() else short
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case list():
            return [_rounded(each) for each in value]
        case _:
            return value


@click.command(
    short_help="Show what is spent of which budget today.",
    epilog=f"""\b
Examples:
  orchestrator budget
  orchestrator budget --json | jq '.buckets[] | select(.projected_usd > .cap_usd)'

\b
A day is one of UTC. "by midnight" is what it comes to if the rest of the day is like it has been so far.

{_EXITS}""",
)
@json_option
@url_option
@config_option
def budget(as_json: bool, url: str | None, config: Path | None) -> None:
    """Show each bucket of today: spent, set aside for what calls are doing now, cap, and where it is going."""
    with asking(url, config) as orchestrator:
        found = orchestrator.status()
    if as_json:
        told = [
            {**each.model_dump(mode="json"), "projected_usd": projected(each.spent_usd, found.now)}
            for each in found.buckets
        ]
        click.echo(as_json_text({"now": found.now, "buckets": told}))
        return
    if not found.buckets:
        click.echo("Nothing is spent today, and no bucket has a cap (budget.buckets).")
        return
    table = make_table("Buckets today", "bucket", "", "spent $", "set aside $", "cap $", "by midnight $")
    for bucket in found.buckets:
        cap, ahead = bucket.cap_usd, projected(bucket.spent_usd, found.now)
        over = cap is not None and ahead is not None and ahead > cap
        table.add_row(
            escape(bucket.bucket),
            bar(bucket),
            f"{bucket.spent_usd:.4f}",
            f"{bucket.reserved_usd:.4f}",
            "none" if cap is None else f"{cap:.2f}",
            "" if ahead is None else f"[red]{ahead:.2f}, over[/]" if over else f"{ahead:.2f}",
        )
    make_console().print(table)


def projected(spent_usd: float, now: float) -> float | None:
    """What is spent at the end of the UTC day if it goes on as it has so far; None where it is too early to say."""
    at = datetime.fromtimestamp(now, UTC)
    gone = at.hour * 3600.0 + at.minute * 60.0 + at.second
    return None if gone < _SOON_S else round(spent_usd * DAY_S / gone, 6)


def bar(bucket: Bucket) -> str:
    """How full it is, spent and set aside; empty where there is no cap."""
    cap = bucket.cap_usd
    if cap is None:
        return ""
    share = 1.0 if not cap else bucket.spent_usd / cap
    ahead = 0.0 if not cap else bucket.reserved_usd / cap
    full = min(BAR, round(share * BAR))
    held = min(BAR - full, round(ahead * BAR))
    colour = "red" if share >= 0.9 else "yellow" if share >= 0.6 else "green"
    return f"[{colour}]{'█' * full}{'▒' * held}[/][dim]{'·' * (BAR - full - held)}[/] {share:.0%}"

"""`orchestrator events`: what happens in calls, as it happens."""

from __future__ import annotations

import itertools
import json
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from orchestrator.asking import asking, config_option, url_option
from orchestrator.client import Event


@click.command(
    short_help="Follow what happens in calls.",
    epilog="""\b
Examples:
  orchestrator events
  orchestrator events --type handover --type bridge
  orchestrator events --call call_1f2e3d4c5b6a --text
  orchestrator events --json --count 100 | jq -r .type | sort | uniq -c

\b
Exit codes: 0 interrupted, or --count reached; others: orchestrator --help.
""",
)
@click.option("--call", "calls", multiple=True, help="Of this call only; may be given more than once.")
@click.option("--type", "types", multiple=True, help="Rows of this type only, like handover.")
@click.option("--tier", "tiers", multiple=True, type=click.Choice(["A", "B", "C"]), help="Of this tier only.")
@click.option("--text", is_flag=True, help="With what is said, by callers and to them.")
@click.option("--count", type=click.IntRange(1), help="End after so many events.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@url_option
@config_option
def events(
    calls: tuple[str, ...],
    types: tuple[str, ...],
    tiers: tuple[str, ...],
    text: bool,
    count: int | None,
    as_json: bool,
    url: str | None,
    config: Path | None,
) -> None:
    """Follow the events of the calls of one replica until interrupted.

    What was said is left out unless --text asks for it. After a break it goes on where it was.
    """
    with asking(url, config) as orchestrator:
        following = orchestrator.watch(call=calls, type=types, tier=tiers, text=text)
        try:
            with closing(following):
                for event in itertools.islice(following, count):
                    click.echo(_json(event) if as_json else _line(event))
        except KeyboardInterrupt:
            return


def _json(event: Event) -> str:
    told = {
        "id": event.id,
        "time": event.time,
        "type": event.type,
        "tier": event.tier,
        "call_id": event.call_id,
    }
    return json.dumps({**told, **event.fields})


def _line(event: Event) -> str:
    """``12:03:44.120 call_1f2e A handover from_tier=A to_tier=B …``, in the time of this machine."""
    at = datetime.fromtimestamp(event.time).strftime("%H:%M:%S.%f")[:-3]
    fields = " ".join(f"{name}={_shown(value)}" for name, value in event.fields.items())
    return f"{at} {event.call_id or '-'} {event.tier or '-'} {event.type} {fields}".rstrip()


def _shown(value: Any) -> str:
    """In one word, or in quotation marks: what callers say is not to move a terminal's cursor."""
    if isinstance(value, str) and value and value.isascii() and value.isprintable() and " " not in value:
        return value
    return json.dumps(value)

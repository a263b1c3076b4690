"""`orchestrator watch`: how things stand and what happens, as it happens."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.asking import asking, config_option, json_option, url_option
from orchestrator.calls_cli import timeline_row
from orchestrator.client import Event, Orchestrator, OrchestratorError, Refused, Status
from orchestrator.status_cli import by_tier, calls_table, status_tables
from orchestrator.tables import make_console, make_table

EVERY_S = 1.0
KEPT = 100
FEWEST = 3
"""Rows of calls and of events that are shown in the smallest terminal."""
_QUIET = frozenset({"charge", "state", "gate", "speculation", "preparation_abandoned"})

Happened = Event | OrchestratorError
"""What comes from the stream of events: one, or why no more come."""


@click.command(
    short_help="Watch how things stand and what happens.",
    epilog="""\b
Examples:
  orchestrator watch
  orchestrator watch --all | tee today.log     plain lines where there is no terminal
  orchestrator watch --json | jq -c 'select(.event.type == "handover") | .event'

\b
With --json each line is an object: {"status": …} once a second, as `status --json` has it, and {"event": …} as it
happens, as `events --json` has it.

\b
Exit codes: 0 ended with Ctrl-C; others: orchestrator --help.
""",
)
@click.option("--all", "everything", is_flag=True, help="With charges, states and the like.")
@json_option
@url_option
@config_option
def watch(everything: bool, as_json: bool, url: str | None, config: Path | None) -> None:
    """Watch tiers, breakers, budgets and calls, and events as they come, until Ctrl-C.

    It shows one replica, without what is said in calls.
    """
    try:
        with asking(url, config) as orchestrator:
            if as_json:
                _json_lines(orchestrator, everything)
            elif os.isatty(1) and os.environ.get("TERM") != "dumb":
                _live(orchestrator, everything)
            else:
                for event in _events(orchestrator, everything):
                    click.echo(_line(event))
    except KeyboardInterrupt:
        pass


def _events(orchestrator: Orchestrator, everything: bool) -> Iterator[Event]:
    return (event for event in orchestrator.watch() if everything or event.type not in _QUIET)


def _line(event: Event) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(event.time))
    _, tier, _, rest = timeline_row(_row(event), event.time)
    return " ".join(part for part in (at, event.call_id, tier, event.type, rest) if part)


def _row(event: Event) -> dict[str, Any]:
    told = asdict(event)
    return {**{name: told[name] for name in ("time", "type", "tier", "call_id")}, **event.fields}


def _follow(orchestrator: Orchestrator, everything: bool) -> queue.SimpleQueue[Happened]:
    """What happens, from a thread of its own."""
    happened: queue.SimpleQueue[Happened] = queue.SimpleQueue()

    def follow() -> None:
        try:
            for event in _events(orchestrator, everything):
                happened.put(event)
        except OrchestratorError as error:
            happened.put(error)

    threading.Thread(target=follow, daemon=True).start()
    return happened


# --- for programs ---


def _json_lines(orchestrator: Orchestrator, everything: bool) -> None:
    found = orchestrator.status()  # what cannot be asked at all ends the command
    happened = _follow(orchestrator, everything)
    while True:
        click.echo(json.dumps({"status": found.model_dump(mode="json")}))
        until = time.monotonic() + EVERY_S
        while (left := until - time.monotonic()) > 0:
            try:
                event = happened.get(timeout=left)
            except queue.Empty:
                break
            if isinstance(event, OrchestratorError):
                raise event
            click.echo(json.dumps({"event": {"id": event.id, **_row(event)}}))
        found = orchestrator.status()


# --- for people ---


def _live(orchestrator: Orchestrator, everything: bool) -> None:
    found: Status | OrchestratorError = orchestrator.status()  # what cannot be asked at all ends the command
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which gives the terminal its own screen back
    happened = _follow(orchestrator, everything)
    recent: deque[Happened] = deque(maxlen=KEPT)
    console = make_console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            while not happened.empty():
                recent.append(happened.get())
            live.update(view(console, found, recent), refresh=True)
            time.sleep(EVERY_S)
            try:
                found = orchestrator.status()
            except Refused:
                raise
            except OrchestratorError as error:
                found = error


def view(console: Console, found: Status | OrchestratorError, recent: deque[Happened]) -> Group:
    """A screen full: how things stand, then calls and what happens as far as there is room."""
    if isinstance(found, OrchestratorError):
        return Group(Text(str(found), style="red"), _recent(recent, console.height - 4))
    at = time.strftime("%H:%M:%S", time.gmtime(found.now))
    away = "" if found.store.connected else " [red]Redis is away.[/]"
    heading = Text.from_markup(
        f"[dim]{at} UTC, replica {found.replica}.[/] {by_tier(found)}{away} [dim]Ctrl-C ends this.[/]"
    )
    upper = Group(heading, *status_tables(found, most_calls=0))
    room = console.height - _lines_of(console, upper)
    events = _fitting(console, lambda most: _recent(recent, most), room // 2)
    calls = _fitting(
        console, lambda most: calls_table(found, most, brief=True), room - _lines_of(console, events)
    )
    return Group(upper, *([calls] if calls.row_count else []), events)


def _fitting(console: Console, make: Callable[[int], Table], room: int) -> Table:
    """With as many rows as fit into so many lines; with a few, whether they fit or not."""
    most = max(FEWEST, room)
    while (table := make(most)).row_count > FEWEST and _lines_of(console, table) > room:
        most = min(most, table.row_count) - 1
    return table


def _lines_of(console: Console, what: RenderableType) -> int:
    return len(console.render_lines(what, pad=False))


def _recent(recent: deque[Happened], most: int) -> Table:
    table = make_table("What happens, the latest first", "time (UTC)", "call", "tier", "what", "")
    for event in list(reversed(recent))[:most]:
        if isinstance(event, OrchestratorError):
            table.add_row("", "", "", "[red]no more events[/]", Text(str(event), style="red"))
            continue
        _, tier, what, rest = timeline_row(_row(event), event.time)
        at = time.strftime("%H:%M:%S", time.gmtime(event.time))
        table.add_row(at, event.call_id, tier, what, rest)
    return table

"""`orchestrator watch`: how things stand and what happens, as it happens."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.calls_cli import console, timeline_row
from orchestrator.cli import asking, config_option, make_table, status_tables, url_option

EVERY_S = 1.0
ROWS = 15
_QUIET = frozenset({"charge", "state", "gate", "speculation", "preparation_abandoned"})


@click.command(
    short_help="Watch how things stand and what happens.",
    epilog="""\b
Examples:
  orchestrator watch
  orchestrator watch --all | tee today.log     plain lines where there is no terminal

\b
Exit codes: 0 ended with Ctrl-C; others: orchestrator --help.
""",
)
@click.option("--all", "everything", is_flag=True, help="With charges, states and the like.")
@url_option
@config_option
def watch(everything: bool, url: str | None, config: Path | None) -> None:
    """Watch tiers, breakers, budgets and calls, and events as they come, until Ctrl-C.

    It shows one replica, without what is said in calls.
    """
    try:
        with asking(url, config) as orchestrator:
            if os.isatty(1):
                _live(orchestrator, everything)
            else:
                _lines(orchestrator, everything)
    except KeyboardInterrupt:
        pass


def _lines(orchestrator: Any, everything: bool) -> None:
    for event in orchestrator.watch():
        if everything or event.type not in _QUIET:
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(event.time))
            _, tier, _, rest = timeline_row(_row(event), event.time)
            click.echo(" ".join(part for part in (at, event.call_id, tier, event.type, rest) if part))


def _row(event: Any) -> dict[str, Any]:
    return {
        "time": event.time,
        "type": event.type,
        "tier": event.tier,
        "call_id": event.call_id,
        **event.fields,
    }


def _live(orchestrator: Any, everything: bool) -> None:
    recent: deque[Any] = deque(maxlen=ROWS)

    def follow() -> None:
        from orchestrator.client import OrchestratorError

        try:
            for event in orchestrator.watch():
                if everything or event.type not in _QUIET:
                    recent.append(event)
        except OrchestratorError as error:
            recent.append(str(error))

    threading.Thread(target=follow, daemon=True).start()
    with Live(console=console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(_view(orchestrator, recent), refresh=True)
            time.sleep(EVERY_S)


def _view(orchestrator: Any, recent: deque[Any]) -> Group:
    from orchestrator.client import OrchestratorError

    try:
        found = orchestrator.status()
    except OrchestratorError as error:
        return Group(Text(str(error), style="red"), _events(recent))
    at = time.strftime("%H:%M:%S", time.gmtime(found.now))
    heading = Text(f"{at} UTC, replica {found.replica}, {len(found.calls)} calls. Ctrl-C ends this.", "dim")
    return Group(heading, *status_tables(found), _events(recent))


def _events(recent: deque[Any]) -> Table:
    table = make_table("What happens, the latest first", "time (UTC)", "call", "tier", "what", "")
    for event in reversed(list(recent)):
        if isinstance(event, str):
            table.add_row("", "", "", Text(event, style="red"), "")
            continue
        _, tier, what, rest = timeline_row(_row(event), event.time)
        at = time.strftime("%H:%M:%S", time.gmtime(event.time))
        table.add_row(at, event.call_id, tier, what, rest)
    return table

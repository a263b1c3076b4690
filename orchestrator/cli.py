"""`orchestrator`: serve calls, see how things stand, force a tier; and the commands that other modules bring."""

from __future__ import annotations

import getpass
import importlib
import json
import os
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.client import (
    Orchestrator,
    OrchestratorError,
    Overloaded,
    Override,
    Refused,
    Status,
    Unreachable,
)
from orchestrator.client.asks import Ask
from orchestrator.config import CONFIG_VARIABLE, Settings, SettingsError, load_settings
from orchestrator.core.overrides import Limit, OverrideError, When, parse_target

URL_VARIABLE = "ORCHESTRATOR_URL"
_TIMEOUT_S = 10.0
SHOWN_CALLS = 20
"""So many calls, the latest, are listed among how things stand; `orchestrator calls` has them all."""

# Imported when called: a simulator or a demo brings models and servers that `status` does not need.
_ELSEWHERE = {
    "approvals": (
        "orchestrator.approvals_cli",
        "approvals",
        "Approve tool calls that wait for a person, or reject them.",
    ),
    "audit": ("orchestrator.audit_cli", "audit", "Who did what and why: list, export, verify."),
    "bill": ("orchestrator.money_cli", "bill_command", "Work out the bill of recorded calls again."),
    "budget": ("orchestrator.calls_cli", "budget", "Show what is spent of which budget today."),
    "call": ("orchestrator.calls_cli", "call", "Show one call: its figures and its timeline."),
    "calls": ("orchestrator.calls_cli", "calls", "Show calls in progress."),
    "demo": ("orchestrator.demo.cli", "demo", "Make a call here, and take its provider away."),
    "drill": ("orchestrator.drills_cli", "drill", "Practise a failover on some calls; what they heard."),
    "estimate": (
        "orchestrator.estimate.cli",
        "estimate",
        "Estimate what calls will cost, before they are made.",
    ),
    "events": ("orchestrator.events_cli", "events", "Follow what happens in calls."),
    "keys": ("orchestrator.keys_cli", "keys", "Make API keys, list, rotate and revoke them."),
    "models": ("orchestrator.models_cli", "models", "Fetch, list and check the local models."),
    "prices": ("orchestrator.money_cli", "prices", "Show what is billed here, and at which prices."),
    "prompts": (
        "orchestrator.prompts_cli",
        "prompts",
        "Check the catalogue of prompts; speak them ahead.",
    ),
    "route": (
        "orchestrator.route_cli",
        "route",
        "Ask where a call would go, why, and what would change that.",
    ),
    "simulate": ("orchestrator.simulate.cli", "simulate", "Run a simulated provider to test against."),
    "watch": ("orchestrator.watch_cli", "watch", "Watch how things stand and what happens."),
}


class _Group(click.Group):
    """A group some of whose commands are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ELSEWHERE:
            module, name, _ = _ELSEWHERE[cmd_name]
            command = getattr(importlib.import_module(module), name)
            assert isinstance(command, click.Command)
            return command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            here = super().get_command(ctx, name)
            rows.append((name, here.get_short_help_str(limit=70) if here else _ELSEWHERE[name][2]))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _target(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        tier, rung = parse_target(value)
        return f"{tier}/{rung}" if rung else str(tier)
    except OverrideError as error:
        raise click.BadParameter(str(error)) from None


config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=CONFIG_VARIABLE,
    help=f"A TOML file of settings; also {CONFIG_VARIABLE}.",
)
url_option = click.option(
    "--url",
    envvar=URL_VARIABLE,
    help=f"The server, like http://127.0.0.1:8080; also {URL_VARIABLE}. By default the one of the settings.",
)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  orchestrator models fetch                       the local models, once
  OPENAI_API_KEY=... orchestrator serve           then connect to ws://127.0.0.1:8080/v1/realtime
  orchestrator status                             tiers, breakers, overrides, budgets, calls
  orchestrator route --user 42                    where a call would go, why, and what would change that
  orchestrator events --type handover             handovers, as they happen
  orchestrator force C --for 15m --reason drill   everybody to Tier C for a quarter of an hour
  orchestrator approvals list                     tool calls that wait for a person's yes

\b
Exit codes of what asks a server: 0 done; 1 it said no, or the settings cannot be used; 2 a wrong command line;
3 nobody answers; 4 the key is missing or may not; 5 not now (overloaded, or not ready): try again.
""",
)
@click.version_option(package_name="voice-orchestrator")
def main() -> None:
    """Keep live voice calls alive when their OpenAI Realtime provider is not.

    Tier A relays to OpenAI, Tier B answers with local models, Tier C says fixed prompts. Clients speak the
    OpenAI Realtime protocol to one address, whatever the tier.
    """


@main.command(
    epilog="""\b
Examples:
  orchestrator serve --port 9000
  orchestrator serve --config /etc/orchestrator.toml
  ORCHESTRATOR_API_KEY=... orchestrator serve --host 0.0.0.0
"""
)
@click.option("--host", help="Address to listen on; others than this machine's own need an API key.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0 takes a free one.")
@config_option
def serve(host: str | None, port: int | None, config: Path | None) -> None:
    """Take calls until interrupted.

    Every setting can stand in the configuration file or in the environment; docs/configuration.md lists them.
    """
    settings = _settings(config, server__host=host, server__port=port)
    app = importlib.import_module("orchestrator.server.app")
    app.run(settings)


@main.command(
    epilog="""\b
Examples:
  orchestrator status
  orchestrator status --json | jq .next_call
"""
)
@click.option("--json", "as_json", is_flag=True, help="The answer of GET /v1/status as it is.")
@url_option
@config_option
def status(as_json: bool, url: str | None, config: Path | None) -> None:
    """Show tiers, breakers, overrides, budgets and calls."""
    with asking(url, config) as orchestrator:
        found = orchestrator.status()
    if as_json:
        click.echo(as_json_text(found))
    else:
        _show(found)


@main.command(
    short_help="Force a tier on calls, for a time.",
    epilog="""\b
Examples:
  orchestrator force C --for 15m --reason "provider incident"
  orchestrator force B --scope user:42 --for 2h --reason "asked for it"
  orchestrator force A --scope call:call_1f2e3d --for 90s --reason "test"
  orchestrator force B --scope bucket:acme --share 20 --limit ceiling --when now --reason "a fifth of acme"
  orchestrator force A/gpt-realtime-2.1-mini --reason "the other one is slow"

\b
Scopes: all, call:ID, user:ID, purpose:NAME, bucket:NAME. The most specific wins.
""",
)
@click.argument("tier", callback=_target)
@click.option(
    "--limit",
    type=click.Choice([each.value for each in Limit]),
    default=Limit.FORCE.value,
    show_default=True,
    help="That and nothing else, nothing better, or nothing worse.",
)
@click.option(
    "--share", type=float, default=100.0, help="Only so many per cent of the calls that begin from now on."
)
@click.option(
    "--when",
    type=click.Choice([each.value for each in When]),
    default=When.NEXT_TURN.value,
    show_default=True,
    help="When calls in progress follow: between turns, or in the middle of an answer.",
)
@click.option("--scope", default="all", show_default=True, help="Whom it is for.")
@click.option("--for", "duration", default="15m", show_default=True, help="How long: 90s, 15m, 2h.")
@click.option("--reason", required=True, help="Why; other operators read it in the status.")
@click.option("--who", help="Who you are; by default your login name.")
@url_option
@config_option
def force(
    tier: str,
    limit: str,
    share: float,
    when: str,
    scope: str,
    duration: str,
    reason: str,
    who: str | None,
    url: str | None,
    config: Path | None,
) -> None:
    """Force TIER (or one rung of it, as A/NAME) on the calls of a scope, new ones and those in progress.

    A hard cap on money and the policy for one-way calls stand above it; health stands above a floor.
    """
    with asking(url, config) as orchestrator:
        made = orchestrator.force(
            tier,
            scope=scope,
            for_=duration,
            reason=reason,
            who=who or login(),
            limit=limit,
            share=share,
            when=when,
        )
    share_of = "" if made.share >= 100 else f" for {made.share:g}% of the calls that begin from now on"
    click.echo(
        f"{_LIMITED[made.limit].format(_target_of(made))} {made.scope}{share_of} for {duration}. "
        f"End it sooner with: orchestrator clear {made.id}"
    )


_LIMITED = {
    "force": "{} is forced on",
    "ceiling": "Nothing better than {} is used on",
    "floor": "Nothing worse than {} is used on",
}


def _target_of(override: Override) -> str:
    return f"Rung {override.rung}" if override.rung else f"Tier {override.tier}"


@main.command(
    short_help="Let an override last longer, or shorter.",
    epilog="""\b
Example:
  orchestrator extend ovr_1f2e3d4c --for 30m
""",
)
@click.argument("id")
@click.option("--for", "duration", required=True, help="How long, from now on: 90s, 15m, 2h.")
@click.option("--reason", default="", help="Why it goes on.")
@url_option
@config_option
def extend(id: str, duration: str, reason: str, url: str | None, config: Path | None) -> None:
    """Give the override ID (`orchestrator status` lists them) a new time to live, from now on."""
    with asking(url, config) as orchestrator:
        orchestrator.extend(id, for_=duration, reason=reason, who=login())
    click.echo(f"Override {id} lasts {duration} from now on.")


@main.command(short_help="End an override before its time.")
@click.argument("id")
@url_option
@config_option
def clear(id: str, url: str | None, config: Path | None) -> None:
    """End the override ID before its time (`orchestrator status` lists them)."""
    with asking(url, config) as orchestrator:
        orchestrator.clear(id)
    click.echo(f"Override {id} is cleared.")


def _settings(config: Path | None, **overrides: Any) -> Settings:
    try:
        return load_settings(config, **overrides)
    except SettingsError as error:
        raise click.ClickException(f"the settings cannot be used:\n{error}") from None


def login() -> str:
    """Who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class NobodyAnswers(click.ClickException):
    exit_code = 3


class KeyRefused(click.ClickException):
    exit_code = 4


class NotNow(click.ClickException):
    exit_code = 5


_FAILURES: dict[type[OrchestratorError], type[click.ClickException]] = {
    Unreachable: NobodyAnswers,
    Refused: KeyRefused,
    Overloaded: NotNow,
}
"""What ends a command, with an exit code that scripts tell failures apart by. Whatever else a server says is 1."""


def ask_server(
    url: str | None, config: Path | None, method: str, path: str, body: Mapping[str, Any] | None = None
) -> Any:
    with asking(url, config) as orchestrator:
        return orchestrator._do(Ask(method, path, lambda r: r.json() if r.content else None, json=body))


@contextmanager
def asking(url: str | None, config: Path | None) -> Iterator[Orchestrator]:
    """The server of `url`, or of the settings, with their key; whatever goes wrong ends the command."""
    settings = _settings(config)
    key = settings.server.api_key
    try:
        with Orchestrator(
            url or _default_url(settings),
            key.get_secret_value() if key else "",
            timeout_s=_TIMEOUT_S,
            ssl_context=_own_certificate(settings),
        ) as orchestrator:
            yield orchestrator
    except OrchestratorError as error:
        failure = next((kind for each, kind in _FAILURES.items() if isinstance(error, each)), None)
        text = str(error)
        if error.code == "missing_api_key":
            text = "no API key came; set ORCHESTRATOR_API_KEY, which is sent as `Authorization: Bearer <key>`"
        raise (failure or click.ClickException)(text) from None


def _own_certificate(settings: Settings) -> ssl.SSLContext | None:
    """One that trusts the certificate of the settings, beside those that everybody trusts."""
    path = settings.server.tls_certificate
    if path is None or not path.is_file():
        return None
    context = ssl.create_default_context()
    with suppress(ssl.SSLError):
        context.load_verify_locations(path)
    return context


def _default_url(settings: Settings) -> str:
    host = settings.server.host
    # What listens on every address listens on this machine's own.
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    scheme = "http" if settings.server.tls_certificate is None else "https"
    return f"{scheme}://{host}:{settings.server.port}"


def as_json_text(answer: BaseModel) -> str:
    """An answer of the server, for programs."""
    return json.dumps(answer.model_dump(mode="json"), indent=2)


def _show(found: Status) -> None:
    console = make_console()
    following = found.next_call
    console.print(
        f"A new call gets tier [bold]{following.tier}[/] {following.rung} "
        f"({following.reason}, decided by {following.decided_by})"
    )
    store = found.store
    if not store.connected:
        console.print(
            f"[red]Redis is away for {ago(store.away_since, found.now)}[/]: "
            f"carrying on with the last view, {store.unsent} writes wait"
        )
    if found.approvals:
        console.print(
            f"[yellow]Tool calls wait for a person: {found.approvals}[/], see: orchestrator approvals list"
        )
    for sink in found.business_events:
        if sink.dropped or sink.failing:
            why = f" ({escape(sink.failing)})" if sink.failing else ""
            console.print(
                f"[red]Business events to {sink.sink}{why}[/]: {sink.waiting} wait, {sink.dropped} dropped"
            )
    console.print(_by_tier(found))
    for table in status_tables(found):
        console.print(table)
    if len(found.calls) > SHOWN_CALLS:
        console.print(f"[dim]{len(found.calls) - SHOWN_CALLS} more; see: orchestrator calls[/]")


def status_tables(found: Status) -> list[Table]:
    """How things stand, as tables; those that would be empty are left out."""
    tables = (_rungs(found), _overrides(found), _buckets(found), _calls(found))
    return [table for table in tables if table.row_count]


def _by_tier(found: Status) -> str:
    tiers = Counter(call.tier for call in found.calls)
    if not tiers:
        return "No calls."
    parts = ", ".join(f"{tiers[tier]} in tier [bold]{tier}[/]" for tier in sorted(tiers))
    return f"{len(found.calls)} calls: {parts}"


def _rungs(found: Status) -> Table:
    table = make_table("Rungs", "tier", "rung", "breaker", "cause", "last success", "last failure", "$/min")
    for rung in found.rungs:
        state = rung.missing or rung.breaker
        colour = "green" if state == "closed" else "red"
        table.add_row(
            rung.tier or "",
            rung.rung,
            f"[{colour}]{state}[/]",
            rung.cause or "",
            ago(rung.last_success_at, found.now, " ago"),
            ago(rung.last_failure_at, found.now, " ago"),
            f"{rung.usd_per_minute:.4f}",
        )
    return table


def _overrides(found: Status) -> Table:
    table = make_table("Overrides", "id", "limit", "of", "scope", "share", "left", "reason", "who")
    for each in found.overrides:
        cells = (
            each.id,
            each.limit + (" now" if each.when == "now" else ""),
            f"{each.tier}/{each.rung}" if each.rung else each.tier,
            each.scope,
            f"{each.share:g}%",
            ago(found.now, each.until),
            each.reason,
            each.name + (f" ({each.typed})" if each.typed else ""),
        )
        table.add_row(*map(escape, cells))
    return table


def _buckets(found: Status) -> Table:
    from orchestrator.calls_cli import bar

    table = make_table("Buckets today", "bucket", "", "spent $", "set aside $", "cap $")
    for each in found.buckets:
        cap = "none" if each.cap_usd is None else f"{each.cap_usd:.2f}"
        figures = (f"{each.spent_usd:.4f}", f"{each.reserved_usd:.4f}", cap)
        table.add_row(escape(each.bucket), bar(each.model_dump()), *figures)
    return table


def _calls(found: Status) -> Table:
    table = make_table("Calls", "call", "tier", "rung", "reason", "user", "purpose", "bucket", "for", "$")
    for call in sorted(found.calls, key=lambda call: -call.started_at)[:SHOWN_CALLS]:
        names = (call.call_id, call.tier, call.rung, call.reason, call.user, call.purpose, call.bucket)
        since = ago(call.started_at, found.now)
        table.add_row(*map(escape, names), since, f"{call.spent_usd:.4f}")
    return table


def make_console() -> Console:
    """As wide as the terminal; where there is none, 120 columns."""
    return Console(width=None if os.isatty(1) else 120)


def make_table(title: str, *columns: str) -> Table:
    """Columns under a title, without lines; what is too long goes on in the next line."""
    table = Table(title=title, title_justify="left", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def ago(then: float | None, now: float, suffix: str = "") -> str:
    """From one Unix second to another, in words like ``1h 5m``."""
    if then is None:
        return "never" if suffix else ""
    seconds = max(0, round(now - then))
    text = f"{seconds}s"
    for size, unit, smaller, smaller_unit in _UNITS:
        if seconds >= size:
            text = f"{seconds // size}{unit} {seconds % size // smaller}{smaller_unit}"
            break
    return text + suffix

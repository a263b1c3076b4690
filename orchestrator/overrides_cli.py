"""`orchestrator force`, `extend`, `clear`: forced tiers and rungs, and limits."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.asking import as_json_text, asking, config_option, json_option, login, url_option
from orchestrator.core.overrides import Limit, OverrideError, When, parse_target


def _target(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        tier, rung = parse_target(value)
        return f"{tier}/{rung}" if rung else str(tier)
    except OverrideError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
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
    "--share",
    type=float,
    default=100.0,
    show_default=True,
    help="Only so many per cent of the calls that begin from now on.",
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
@json_option
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
    as_json: bool,
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
    if as_json:
        click.echo(as_json_text(made))
        return
    share_of = "" if made.share >= 100 else f" for {made.share:g}% of the calls that begin from now on"
    limited = _LIMITED[made.limit].format(f"rung {made.rung}" if made.rung else f"tier {made.tier}")
    click.echo(
        f"{limited[0].upper()}{limited[1:]} {made.scope}{share_of} for {duration}. "
        f"End it sooner with: orchestrator clear {made.id}"
    )


_LIMITED = {
    "force": "{} is forced on",
    "ceiling": "Nothing better than {} is used on",
    "floor": "Nothing worse than {} is used on",
}


@click.command(
    short_help="Let an override last longer, or shorter.",
    epilog="""\b
Example:
  orchestrator extend ovr_1f2e3d4c --for 30m
""",
)
@click.argument("id")
@click.option("--for", "duration", required=True, help="How long, from now on: 90s, 15m, 2h.")
@click.option("--reason", default="", help="Why it goes on.")
@json_option
@url_option
@config_option
def extend(id: str, duration: str, reason: str, as_json: bool, url: str | None, config: Path | None) -> None:
    """Give the override ID (`orchestrator status` lists them) a new time to live, from now on."""
    with asking(url, config) as orchestrator:
        made = orchestrator.extend(id, for_=duration, reason=reason, who=login())
    click.echo(as_json_text(made) if as_json else f"Override {id} lasts {duration} from now on.")


@click.command(
    short_help="End an override before its time.",
    epilog="""\b
Examples:
  orchestrator clear ovr_1f2e3d4c
  orchestrator status --json | jq -r '.overrides[].id' | xargs -n 1 orchestrator clear    all of them
""",
)
@click.argument("id")
@json_option
@url_option
@config_option
def clear(id: str, as_json: bool, url: str | None, config: Path | None) -> None:
    """End the override ID before its time (`orchestrator status` lists them)."""
    with asking(url, config) as orchestrator:
        orchestrator.clear(id)
    click.echo(as_json_text({"cleared": id}) if as_json else f"Override {id} is cleared.")

"""`orchestrator estimate`: what calls will cost, before they are made."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from orchestrator.config import CONFIG_VARIABLE
from orchestrator.core.prices import UnknownPrice
from orchestrator.estimate import report
from orchestrator.estimate.draws import TooMuch
from orchestrator.estimate.fit import NothingToFit, fit_calls
from orchestrator.estimate.inputs import Case, Given, InputsInvalid, parse
from orchestrator.estimate.model import estimate as simulate
from orchestrator.estimate.recorded import LogUnreadable, Recorded, read_rows, recorded
from orchestrator.estimate.results import Estimate

Function = TypeVar("Function", bound=Callable[..., Any])
MOST_CALLS = 200_000
_PATIENCE_S = 2.0
"""After so long it is shown how far the simulation is."""
_FLAGS = {
    "call_s": ("columns", "Seconds of a call, on average."),
    "caller_share": ("columns", "Share of that time in which the caller talks."),
    "assistant_share": ("columns", "... and in which the assistant is heard."),
    "tool_delay_s": ("columns", "Seconds from a tool call to its result."),
    "abandon_rate": ("columns", "Share of calls whose caller hangs up early."),
    "prompt_tokens": ("columns", "Tokens of the instructions."),
    "tool_tokens": ("columns", "Tokens of the tools' definitions."),
    "calls_per_day": ("plan", "Calls in a day."),
    "call_usd": ("plan", "A call's cap in US dollars; none for no cap."),
    "day_usd": ("plan", "The cap for a day; none for no cap."),
    "outage_share": ("plan", "Share of calls in Tier B because Tier A is out."),
}
_TABLES = "columns, plan, latencies"


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options that both commands have."""

    given: Given
    log: Sequence[Recorded]
    calls: int
    seed: int
    as_json: bool
    picture: Path | None


def _options(command: Function) -> Function:
    """Adds them; the command gets them as ``asked``."""
    decorated: Any = command
    file = click.Path(dir_okay=False, path_type=Path)
    for name, (_, text) in reversed(_FLAGS.items()):
        decorated = click.option("--" + name.replace("_", "-"), name, help=text, metavar="NUMBER")(decorated)
    for option in reversed(
        (
            click.option("--from-log", type=file, help="Take the columns from the calls of this event log."),
            click.option(
                "--rung", "rungs", multiple=True, help="A model of Tier A; again for the one after it."
            ),
            click.option(
                "--set",
                "assignments",
                multiple=True,
                metavar="TABLE.FIELD=VALUE",
                help=f"Any field of {_TABLES}.",
            ),
            click.option(
                "--bucket", help="The bucket whose caps and steps hold; by default the default one."
            ),
            click.option(
                "--calls",
                type=click.IntRange(1, MOST_CALLS),
                default=10_000,
                show_default=True,
                help="So many are simulated.",
            ),
            click.option(
                "--seed",
                type=click.IntRange(0),
                default=1,
                show_default=True,
                help="The same one: the same calls.",
            ),
            click.option("--json", "as_json", is_flag=True, help="All figures as JSON, money in US dollars."),
            click.option("--plot", "picture", type=file, help="Draw a picture into this PNG."),
            click.option(
                "--config", type=file, envvar=CONFIG_VARIABLE, help=f"Settings; also {CONFIG_VARIABLE}."
            ),
        )
    ):
        decorated = option(decorated)
    found: Function = decorated
    return found


def _asked(options: dict[str, Any]) -> _Asked:
    log: list[Recorded] = []
    if options["from_log"]:
        log = recorded(read_rows(options["from_log"]))
    values = parse(
        f"{table}.{name}={options[name]}" for name, (table, _) in _FLAGS.items() if options[name] is not None
    )
    if options["rungs"]:
        values.setdefault("plan", {})["rungs"] = options["rungs"]
    for table, fields in parse(options["assignments"]).items():
        values.setdefault(table, {}).update(fields)
    fitted = fit_calls(log) if options["from_log"] else None
    given = Given(options["config"], options["bucket"], fitted, values)
    return _Asked(given, log, options["calls"], options["seed"], options["as_json"], options["picture"])


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  orchestrator estimate --call-s 240 --calls-per-day 1000 --call-usd 0.50
  orchestrator estimate --from-log events.jsonl --plot cost.png
  orchestrator estimate --plan line.toml --set plan.history=text --set columns.barge_in=0.2
  orchestrator estimate compare today.toml cheaper.toml

\b
A plan file is TOML with tables [columns], [plan] and [latencies]; docs/cost.md lists their fields. What is not said
comes from the settings (caps, steps, rungs, prices) and from defaults.
""",
)
@click.option("--plan", "file", type=click.Path(dir_okay=False, path_type=Path), help="A plan file.")
@_options
@click.pass_context
def estimate(ctx: click.Context, /, file: Path | None, **options: Any) -> None:
    """Estimate what calls will cost, how they step down, and how long they wait."""
    if ctx.invoked_subcommand is not None:
        return
    with _explained():
        asked = _asked(options)
        found = _run(asked.given.case(file), asked)
        if asked.picture is not None:
            _draw(asked.picture, [("", found)])
    if asked.as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    console = _console()
    report.show(console, found)
    if asked.log:
        console.print(_recorded_cost(asked.log, found), soft_wrap=True)


@estimate.command(
    epilog="""\b
Examples:
  orchestrator estimate compare today.toml cheaper.toml
  orchestrator estimate compare today.toml cheaper.toml --from-log events.jsonl --plot both.png
"""
)
@click.argument("first", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(dir_okay=False, path_type=Path))
@_options
def compare(first: Path, second: Path, **options: Any) -> None:
    """Put two policies side by side, tried on the same calls.

    FIRST and SECOND are plan files, or configurations whose budgets and rungs are compared.
    """
    with _explained():
        asked = _asked(options)
        cases = [asked.given.case(file) for file in (first, second)]
        one, two = (_run(case, asked) for case in cases)
        if asked.picture is not None:
            _draw(asked.picture, [(cases[0].name, one), (cases[1].name, two)])
    if asked.as_json:
        both = {"first": one.to_dict(), "second": two.to_dict(), "comparison": report.comparison(one, two)}
        click.echo(json.dumps(both, indent=2))
    else:
        report.compare(_console(), one, two, (cases[0].name, cases[1].name))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (InputsInvalid, NothingToFit, LogUnreadable, TooMuch, UnknownPrice) as error:
        raise click.ClickException(str(error)) from None


def _console() -> Console:
    return Console(width=None if os.isatty(1) else 120, highlight=False)


def _run(case: Case, asked: _Asked) -> Estimate:
    with _progress() as told:
        return simulate(
            case.columns,
            case.plan,
            case.prices,
            calls=asked.calls,
            seed=asked.seed,
            latencies=case.latencies,
            progress=told,
        )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Nothing is shown of what is over soon, or where nobody looks."""
    console = Console(stderr=True)
    bar = Progress(TextColumn("calls"), BarColumn(), MofNCompleteColumn(), console=console, transient=True)
    began = time.monotonic()

    def told(done: int, calls: int) -> None:
        if not console.is_terminal or time.monotonic() - began < _PATIENCE_S:
            return
        if not bar.tasks:
            bar.start()
            bar.add_task("calls", total=calls)
        bar.update(bar.tasks[0].id, completed=done)

    try:
        yield told
    finally:
        bar.stop()


def _recorded_cost(log: Sequence[Recorded], found: Estimate) -> str:
    """What the calls of the log did cost: to be compared where they were made under the same plan."""
    costs = np.array([call.nanodollars for call in log if call.complete], dtype=np.float64)
    error = costs.std() / max(1, costs.size) ** 0.5
    return (
        f"The {costs.size:,} recorded calls cost {report.dollars(float(costs.mean()))} each on average "
        f"(± {report.dollars(float(error))} by chance); under this plan such calls are estimated at "
        f"{report.dollars(found.cost.mean)}."
    )


def _draw(path: Path, found: Sequence[tuple[str, Estimate]]) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise InputsInvalid(
            '--plot needs matplotlib; install it with: pip install "voice-orchestrator[plots]"'
        )
    plot = importlib.import_module("orchestrator.estimate.plot")
    try:
        plot.draw(path, found)
    except OSError as error:
        raise InputsInvalid(
            f"{path} cannot be written ({error.strerror}); give --plot another file"
        ) from None

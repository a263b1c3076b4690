"""The Realtime provider fails: what does a caller hear from us, and from what others offer?

docs/peers.md says what is compared, how, and what the figures do not say.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import machine
from benchmarks.caller import Utterance
from benchmarks.peers import picture, report
from benchmarks.peers.cases import CASES, Planned, schedule
from benchmarks.peers.contenders import CONTENDERS
from benchmarks.peers.environments import ROOT, Environment
from benchmarks.peers.lines import AGAIN_S
from benchmarks.peers.measure import Row, measure, refused
from benchmarks.processes import BenchmarkError
from benchmarks.services import LATENCIES, SETTINGS

RESULTS = ROOT / "benchmarks" / "results"
RECORDING = ROOT / "tests" / "fixtures" / "audio" / "austen-0880.wav"
WORDS = "He was not an ill disposed young man."
"""What is said in that recording."""


def environments(names: Sequence[str]) -> list[Environment]:
    """What these contenders need to have installed."""
    needed = (CONTENDERS[name].environment for name in names)
    return list(dict.fromkeys(environment for environment in needed if environment is not None))


def _run(
    names: Sequence[str], planned: Sequence[Planned], watch_s: float, logs: Path, console: Console
) -> list[Row]:
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    utterance = Utterance.load(RECORDING, WORDS)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=len(planned))

        def tell(plan: Planned, out: list[str]) -> None:
            progress.update(task, advance=1, description=f"{plan.case.name} done")
            for name in out:
                console.print(f"[red]{name}: its call without a fault was not answered; it is out[/]")

        return asyncio.run(measure(names, planned, utterance, logs, watch_s, tell))


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nContenders:\n"
    + "\n".join(f"  {each.name:<16} {each.title}" for each in CONTENDERS.values())
    + "\n\n\b\nFaults:\n"
    + "\n".join(f"  {case.name:<12} {case.help}" for case in CASES.values())
    + """\n
\b
Examples:
  python -m benchmarks.peers                                         everything: some 25 minutes
  python -m benchmarks.peers --calls 1 --fault abort                 a quick look: two minutes
  python -m benchmarks.peers --only orchestrator --only livekit      two contenders
""",
)
@click.option(
    "--calls",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Calls of each contender and fault.",
)
@click.option(
    "--watch",
    type=click.FloatRange(min=2.0, max=300.0),
    default=20.0,
    show_default=True,
    help="Seconds after the caller's last word in which an answer has to begin. Then the caller says it once more.",
)
@click.option(
    "--only",
    "only",
    multiple=True,
    type=click.Choice(list(CONTENDERS)),
    help="Only this one; may be repeated.",
)
@click.option(
    "--fault", "faults", multiple=True, type=click.Choice(list(CASES)), help="Only this one; may be repeated."
)
@click.option("--seed", type=int, help="Draws the order and the moments of the faults; random by default.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder for peers.json and peers.png; benchmarks/results by default.",
)
def main(
    calls: int, watch: float, only: tuple[str, ...], faults: tuple[str, ...], seed: int | None, output: Path
) -> None:
    """Compare what a caller hears when the Realtime provider fails: from this orchestrator and from its peers.

    Installs the peers into environments of their own the first time, starts all contenders on free ports of this
    machine, each before a simulated provider of its own, and lets the same fault strike in a call of each at the same
    time. Everything is timed in the audio that the caller's loudspeaker was given.

    Ends with status 1 if a contender did not even answer a call without a fault; it is then left out of the report.
    """
    console = Console()
    names = [name for name in CONTENDERS if not only or name in only]
    seed = secrets.randbelow(2**32) if seed is None else seed
    console.print(f"Seed {seed}; repeat this order of faults with --seed {seed}.", highlight=False)
    planned = list(schedule(faults or tuple(CASES), calls, random.Random(seed)))
    try:
        for environment in environments(names):
            environment.make(console)
        about = _about(names, seed, watch)
        rows = _run(names, planned, watch, output / "peers-logs", console)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    except httpx.HTTPError as error:
        message = f"a process of the benchmark does not answer ({type(error).__name__})"
        raise click.ClickException(f"{message}; its log is in {output / 'peers-logs'}") from None
    about["load_after"] = machine.load()
    _report(output, about, rows, watch, console)


def _about(names: Sequence[str], seed: int, watch_s: float) -> dict[str, Any]:
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "machine": machine.describe(),
        "load_before": machine.load(),
        "watch_s": watch_s,
        "again_s": AGAIN_S,
        "latencies": LATENCIES,
        "orchestrator_settings": SETTINGS,
        "contenders": {
            name: {
                "title": CONTENDERS[name].title,
                "settings": CONTENDERS[name].settings,
                "versions": found.versions() if (found := CONTENDERS[name].environment) else {},
            }
            for name in names
        },
    }


def _report(
    output: Path, about: dict[str, Any], rows: Sequence[Row], watch_s: float, console: Console
) -> None:
    summaries = report.summarise(rows)
    report.show(summaries, watch_s, console)
    for name, contender in about["contenders"].items():
        versions = ", ".join(f"{package} {version}" for package, version in contender["versions"].items())
        console.print(f"{name}: {contender['settings']}. {versions}", highlight=False, markup=False)
    output.mkdir(parents=True, exist_ok=True)
    report.write(output / "peers.json", about, summaries, rows)
    picture.draw(output / "peers.png", rows, watch_s)
    console.print(f"Written: {output / 'peers.json'}, {output / 'peers.png'}", highlight=False)
    out = refused(rows)
    for name in out:
        console.print(f"[red]{name} is not reported: a call without a fault was not answered.[/]")
    if out:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

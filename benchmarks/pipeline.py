"""A caller stops speaking: how long until Tier B's first audio, and what does it wait for?

docs/pipeline-figures.md says what is compared, how, and what the figures do not say.
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

from benchmarks import machine, pipeline_picture, pipeline_report
from benchmarks.peers.environments import PIPECAT, ROOT
from benchmarks.pipeline_calls import HUMAN, QUICK, Row, measure, questions
from benchmarks.pipeline_contenders import (
    ANSWER,
    CARTESIA_FIRST_AUDIO_MS,
    CONTENDERS,
    HOURS,
    SILENCE_S,
    running,
)
from benchmarks.processes import BenchmarkError, http_client
from benchmarks.services import FIRST_TOKEN_MS
from orchestrator.models import ModelError

RESULTS = ROOT / "benchmarks" / "results"
ROUNDS = 4


def chosen(only: Sequence[str], speculate: str, peers: bool) -> list[str]:
    """Names of contenders, in their order."""
    modes = {"on": (True,), "off": (False,), "both": (True, False)}[speculate]
    return [
        name
        for name, contender in CONTENDERS.items()
        if (not only or name in only) and (peers if contender.peer else contender.speculate in modes)
    ]


async def _measure(
    names: Sequence[str], clips: Sequence[str], rounds: int, seed: int, logs: Path, progress: Progress
) -> list[Row]:
    starting = progress.add_task("starting", total=len(names))
    asked = await questions(clips)
    total = rounds * len(asked) * len(names)
    rows: list[Row] = []
    async with (
        http_client() as http,
        running(names, logs, http, lambda name: progress.update(starting, advance=1)) as contenders,
    ):
        calling = progress.add_task("calling", total=total)

        def told(row: Row) -> None:
            rows.append(row)
            progress.update(calling, advance=1, description=row.contender)

        await measure(contenders, asked, rounds, random.Random(seed), logs, told)
    return rows


def _about(names: Sequence[str], clips: Sequence[str], rounds: int, seed: int) -> dict[str, Any]:
    peers = any(CONTENDERS[name].peer for name in names)
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "rounds": rounds,
        "clips": list(clips),
        "machine": machine.describe(),
        "load_before": machine.load(),
        "silence_ms": round(SILENCE_S * 1000),
        "agent_first_token_ms": FIRST_TOKEN_MS,
        "cartesia_first_audio_ms": CARTESIA_FIRST_AUDIO_MS,
        "answers": [ANSWER, HOURS],
        "contenders": {name: CONTENDERS[name].title for name in names},
        "pipecat": PIPECAT.versions() if peers else {},
    }


def _report(output: Path, about: dict[str, Any], rows: Sequence[Row], console: Console) -> None:
    summaries = pipeline_report.summarise(rows)
    pipeline_report.show(summaries, console)
    console.print(
        f"{about['machine']['cpu']}, {about['machine']['cpus']} processors; load {about['load_before'][0]} before, "
        f"{about['load_after'][0]} after; Pipecat: {about['pipecat'] or 'not asked'}",
        highlight=False,
    )
    output.mkdir(parents=True, exist_ok=True)
    pipeline_report.write(output / "pipeline.json", about, summaries, rows)
    pipeline_picture.draw(output / "pipeline.png", rows)
    console.print(f"Written: {output / 'pipeline.json'}, {output / 'pipeline.png'}", highlight=False)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nContenders:\n"
    + "\n".join(f"  {name:<24} {each.title}, {each.speech}" for name, each in CONTENDERS.items()),
)
@click.option(
    "--rounds", type=click.IntRange(min=1), help="Calls with each question; 4 by default, 1 with --quick."
)
@click.option("--quick", is_flag=True, help="Only two of the recordings, short ones.")
@click.option(
    "--speculate",
    type=click.Choice(["on", "off", "both"]),
    default="both",
    show_default=True,
    help="Whether Tier B works ahead in the pauses of a turn.",
)
@click.option(
    "--peers/--no-peers", default=True, help="With or without Pipecat, which is installed the first time."
)
@click.option(
    "--only", multiple=True, type=click.Choice(list(CONTENDERS)), help="Only this one; may be repeated."
)
@click.option("--seed", type=int, help="Draws the order of the calls; random by default.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder for pipeline.json and pipeline.png; benchmarks/results by default.",
)
def main(
    rounds: int | None,
    quick: bool,
    speculate: str,
    peers: bool,
    only: tuple[str, ...],
    seed: int | None,
    output: Path,
) -> None:
    """Measure voice to voice, from a caller's last sound to the first audio, and each stage of it.

    Calls go one at a time through real services and sockets; every question is asked of all contenders directly after
    each other, in an order that is drawn anew.
    """
    console = Console()
    names, clips = chosen(only, speculate, peers), QUICK if quick else tuple(HUMAN)
    rounds, seed = rounds or (1 if quick else ROUNDS), secrets.randbelow(2**32) if seed is None else seed
    console.print(f"Seed {seed}; repeat this order with --seed {seed}.", highlight=False)
    logs = output / "pipeline-logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        if any(CONTENDERS[name].peer for name in names):
            PIPECAT.make(console)
        about = _about(names, clips, rounds, seed)
        with Progress(*columns, console=console) as progress:
            rows = asyncio.run(_measure(names, clips, rounds, seed, logs, progress))
    except (BenchmarkError, ModelError) as error:
        raise click.ClickException(str(error)) from None
    except httpx.HTTPError as error:
        message = f"a process of the benchmark does not answer ({type(error).__name__})"
        raise click.ClickException(f"{message}; its log is in {logs}") from None
    about["load_after"] = machine.load()
    _report(output, about, rows, console)


if __name__ == "__main__":
    main()

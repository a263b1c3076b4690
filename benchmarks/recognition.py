"""How many words does Tier B mishear: of people and of synthetic voices, clean, on a telephone, in noise?

docs/pipeline-figures.md says what is said, how words are compared, and what the figures do not say.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from websockets.exceptions import WebSocketException

from benchmarks import machine
from benchmarks.peers.environments import ROOT
from benchmarks.pipeline_calls import FIXTURES, HUMAN
from benchmarks.pipeline_contenders import running
from benchmarks.processes import BenchmarkError, http_client
from benchmarks.recognition_calls import Clip, Condition, Heard, recognise
from benchmarks.recognition_words import Spoken, sentences
from orchestrator import models
from orchestrator.protocol.audio import SPEAK_RATE
from tiers.pipeline.kokoro import DEFAULT_VOICE, VOICES, KokoroSpeech

RESULTS = ROOT / "benchmarks" / "results"
PEOPLE, SYNTHETIC = "people", "synthetic"
COUNT, QUICK_COUNT = 100, 10
SERVICE = "speculating-kokoro"
WIDTH = 150


def people() -> list[Clip]:
    """The recordings of people among the tests' fixtures."""
    from faster_whisper.audio import decode_audio

    return [
        Clip(
            name,
            PEOPLE,
            np.asarray(decode_audio(str(FIXTURES / name), sampling_rate=SPEAK_RATE), dtype=np.float32),
            said,
        )
        for name, said in HUMAN.items()
    ]


def voices() -> list[str]:
    """Kokoro's English voices but the agent's own."""
    with np.load(models.kokoro_voices()) as styles:
        english = sorted(name for name in styles.files if name[:1] in "ab" and name[1:3] in ("f_", "m_"))
    return [name for name in english if name != VOICES[DEFAULT_VOICE]]


async def synthetic(said: Sequence[Spoken], progress: Progress) -> list[Clip]:
    task = progress.add_task("synthesising", total=len(said))
    engine = KokoroSpeech(models.kokoro_model(), models.kokoro_voices())
    found = []
    try:
        for number, each in enumerate(said):
            pieces = [pcm async for pcm in engine.speak(each.text, voice=each.voice, speed=each.speed)]
            audio = np.concatenate(pieces).astype(np.float32) / 32768.0
            found.append(Clip(f"{number:03d}-{each.voice}", SYNTHETIC, audio, each.text))
            progress.advance(task)
    finally:
        engine.close()
    return found


async def _measure(count: int, seed: int, logs: Path, progress: Progress) -> list[Heard]:
    said = list(sentences(count, voices(), random.Random(seed))) if count else []
    clips = [*people(), *await synthetic(said, progress)]
    async with http_client() as http, running((SERVICE,), logs, http, lambda name: None) as (service,):
        task = progress.add_task("listening", total=len(clips) * len(Condition))
        return await recognise(service.url, clips, seed, lambda heard: progress.advance(task))


def rate(heard: Sequence[Heard]) -> float:
    """Wrong words of all that were said, in percent; invented words count, so it may be over a hundred."""
    return 100.0 * sum(each.wrong for each in heard) / max(1, sum(each.count for each in heard))


def totals(heard: Sequence[Heard]) -> Iterator[dict[str, Any]]:
    for kind in (PEOPLE, SYNTHETIC):
        for condition in Condition:
            group = [each for each in heard if (each.kind, each.condition) == (kind, condition)]
            if group:
                yield {
                    "kind": kind,
                    "condition": condition.value,
                    "clips": len(group),
                    "words": sum(each.count for each in group),
                    "wrong": sum(each.wrong for each in group),
                    "percent": round(rate(group), 1),
                    "faultless": sum(not each.wrong for each in group),
                    "nothing": sum(not each.heard for each in group),
                }


def show(heard: Sequence[Heard], console: Console) -> None:
    """A line for each kind and condition, and one for each recording of a person."""
    console = Console(file=console.file, width=max(WIDTH, console.width))
    table = Table(
        title="Words that Tier B misheard", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    for name in ("said by", "condition"):
        table.add_column(name)
    for name in (
        "clips",
        "words",
        "wrong",
        "percent",
        "clips without a wrong word",
        "clips with nothing heard",
    ):
        table.add_column(name, justify="right")
    for each in totals(heard):
        table.add_row(*map(str, each.values()))
    console.print(table)
    clips = Table(title="People, clip by clip", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in ("clip", "condition", "wrong", "heard"):
        clips.add_column(name, overflow="fold")
    for one in heard:
        if one.kind == PEOPLE:
            clips.add_row(one.name, one.condition.value, f"{one.wrong} of {one.count}", one.heard)
    console.print(clips)


def write(path: Path, about: dict[str, Any], heard: Sequence[Heard]) -> None:
    content = {**about, "totals": list(totals(heard)), "clips": [asdict(each) for each in heard]}
    path.write_text(json.dumps(content, indent=1) + "\n")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--count", type=click.IntRange(0, 1000), default=COUNT, show_default=True, help="Synthetic sentences."
)
@click.option("--quick", is_flag=True, help=f"Only {QUICK_COUNT} synthetic sentences.")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws sentences, voices and noise.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder for recognition.json; benchmarks/results by default.",
)
def main(count: int, quick: bool, seed: int, output: Path) -> None:
    """Count the words that Tier B mishears, over the socket of a real service with its local Whisper.

    Recordings of people, and sentences of callers in Kokoro's other voices, each clean, as 8 kHz mu-law, and in noise.
    """
    console = Console()
    logs = output / "recognition-logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    count = min(count, QUICK_COUNT) if quick else count
    about = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "machine": machine.describe(),
        "load_before": machine.load(),
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            heard = asyncio.run(_measure(count, seed, logs, progress))
    except (BenchmarkError, models.ModelError) as error:
        raise click.ClickException(str(error)) from None
    except (httpx.HTTPError, WebSocketException, OSError) as error:
        message = f"the service does not answer ({type(error).__name__})"
        raise click.ClickException(f"{message}; its log is in {logs}") from None
    show(heard, console)
    write(output / "recognition.json", about, heard)
    console.print(f"Written: {output / 'recognition.json'}", highlight=False)


if __name__ == "__main__":
    main()

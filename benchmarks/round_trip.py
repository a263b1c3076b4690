"""Is every digit, amount and status of a stitched prompt heard? Random prompts, transcribed by Whisper.

The same lines said whole, transcribed in the same way, tell what the recogniser itself gets wrong. docs/prompts.md
says how they are compared. Exits 1 where a value was heard in a line that was said whole, and not in the stitched one.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import machine
from benchmarks.peers.environments import ROOT
from benchmarks.transcripts import CORES, Ear, Way, wrong_values
from cache import ClipCache, DiskStore
from orchestrator import models
from orchestrator.protocol.audio import Pcm16
from tiers.pipeline.kokoro_parts import KokoroParts
from tiers.prompts import stitching
from tiers.prompts.catalogue import Catalogue, Prompt
from tiers.prompts.prompts import DEFAULT_VOICE, Prompts
from tiers.prompts.trim import trim
from tiers.prompts.variables import Enum

RESULTS = ROOT / "benchmarks" / "results"
STITCHED, WHOLE = "stitched", "whole"
LENGTHS = (4, 6, 7, 8, 9, 9, 9, 10, 12)
"""Digits of order numbers."""


@dataclass(slots=True)
class Heard:
    """One line as it was rendered and written down, once or more often.

    `wrong` are the values that were never heard, `missed_at_first` those that were not the first time.
    """

    prompt: str
    rendering: str
    said: str
    seconds: float
    level_dbfs: float
    heard: list[str] = field(default_factory=list)
    missed_at_first: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


PROMPTS = ("order_status", "order_status", "payment_due", "queue_update")
"""By turns."""


def variable_sets(
    rng: random.Random, catalogue: Catalogue, count: int, turns: Sequence[str] = PROMPTS
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Prompts by turns, with random values of all types."""
    status = catalogue["order_status"].variables["status"]
    assert isinstance(status, Enum)
    statuses = list(status.wording["en"])
    for number in range(count):
        order = "".join(rng.choices("0123456789", k=rng.choice(LENGTHS)))
        name = turns[number % len(turns)]
        match name:
            case "order_status":
                yield name, {"order_id": order, "status": rng.choice(statuses)}
            case "payment_due":
                cents = rng.randrange(10 ** rng.randrange(3, 8))
                amount = f"{Decimal(cents) / 100:.2f} {rng.choice(('USD', 'EUR', 'GBP'))}"
                due = date(2026, 1, 1) + timedelta(days=rng.randrange(2000))
                yield name, {"amount": amount, "date": due.isoformat()}
            case _:
                position, minutes = rng.randrange(1, 10 ** rng.randrange(1, 5)), rng.randrange(1441)
                yield name, {"position": position, "minutes": minutes}


async def listen(
    prompts: Prompts, speech: KokoroParts, ear: Ear, sets: list[tuple[str, dict[str, Any]]], voice: str
) -> list[Heard]:
    """Every set stitched and whole."""
    found = []
    for name, variables in track(sets, "Listening", console=Console(stderr=True)):
        line = prompts.catalogue.fill(name, variables)
        stitched = prompts.peek(line, voice)
        if stitched is None:
            raise click.ClickException(f"prompt {name} cannot be stitched for {variables}")
        whole = trim(np.concatenate([pcm async for pcm in speech.speak(line.spoken, voice=voice)]))
        for rendering, pcm in ((STITCHED, stitched.pcm), (WHOLE, whole)):
            level = stitching.speech_level(pcm.astype(np.float32) / 32768.0)
            one = Heard(name, rendering, line.spoken, len(pcm) / 24_000, round(level, 1))
            await asyncio.to_thread(_listen_to, ear, one, pcm, prompts.catalogue[name], variables)
            found.append(one)
    return found


def _listen_to(ear: Ear, line: Heard, pcm: Pcm16, prompt: Prompt, variables: Mapping[str, Any]) -> None:
    """As people do who did not catch something: once more for what is missing still."""
    line.wrong = list(variables)
    for way in Way:
        heard = ear.write_down(pcm, line.prompt, way)
        line.heard.append(heard)
        missed = wrong_values(prompt, variables, heard)
        line.wrong = [name for name in line.wrong if name in missed]
        if way is Way.FIGURES:
            line.missed_at_first = list(line.wrong)
        if not line.wrong:
            return


def report(found: list[Heard], console: Console) -> None:
    table = Table(
        title="Lines whose values were all heard", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for column in (
        "prompt",
        "rendering",
        "lines",
        "right",
        "at first",
        "seconds each",
        "level dBFS",
        "spread dB",
    ):
        table.add_column(column)
    for name in dict.fromkeys(line.prompt for line in found):
        for rendering in (STITCHED, WHOLE):
            lines = [line for line in found if (line.prompt, line.rendering) == (name, rendering)]
            levels = [line.level_dbfs for line in lines]
            right = sum(not line.wrong for line in lines)
            first = sum(not line.missed_at_first for line in lines)
            seconds = sum(line.seconds for line in lines) / len(lines)
            mean, spread = f"{np.mean(levels):.1f}", f"{np.std(levels):.1f}"
            counts = str(len(lines)), str(right), str(first)
            table.add_row(name, rendering, *counts, f"{seconds:.2f}", mean, spread)
    console.print(table)
    for line in found:
        if line.wrong:
            console.print(
                f"{line.rendering}: {', '.join(line.wrong)} of “{line.said}” heard “{'”, “'.join(line.heard)}”"
            )


def lost(found: list[Heard]) -> list[Heard]:
    """Stitched lines with a value that was not heard, while the same line said whole had it."""
    whole = {line.said: set(line.wrong) for line in found if line.rendering == WHOLE}
    return [
        line for line in found if line.rendering == STITCHED and set(line.wrong) - whole.get(line.said, set())
    ]


async def run(
    count: int, seed: int, voice: str, telephone: bool, turns: Sequence[str] = PROMPTS
) -> list[Heard]:
    files = models.kokoro_model(), models.kokoro_voices()
    speech = KokoroParts(*files, threads=CORES, weights=models.kokoro_weights())
    cache = ClipCache(DiskStore(models.cache_dir() / "clips"))
    built_in = Catalogue.load()
    wanted = Catalogue({name: built_in[name] for name in ("order_status", *turns)})
    prompts = Prompts(wanted, cache, speech, voice=voice)
    console = Console(stderr=True)
    with console.status("Making the pieces") as status:
        warmed = await prompts.warm_pieces(
            lambda done, all_, name: status.update(f"Making the pieces: {done} of {all_} ({name})")
        )
    if warmed.failed:
        raise click.ClickException("; ".join(warmed.failed.values()))
    sets = list(variable_sets(random.Random(seed), prompts.catalogue, count, turns))
    try:
        return await listen(prompts, speech, Ear(telephone), sets, voice)
    finally:
        await cache.aclose()
        speech.close()


@click.command()
@click.option("--count", default=200, show_default=True, type=click.IntRange(1), help="Sets of variables.")
@click.option("--seed", default=6, show_default=True, help="Which sets.")
@click.option("--voice", default=DEFAULT_VOICE, show_default=True)
@click.option("--telephone", is_flag=True, help="Listen through μ-law at 8 kHz.")
@click.option(
    "--prompt",
    "turns",
    multiple=True,
    type=click.Choice(sorted(set(PROMPTS))),
    help="By default all of them.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS / "round_trip.json"
)
def main(count: int, seed: int, voice: str, telephone: bool, turns: tuple[str, ...], output: Path) -> None:
    """Speak random prompts from pieces, and say which of their values Whisper hears."""
    try:
        found = asyncio.run(run(count, seed, voice, telephone, turns or PROMPTS))
    except models.ModelMissing as error:
        raise click.ClickException(str(error)) from None
    console = Console(width=150)
    console.print(
        f"{count} sets of variables, seed {seed}, voice {voice}, {'telephone' if telephone else '24 kHz'}"
    )
    report(found, console)
    output.parent.mkdir(parents=True, exist_ok=True)
    about = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe()}
    settings = {"count": count, "seed": seed, "voice": voice, "telephone": telephone}
    lines = [asdict(line) for line in found]
    output.write_text(
        json.dumps({**about, "settings": settings, "lines": lines}, indent=1, ensure_ascii=False)
    )
    sys.exit(bool(lost(found)))


if __name__ == "__main__":
    main()

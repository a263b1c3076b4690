"""`orchestrator demo`: one call that loses its provider, and goes on."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orchestrator import models
from orchestrator.demo.caller import CallLost, calling
from orchestrator.demo.checks import not_done, run_checks
from orchestrator.demo.measure import answer_to_open_question, failover, spent_usd
from orchestrator.demo.narrator import Narrator, print_checks, print_figures
from orchestrator.demo.processes import StartFailed
from orchestrator.demo.recording import Recording
from orchestrator.demo.script import (
    FALLBACK_CAST,
    FULL_CAST,
    HUMAN_WORDS,
    INSTRUCTIONS,
    LIVE_INSTRUCTIONS,
    Script,
    Voices,
    human_speech,
)
from orchestrator.demo.stage import LOGS, Stage, channels, following, speak, stage, wav, write_down
from orchestrator.demo.story import Story

SEEDS = 10_000
FILES = {
    "call.wav": "left the caller, right what the caller heard",
    "timeline.png": "the call as a picture",
    "events.jsonl": "all that was observed, by the client and by the service",
}


@click.command(
    epilog="""\b
Examples:
  orchestrator demo
  orchestrator demo --seed 7 --out /tmp/demo
""",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for call.wav, timeline.png and events.jsonl.",
)
@click.option(
    "--seed", type=click.IntRange(0), help="Draws the order numbers; by default another one each time."
)
@click.option(
    "--live",
    is_flag=True,
    help="Use the real OpenAI in Tier A, with OPENAI_API_KEY, through a local relay that is killed in its place. "
    "Costs a few cents. Not tried against the real service.",
)
@click.option("--no-plot", is_flag=True, help="Leave timeline.png out; matplotlib is not needed then.")
@click.option(
    "--keep-logs", is_flag=True, help="Keep the logs of the service and the provider in the folder, too."
)
def demo(out: Path, seed: int | None, live: bool, no_plot: bool, keep_logs: bool) -> None:
    """Make a call here, and take its provider away.

    A service and a simulated OpenAI Realtime provider are started, and an OpenAI SDK client holds one call over one
    connection, with real speech. The provider's process is killed in the middle of an answer; the call goes on in
    Tiers B and C, and returns to Tier A when the provider is back. Nothing but this machine is used.
    """
    console = Console(highlight=False)
    live_key = _live_key() if live else None
    if not no_plot and importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException(
            "timeline.png needs matplotlib: install voice-orchestrator[plots], or give --no-plot"
        )
    voices = _voices(console)
    seed = random.SystemRandom().randrange(SEEDS) if seed is None else seed
    script = Script.draw(seed)
    out.mkdir(parents=True, exist_ok=True)
    _remove(out, FILES)
    recording = Recording(wall=time.time() - time.monotonic())
    numbers = f"{script.first.number} and {script.second.number}"
    console.print(f"Drawn for this call: the orders {numbers} (--seed {seed} draws them again)")
    with _logs(out, keep_logs) as logs:
        try:
            stopped = asyncio.run(_run(console, script, voices, recording, logs, live_key))
        except (StartFailed, models.ModelError) as failure:
            raise click.ClickException(str(failure)) from None
        except asyncio.CancelledError:
            raise click.Abort from None
    _finish(console, recording, script, out, stopped, plot=not no_plot)


def _live_key() -> str:
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise click.ClickException("--live needs OPENAI_API_KEY in the environment")
    return key


def _voices(console: Console) -> Voices:
    """The voices of caller and provider; ends the command where the weights are missing."""
    try:
        for present in (models.whisper, models.kokoro_model, models.kokoro_voices, models.smollm2):
            present()
        source = models.voices_source()
    except models.ModelMissing as missing:
        raise click.ClickException(str(missing)) from None
    if source is not models.VoicesSource.FALLBACK:
        return FULL_CAST
    console.print(
        "Only the fallback voices are there, which are Japanese: English sounds foreign, and may be misunderstood. "
        f"`{models.FETCH_COMMAND}` gets the others where they can be had.",
        style="yellow",
    )
    return FALLBACK_CAST


@contextmanager
def _logs(out: Path, keep: bool) -> Iterator[Path]:
    if keep:
        directory = out / "logs"
        directory.mkdir(exist_ok=True)
        _remove(directory, LOGS)
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="orchestrator-demo-") as temporary:
        yield Path(temporary)


def _remove(directory: Path, names: Iterable[str]) -> None:
    """What an earlier run left there."""
    for name in names:
        (directory / name).unlink(missing_ok=True)


async def _run(
    console: Console, script: Script, voices: Voices, recording: Recording, logs: Path, live_key: str | None
) -> str:
    """The call; gives why the story stopped before its end, if it did."""
    this = asyncio.current_task()
    assert this is not None
    # SIGTERM is to end this as tidily as Ctrl-C does: with its processes.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with stage(logs, voices, live_key) as running:
        speech = await _prepare(console, script, voices, running, live=live_key is not None)
        stopped = ""
        async with (
            _narrated(console, recording),
            following(running.events, recording),
            calling(f"{running.url}/v1", running.api_key, recording, script.status) as caller,
        ):
            story = Story(caller, script, speech, voices.caller, running.provider)
            try:
                await caller.configure(LIVE_INSTRUCTIONS if live_key else INSTRUCTIONS)
                await story.tell()
            except (TimeoutError, CallLost) as end:
                stopped = str(end)
    return stopped


@asynccontextmanager
async def _narrated(console: Console, recording: Recording) -> AsyncIterator[None]:
    narrator = Narrator(console, recording)
    telling = asyncio.create_task(narrator.run())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])
        narrator.tell()


async def _prepare(
    console: Console, script: Script, voices: Voices, running: Stage, *, live: bool
) -> dict[str, bytes]:
    """The caller's lines by their words. They are spoken while the service loads its models."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    provider_lines = [] if live else script.provider_lines()
    with Progress(*columns, console=console) as progress:
        total = len(provider_lines) + len(script.lines)
        lines = progress.add_task("speaking the lines of the call", total=total)
        loading = progress.add_task("the service starts", total=None)

        def missing(parts: str) -> None:
            progress.update(loading, description=f"the service loads: {parts}")

        async def speak_all() -> dict[str, bytes]:
            # The provider finds its lines on the disk then, and need not speak them itself.
            await speak(provider_lines, voices.provider, lambda: progress.advance(lines))
            await running.provider.start()
            return await speak(script.lines, voices.caller, lambda: progress.advance(lines))

        speaking = asyncio.create_task(speak_all())
        try:
            await running.ready(missing)
            spoken = await speaking
            await running.provider.ready()
        finally:
            speaking.cancel()
        progress.update(loading, description="service and provider are ready", total=1, completed=1)
    return {HUMAN_WORDS: human_speech(), **spoken}


def _finish(
    console: Console, recording: Recording, script: Script, out: Path, stopped: str, *, plot: bool
) -> None:
    """Write the files, judge the call, and end the command accordingly."""
    if answer := answer_to_open_question(recording):
        with console.status("Listening to what the caller heard"):
            recording.add(time.monotonic(), "transcribed", text=write_down(recording, answer.span))
    checks, figures = run_checks(recording, script), failover(recording)
    if recording.sent:
        sides = channels(recording)
        wav(sides["caller"], sides["heard"], out / "call.wav")
    with (out / "events.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in recording.json_rows())
    if plot and recording.sent:
        with console.status("Drawing the timeline"):
            from orchestrator.demo.plot import draw

            draw(recording, out / "timeline.png")
    console.print()
    print_figures(console, figures, spent_usd(recording))
    console.print()
    print_checks(console, checks)
    console.print()
    for name, what in FILES.items():
        if (out / name).exists():
            console.print(f"{out / name}: {what}", soft_wrap=True)
    missing = not_done(checks)
    if missing:
        reason = f"The story stopped: {stopped}.\n" if stopped else ""
        raise click.ClickException(reason + "Not everything happened:\n" + "\n".join(missing))

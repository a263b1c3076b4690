"""Many calls at once for a long time, while the provider keeps failing: is anything lost, does anything grow?

Starts the orchestrator and simulated providers as processes of their own, holds calls one after the other on every
line, and arms faults by a schedule drawn from a seed. docs/soak.md says what is judged and how.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx
import uvloop
from rich.console import Console

from benchmarks import machine, soak_judge, soak_picture
from benchmarks.caller import Utterance
from benchmarks.processes import BenchmarkError
from benchmarks.soak_judge import Drift
from benchmarks.soak_run import SETTINGS, Run, soak
from benchmarks.soak_schedule import CELLS, schedule

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RECORDING = ROOT / "tests" / "fixtures" / "audio" / "austen-0880.wav"
WORDS_S = 1.2
"""How much of the recording is said in a turn."""


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  python -m benchmarks.soak                          50 calls at once for 10 minutes
  python -m benchmarks.soak --minutes 1 --calls 20   a quick look
  python -m benchmarks.soak --seed 7                 repeat the order of faults of a run
""",
)
@click.option("--calls", type=click.IntRange(1, 500), default=50, show_default=True, help="Calls at once.")
@click.option("--minutes", type=click.FloatRange(0.2), default=10.0, show_default=True)
@click.option("--seed", type=int, help="Draws faults and callers; random by default.")
@click.option(
    "--frame-ms",
    type=click.Choice(["20", "40", "100"]),
    default="20",
    show_default=True,
    help="Length of the audio frames that callers send.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder for soak.json, soak.png and the events of calls that went wrong; benchmarks/results by default.",
)
def main(calls: int, minutes: float, seed: int | None, frame_ms: str, output: Path) -> None:
    """Hold many calls at once for a long time while the provider keeps failing.

    Every fault strikes at every moment of a call, one call at a time and all at once. Ends with status 1 if a turn was
    lost or answered twice, a connection was lost, an event broke the protocol, or memory or tasks grew.
    """
    seed = secrets.randbelow(2**32) if seed is None else seed
    console, seconds, folder = Console(), minutes * 60.0, output / "soak-logs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = Utterance.load(RECORDING, "").audio[: int(WORDS_S * 48_000)]
    run = Run(
        seconds=seconds,
        calls=calls,
        seed=seed,
        frame_ms=int(frame_ms),
        folder=folder,
        words=words,
        orders=schedule(seconds, calls, random.Random(seed)),
    )
    console.print(f"Seed {seed}; repeat these faults with --seed {seed}.", highlight=False)
    about: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "calls_at_once": calls,
        "seconds": seconds,
        "frame_ms": int(frame_ms),
        "machine": machine.describe(),
        "load_before": machine.load(),
        "settings": SETTINGS,
    }
    try:
        uvloop.run(soak(run, console))
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    except httpx.HTTPError as error:
        message = f"a process of the soak does not answer ({type(error).__name__}); its log is in {folder}"
        raise click.ClickException(message) from None
    _report(
        output, about | {"load_after": machine.load(), "cpu_s": round(sum(os.times()[:2]), 1)}, run, console
    )


def _report(output: Path, about: dict[str, Any], run: Run, console: Console) -> None:
    found: Sequence[Drift] = soak_judge.drifts(run.samples, run.seconds)
    events = run.folder / "events.jsonl"
    soak_judge.account_for(run.tally, soak_judge.closed_by_call(events))
    wrong = soak_judge.complaints(run.tally, found, run.before, run.after)
    about |= {
        "process_before": run.before,
        "process_after": run.after,
        "struck": dict(sorted(run.struck.items())),
        "never_struck": sorted({f"{fault}@{moment}" for fault, moment in CELLS} - set(run.struck)),
        "events": soak_judge.events_of(events),
    }
    soak_judge.show(run.tally, found, run.struck, console)
    soak_judge.write(output / "soak.json", about, run.tally, run.samples, found, wrong)
    soak_picture.draw(output / "soak.png", run.samples, run.orders, run.seconds)
    console.print(f"Written: {output / 'soak.json'}, {output / 'soak.png'}", highlight=False)
    soak_judge.complain(wrong, console)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

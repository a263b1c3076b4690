"""How long does a caller hear nothing when the Realtime provider fails, whatever it does and whenever?

Starts the orchestrator and simulated providers as processes of their own, places calls, lets a fault strike in each,
and times at the client what its caller hears. `benchmarks.matrix` lists the cells, `benchmarks.plan` how many calls
of each are placed, `benchmarks.lanes` places them, `benchmarks.scenes` says what a call of each is, and
docs/benchmarks.md what the figures mean.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import heatmap, machine, picture, report
from benchmarks.caller import Utterance
from benchmarks.lanes import PATIENCE_S, Listener, measure
from benchmarks.matrix import FAULTS, HEADLINES, MAIN, NONE, Moment, possible
from benchmarks.plan import Calls, Plans, plans
from benchmarks.processes import BenchmarkError
from benchmarks.report import Row
from benchmarks.services import LATENCIES, SETTINGS, Service
from orchestrator.config_sections import Deadlines

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RECORDINGS = ROOT / "tests" / "fixtures" / "audio"
SHORT = (RECORDINGS / "cards-001.wav", "Ten of clubs.")
"""A recording and what is said in it: one second, so that many calls can be placed."""
SENTENCE = (RECORDINGS / "austen-0880.wav", "He was not an ill disposed young man.")
"""For the real models, which have to understand it."""
LINE_EVERY = 10
"""Calls after which the progress gets a line, where the output is no terminal."""
Lanes = Mapping[Service, int]
"""How many stacks of a service take calls side by side."""

# --- the command ---

COUNT = click.IntRange(min=0)


def _run(plans: Plans, lanes: Lanes, logs: Path, console: Console) -> list[Row]:
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for service, planned in plans.items():
            teller = _Teller(progress, service, len(planned), rows)
            utterance = Utterance.load(*(SENTENCE if service is Service.REAL else SHORT))
            listener = Listener(teller.called, teller.started)
            asyncio.run(measure(service, planned, utterance, logs, listener, lanes[service]))
    return rows


class _Teller:
    """The progress of one service's calls; adds their rows to `rows`."""

    def __init__(self, progress: Progress, service: Service, total: int, rows: list[Row]) -> None:
        self._progress = progress
        self._service = service
        self._total = total
        self._rows = rows
        self._done = 0
        self._task = progress.add_task(f"{service} calls", total=total)

    def started(self, ready: int, stacks: int) -> None:
        told = f"{self._service} calls: {ready} of {stacks} stacks ready"
        self._progress.update(self._task, description=told)
        self._line(told)

    def called(self, row: Row) -> None:
        self._rows.append(row)
        self._done += 1
        told = f"{row.service} calls ({len(report.failed(self._rows))} wrong), {row.cell}"
        self._progress.update(self._task, advance=1, description=told)
        if self._done % LINE_EVERY == 0:
            self._line(f"{self._done} of {self._total} {told}")
        if report.failed([row]):
            failures = "; ".join(row.failures)
            self._progress.console.print(f"[red]{row.service} {row.cell}, round {row.round}: {failures}[/]")

    def _line(self, text: str) -> None:
        """Where the output is no terminal, there is no bar to see."""
        if not self._progress.console.is_terminal:
            self._progress.console.print(text, highlight=False)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"""\b
Main faults: {", ".join(MAIN)}. By default there are at least 20 calls
for the main faults where an answer is owed: at answer_owed and mid_answer, and refused at connecting.
\b
Examples:
  python -m benchmarks.failover                              everything: about 40 minutes
  python -m benchmarks.failover --quick                      one call of each cell, simulated engines alone
  python -m benchmarks.failover --fault abort                one fault at every moment
  python -m benchmarks.failover --moment mid_answer --quick  every fault in the middle of an answer
  python -m benchmarks.failover --blip                       the main faults strike once, then all is well
""",
)
@click.option(
    "--calls",
    type=COUNT,
    default=20,
    show_default=True,
    help="Calls for each main fault at each moment where an answer is owed.",
)
@click.option(
    "--main-calls",
    type=COUNT,
    default=5,
    show_default=True,
    help="Calls for each main fault at each other moment.",
)
@click.option(
    "--other-calls", type=COUNT, default=2, show_default=True, help="Calls for each cell of another fault."
)
@click.option(
    "--real-calls",
    type=COUNT,
    default=5,
    show_default=True,
    help="Calls for each main fault with the local models in Tier B.",
)
@click.option(
    "--direct-calls",
    type=COUNT,
    default=2,
    show_default=True,
    help="Calls for each main fault without the orchestrator.",
)
@click.option(
    "--engines",
    type=click.Choice(["both", "simulated", "real"]),
    default="both",
    show_default=True,
    help="What Tier B hears, thinks and speaks with: servers of known latency, or the local models.",
)
@click.option(
    "--lanes",
    type=click.IntRange(1, 16),
    default=3,
    show_default=True,
    help="Calls with simulated engines that are placed side by side, each on an orchestrator and simulators of "
    "its own. The others are placed one at a time.",
)
@click.option("--quick", is_flag=True, help="One call of each cell, with simulated engines.")
@click.option(
    "--blip", is_flag=True, help="Main faults alone; each strikes once and the provider is well again."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice(FAULTS),
    metavar="FAULT",
    help="Only this one; may be repeated.",
)
@click.option(
    "--moment",
    "moments",
    multiple=True,
    type=click.Choice([moment.value for moment in Moment]),
    metavar="MOMENT",
    help=f"Only this one ({', '.join(Moment)}); may be repeated.",
)
@click.option("--seed", type=int, help="Draws the order and the moments of the faults; random by default.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder for the tables' figures and the pictures; benchmarks/results by default.",
)
def main(
    calls: int,
    main_calls: int,
    other_calls: int,
    real_calls: int,
    direct_calls: int,
    engines: str,
    lanes: int,
    quick: bool,
    blip: bool,
    faults: tuple[str, ...],
    moments: tuple[str, ...],
    seed: int | None,
    output: Path,
) -> None:
    """Measure what a caller hears when the Realtime provider fails in a live call: every fault at every moment.

    Starts orchestrators and simulated providers on free ports of this machine, places calls and lets a fault strike
    in each. After it the provider stays dead for the rest of the call. Everything is measured
    at the client, in the audio as it is played: the first sound, the answer, the longest silence.

    Ends with status 1 if a turn was lost or closed without an answer, if audio or a function call came twice, or if
    the provider's nonsense was passed on. Slowness is shown against its targets, and never fails.
    """
    chosen = faults or ((*MAIN, NONE) if blip else FAULTS)
    cells = possible(chosen, [Moment(moment) for moment in moments] or Moment)
    number = Calls(calls, main_calls, other_calls, real_calls, direct_calls)
    if quick:
        number, engines = Calls(1, 1, 1, 0, 0), "simulated"
    seed = secrets.randbelow(2**32) if seed is None else seed
    planned = plans(cells, number, engines, random.Random(seed), blip=blip)
    if not planned:
        raise click.UsageError(
            "there is nothing to measure: let the number of calls be above 0, and take a fault that can occur "
            "at the moment (docs/benchmarks.md lists them)"
        )
    console = Console()
    side_by_side = {Service.SIMULATED: lanes, Service.REAL: 1, Service.DIRECT: 1}
    about = _about(seed, blip, side_by_side)
    console.print(f"Seed {seed}; repeat this order of faults with --seed {seed}.", highlight=False)
    rows = _measured(planned, side_by_side, output / "failover-logs", console)
    about["load_after"] = machine.load()
    _report(output, about, rows, console)


def _about(seed: int, blip: bool, lanes: Lanes) -> dict[str, Any]:
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "lanes": lanes,
        "provider": "strikes once" if blip else "stays dead for the rest of the call",
        "machine": machine.describe(),
        "load_before": machine.load(),
        "deadlines_s": Deadlines().model_dump(),
        "settings": SETTINGS,
        "latencies": LATENCIES,
        "patience_s": PATIENCE_S,
    }


def _measured(planned: Plans, lanes: Lanes, logs: Path, console: Console) -> list[Row]:
    try:
        return _run(planned, lanes, logs, console)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    except httpx.HTTPError as error:
        message = f"a process of the benchmark does not answer ({type(error).__name__}); its log is in {logs}"
        raise click.ClickException(message) from None


def _report(output: Path, about: dict[str, Any], rows: Sequence[Row], console: Console) -> None:
    summaries = report.summarise(rows)
    report.show(summaries, about["lanes"], console)
    output.mkdir(parents=True, exist_ok=True)
    report.write(output / "failover.json", about, summaries, rows)
    (output / "failover.md").write_text(report.markdown(summaries, about["lanes"]))
    heatmap.draw(output / "failover-matrix.png", summaries)
    headlines = [row for row in rows if row.cell in HEADLINES]
    if headlines:
        picture.draw(output / "failover.png", headlines)
    console.print(f"Written: failover.json and pictures, in {output}", highlight=False)
    wrong = report.failed(rows)
    for row in wrong:
        console.print(
            f"[red]{row.service} {row.cell}, round {row.round}: {'; '.join(row.failures)}[/] {row.lost}"
        )
    if wrong:
        console.print(
            f"What the clients of these calls received is in {output / 'failover-logs'}", highlight=False
        )
        raise SystemExit(1)


if __name__ == "__main__":
    main()

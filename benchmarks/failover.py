"""How long does a caller hear nothing when the Realtime provider fails, whatever it does and whenever?

Starts the orchestrator and simulated providers as processes of their own, places one call after the other, lets a
fault strike in each, and times at the client what its caller hears. `benchmarks.matrix` lists the cells,
`benchmarks.scenes` says what a call of each is, docs/benchmarks.md what the figures mean.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import heatmap, machine, picture, report
from benchmarks.caller import FORMAT, Caller, Utterance
from benchmarks.matrix import FAULTS, FREQUENT, HEADLINES, MAIN, NONE, Cell, Moment, possible
from benchmarks.processes import BenchmarkError, http_client
from benchmarks.report import Row
from benchmarks.scenes import Scene, after_ms, measured_strike, second_strike
from benchmarks.services import LATENCIES, MODEL, SECOND_MODEL, SETTINGS, Bench, Service, serving
from benchmarks.timeline import NOTHING, Struck, answers, figures
from orchestrator.config_sections import Deadlines
from tiers.prompts.catalogue import Catalogue

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RECORDINGS = ROOT / "tests" / "fixtures" / "audio"
SHORT = (RECORDINGS / "cards-001.wav", "Ten of clubs.")
"""A recording and what is said in it: one second, so that many calls can be placed."""
SENTENCE = (RECORDINGS / "austen-0880.wav", "He was not an ill disposed young man.")
"""For the real models, which have to understand it."""
PATIENCE_S = {Service.SIMULATED: 15.0, Service.REAL: 30.0, Service.DIRECT: 8.0}
"""How long a client waits for an answer before it gives up."""
LINE_EVERY = 10
"""Calls after which the progress gets a line, where the output is no terminal."""
RUNGS = {True: (MODEL, SECOND_MODEL), False: (MODEL,)}
"""Tier A's models, by whether a call is about a handover from one to the next."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One call to place."""

    round: int
    cell: Cell
    after_ms: int
    pause: float
    """Seconds of silence before the caller speaks."""
    outage: bool = True
    """After the fault the provider stays dead for the rest of the call; else it strikes once."""


Counts = Mapping[Cell, int]
"""How many calls to place, by cell."""


def schedule(counts: Counts, dice: random.Random, *, outage: bool = True) -> Iterator[Planned]:
    """Every cell once a round until it has its calls, each round in another order: whatever the machine does
    meets all of them alike."""
    for number in range(max(counts.values(), default=0)):
        cells = [cell for cell, count in counts.items() if count > number]
        for cell in dice.sample(cells, len(cells)):
            yield Planned(
                number, cell, dice.randint(*after_ms(cell)), round(dice.uniform(0.1, 0.3), 3), outage
            )


async def measure(
    service: Service,
    planned: Sequence[Planned],
    utterance: Utterance,
    logs: Path,
    tell: Callable[[Row], None],
) -> None:
    """Place the planned calls on one service, one after the other; `tell` is called with each.

    Calls for which Tier A has a second rung come last, on an orchestrator of their own.
    """
    async with http_client() as http:
        for two_rungs, rungs in sorted(RUNGS.items()):
            chosen = [plan for plan in planned if (plan.cell.moment is Moment.HANDOVER) is two_rungs]
            if chosen:
                async with serving(service, utterance.words, logs, http, rungs) as bench:
                    for plan in chosen:
                        tell(await _one_call(bench, plan, utterance, logs))


async def _one_call(bench: Bench, plan: Planned, utterance: Utterance, logs: Path) -> Row:
    if bench.orchestrator is not None:
        await bench.orchestrator.until_trusting()
    cell, bridges, provider = plan.cell, _bridges(), bench.provider
    scene = Scene(
        cell, plan.after_ms, plan.outage, utterance.audio, plan.pause, bridges, provider, bench.orchestrator
    )
    before = _sent_ms(await provider.state())
    await scene.arm()
    caller = Caller(
        bench.url,
        utterance.audio,
        pause=plan.pause,
        patience=PATIENCE_S[bench.service],
        answered=lambda event: answers(event, bridges),
        script=scene.play,
    )
    try:
        call = await caller.place()
    finally:
        await provider.disarm()
    struck = _struck(scene.armed_at, cell, await provider.state(), before)
    found = figures(call, struck, bridges, voices=bench.service is Service.REAL)
    row = Row(bench.service, cell.fault, cell.moment, plan.round, plan.after_ms, found, call.lost)
    if row.failures:
        call.save(logs / f"{bench.service}-{cell.fault}-{cell.moment}-{plan.round}.jsonl")
    return row


def _struck(since: float, cell: Cell, state: Mapping[str, Any], sent_ms_before: float) -> Struck | None:
    """The fault of a call as the provider knows it; None where it never struck after `since`, when it was armed."""
    strikes, sent_ms = state["struck"], _sent_ms(state) - sent_ms_before
    at = measured_strike(cell, strikes, since)
    if at is None:
        return replace(NOTHING, sent_ms=sent_ms) if not cell.strikes_at else None
    return Struck(at, sent_ms, second_strike(cell, strikes, at))


def _sent_ms(state: Mapping[str, Any]) -> float:
    """All audio that the provider has ever sent."""
    sessions = [connection["session"] for connection in state["connections"]]
    return FORMAT.ms(sum(session["audio_out_bytes"] for session in sessions if session))


def _bridges() -> frozenset[str]:
    """What a bridge's transcript may say: nothing, where it is a tone, or one of its texts."""
    return frozenset({""}) | Catalogue.load().bridge_texts()


# --- the command ---

COUNT = click.IntRange(min=0)
Plans = Mapping[Service, Sequence[Planned]]


def plans(
    cells: Sequence[Cell],
    calls: Mapping[str, int],
    engines: str,
    dice: random.Random,
    *,
    blip: bool = False,
) -> dict[Service, list[Planned]]:
    """The calls to place on each service. `calls`: how many for a cell of a frequent fault (`frequent`), of another
    (`other`), and for a headline with the real models (`real`) and without the orchestrator (`direct`)."""
    simulated = {cell: calls["frequent" if cell.fault in FREQUENT else "other"] for cell in cells}
    headlines = [cell for cell in HEADLINES if cell in cells]
    counts: dict[Service, Counts] = {
        Service.SIMULATED: simulated if engines != "real" else {},
        Service.REAL: dict.fromkeys(headlines, calls["real"]) if engines != "simulated" else {},
        Service.DIRECT: dict.fromkeys(headlines, calls["direct"]),
    }
    found = {service: list(schedule(c, dice, outage=not blip)) for service, c in counts.items()}
    return {service: planned for service, planned in found.items() if planned}


def _run(plans: Plans, logs: Path, console: Console) -> list[Row]:
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for service, planned in plans.items():
            task = progress.add_task(f"{service} calls", total=len(planned))

            def tell(row: Row, task: Any = task, total: int = len(planned)) -> None:
                rows.append(row)
                done = sum(each.service == row.service for each in rows)
                told = f"{row.service} calls ({len(report.failed(rows))} wrong), {row.cell}"
                progress.update(task, advance=1, description=told)
                if not console.is_terminal and done % LINE_EVERY == 0:
                    progress.console.print(f"{done} of {total} {told}", highlight=False)
                if report.failed([row]):
                    failures = "; ".join(row.failures)
                    progress.console.print(f"[red]{row.service} {row.cell}, round {row.round}: {failures}[/]")

            utterance = Utterance.load(*(SENTENCE if service is Service.REAL else SHORT))
            asyncio.run(measure(service, planned, utterance, logs, tell))
    return rows


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"""\b
Main faults: {", ".join(MAIN)}.
\b
Examples:
  python -m benchmarks.failover                              everything: two hours and more
  python -m benchmarks.failover --quick                      one call of each cell, simulated engines alone
  python -m benchmarks.failover --fault abort                one fault at every moment
  python -m benchmarks.failover --moment mid_answer --quick  every fault in the middle of an answer
  python -m benchmarks.failover --blip                       the main faults strike once, then all is well
""",
)
@click.option(
    "--calls", type=COUNT, default=20, show_default=True, help="Calls for each cell of a frequent fault."
)
@click.option(
    "--other-calls", type=COUNT, default=3, show_default=True, help="Calls for each cell of another fault."
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
    other_calls: int,
    real_calls: int,
    direct_calls: int,
    engines: str,
    quick: bool,
    blip: bool,
    faults: tuple[str, ...],
    moments: tuple[str, ...],
    seed: int | None,
    output: Path,
) -> None:
    """Measure what a caller hears when the Realtime provider fails in a live call: every fault at every moment.

    Starts the orchestrator and a simulated provider on free ports of this machine, places calls one after the other
    and lets a fault strike in each. After it the provider stays dead for the rest of the call. Everything is measured
    at the client, in the audio as it is played: the first sound, the answer, the longest silence.

    Ends with status 1 if a turn was lost or closed without an answer, if audio or a function call came twice, or if
    the provider's nonsense was passed on. Slowness is shown against its targets, and never fails.
    """
    chosen = faults or ((*MAIN, NONE) if blip else FAULTS)
    cells = possible(chosen, [Moment(moment) for moment in moments] or Moment)
    number = {"frequent": calls, "other": other_calls, "real": real_calls, "direct": direct_calls}
    if quick:
        number, engines = {"frequent": 1, "other": 1, "real": 0, "direct": 0}, "simulated"
    seed = secrets.randbelow(2**32) if seed is None else seed
    planned = plans(cells, number, engines, random.Random(seed), blip=blip)
    if not planned:
        raise click.UsageError(
            "there is nothing to measure: let the number of calls be above 0, and take a fault that can occur "
            "at the moment (docs/benchmarks.md lists them)"
        )
    console = Console()
    about = _about(seed, blip)
    console.print(f"Seed {seed}; repeat this order of faults with --seed {seed}.", highlight=False)
    rows = _measured(planned, output / "failover-logs", console)
    about["load_after"] = machine.load()
    _report(output, about, rows, console)


def _about(seed: int, blip: bool) -> dict[str, Any]:
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "provider": "strikes once" if blip else "stays dead for the rest of the call",
        "machine": machine.describe(),
        "load_before": machine.load(),
        "deadlines_s": Deadlines().model_dump(),
        "settings": SETTINGS,
        "latencies": LATENCIES,
        "patience_s": PATIENCE_S,
    }


def _measured(planned: Plans, logs: Path, console: Console) -> list[Row]:
    try:
        return _run(planned, logs, console)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    except httpx.HTTPError as error:
        message = f"a process of the benchmark does not answer ({type(error).__name__}); its log is in {logs}"
        raise click.ClickException(message) from None


def _report(output: Path, about: dict[str, Any], rows: Sequence[Row], console: Console) -> None:
    summaries = report.summarise(rows)
    report.show(summaries, console)
    output.mkdir(parents=True, exist_ok=True)
    report.write(output / "failover.json", about, summaries, rows)
    (output / "failover.md").write_text(report.markdown(summaries))
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

"""How long does a caller hear nothing when the Realtime provider dies?

Starts the orchestrator and simulated providers as processes of their own, places one call after the other, lets a
fault strike in each, and times at the client what its caller gets. docs/benchmarks.md says what the figures mean.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import machine, picture, report
from benchmarks.caller import FORMAT, Caller, Recorded, Utterance
from benchmarks.processes import BenchmarkError, http_client
from benchmarks.report import Row
from benchmarks.services import LATENCIES, SETTINGS, Bench, Service, serving
from benchmarks.timeline import NOTHING, Outcome, Struck, answers, figures
from orchestrator.config_sections import Deadlines, TierC
from tiers.prompts.catalogue import Catalogue

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RECORDING = ROOT / "tests" / "fixtures" / "audio" / "austen-0880.wav"
WORDS = "He was not an ill disposed young man."
"""What is said in that recording."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way in which a provider fails; without a moment it does not. `after_ms`: how far into the moment."""

    name: str
    help: str
    moment: str | None
    after_ms: tuple[int, int] = (0, 0)
    deadline_s: float = 0.0
    """How long the orchestrator waits before it calls this a fault."""

    def fault(self, after_ms: int) -> dict[str, Any]:
        return {"fault": self.name, "moment": self.moment, "after_ms": after_ms, "count": 1}


CASES = {
    case.name: case
    for case in (
        Case("refused", "the connection is reset before the handshake is answered", "connecting"),
        Case("abort", "the connection is reset in the middle of an answer", "mid_answer", (100, 3000)),
        Case("close_1011", "close code 1011 in the middle of an answer", "mid_answer", (100, 3000)),
        Case("failed", "response.done says failed, where an answer was owed", "answer_owed", (1, 300)),
        Case(
            "silent_turn",
            "not a word after the caller's turn",
            "answer_owed",
            deadline_s=Deadlines().response_s,
        ),
        Case("none", "nothing fails: to compare with", None),
    )
}

PATIENCE_S = {Service.SIMULATED: 20.0, Service.REAL: 30.0, Service.DIRECT: 8.0}
"""How long a client waits for an answer before it gives up."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One call to place."""

    round: int
    case: Case
    after_ms: int
    pause: float
    """Seconds of silence before the caller speaks."""


def schedule(faults: Sequence[str], rounds: int, dice: random.Random) -> Iterator[Planned]:
    """Every fault once a round, each round in another order: what the machine does meets all of them alike."""
    for number in range(rounds):
        for name in dice.sample(list(faults), len(faults)):
            case = CASES[name]
            yield Planned(number, case, dice.randint(*case.after_ms), round(dice.uniform(0.2, 0.6), 3))


async def measure(
    service: Service,
    planned: Sequence[Planned],
    utterance: Utterance,
    logs: Path,
    tell: Callable[[Row], None],
) -> None:
    """Place the planned calls on one service, one after the other; `tell` is called with each."""
    bridges = _bridges()
    async with http_client() as http, serving(service, utterance.words, logs, http) as bench:
        for plan in planned:
            tell(await _one_call(bench, plan, utterance, bridges, logs))


async def _one_call(
    bench: Bench, plan: Planned, utterance: Utterance, bridges: frozenset[str], logs: Path
) -> Row:
    if bench.orchestrator is not None:
        await bench.orchestrator.until_trusting()
    before = _sent_ms(await bench.provider.state())
    if plan.case.moment is not None:
        await bench.provider.arm(plan.case.fault(plan.after_ms))
    caller = Caller(
        bench.url,
        utterance.audio,
        pause=plan.pause,
        patience=PATIENCE_S[bench.service],
        answered=lambda event: answers(event, bridges),
    )
    call = await caller.place()
    await bench.provider.disarm()
    struck = _struck(call, plan.case, await bench.provider.state(), before)
    found = figures(call, struck, bridges, voices=bench.service is Service.REAL)
    if found.outcome is not Outcome.ANSWERED or found.repeated:
        call.save(logs / f"{bench.service}-{plan.case.name}-{plan.round}.jsonl")
    return Row(bench.service, plan.case.name, plan.round, plan.after_ms, found, call.lost)


def _struck(call: Recorded, case: Case, state: dict[str, Any], sent_ms_before: float) -> Struck | None:
    """The fault of this call as the provider knows it; None where it never struck."""
    if case.moment is None:
        return NOTHING
    at = next((strike["at"] for strike in state["struck"] if strike["at"] > call.connect_at), None)
    if at is None:
        return None
    noticed_at = None if case.moment == "connecting" else at + case.deadline_s
    return Struck(at, noticed_at, _sent_ms(state) - sent_ms_before)


def _sent_ms(state: dict[str, Any]) -> float:
    """All audio that the provider has ever sent."""
    sessions = [connection["session"] for connection in state["connections"]]
    return FORMAT.ms(sum(session["audio_out_bytes"] for session in sessions if session))


def _bridges() -> frozenset[str]:
    """What a bridge's transcript may say: its prompt's words, or nothing where it is a tone."""
    return frozenset({"", Catalogue.load()[TierC().bridge].text["en"]})


# --- the command ---

COUNT = click.IntRange(min=0)


def _run(
    counts: dict[Service, int], faults: Sequence[str], seed: int, logs: Path, console: Console
) -> list[Row]:
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    dice, utterance = random.Random(seed), Utterance.load(RECORDING, WORDS)
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for service, rounds in counts.items():
            planned = list(schedule(faults, rounds, dice))
            task = progress.add_task(f"{service} calls", total=len(planned))

            def tell(row: Row, task: Any = task) -> None:
                rows.append(row)
                progress.advance(task)

            asyncio.run(measure(service, planned, utterance, logs, tell))
    return rows


def _counts(engines: str, calls: int, real_calls: int, direct_calls: int) -> dict[Service, int]:
    wanted = {Service.SIMULATED: calls, Service.REAL: real_calls, Service.DIRECT: direct_calls}
    if engines != "both":
        del wanted[Service.REAL if engines == "simulated" else Service.SIMULATED]
    return {service: count for service, count in wanted.items() if count}


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nFaults:\n"
    + "\n".join(f"  {case.name:<12} {case.help}" for case in CASES.values())
    + """\n
\b
Examples:
  python -m benchmarks.failover                                   everything: some 25 minutes
  python -m benchmarks.failover --engines simulated --calls 5     a quick look
  python -m benchmarks.failover --fault abort --direct-calls 0    one fault
""",
)
@click.option(
    "--calls", type=COUNT, default=20, show_default=True, help="Calls for each fault with simulated engines."
)
@click.option(
    "--real-calls", type=COUNT, default=5, show_default=True, help="Calls for each fault with real engines."
)
@click.option(
    "--direct-calls", default=2, show_default=True, help="Calls for each fault without the orchestrator."
)
@click.option(
    "--engines",
    type=click.Choice(["both", "simulated", "real"]),
    default="both",
    show_default=True,
    help="What Tier B hears, thinks and speaks with: servers of known latency, or the local models.",
)
@click.option(
    "--fault", "faults", multiple=True, type=click.Choice(list(CASES)), help="Only this one; may be repeated."
)
@click.option("--seed", type=int, help="Draws the order and the moments of the faults; random by default.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder for failover.json and failover.png; benchmarks/results by default.",
)
def main(
    calls: int,
    real_calls: int,
    direct_calls: int,
    engines: str,
    faults: tuple[str, ...],
    seed: int | None,
    output: Path,
) -> None:
    """Measure what a caller hears when the Realtime provider fails in the middle of a call.

    Starts the orchestrator and a simulated provider on free ports of this machine, places calls one after the other
    and lets a fault strike in each. Everything is timed at the client: from the fault to the bridge, to the answer,
    and the longest silence in the audio as it is played. The same is done without the orchestrator, to compare.

    Ends with status 1 if a call was lost or not answered. Slowness is shown, and never fails.
    """
    counts, logs = _counts(engines, calls, real_calls, direct_calls), output / "failover-logs"
    if not counts:
        raise click.UsageError(
            "there is nothing to measure: let at least one of the numbers of calls be above 0"
        )
    console = Console()
    seed = secrets.randbelow(2**32) if seed is None else seed
    about: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "machine": machine.describe(),
        "load_before": machine.load(),
        "deadlines_s": Deadlines().model_dump(),
        "settings": SETTINGS,
        "latencies": LATENCIES,
        "patience_s": PATIENCE_S,
    }
    console.print(f"Seed {seed}; repeat this order of faults with --seed {seed}.", highlight=False)
    try:
        rows = _run(counts, faults or tuple(CASES), seed, logs, console)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    except httpx.HTTPError as error:
        message = f"a process of the benchmark does not answer ({type(error).__name__}); its log is in {logs}"
        raise click.ClickException(message) from None
    about["load_after"] = machine.load()
    _report(output, about, rows, console)


def _report(output: Path, about: dict[str, Any], rows: Sequence[Row], console: Console) -> None:
    summaries = report.summarise(rows, tuple(CASES))
    report.show(summaries, console)
    output.mkdir(parents=True, exist_ok=True)
    report.write(output / "failover.json", about, summaries, rows)
    picture.draw(output / "failover.png", rows)
    console.print(f"Written: {output / 'failover.json'}, {output / 'failover.png'}", highlight=False)
    wrong = report.failed(rows)
    for row in wrong:
        outcome = row.figures.outcome.value
        console.print(f"[red]{row.service} {row.fault}, round {row.round}: {outcome}[/] {row.lost}")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

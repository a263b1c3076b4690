"""All calls of the pipelines as quantiles, tables and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.peers.report import Quantiles
from benchmarks.pipeline_calls import HOURS, Row
from benchmarks.pipeline_contenders import CONTENDERS, Contender
from benchmarks.pipeline_stages import Stage

WIDTH = 170
REMEMBERED_MS = 250.0
"""From the end of the turn to the first audio at p50, where the answer's first words are in memory."""
SHARE = 0.6
"""Of Pipecat's median, otherwise."""
SPEECH = {"kokoro": "Kokoro on this machine", "cartesia": "simulated Cartesia"}


@dataclass(frozen=True, slots=True)
class Summary:
    """All calls of one contender with one kind of answer."""

    contender: str
    remembered: bool
    """The answer's first words are in Tier B's memory."""
    calls: int
    voice: Quantiles | None
    after_turn: Quantiles | None
    sound: Quantiles | None
    stages: dict[Stage, Quantiles | None]

    @property
    def answered(self) -> int:
        return self.voice.count if self.voice else 0


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Contenders in their order, answers that have to be thought of first."""
    found = []
    for remembered in (False, True):
        for name in CONTENDERS:
            group = [r for r in rows if r.contender == name and (r.question == HOURS) is remembered]
            if group:
                found.append(_summary(name, remembered, group))
    return found


def _summary(name: str, remembered: bool, group: Sequence[Row]) -> Summary:
    return Summary(
        name,
        remembered,
        len(group),
        Quantiles.of(row.voice_ms for row in group),
        Quantiles.of(row.after_turn_ms for row in group),
        Quantiles.of(row.sound_ms for row in group),
        {stage: Quantiles.of(row.stages[stage] for row in group if row.stages) for stage in Stage},
    )


def verdicts(summaries: Sequence[Summary]) -> list[str]:
    """How the targets are met, one line each; medians of calls that were answered."""
    found = []
    for summary in summaries:
        contender = CONTENDERS[summary.contender]
        if contender.peer or summary.voice is None or summary.after_turn is None:
            continue
        name = f"{contender.title}, {SPEECH[contender.speech]}"
        if summary.remembered:
            took = summary.after_turn.p50
            kept = "kept" if took <= REMEMBERED_MS else "missed"
            found.append(
                f"{name}: {took:,.0f} ms after the turn's end, from memory (at most {REMEMBERED_MS:g}): {kept}"
            )
        elif (peer := _peer(summaries, contender)) is not None and peer.voice is not None:
            share = summary.voice.p50 / peer.voice.p50
            kept = "kept" if share <= SHARE else "missed"
            found.append(f"{name}: {share:.2f} of Pipecat's median (at most {SHARE:g}): {kept}")
    return found


def _peer(summaries: Sequence[Summary], contender: Contender) -> Summary | None:
    """Pipecat with the same speech and the same silence."""
    wanted = f"pipecat-{contender.speech}"
    return next((s for s in summaries if s.contender == wanted and not s.remembered), None)


def show(summaries: Sequence[Summary], console: Console) -> None:
    console = Console(file=console.file, width=max(WIDTH, console.width))
    for remembered, title in (
        (False, "The text agent thinks of the answer; asked by recordings of people"),
        (True, "Tier B has the answer's words in memory; asked by a synthetic voice"),
    ):
        for speech in SPEECH:
            chosen = [
                s
                for s in summaries
                if s.remembered is remembered and CONTENDERS[s.contender].speech == speech
            ]
            if chosen:
                console.print(_table(f"{title}; {SPEECH[speech]}", chosen))
    console.print(
        "Milliseconds, p50 / p95. First audio: from the caller's last sound to the first audio at the client; "
        "the stages of a call add up to it."
    )
    for line in verdicts(summaries):
        console.print(line, highlight=False)


def _table(title: str, summaries: Sequence[Summary]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in (
        "answered",
        "first audio",
        "after the turn",
        "first sound",
        *(stage.value for stage in Stage),
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for summary in summaries:
        measures = (summary.voice, summary.after_turn, summary.sound)
        table.add_row(
            CONTENDERS[summary.contender].title,
            f"{summary.answered} of {summary.calls}",
            *(_short(measure) or "never" for measure in measures),
            *(_short(summary.stages[stage]) for stage in Stage),
        )
    return table


def _short(measure: Quantiles | None) -> str:
    return "" if measure is None else f"{measure.p50:,.0f} / {measure.p95:,.0f}"


def write(path: Path, about: dict[str, Any], summaries: Sequence[Summary], rows: Sequence[Row]) -> None:
    content = {
        **about,
        "verdicts": verdicts(summaries),
        "summary": [asdict(summary) for summary in summaries],
        "calls": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")

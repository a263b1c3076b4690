"""Records one call through a fault, a promotion and a hedge, and draws it: docs/failover-timeline.png.

Everything in the picture is measured: what the client sent and received, the simulator's note of each fault, and
the orchestrator's rows. States follow from the rows: a hedge's row tells when it began, a promotion's only when it
ended.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from benchmarks.caller import FORMAT, Caller, Line, Recorded, Utterance
from benchmarks.failover import SHORT
from benchmarks.heard import Part, Playback, answers, legs, pieces, words
from benchmarks.lanes import bridge_texts
from benchmarks.processes import BenchmarkError, http_client
from benchmarks.services import MODEL, Bench, Service, serving
from benchmarks.timeline_drawing import Block, Mark, Picture, Stretch, draw

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "failover-timeline.png"
ABORT_AFTER_MS = 1000
"""How much of the first answer has been sent when its connection is reset."""
PATIENCE_S = 15.0
REST_S = 0.6
"""Seconds between what was heard and what comes next."""
FLUSH_S = 1.0
"""By then the orchestrator has written the rows of the call."""
MERGED_S = 0.05
"""Moments closer than this are one mark of the picture."""


@dataclass(slots=True)
class Story:
    """What happens in the call, and what was noted beside the call itself."""

    bench: Bench
    utterance: Utterance
    bridges: Collection[str]
    said: list[tuple[float, float]]
    """From when to when the caller spoke."""
    provider_back: float = 0.0

    async def play(self, line: Line) -> None:
        """A question whose answer is cut, by an outage; promotion; a question that the provider leaves unanswered."""
        provider, orchestrator = self.bench.provider, self.bench.orchestrator
        assert orchestrator is not None
        await provider.arm(
            {"fault": "abort", "moment": "mid_answer", "after_ms": ABORT_AFTER_MS, "model": MODEL}
        )
        await line.open()
        await provider.arm({"fault": "refused", "moment": "connecting", "count": "forever"})
        await asyncio.sleep(REST_S)
        await self._ask(line)
        await provider.disarm()
        self.provider_back = time.monotonic()
        await orchestrator.until_proved()
        await self._until(lambda: legs(line.call)[-1].tier == "A", "did not move back to Tier A")
        await asyncio.sleep(REST_S)
        await provider.arm({"fault": "silent_turn", "moment": "answer_owed"})
        await self._ask(line)

    async def _ask(self, line: Line) -> None:
        """A question, and everything that is heard of its answer."""
        asked = len(line.call.received)
        await line.say(self.utterance.audio)
        end = line.call.turn_end_at or 0.0
        self.said.append((end - FORMAT.ms(len(self.utterance.audio)) / 1000.0, end))
        done = await line.until(
            lambda event: event["type"] == "response.done" and answers(event, self.bridges), since=asked
        )
        if done is None:
            raise BenchmarkError(f"no answer came within {PATIENCE_S:g} s; run it again")
        dry_at = Playback(line.call, pieces(line.call, self.bridges)).dry_at(time.monotonic())
        await asyncio.sleep(max(0.0, dry_at - time.monotonic()) + REST_S)

    async def _until(self, true: Any, otherwise: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not true():
            if time.monotonic() > end:
                raise BenchmarkError(f"the call {otherwise} within {PATIENCE_S:g} s; run it again")
            await asyncio.sleep(0.02)


async def record(logs: Path, utterance: Utterance) -> Picture:
    """Place the call on a stack of its own; its logs go to `logs`."""
    async with http_client() as http, serving(Service.SIMULATED, utterance.words, logs, http) as bench:
        assert bench.orchestrator is not None
        await bench.orchestrator.until_trusting()
        story = Story(bench, utterance, bridge_texts(), [])
        caller = Caller(
            bench.url, utterance.audio, pause=0.0, patience=PATIENCE_S, answered=bool, script=story.play
        )
        call = await caller.place()
        struck = [s for s in await bench.provider.struck() if s["fault"] != "refused"]
        await asyncio.sleep(FLUSH_S)
        offset = time.time() - time.monotonic()
    rows = [orjson.loads(line) for line in (logs / "simulated-events.jsonl").read_bytes().splitlines()]
    own = [{**row, "time": row["time"] - offset} for row in rows if row["call_id"]]
    return picture_of(call, story, struck, own)


def picture_of(
    call: Recorded, story: Story, struck: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]
) -> Picture:
    """What to draw, in seconds from the moment the client connected. `rows`: on the monotonic clock."""
    zero = call.connect_at
    audio = pieces(call, story.bridges)
    playback = Playback(call, audio)
    known = words(call)
    played: list[Block] = []
    for begins, piece in playback.stretches:
        who = "bridge" if piece.part is Part.BRIDGE else piece.tier
        end = begins + piece.seconds - zero
        if played and played[-1].item_id == piece.item_id:
            played[-1].end = end
        else:
            played.append(Block(begins - zero, end, who, known.get(piece.item_id, ""), piece.item_id))
    arrived = [
        (piece.at - zero, piece.seconds, "bridge" if piece.part is Part.BRIDGE else piece.tier)
        for piece in audio
    ]
    said = [Block(start - zero, end - zero, "caller", story.utterance.words, "") for start, end in story.said]
    marks = _marks(zero, story, struck, rows, played)
    return Picture(call.ended_at - zero, said, arrived, played, marks, states(rows, zero, call.ended_at))


def states(rows: Sequence[dict[str, Any]], zero: float, ended_at: float) -> list[Stretch]:
    """The states of a call (see docs/failover.md), as far as its rows tell, in seconds from `zero` on.

    No row says when a promotion began to be prepared, so that PROMOTING has its end and no length.
    """
    moves: list[tuple[float, str]] = [(zero, "CONNECTING")]
    for row in rows:
        at, kind = row["time"], row["type"]
        if kind == "call_started":
            moves.append((at, "RELAYING" if row["tier"] == "A" else "LOCAL"))
        elif kind == "hedge" and "after_ms" in row:
            moves.append((at - row["after_ms"] / 1000.0, "HEDGING"))
        elif kind == "handover":
            if row["cause"] == "promoted":
                moves.append((at, "PROMOTING"))
            moves.append((at, "RELAYING" if row["to_tier"] == "A" else "LOCAL"))
        elif kind == "preparation_abandoned" and row["purpose"] == "race":
            before = max(moved for moved, _ in moves if moved <= at)
            moves += [(before, "RACING"), (at, "LOCAL")]
    moves.sort(key=lambda move: move[0])
    ends = [at for at, _ in moves[1:]] + [ended_at]
    return [
        Stretch(at - zero, end - zero, state)
        for (at, state), end in zip(moves, ends, strict=True)
        if end > at or state == "PROMOTING"
    ]


def _marks(
    zero: float,
    story: Story,
    struck: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
    played: Sequence[Block],
) -> list[Mark]:
    """The events of the picture in order; those that come together are one."""
    faults = {
        "abort": "fault: the provider resets the connection in mid-answer, and refuses new ones from now on",
        "silent_turn": "fault: the turn is heard, and no answer begins",
    }
    found = [(strike["at"] - zero, faults[strike["fault"]]) for strike in struck]
    found.append((story.provider_back - zero, "the provider takes connections again"))
    for row in rows:
        told = _told(row)
        if told:
            begun = row.get("after_ms", 0.0) if row["type"] == "hedge" else 0.0
            found.append((row["time"] - begun / 1000.0 - zero, told))
    names = {"A": "Tier A's answer is heard", "B": "Tier B's words are heard", "bridge": "a bridge is heard"}
    found += [(block.start, names[block.who]) for block in played if block.who in names]
    marks: list[Mark] = []
    for at, text in sorted(found):
        if marks and at - marks[-1].at < MERGED_S:
            marks[-1].texts.append((at, text))
        else:
            marks.append(Mark(at, [(at, text)]))
    return marks


def _told(row: dict[str, Any]) -> str:
    """A row in words; nothing for one that is not drawn."""
    if row["type"] == "hedge" and "after_ms" in row:
        return "hedge: Tier B begins an answer in silence"
    if row["type"] != "handover":
        return ""
    if row["cause"] == "promoted":
        return "promoted: a new session of Tier A has been given the conversation (here PROMOTING ends)"
    why = {
        "fault": "after the fault",
        "hedge": "the hedge has audio first",
        "deadline": "at the deadline; it goes on with the hedge",
    }
    return f"handover to Tier {row['to_tier']}, {why.get(row['trigger'], row['trigger'])}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=PICTURE,
    help="The PNG file; docs/failover-timeline.png by default.",
)
def main(output: Path) -> None:
    """Record a call that loses its provider, comes back to it and is saved by a hedge, and draw it.

    Takes about half a minute. Starts the orchestrator, a simulated provider and simulated engines on free ports.
    """
    click.echo("Recording a call of about 20 seconds ...")
    with tempfile.TemporaryDirectory() as folder:
        try:
            picture = asyncio.run(record(Path(folder), Utterance.load(*SHORT)))
        except BenchmarkError as error:
            raise click.ClickException(str(error)) from None
    draw(output, picture)
    for mark in picture.marks:
        for at, text in mark.texts:
            click.echo(f"{at:7.3f} s  {text}")
    click.echo(f"Written: {output}")


if __name__ == "__main__":
    main()

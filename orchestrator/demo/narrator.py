"""The call as a timeline that is printed while it happens."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.demo.checks import Check
from orchestrator.demo.measure import CALLER, Failover, bridges, cost_usd, failover, latency_ms
from orchestrator.demo.palette import ALERT, COLOURS
from orchestrator.demo.recording import Recording, Row
from orchestrator.demo.story import STEPS

NOTE = "dim"

CAUSES = {
    "closed": "the provider closed the connection without a goodbye",
    "refused": "nothing answers at the provider's address",
    "ping_timeout": "the provider no longer answers pings",
    "connect_timeout": "no session in time",
    "response_timeout": "no response in time after the caller stopped",
    "first_audio_timeout": "a response, but no audio in time",
    "next_audio_timeout": "the audio stopped coming, and the caller's buffer ran dry",
    "deaf": "the provider did not notice that the caller spoke",
    "empty_response": "a response without any audio",
    "promoted": "the provider proved itself again, and nobody was speaking",
}
"""The causes of the events file, for people."""


LAG_S = 0.3
"""How much later than they happen things are printed: the service's rows come by way of a file."""


class Narrator:
    """Prints the recording while it grows, in the order in which things happened."""

    def __init__(self, console: Console, recording: Recording) -> None:
        self._console = console
        self._recording = recording
        self._told: set[int] = set()
        """Indexes of rows that were printed."""
        self._began: float | None = None

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.tell(loop.time() - LAG_S)
            await asyncio.sleep(LAG_S / 3)

    def tell(self, until: float = math.inf) -> None:
        """Print what happened by then and was not printed yet."""
        rows = enumerate(self._recording.rows)
        due = [(row.at, index, row) for index, row in rows if row.at <= until and index not in self._told]
        for _, index, row in sorted(due, key=lambda entry: entry[:2]):
            self._told.add(index)
            if self._began is None and row.type == "session.created":
                self._began = row.at
            teller = self._tellers().get(row.type)
            if teller is not None:
                teller(row)

    def _tellers(self) -> dict[str, Callable[[Row], None]]:
        return {
            "step": self._step,
            "session.created": self._connected,
            "caller_speaks": self._caller_speaks,
            "understood": self._understood,
            "response.done": self._answered,
            "bridge": self._bridge,
            "provider_killed": self._killed,
            "provider_started": self._started,
            "handover": self._handover,
            "preparation_abandoned": self._abandoned,
            "probe": self._probe,
            "answer_failed": self._answer_failed,
            "tool": self._tool,
            "error": self._error,
            "connection_lost": self._lost,
            "hung_up": self._hung_up,
        }

    # Rows

    def _step(self, row: Row) -> None:
        number = row["step"]
        self._console.print(Text(f"\n{number}. {STEPS[number - 1]}", style="bold"))

    def _connected(self, row: Row) -> None:
        self._line(row.at, "call", NOTE, f"connected over one WebSocket: tier {row.tier}, {row.get('rung')}")

    def _caller_speaks(self, row: Row) -> None:
        self._line(row.at, "caller", COLOURS[CALLER], f"“{row['text']}”", f"voice: {row['voice']}")

    def _understood(self, row: Row) -> None:
        self._line(row.at, "", NOTE, "", f"understood as: {row['text']}")

    def _answered(self, row: Row) -> None:
        """What a response said, once it is complete: only then its tier is known."""
        bridging = bridges(self._recording)
        for said in self._recording.of("said"):
            if said["response_id"] != row["response_id"] or said in bridging:
                continue
            complete = said["status"] == "completed"
            text = f"“{said['text']}”" if complete else f"“{said['text']} …” (cut off)"
            notes = [note for note in (self._latency(said["item_id"]), self._cost(row)) if note]
            rung = row.get("rung", "")
            self._line(row.at, f"tier {row.tier}", COLOURS.get(row.tier, ""), text, ", ".join([rung, *notes]))

    def _latency(self, item_id: str) -> str:
        began = next((r for r in self._recording.of("first_audio") if r["item_id"] == item_id), None)
        waited = latency_ms(self._recording, began.at) if began else None
        return f"first audio {waited / 1000:.2f} s after the caller stopped" if waited is not None else ""

    def _cost(self, row: Row) -> str:
        cost = cost_usd(row)
        return "cost not told" if cost is None else f"${cost:.4f}" if cost else "no cost"

    def _bridge(self, row: Row) -> None:
        figures = failover(self._recording)
        waited = figures.since_kill_ms(figures.bridge) if figures else None
        note = f"a cached prompt; at the client {waited:,.0f} ms after the kill" if waited is not None else ""
        self._line(
            row.at, "bridge", COLOURS["bridge"], f"“{row['text']}”" if row["text"] else "(a tone)", note
        )

    def _killed(self, row: Row) -> None:
        self._line(row.at, "KILL", ALERT, f"the provider's process {row['pid']} was ended by {row['signal']}")

    def _started(self, row: Row) -> None:
        self._line(row.at, "provider", NOTE, f"a new process, {row['pid']}, listens on the old port")

    def _handover(self, row: Row) -> None:
        was, now = row["from_tier"], row["to_tier"]
        cause = CAUSES.get(row["cause"], row["cause"].replace("_", " "))
        style = COLOURS.get(now, "")
        self._line(
            row.at,
            f"{was} to {now}",
            style,
            f"handover to {row['to_rung']}: {cause}",
            f"trigger: {row['trigger']}, cause: {row['cause']}",
        )

    def _abandoned(self, row: Row) -> None:
        self._line(row.at, "promote", NOTE, "", f"put off: {row['reason']}")

    def _probe(self, row: Row) -> None:
        if row["ok"]:
            self._line(row.at, "probe", NOTE, "", f"{row['rung']} answers again")

    def _answer_failed(self, row: Row) -> None:
        self._line(row.at, f"tier {row.tier}", ALERT, f"could not answer: {row['message']}")

    def _tool(self, row: Row) -> None:
        result = row["output"].get("status") or row["output"].get("error")
        asked = f"{row['name']}({row['order_id']}) = {result}"
        self._line(
            row.at,
            "tool",
            COLOURS.get(row.tier, ""),
            asked,
            f"run by the client, asked for by tier {row.tier}",
        )

    def _error(self, row: Row) -> None:
        self._line(row.at, "error", ALERT, str(row["message"]))

    def _lost(self, row: Row) -> None:
        self._line(row.at, "call", ALERT, f"the connection was lost: {row['why']}")

    def _hung_up(self, row: Row) -> None:
        self._line(row.at, "call", NOTE, f"hung up by the {row['by']}")

    def _line(self, at: float, who: str, style: str, text: str, note: str = "") -> None:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=6, justify="right", style=NOTE)
        grid.add_column(width=8)
        grid.add_column(ratio=1)
        body = Text(text, style=style if who in ("KILL", "error") else "")
        if note:
            body.append(("  " if text else "") + note, style=NOTE)
        began = at if self._began is None else self._began
        grid.add_row(f"{at - began:.1f}s", Text(who, style=f"bold {style}"), body)
        self._console.print(grid)


def print_figures(console: Console, figures: Failover | None, costs: float | None) -> None:
    """The numbers of the handover, and what the service says the call cost."""
    if figures is not None:
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="bold")
        table.add_column()
        if figures.bridge is None and figures.answered_in_time:
            table.add_row(
                "no bridge", "because the answer was there while the client still had audio to play"
            )
        else:
            waited = figures.since_kill_ms(figures.bridge)
            table.add_row(_ms(waited), "from the kill to the bridge's first audio at the client")
        for value, what in (
            (
                figures.since_kill_ms(figures.answer),
                "from the kill to the answer's first audio at the client",
            ),
            (figures.longest_silence_ms, "the longest silence that the caller heard in between"),
        ):
            table.add_row(_ms(value), what)
        left = max(0.0, figures.buffered_until - figures.killed)
        table.add_row(
            _ms(left * 1000),
            "of the lost provider's audio were still to be played when it was killed",
        )
        console.print(table)
    if costs is not None:
        console.print(f"The service accounted ${costs:.4f} for the call.")


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f} ms"


def print_checks(console: Console, checks: list[Check]) -> None:
    for number in sorted({check.step for check in checks}):
        of_step = [check for check in checks if check.step == number]
        passed = all(check.ok for check in of_step)
        mark = Text("ok    ", style="green") if passed else Text("FAILED", style=f"bold {ALERT}")
        title = f"{number}. {STEPS[number - 1]}" if number else "One call on one connection"
        console.print(mark, title)
        for check in of_step:
            if not check.ok:
                console.print(Text(f"         missing: {check.what} {check.detail}", style=ALERT))

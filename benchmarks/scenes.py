"""What a caller does for each moment of the matrix, and how the fault is armed to strike there.

After a fault that ends a session the provider stays dead for the rest of the call (`outage`): that is when a provider
dies. The alternative is a blip, one strike and all is well again.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.caller import Event, Line
from benchmarks.matrix import Cell, Kind, Moment
from benchmarks.processes import Orchestrator, Simulator
from benchmarks.services import MODEL, SECOND_MODEL
from benchmarks.timeline import answers

AFTER_MS: dict[Moment, tuple[int, int]] = {
    Moment.CONNECTING: (0, 0),
    Moment.IDLE: (100, 300),
    Moment.CALLER_SPEAKING: (0, 300),
    Moment.ANSWER_OWED: (1, 250),
    Moment.MID_ANSWER: (100, 3000),
    Moment.TOOL_PENDING: (20, 150),
    Moment.TOOL_RESULT_SENT: (1, 150),
    Moment.HANDOVER: (100, 3000),
    Moment.PROMOTION: (0, 0),
}
"""How far into its moment a fault strikes, drawn anew for each call. For a handover: the first fault."""
SLOW_AFTER_MS = (100, 1000)
"""For audio that comes slowly: later on the client has enough left to play, and nothing is wrong."""
OF_A_SESSION = frozenset({"abort", "close_1011", "close_1000", "half_open", "mute", "expired", "slow"})
"""Faults that need not strike again: they have done all they can to their session, and no other one is opened."""
PREPARED = (Moment.HANDOVER, Moment.PROMOTION)
"""Moments at which a session that is being prepared is struck."""
LINGER_S = 0.3
"""How long a caller listens on after the answer: a second one would come then."""
TOOL_S = {Moment.TOOL_PENDING: 0.35, Moment.TOOL_RESULT_SENT: 0.1}
"""How long the client's function takes."""
PROMOTION_S = 15.0
"""How long the call is given to be moved back to Tier A."""
TOOL: Event = {
    "type": "function",
    "name": "order_status",
    "description": "Tells where an order is.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}},
        "required": ["order_id"],
    },
}
TOOL_OUTPUT = json.dumps({"order_id": "4172", "status": "on its way"})


def after_ms(cell: Cell) -> tuple[int, int]:
    """From when to when in its moment the cell's fault may strike."""
    return SLOW_AFTER_MS if cell.fault == "slow" else AFTER_MS[cell.moment]


@dataclass(slots=True)
class Scene:
    """One call of one cell."""

    cell: Cell
    after_ms: int
    outage: bool
    words: bytes
    pause: float
    """Seconds of silence before the caller speaks."""
    bridges: Collection[str]
    provider: Simulator
    orchestrator: Orchestrator | None = None
    armed_at: float = math.inf
    """When the cell's own fault was armed, in seconds of the monotonic clock."""

    # --- the provider ---

    @property
    def _lasting(self) -> bool:
        return self.outage and self.cell.kind is not Kind.HARMLESS

    async def arm(self) -> None:
        """What has to be armed before the call."""
        cell = self.cell
        if cell.moment is Moment.HANDOVER:
            await self._first_fault("abort", "mid_answer", self.after_ms)
            await self._strike(cell.strikes_at, model=SECOND_MODEL, new_sessions=True)
        elif cell.moment is Moment.PROMOTION:
            await self._first_fault("abort", "idle", AFTER_MS[Moment.IDLE][0])
        else:
            await self._strike(cell.strikes_at, after_ms=self.after_ms)
            if cell.moment is Moment.CONNECTING and self._lasting:
                await self._refuse()

    async def _first_fault(self, fault: str, moment: str, after_ms: int) -> None:
        await self.provider.arm(
            {"fault": fault, "moment": moment, "after_ms": after_ms, "count": 1, "model": MODEL}
        )

    async def _strike(self, moment: str, **more: Any) -> None:
        """Arm the cell's own fault."""
        self.armed_at = time.monotonic()
        if moment:
            again = self._lasting and (self.cell.moment in PREPARED or self.cell.fault not in OF_A_SESSION)
            count = "forever" if again else 1
            await self.provider.arm({"fault": self.cell.fault, "moment": moment, "count": count, **more})

    async def session_is_open(self) -> None:
        """Let it be the last one that the provider opens in this call."""
        cell = self.cell
        if cell.moment is Moment.HANDOVER and self.outage:
            await self._refuse(model=MODEL)
        elif (
            cell.moment not in PREPARED
            and cell.moment is not Moment.CONNECTING
            and self._lasting
            and cell.strikes_at
        ):
            await self._refuse()

    async def _refuse(self, **more: Any) -> None:
        await self.provider.arm({"fault": "refused", "moment": "connecting", "count": "forever", **more})

    # --- the caller ---

    async def play(self, line: Line) -> None:
        """The call, from its session on."""
        uses_tool = self.cell.moment in TOOL_S
        if not await line.open(**({"tools": [TOOL]} if uses_tool else {})):
            return
        await self.session_is_open()
        if self.cell.moment is Moment.IDLE:
            await asyncio.sleep(self.after_ms / 1000)
        await asyncio.sleep(self.pause)
        await PLAYS.get(self.cell.moment, Scene.ask)(self, line)

    async def ask(self, line: Line) -> bool:
        """One question and its answer; False where none came."""
        asked = len(line.call.received)
        await line.say(self.words)
        found = await line.until(self._is_answer, since=asked)
        await asyncio.sleep(LINGER_S)
        return found is not None

    async def use_tool(self, line: Line) -> None:
        """A question that takes a function of the client's; its output, and the answer to that."""
        looked = len(line.call.received)
        await line.say(self.words)
        while True:
            found = await line.until(
                lambda event: _is_call(event) or self._is_answer(event),
                since=looked,
            )
            if found is None or found.event["type"] == "response.done":
                break
            looked = line.call.received.index(found) + 1
            await self._run_tool(line, found.event, looked)
        await asyncio.sleep(LINGER_S)

    async def _run_tool(self, line: Line, event: Event, looked: int) -> None:
        item, response = event["item"], event["response_id"]
        line.call.tools_run.append(f"{item['name']} {item['arguments']}")
        began = time.monotonic()
        # A response can only be asked for when the one that called the function is over.
        await line.until(
            lambda event: event["type"] == "response.done" and event["response"]["id"] == response,
            since=looked,
        )
        await asyncio.sleep(max(0.0, began + TOOL_S[self.cell.moment] - time.monotonic()))
        output = {"type": "function_call_output", "call_id": item["call_id"], "output": TOOL_OUTPUT}
        await line.ask({"type": "conversation.item.create", "item": output})

    async def be_promoted(self, line: Line) -> None:
        """A question in Tier B; the provider is back and fails the session that is to take the call; a question."""
        if self.orchestrator is None or not await self.ask(line):
            return
        await self.orchestrator.until_proved()
        looked = len(line.call.received)
        await self._strike(self.cell.strikes_at, new_sessions=True)
        if self.cell.strikes_at:
            await self._until_struck()
        else:
            await line.until(lambda event: _tier(event) == "A", since=looked, within=PROMOTION_S)
        await asyncio.sleep(self.pause)
        await self.ask(line)

    async def _until_struck(self) -> None:
        while time.monotonic() < self.armed_at + PROMOTION_S:
            if any(strike["at"] > self.armed_at for strike in await self.provider.struck()):
                return
            await asyncio.sleep(0.02)

    def _is_answer(self, event: Event) -> bool:
        return event["type"] == "response.done" and answers(event, self.bridges)


PLAYS: Mapping[Moment, Callable[[Scene, Line], Awaitable[Any]]] = {
    Moment.TOOL_PENDING: Scene.use_tool,
    Moment.TOOL_RESULT_SENT: Scene.use_tool,
    Moment.PROMOTION: Scene.be_promoted,
}
"""What the caller does at a moment, where it is more than to ask one question."""


def measured_strike(cell: Cell, strikes: Collection[Mapping[str, Any]], since: float) -> float | None:
    """When the fault struck from which a call of `cell` is measured; None where it never did.

    A handover is measured from its first fault: that is when the caller lost the answer.
    """
    struck = [strike for strike in strikes if strike["at"] > since]
    if cell.moment is Moment.HANDOVER:
        return next((s["at"] for s in struck if s["fault"] == "abort"), None)
    own = (s["at"] for s in struck if (s["fault"], s["moment"]) == (cell.fault, cell.strikes_at))
    return next(own, None)


def second_strike(cell: Cell, strikes: Collection[Mapping[str, Any]], since: float) -> float | None:
    """In a handover: when the second rung's session was struck; None where it was not, or nobody tried it."""
    own = (
        s["at"]
        for s in strikes
        if s["at"] > since and (s["fault"], s["moment"]) == (cell.fault, cell.strikes_at)
    )
    return next(own, None) if cell.moment is Moment.HANDOVER else None


def _is_call(event: Event) -> bool:
    """A function call that is to be run: only complete ones are."""
    if event["type"] != "response.output_item.done":
        return False
    item = event["item"]
    return bool(item["type"] == "function_call" and item["status"] == "completed")


def _tier(event: Event) -> str:
    if event["type"] not in ("session.created", "session.updated"):
        return ""
    return str((event["session"].get("orchestrator") or {}).get("tier", ""))

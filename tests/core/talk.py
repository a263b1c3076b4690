"""A call with tools on the bench, played alike in Tiers A and B: the caller, the model and the tools."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.actions import RunTool
from orchestrator.core.tools import (
    Agent,
    Kind,
    Result,
    Runs,
    Tool,
    ToolOutcome,
    Toolset,
    Topic,
    handoff,
    transfer_to_human,
    wait_for_user,
)
from orchestrator.protocol.answers import Finished, ToolCallReady, ToolResult
from tests.core.bench import USAGE, Bench, _response, local, lose

ORDER = {
    "type": "object",
    "properties": {"order_id": {"type": "string", "pattern": "^[0-9]{3,9}$"}},
    "required": ["order_id"],
}
STATUS = Tool("get_order_status", "The status of an order.", ORDER, speakable=("status", "eta"))
CANCEL = Tool(
    "cancel_order",
    "Cancel an order.",
    ORDER,
    kind=Kind.MUTATING,
    topic=Topic.CANCELLATION,
    readback="cancel order {order_id}",
    entities={"order_id": "order_number"},
    speakable=("status",),
)
REFUND = Tool(
    "refund_order",
    "Pay an order's money back.",
    ORDER,
    kind=Kind.MUTATING,
    topic=Topic.MONEY,
    approval=True,
    readback="refund order {order_id}",
)
OPEN_DOOR = Tool(
    "open_door", "Open the door.", kind=Kind.MUTATING, runs=Runs.CLIENT, readback="open the door"
)
BILLING = Agent(
    "billing", "Knows about invoices.", "You are the billing desk.", ("refund_order",), ("front",)
)
FRONT = Agent("front", "", "You are the front desk.", ("get_order_status", "cancel_order"), ("billing",))


def toolset(*tools: Tool, **more: Any) -> Toolset:
    return Toolset({tool.name: tool for tool in tools or (STATUS, CANCEL, REFUND)}, **more)


def with_agents() -> Toolset:
    tools = (STATUS, CANCEL, REFUND, wait_for_user(), transfer_to_human(), handoff(FRONT), handoff(BILLING))
    return toolset(*tools, agents={"front": FRONT, "billing": BILLING}, first_agent="front")


@dataclass
class Talk:
    """`tier` is where the call is at the moment: ``A`` or ``B``."""

    tier: str
    tools: Toolset = field(default_factory=toolset)
    bench: Bench = field(init=False)
    _calls: int = 0
    _turns: int = 0
    _responses: int = 0

    def __post_init__(self) -> None:
        self.bench = Bench(tools=self.tools)
        if self.tier == "A":
            self.bench.connect()
        else:
            local(self.bench)

    # --- the caller ---

    def caller(self, words: str) -> None:
        """A turn of the caller's, with its words known."""
        self._turns += 1
        if self.tier == "A":
            start = int(self.bench.ctx.input.total_ms)
            self.bench.turn(f"item_u{self._turns}", words, start)
        else:
            self.bench.wait(1.0)
            self.bench.say()
            self.bench.words(words)

    # --- the model ---

    @property
    def _response(self) -> str:
        return f"resp_{self._responses}"

    def calls(self, name: str, **arguments: Any) -> str:
        """The model calls a tool and says nothing; the call's id."""
        self._calls += 1
        call_id = f"call_{self._calls}"
        if self.tier == "A":
            self._provider_calls(call_id, name, json.dumps(arguments))
        else:
            answer_id = self.bench.request.answer_id
            ready = ToolCallReady(call_id, name, json.dumps(arguments))
            self.bench.call.answer_event(answer_id, ready, self.bench.now)
            self.bench.call.answer_event(answer_id, Finished(rung="kokoro"), self.bench.now)
            self.bench.settle()
        return call_id

    def _provider_calls(self, call_id: str, name: str, arguments: str) -> None:
        self._responses += 1
        bench, item_id = self.bench, f"item_f{self._calls}"
        bench.response_created(self._response)
        place = {"response_id": self._response, "output_index": 0}
        wire = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "name": name,
            "call_id": call_id,
            "arguments": "",
        }
        bench.provider("response.output_item.added", **place, item=wire)
        bench.provider("conversation.item.added", item=wire, previous_item_id=None)
        place["item_id"] = item_id
        bench.provider("response.function_call_arguments.delta", **place, call_id=call_id, delta=arguments)
        done = {**place, "call_id": call_id, "name": name, "arguments": arguments}
        bench.provider("response.function_call_arguments.done", **done)
        wire = {**wire, "status": "completed", "arguments": arguments}
        bench.provider("conversation.item.done", item=wire, previous_item_id=None)
        del place["item_id"]
        bench.provider("response.output_item.done", **place, item=wire)
        bench.provider("response.done", response=_response(self._response, "completed", [wire], usage=USAGE))

    def says(self, words: str, *, ms: int = 400, heard_ms: float | None = None) -> None:
        """The model answers; `heard_ms`: the caller hears so much of it before they speak."""
        if self.tier == "A":
            self._responses += 1
            item = f"item_a{self._responses}"
            self.bench.begin_answer(self._response, item, words)
            self.bench.delta(self._response, item, ms=ms)
            self.bench.end_answer(self._response, item, words)
        else:
            self.bench.answer(words, ms=ms)
        self.bench.wait(heard_ms / 1000 if heard_ms is not None else ms / 1000 + 0.5)

    @property
    def exact(self) -> str | None:
        """The words that the model was told to say, and that it has not said."""
        if self.tier == "B":
            return self.bench.request.say
        asked = [e for e in self.bench.upstream if e["type"] == "response.create"]
        told = str((asked[-1].get("response") or {}).get("instructions") or "") if asked else ""
        return told.partition('"')[2].rpartition('"')[0] if told.startswith("Say exactly") else None

    def says_exactly(self, **how: Any) -> str:
        """The model says what it was told to; its words."""
        words = self.exact
        assert words is not None, "nothing was to be said exactly"
        self.says(words, **how)
        return words

    # --- tools ---

    def runs(self) -> list[RunTool]:
        return self.bench.all(RunTool)

    def done(
        self, output: Any = None, result: Result = Result.DONE, message: str = "", number: int = -1
    ) -> None:
        """What came of the latest run."""
        run = self.runs()[number]
        self.bench.call.tool_done(run.tool_call_id, ToolOutcome(result, output, message), self.bench.now)
        self.bench.settle()

    def told(self, call_id: str) -> dict[str, Any]:
        """What the model is told of a call."""
        if self.tier == "A":
            items = [e["item"] for e in self.bench.upstream if e["type"] == "conversation.item.create"]
            outputs = [item["output"] for item in items if item.get("call_id") == call_id]
        else:
            history = self.bench.request.history
            outputs = [e.output for e in history if isinstance(e, ToolResult) and e.call_id == call_id]
        return dict(json.loads(outputs[-1]))

    # --- what becomes of it ---

    def loses_a(self) -> None:
        """The provider dies; Tier B takes the call over."""
        self.bench.rungs = ()
        lose(self.bench)
        self.tier = "B"

    def client_saw(self, text: str) -> bool:
        return any(text in frame.data for frame in self.bench.frames if not frame.sent)

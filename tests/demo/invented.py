"""A recording of a whole demo call as it should be, made without any call: tones for voices, invented times."""

from __future__ import annotations

from typing import Any

from orchestrator.demo.caller import FRAME, FRAME_MS
from orchestrator.demo.recording import WIRE, Heard, Recording
from orchestrator.demo.script import GOODBYE, HUMAN_WORDS, SMALL_TALK, WHO_IS_THERE, Order, Script
from orchestrator.listening import Arrival
from orchestrator.simulate.voices import tone

SCRIPT = Script(Order("4172", "shipped"), Order("9054", "delivered"))
CALL = {"call_id": "call_1", "rung": "gpt-realtime-2.1"}
BRIDGE = "I'm sorry, I was cut off. One moment."
USAGE = {"output_tokens": 100, "output_token_details": {"audio_tokens": 100}}


class Invention:
    """Builds a recording forwards in time; `now` is the second of the call."""

    def __init__(self) -> None:
        self.recording = Recording(wall=1_000_000.0)
        self.now = 0.0
        self._responses = 0

    def client(self, type: str, tier: str = "", **fields: Any) -> None:
        self.recording.add(self.now, type, tier, **fields)

    def service(self, type: str, tier: str, **fields: Any) -> None:
        row = {
            "time": self.now + self.recording.wall,
            "type": type,
            "tier": tier,
            "call_id": "call_1",
            **fields,
        }
        self.recording.add_service_row(row)

    def session(self, kind: str, tier: str, rung: str) -> None:
        self.client(kind, tier, session_id="sess_1", call_id="call_1", rung=rung)

    def caller(self, words: str, seconds: float = 2.0) -> None:
        self.now = max(self.now, self.recording.dry_at()) + 0.5
        self.client("caller_speaks", text=words, voice="someone", seconds=seconds)
        for start in range(0, round(seconds * 1000), FRAME_MS):
            self.recording.sent.append(Arrival(self.now + start / 1000, tone(FRAME_MS / 1000, WIRE)[:FRAME]))
        self.now += seconds
        self.client("caller_spoke", text=words)
        self.now += 1.0

    def open(self, tier: str) -> str:
        self._responses += 1
        self.client("response.created", tier, response_id=f"resp_{self._responses}")
        return f"resp_{self._responses}"

    def audio(self, response_id: str, tier: str, item: str, seconds: float) -> None:
        """Audio that comes all at once."""
        self.client("first_audio", tier, response_id=response_id, item_id=item)
        self.recording.heard.append(Heard(self.now, response_id, item, tone(seconds, WIRE)))

    def said(self, response_id: str, tier: str, item: str, words: str, status: str = "completed") -> None:
        self.client("said", tier, response_id=response_id, item_id=item, text=words, status=status)

    def done(self, response_id: str, tier: str, status: str = "completed", tool_calls: int = 0) -> None:
        usage = USAGE if status == "completed" else None
        rung = "gpt-realtime-2.1" if tier == "A" else "prompts"
        fields = {"status": status, "rung": rung, "tool_calls": tool_calls, "usage": usage}
        self.client("response.done", tier, response_id=response_id, **fields)

    def answer(self, tier: str, words: str, seconds: float = 2.0) -> None:
        """A whole answer; one of Tier C is opened by Tier B, as the prompt is found out about later."""
        began = "B" if tier == "C" else tier
        response = self.open(began)
        self.audio(response, began, f"item_of_{response}", seconds)
        self.said(response, began, f"item_of_{response}", words)
        self.done(response, tier)

    def tool(self, order: Order) -> None:
        response = self.open("B")
        self.done(response, "B", tool_calls=1)
        output = {"order_id": order.number, "status": order.status}
        self.client("tool", "B", name="get_order_status", order_id=order.number, output=output)
        self.now += 1.5


def whole_call() -> Recording:
    """All seven steps."""
    call = Invention()
    recording = call.recording
    call.session("session.created", "A", "gpt-realtime-2.1")
    call.service("call_started", "A", rung="gpt-realtime-2.1", reason="default")
    recording.step = 1
    call.caller(HUMAN_WORDS)
    call.answer("A", "Ah, Jane Austen.")
    recording.step = 2
    call.caller(SCRIPT.question(SCRIPT.first))
    lost = call.open("A")
    call.audio(lost, "A", "item_lost", 4.0)
    call.now += 1.0
    call.client("provider_killed", "A", pid=4711, signal="SIGKILL")
    recording.step = 3
    _handover(call, lost)
    call.answer("C", "Your order number 4172 has been shipped.", 3.0)
    recording.step = 4
    call.caller(SMALL_TALK)
    call.answer("B", "You are welcome.")
    recording.step = 5
    call.caller(SCRIPT.question(SCRIPT.second))
    call.tool(SCRIPT.second)
    call.answer("C", "Your order number 9054 has been delivered.", 3.0)
    recording.step = 6
    _return(call)
    recording.step = 7
    for words, reply in ((WHO_IS_THERE, "Yes, you are back with me."), (GOODBYE, "Goodbye.")):
        call.caller(words)
        call.answer("A", reply)
    call.now = recording.dry_at() + 0.5
    call.client("hung_up", by="caller")
    call.service("call_ended", "A", spent_usd=0.0123)
    call.client("transcribed", text="Your order number 4172 has been shipped.")
    return recording


def _handover(call: Invention, lost: str) -> None:
    call.now += 0.01
    move = {"from_tier": "A", "from_rung": "gpt-realtime-2.1", "to_tier": "B", "to_rung": "kokoro"}
    call.service("handover", "B", **move, trigger="fault", cause="closed", owed=1)
    call.said(lost, "A", "item_lost", "Let me look up order 4 1 7 2", "incomplete")
    call.done(lost, "A", "incomplete")
    call.session("session.updated", "B", "kokoro")
    response = call.open("B")
    call.now += 0.01
    call.audio(response, "B", "item_bridge", 1.2)
    call.said(response, "B", "item_bridge", BRIDGE)
    call.service("bridge", "B", response_id=response, text=BRIDGE)
    call.done(response, "B", tool_calls=1)
    output = {"order_id": "4172", "status": "shipped"}
    call.client("tool", "B", name="get_order_status", order_id="4172", output=output)
    call.now += 1.5


def _return(call: Invention) -> None:
    call.now = call.recording.dry_at() + 1.0
    call.client("provider_started", "A", pid=4712)
    call.now += 1.0
    move = {"from_tier": "B", "from_rung": "kokoro", "to_tier": "A", "to_rung": "gpt-realtime-2.1"}
    call.service("handover", "A", **move, trigger="recovery", cause="promoted")
    call.session("session.updated", "A", "gpt-realtime-2.1")


def without_bridge() -> Recording:
    """The same call, had the answer come before the service thought a bridge necessary."""
    recording = whole_call()
    recording.rows = [
        row for row in recording.rows if row.type != "bridge" and row.get("item_id") != "item_bridge"
    ]
    recording.heard = [piece for piece in recording.heard if piece.item_id != "item_bridge"]
    return recording

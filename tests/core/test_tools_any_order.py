"""Whatever happens in whatever order: nothing changes that a caller did not agree to, and the client sees no tool."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from orchestrator.core.actions import RunTool, StartAnswer, Transcribe
from orchestrator.core.context import Policy
from orchestrator.core.states import RELAYED, SERVED_LOCALLY
from orchestrator.core.tools import Result, ToolOutcome
from orchestrator.protocol.answers import AudioDelta, Finished, TextDelta, ToolCallReady, Transcript
from tests.core.bench import USAGE, Bench
from tests.core.talk import CANCEL, STATUS, toolset
from tests.core.test_call_any_order import RUNGS, AnyOrder, Provider

NAMES = st.sampled_from(["get_order_status", "cancel_order"])
ORDERS = st.sampled_from(["4172", "4172", "4173"])
REPLIES = st.sampled_from(["Yes.", "Yes.", "Yes, please.", "No.", "Hmm.", "No, make it 4173.", "What?"])


class ToolsAnyOrder(AnyOrder):
    """As `AnyOrder`, with tools that the server runs, models that call them, and callers who agree or not."""

    def __init__(self) -> None:
        super().__init__()
        policy = Policy(transcription_model="gpt-transcribe", renew_before_s=5.0)
        self.bench = Bench(policy, rungs=RUNGS, tools=toolset(STATUS, CANCEL))
        self.ended: set[str] = set()
        """Runs that have ended."""
        self.speaks: dict[str, str] = {}
        """The words of a provider's answers, by the response."""

    # --- models that say what they are told to ---

    def begin(self, provider: Provider) -> None:
        asked = self.creates(provider)[provider.taken :] if not provider.awaits_turn else []
        told = str((asked[0].get("response") or {}).get("instructions") or "") if asked else ""
        self.answers += 1
        provider.open = (f"resp_p{self.answers}", f"item_p{self.answers}")
        provider.taken += not provider.awaits_turn
        provider.awaits_turn = ""
        exactly = told.startswith("Say exactly")
        words = told.partition('"')[2].rpartition('"')[0] if exactly else "Let me look"
        self.speaks[provider.open[0]] = words
        self.bench.begin_answer(*provider.open, words)

    @precondition(lambda self: self.serving is not None and self.serving.open and self.serving.open[1])
    @rule()
    def provider_finishes(self) -> None:
        assert self.serving is not None
        provider = self.as_provider(self.serving.attempt)
        assert provider.open is not None
        (response, item), provider.open = provider.open, None
        self.bench.end_answer(response, item, self.speaks.get(response, "Let me look"))

    def tell(self, start: StartAnswer, *events: object) -> None:
        self.answered.add(start.request.answer_id)
        for event in events:
            self.bench.call.answer_event(start.request.answer_id, event, self.bench.now)  # type: ignore[arg-type]
        self.bench.settle()

    @precondition(lambda self: any(a.request.say for a in self.pending_answers()))
    @rule(ms=st.integers(20, 900))
    def tier_says_what_it_was_told(self, ms: int) -> None:
        start = next(a for a in self.pending_answers() if a.request.say)
        audio = AudioDelta(self.bench.ctx.session.output_format.silence(ms))
        self.tell(start, TextDelta(start.request.say or ""), audio, Finished(rung="kokoro"))

    # --- models that call tools ---

    @precondition(lambda self: any(a.request.tools for a in self.pending_answers()))
    @rule(name=NAMES, order_id=ORDERS)
    def tier_calls_a_server_tool(self, name: str, order_id: str) -> None:
        start = next(a for a in self.pending_answers() if a.request.tools)
        self.answers += 1
        arguments = json.dumps({"order_id": order_id})
        self.tell(start, ToolCallReady(f"call_s{self.answers}", name, arguments), Finished(rung="kokoro"))

    @precondition(lambda self: self.may_answer())
    @rule(name=NAMES, order_id=ORDERS, finish=st.sampled_from([True, True, True, False]))
    def provider_calls_a_server_tool(self, name: str, order_id: str, finish: bool) -> None:
        assert self.serving is not None
        provider, bench = self.as_provider(self.serving.attempt), self.bench
        self.answers += 1
        ref = f"s{self.answers}"
        provider.taken, provider.awaits_turn = provider.taken + (not provider.awaits_turn), ""
        bench.response_created(f"resp_{ref}")
        item = {"id": f"item_{ref}", "object": "realtime.item", "type": "function_call", "arguments": ""}
        item |= {"status": "in_progress", "name": name, "call_id": f"call_{ref}"}
        place = {"response_id": f"resp_{ref}", "output_index": 0}
        bench.provider("response.output_item.added", **place, item=item)
        bench.provider("conversation.item.added", item=item, previous_item_id=None)
        provider.open = (f"resp_{ref}", "")
        if not finish:
            return
        item = {**item, "status": "completed", "arguments": json.dumps({"order_id": order_id})}
        bench.provider("conversation.item.done", item=item, previous_item_id=None)
        bench.provider("response.output_item.done", **place, item=item)
        wire = {"id": f"resp_{ref}", "object": "realtime.response", "status": "completed", "usage": USAGE}
        bench.provider("response.done", response={**wire, "status_details": None, "output": [item]})
        provider.open = None

    # --- what usually follows what: left to chance alone it would hardly ever come to a yes ---

    @precondition(lambda self: self.bench.call.state in RELAYED | SERVED_LOCALLY)
    @rule(order_id=ORDERS, reply=REPLIES, steps=st.integers(1, 4))
    def something_is_to_be_changed(self, order_id: str, reply: str, steps: int) -> None:
        """The caller wants an order cancelled, the model calls, reads back, and gets a reply; or not so far."""
        self.caller_says(f"Please cancel order {order_id}.")
        for step in (
            lambda: self.model_calls(order_id),
            self.model_speaks,
            lambda: self.caller_says(reply),
        )[: steps - 1]:
            step()

    @precondition(lambda self: self.bench.ctx.desk.proposal is not None)
    @rule(reply=REPLIES, again=st.booleans())
    def the_caller_replies(self, reply: str, again: bool) -> None:
        """... to what was read back; a provider's model may call again then."""
        proposal = self.bench.ctx.desk.proposal
        assert proposal is not None
        self.model_speaks()
        self.caller_says(reply)
        if again:
            self.model_calls(proposal.arguments["order_id"])

    def caller_says(self, words: str) -> None:
        if self.ours:
            self.bench.wait(0.8)
            self.bench.say()
            if any(a.item_id not in self.written for a in self.bench.all(Transcribe)):
                self.reply_is_known(words)
        elif self.serving is not None and not self.serving.awaits_turn:
            self.caller_replies_to_the_provider(words, known=True)

    def model_calls(self, order_id: str) -> None:
        if self.ours and any(a.request.tools for a in self.pending_answers()):
            self.tier_calls_a_server_tool("cancel_order", order_id)
        elif self.relaying and self.may_answer():
            self.provider_calls_a_server_tool("cancel_order", order_id, finish=True)

    def model_speaks(self) -> None:
        if self.ours and any(a.request.say for a in self.pending_answers()):
            self.tier_says_what_it_was_told(400)
        elif self.relaying and self.may_answer():
            self.provider_answers()
            if self.serving is not None:  # a drill may have taken it away as it began to speak
                self.provider_finishes()
        self.bench.wait(0.6)

    # --- tools ---

    def running(self) -> list[RunTool]:
        return [run for run in self.bench.all(RunTool) if run.tool_call_id not in self.ended]

    @precondition(lambda self: bool(self.running()))
    @rule(result=st.sampled_from([Result.DONE, Result.DONE, *Result]))
    def tool_ends(self, result: Result) -> None:
        run = self.running()[0]
        self.ended.add(run.tool_call_id)
        outcome = ToolOutcome(result, {"status": "fine"}, "" if result is Result.DONE else "as it is")
        self.bench.call.tool_done(run.tool_call_id, outcome, self.bench.now)
        self.bench.settle()

    # --- callers ---

    @precondition(lambda self: any(a.item_id not in self.written for a in self.bench.all(Transcribe)))
    @rule(reply=REPLIES)
    def reply_is_known(self, reply: str) -> None:
        wanted = next(a for a in self.bench.all(Transcribe) if a.item_id not in self.written)
        self.written.add(wanted.item_id)
        self.bench.call.transcribed(wanted.item_id, Transcript(reply, 1.0), self.bench.now)
        self.bench.settle()

    @precondition(lambda self: self.serving is not None and not self.serving.awaits_turn)
    @rule(reply=REPLIES, known=st.booleans())
    def caller_replies_to_the_provider(self, reply: str, known: bool) -> None:
        assert self.serving is not None
        provider = self.as_provider(self.serving.attempt)
        if provider.open is not None:
            return
        self.turns += 1
        provider.awaits_turn = reply
        self.bench.turn(f"item_u{self.turns}", reply if known else None, start=self.provider_ms())

    @precondition(lambda self: self.bench.call.state in RELAYED | SERVED_LOCALLY)
    @rule()
    def tool_result_comes_back(self) -> None:
        talk = self.bench.ctx.conversation
        pending = talk.pending_calls()
        for call in [item for item in talk if item.id in pending and not item.private]:
            output = {"type": "function_call_output", "call_id": call.wire["call_id"], "output": "done"}
            self.bench.client({"type": "conversation.item.create", "item": output})
            self.bench.client({"type": "response.create"})

    # --- what must hold ---

    @invariant()
    def nothing_is_changed_without_a_yes(self) -> None:
        agreed = [row for row in self.bench.rows("tool_confirmation") if row["consent"] == "yes"]
        yes = Counter(row["arguments"]["order_id"] for row in agreed)
        runs = [run for run in self.bench.all(RunTool) if run.tool == "cancel_order"]
        assert Counter(run.arguments["order_id"] for run in runs) <= yes

    @invariant()
    def a_call_runs_once(self) -> None:
        runs = Counter(run.tool_call_id for run in self.bench.all(RunTool))
        assert all(count == 1 for count in runs.values()), runs

    @invariant()
    def the_client_sees_no_tool_of_ours(self) -> None:
        new = self.bench.frames[getattr(self, "_seen", 0) :]
        self._seen = len(self.bench.frames)
        seen = [f.data for f in new if not f.sent and ("cancel_order" in f.data or "order_status" in f.data)]
        assert not seen

    def tools_end(self) -> None:
        while self.running():
            self.tool_ends(Result.DONE)

    def everybody_does_their_part(self) -> None:
        super().everybody_does_their_part()
        assert not self.bench.ctx.desk.awaited


ToolsAnyOrder.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestToolsAnyOrder = ToolsAnyOrder.TestCase

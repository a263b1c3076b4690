"""Tools across a handover: what was read back, agreed to or under way in Tier A goes on in Tier B, and never twice."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.actions import Transcribe
from orchestrator.core.states import State
from orchestrator.core.tools import Result
from orchestrator.protocol.answers import Message, ToolCall, ToolResult
from orchestrator.protocol.session import default_session
from tests.core.bench import Event, _response, user_text
from tests.core.talk import Talk, with_agents


def propose(talk: Talk) -> str:
    talk.caller("Please cancel order 4172.")
    talk.calls("cancel_order", order_id="4172")
    return talk.says_exactly()


def begins_a_call(talk: Talk) -> Event:
    """The provider has begun to write a call of a tool; the call's item."""
    wire = {
        "id": "item_f1",
        "object": "realtime.item",
        "type": "function_call",
        "status": "in_progress",
        "name": "get_order_status",
        "call_id": "call_1",
        "arguments": "",
    }
    talk.bench.provider("response.output_item.added", response_id="resp_1", output_index=0, item=wire)
    return wire


def test_a_read_back_in_tier_a_may_be_agreed_to_in_tier_b() -> None:
    talk = Talk("A")
    propose(talk)
    talk.loses_a()
    talk.caller("Yes.")
    (run,) = talk.runs()
    assert dict(run.arguments) == {"order_id": "4172"}
    talk.done({"status": "cancelled"})
    assert talk.told(run.tool_call_id)["status"] == "done"
    talk.says("It is cancelled.")
    assert talk.bench.ctx.outcomes.open == []
    talk.bench.check()


def test_a_yes_to_a_provider_that_dies_before_it_calls_runs_once() -> None:
    talk = Talk("A")
    propose(talk)
    talk.caller("Yes.")
    talk.loses_a()
    assert len(talk.runs()) == 1
    talk.done({"status": "cancelled"})
    talk.says("It is cancelled.")
    assert len(talk.runs()) == 1
    assert talk.bench.ctx.outcomes.open == []
    talk.bench.check()


def test_a_run_begun_in_tier_a_brings_its_result_to_tier_b() -> None:
    """A tool slower than the handover: the next tier waits for it, and does not run it again."""
    talk = Talk("A")
    propose(talk)
    talk.caller("Yes.")
    call_id = talk.calls("cancel_order", order_id="4172")
    talk.loses_a()
    assert len(talk.runs()) == 1
    talk.bench.wait(2.0)
    assert len(talk.bench.rows("bridge")) == 1
    talk.done({"status": "cancelled"})
    assert talk.told(call_id) == {"status": "done", "result": {"status": "cancelled"}}
    talk.says("It is cancelled.")
    assert len(talk.runs()) == 1
    assert talk.bench.ctx.outcomes.open == []
    talk.bench.check()


def test_a_result_that_came_while_the_provider_died_is_not_lost() -> None:
    talk = Talk("A")
    talk.caller("Where is order 4172?")
    call_id = talk.calls("get_order_status", order_id="4172")
    talk.done({"status": "shipped"})
    talk.loses_a()  # it was asked to go on, and never did
    assert talk.told(call_id)["result"] == {"status": "shipped"}
    talk.says("It has been shipped.")
    assert talk.bench.ctx.outcomes.open == []
    talk.bench.check()


def test_a_read_back_that_broke_off_is_said_again_in_full() -> None:
    talk = Talk("A")
    talk.caller("Please cancel order 4172.")
    talk.calls("cancel_order", order_id="4172")
    words = talk.exact
    talk.bench.begin_answer("resp_9", "item_a9", "You want")
    talk.loses_a()
    assert talk.exact == words
    talk.says_exactly()
    talk.caller("Yes.")
    assert len(talk.runs()) == 1


def test_a_hedge_reads_back_the_same_words() -> None:
    """The provider is late with a read-back, and Tier B makes it beside: in our words, not an agent's."""
    talk = Talk("A")
    talk.caller("Please cancel order 4172.")
    talk.calls("cancel_order", order_id="4172")
    words = talk.exact
    talk.bench.wait(0.7)
    assert talk.bench.request.say == words
    talk.bench.answer(words or "", finish=False)
    talk.bench.wait(0.5)
    talk.tier = "B"
    talk.bench.answer()
    talk.bench.wait(1.5)
    talk.caller("Yes.")
    assert len(talk.runs()) == 1
    talk.bench.check()


def test_a_call_that_was_being_written_when_the_provider_died_never_ran() -> None:
    talk = Talk("A")
    bench = talk.bench
    talk.caller("Where is order 4172?")
    bench.response_created("resp_1")
    wire = begins_a_call(talk)
    bench.provider("conversation.item.added", item=wire, previous_item_id=None)
    talk.loses_a()
    assert talk.runs() == []
    assert bench.request.history == (Message("user", "Where is order 4172?"),)
    assert not bench.of("response.done")
    talk.says("Which order was it?")
    assert bench.ctx.outcomes.open == []
    bench.check()


def test_what_may_have_run_is_not_run_again_by_the_next_tier() -> None:
    talk = Talk("A")
    propose(talk)
    talk.caller("Yes.")
    talk.calls("cancel_order", order_id="4172")
    talk.loses_a()
    talk.done(None, Result.UNKNOWN, "no answer")
    assert "can't tell" in talk.says_exactly()
    assert len(talk.runs()) == 1


def test_the_driver_that_never_says_what_came_of_a_run_does_not_hold_the_answer_up_for_ever() -> None:
    talk = Talk("B")
    propose(talk)
    talk.caller("Yes.")
    talk.bench.wait(10.0 + 5.0 + 1.0)
    assert "can't tell" in talk.says_exactly()
    assert talk.bench.ctx.outcomes.open == []


def test_an_answer_to_chosen_words_knows_what_its_tools_said() -> None:
    """The client gives an answer its own input, and no more of the conversation."""
    talk = Talk("B")
    talk.caller("Hello.")
    talk.says("Hello.")
    request = {"input": [user_text("Where is order 4172?")]}
    talk.bench.client({"type": "response.create", "response": request})
    talk.calls("get_order_status", order_id="4172")
    talk.done({"status": "shipped"})
    first, call, result = talk.bench.request.history
    assert first == Message("user", "Where is order 4172?")
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert "shipped" in result.output
    talk.says("It has been shipped.")
    assert talk.bench.ctx.outcomes.open == []


def test_an_agent_that_has_the_call_keeps_it_in_the_next_tier() -> None:
    talk = Talk("A", with_agents())
    talk.caller("A question about my invoice.")
    talk.calls("transfer_to_billing")
    talk.says("Billing here.")
    talk.loses_a()
    talk.caller("Hello?")
    assert talk.bench.request.instructions == "You are the billing desk."
    assert talk.bench.request.tools[0]["name"] == "refund_order"


def test_a_call_goes_back_up_with_what_its_tools_said_and_the_client_still_knows_nothing() -> None:
    talk = Talk("B")
    bench = talk.bench
    talk.caller("Where is order 4172?")
    talk.calls("get_order_status", order_id="4172")
    talk.done({"status": "shipped"})
    talk.says("It has been shipped.")
    bench.tier = "A"
    bench.wait(2.0)
    assert bench.call.state is State.PROMOTING
    bench.provider("session.created", session=default_session("gpt-realtime-2.1"))
    items = [e["item"] for e in bench.upstream if e["type"] == "conversation.item.create"]
    assert [item["type"] for item in items] == ["message", "function_call", "function_call_output", "message"]
    for item in items:
        bench.provider("conversation.item.added", item=item, previous_item_id=None)
    bench.confirm_updates()
    assert bench.call.state is State.RELAYING
    session = [e for e in bench.sent_to[bench.attempt] if e["type"] == "session.update"]
    assert not session  # all were confirmed
    assert not talk.client_saw("function_call")
    talk.tier = "A"
    propose(talk)
    talk.caller("Yes.")
    talk.calls("cancel_order", order_id="4172")
    assert len(talk.runs()) == 2
    bench.check()


def test_a_yes_that_the_provider_does_not_write_down_is_written_down_here() -> None:
    talk = Talk("A")
    bench = talk.bench
    propose(talk)
    bench.turn("item_yes", None, int(bench.ctx.input.total_ms))
    talk.calls("cancel_order", order_id="4172")
    assert talk.runs() == []
    bench.wait(2.0)
    assert bench.last(Transcribe).item_id == "item_yes"
    bench.words("Yes.")
    assert len(talk.runs()) == 1


@pytest.mark.parametrize("words", ["Yes.", "Hmm.", "No."])
def test_a_yes_that_is_not_written_down_when_the_provider_dies_is_written_down_by_the_next_tier(
    words: str,
) -> None:
    """The provider's model has called again, and the call waited for the caller's words."""
    talk = Talk("A")
    bench = talk.bench
    propose(talk)
    bench.turn("item_yes", None, int(bench.ctx.input.total_ms))
    call_id = talk.calls("cancel_order", order_id="4172")
    talk.loses_a()
    bench.words(words)
    assert len(talk.runs()) == (words == "Yes.")
    if words == "Yes.":
        talk.done({"status": "cancelled"})
        assert talk.told(call_id)["status"] == "done"
        talk.says("Done.")
    elif words == "No.":
        assert talk.told(call_id)["status"] == "cancelled"
        talk.says("Then not.")
    else:
        assert "clear yes or no" in talk.says_exactly()
    assert bench.ctx.outcomes.open == []
    bench.check()


def test_a_transcript_that_comes_late_is_waited_for() -> None:
    talk = Talk("A")
    bench = talk.bench
    propose(talk)
    bench.turn("item_yes", None, int(bench.ctx.input.total_ms))
    talk.calls("cancel_order", order_id="4172")
    bench.wait(0.3)
    written: dict[str, Any] = {"item_id": "item_yes", "content_index": 0, "transcript": "Yes, please."}
    usage = {"type": "duration", "seconds": 1.5}
    bench.provider("conversation.item.input_audio_transcription.completed", **written, usage=usage)
    assert len(talk.runs()) == 1


def test_a_refused_continuation_is_asked_for_when_the_other_answer_is_over() -> None:
    """The provider began an answer of its own at the moment we asked it to go on."""
    talk = Talk("A")
    bench = talk.bench
    talk.caller("Where is order 4172?")
    talk.calls("get_order_status", order_id="4172")
    talk.done({"status": "shipped"})
    create = [e for e in bench.upstream if e["type"] == "response.create"][-1]
    error = {
        "type": "invalid_request_error",
        "code": "conversation_already_has_active_response",
        "message": "Conversation already has an active response.",
        "param": None,
        "event_id": create["event_id"],
    }
    bench.provider("error", error=error)
    assert not bench.of("error")
    talk.says("One moment.")
    assert len([e for e in bench.upstream if e["type"] == "response.create"]) == 2
    talk.says("It has been shipped.")
    assert bench.ctx.outcomes.open == []


@pytest.mark.parametrize("status", ["cancelled", "incomplete"])
def test_a_hidden_response_that_is_cut_off_leaves_no_trace(status: str) -> None:
    talk = Talk("A")
    bench = talk.bench
    talk.caller("Where is order 4172?")
    bench.response_created("resp_1")
    wire = begins_a_call(talk)
    done = {**wire, "status": "incomplete"}
    bench.provider("response.output_item.done", response_id="resp_1", output_index=0, item=done)
    bench.provider("response.done", response=_response("resp_1", status, [done]))
    assert not bench.of("response.created")
    assert not bench.of("response.done")
    assert talk.runs() == []
    assert bench.ctx.outcomes.open == []


def test_a_result_that_is_there_when_its_response_is_cut_off_holds_nothing_up() -> None:
    """The caller speaks while the provider is still writing, and the tool is done already."""
    talk = Talk("A")
    bench = talk.bench
    talk.caller("Where is order 4172?")
    bench.response_created("resp_1")
    wire = begins_a_call(talk)
    done = {**wire, "status": "completed", "arguments": '{"order_id": "4172"}'}
    bench.provider("response.output_item.done", response_id="resp_1", output_index=0, item=done)
    talk.done({"status": "shipped"})
    bench.provider("response.done", response=_response("resp_1", "cancelled", [done]))
    assert talk.told("call_1")["result"] == {"status": "shipped"}
    relay = bench.call.relay
    assert relay is not None
    assert relay.at_boundary, "a session near its end may be replaced"
    assert bench.ctx.outcomes.open == []

"""The call's state machine, by plain calls: who serves it, what the client sees, and that no turn is lost."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from orchestrator.core.actions import CheckSpeech, OpenUpstream, StartAnswer, StopAnswer, Transcribe
from orchestrator.core.call import TRANSITIONS, Audio, State
from orchestrator.core.health import Cause
from orchestrator.core.routing import DecidedBy
from orchestrator.protocol.answers import Failed, Finished, Message, TextDelta, ToolCall, ToolResult
from orchestrator.protocol.wire import dump
from tests.conformance.checker import Frame
from tests.core.bench import Bench, append

TOOL = {
    "type": "function",
    "name": "get_order_status",
    "description": "Status of an order",
    "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
}


@pytest.fixture
def bench() -> Any:
    bench = Bench()
    yield bench
    bench.check()


def lose(bench: Bench, cause: Cause = Cause.CLOSED) -> None:
    bench.call.upstream_lost(bench.attempt, cause, bench.now)
    bench.settle()


def update(**session: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def audio_input(**fields: Any) -> dict[str, Any]:
    return update(audio={"input": fields})


def user_text(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def delta_frame(event_id: str) -> bytes:
    fields = {"response_id": "resp_1", "item_id": "item_a1", "output_index": 0, "content_index": 0}
    audio = b64encode(bytes(4800)).decode()
    return dump({"type": "response.output_audio.delta", "event_id": event_id, **fields, "delta": audio})


# --- Tier A ---


def test_the_client_hears_session_created_only_when_the_provider_is_up(bench: Bench) -> None:
    bench.call.start(bench.now)
    bench.settle()
    assert bench.types() == []
    bench.provider("session.created", session={})
    assert bench.types() == ["session.created"]
    told = bench.received[0]["session"]["orchestrator"]
    assert told == {"call_id": "call_1", "tier": "A", "rung": "gpt-realtime-2.1", "reason": "default"}


def test_a_turn_on_tier_a_passes_audio_unparsed(bench: Bench) -> None:
    bench.connect()
    assert set(bench.audio(200)) == {Audio.FORWARD}
    bench.turn()
    bench.begin_answer()
    assert bench.delta() is True, "the second audio delta must go through as it came"
    bench.end_answer()
    done = bench.of("response.done")[0]["response"]
    assert done["metadata"] == {"tier": "A", "rung": "gpt-realtime-2.1"}
    assert done["conversation_id"] == "conv_b"
    assert bench.ctx.budget.spent == 2000, "one response and one transcription"


def test_transcripts_the_client_did_not_ask_for_stay_inside(bench: Bench) -> None:
    bench.connect()
    bench.turn(words="hello")
    assert not bench.of("conversation.item.input_audio_transcription.completed")
    assert bench.ctx.conversation.history() == (Message("user", "hello"),)


def test_a_malformed_provider_frame_is_never_passed_on(bench: Bench) -> None:
    bench.connect()
    before = len(bench.frames)
    for frame in (b'{"type": "response.created"', b"[]", b'{"type":"made.up","event_id":"e"}', b""):
        assert bench.call.upstream_frame(bench.attempt, frame, bench.now) is False
        bench.settle()
    assert len(bench.frames) == before


def test_what_the_provider_says_twice_is_heard_once(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    for frame in (delta_frame("up_x1"), delta_frame("up_x1"), delta_frame("up_x2"), delta_frame("up_x2")):
        if bench.call.upstream_frame(bench.attempt, frame, bench.now):
            bench.frames.append(Frame(frame.decode()))
        bench.settle()
    assert bench.ctx.playback.sent_ms("item_a1") == 200 + 2 * 100
    assert len(bench.of("response.output_audio.delta")) == 3
    bench.end_answer()


def test_client_masks_and_limits_go_upstream_but_not_into_the_clients_session(bench: Bench) -> None:
    bench.connect()
    bench.client({"type": "session.update", "session": {"type": "realtime", "instructions": "Be kind."}})
    sent = bench.upstream[-1]["session"]
    assert sent["max_output_tokens"] == 4096
    assert sent["audio"]["input"]["transcription"] == {"model": "gpt-transcribe"}
    bench.confirm_updates()
    seen = bench.of("session.updated")[-1]["session"]
    assert seen["instructions"] == "Be kind."
    assert seen["max_output_tokens"] == "inf"
    assert seen["audio"]["input"]["transcription"] is None


def test_a_client_mistake_gets_an_error_with_its_event_id_and_the_call_goes_on(bench: Bench) -> None:
    bench.connect()
    bench.client({"type": "session.update", "event_id": "mine", "session": {"output_modalities": ["smell"]}})
    error = bench.of("error")[0]["error"]
    assert error["event_id"] == "mine"
    assert "output_modalities" in error["message"]
    bench.turn()


# --- losing Tier A ---


def test_killed_in_mid_answer_the_turn_is_answered_by_tier_b(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    lose(bench)
    cut, bridged = bench.of("response.done")[0]["response"], bench.of("response.created")[1]["response"]
    assert (cut["status"], cut["usage"]) == ("incomplete", None)
    assert bridged["metadata"]["tier"] == "B"
    assert bench.rows("bridge"), "the caller hears the bridge at once"
    assert bench.request.history[:2] == (
        Message("user", "Where is my order 4172?"),
        Message("assistant", "Let me look", cut_off=True),
    )
    bench.answer("Your order 4172 is on its way.")
    done = bench.of("response.done")[1]["response"]
    assert done["status"] == "completed"
    assert [part["transcript"] for item in done["output"] for part in item["content"]] == [
        "One moment, please.",
        "Your order 4172 is on its way.",
    ]
    assert bench.of("session.updated")[-1]["session"]["orchestrator"]["tier"] == "B"


def test_a_clients_own_response_goes_on_under_its_id_and_metadata(bench: Bench) -> None:
    bench.connect()
    bench.client({"type": "response.create", "response": {"metadata": {"client_event_id": "x1"}}})
    bench.begin_answer(metadata={"client_event_id": "x1"})
    lose(bench)
    bench.answer("Here is the rest.")
    assert len(bench.of("response.created")) == len(bench.of("response.done")) == 1
    done = bench.of("response.done")[0]["response"]
    assert done["id"] == "resp_1"
    assert done["metadata"] == {"client_event_id": "x1", "tier": "B", "rung": "kokoro"}
    assert [item["status"] for item in done["output"]] == ["incomplete", "completed", "completed"]


def test_a_request_the_provider_never_took_up_is_answered_under_the_clients_metadata(bench: Bench) -> None:
    bench.connect()
    bench.client({"type": "response.create", "response": {"metadata": {"n": "1"}}})
    lose(bench)
    assert bench.of("response.created")[0]["response"]["metadata"]["n"] == "1"
    bench.answer("Hello.")


def test_an_item_the_provider_did_not_confirm_is_confirmed_by_us(bench: Bench) -> None:
    bench.connect()
    bench.client(
        {
            "type": "conversation.item.create",
            "item": {
                "id": "item_c1",
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Hi"}],
            },
        }
    )
    bench.client({"type": "response.create"})
    lose(bench)
    assert bench.of("conversation.item.added")[0]["item"]["id"] == "item_c1"
    assert Message("user", "Hi") in bench.request.history


def test_an_untranscribed_turn_is_written_down_before_it_is_answered(bench: Bench) -> None:
    bench.connect()
    bench.turn(words=None)
    bench.begin_answer()
    lose(bench)
    wanted = bench.last(Transcribe)
    assert wanted.item_id == "item_u1"
    assert len(wanted.audio) == 1500 * 48
    assert not bench.all(StartAnswer)
    bench.words("Where is order 77?")
    assert bench.request.history[0] == Message("user", "Where is order 77?")


def test_a_turn_between_its_end_and_its_commit_is_not_lost(bench: Bench) -> None:
    bench.connect()
    bench.provider("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_u1")
    bench.audio(1500)
    bench.provider("input_audio_buffer.speech_stopped", audio_end_ms=1500, item_id="item_u1")
    lose(bench)
    assert bench.of("input_audio_buffer.committed")[0]["item_id"] == "item_u1"
    assert bench.last(Transcribe).item_id == "item_u1"


def test_a_caller_in_mid_sentence_is_heard_to_the_end_without_a_bridge(bench: Bench) -> None:
    bench.connect()
    bench.provider("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_u1")
    bench.audio(1000)
    lose(bench)
    assert not bench.rows("bridge")
    bench.audio(1000)
    bench.speech(*[0.9] * 40, *[0.0] * 20)
    assert bench.of("input_audio_buffer.speech_stopped")[0]["item_id"] == "item_u1"
    assert len(bench.of("input_audio_buffer.speech_started")) == 1
    bench.words("Hello there")
    assert bench.request.history == (Message("user", "Hello there"),)
    assert not bench.rows("bridge")


def test_a_handover_in_silence_is_silent(bench: Bench) -> None:
    bench.connect()
    bench.audio(2000)
    lose(bench)
    assert not bench.of("response.created")
    assert bench.rows("handover")[0]["owed"] == 0


def test_a_half_open_function_call_is_closed_without_arguments_done(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.response_created("resp_1")
    item = {"id": "item_f", "object": "realtime.item", "type": "function_call", "status": "in_progress"}
    item |= {"name": "get_order_status", "call_id": "call_7", "arguments": ""}
    bench.provider("response.output_item.added", response_id="resp_1", output_index=0, item=item)
    bench.provider("conversation.item.added", item=item, previous_item_id="item_u1")
    lose(bench)
    assert not bench.of("response.function_call_arguments.done")
    assert bench.of("response.output_item.done")[0]["item"]["status"] == "incomplete"
    assert not any(isinstance(entry, ToolCall) for entry in bench.request.history)


def test_a_delivered_function_call_is_not_asked_for_again(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.response_created("resp_1")
    place = {"response_id": "resp_1", "output_index": 0}
    item = {"id": "item_f", "object": "realtime.item", "type": "function_call", "status": "in_progress"}
    item |= {"name": "get_order_status", "call_id": "call_7", "arguments": ""}
    bench.provider("response.output_item.added", **place, item=item)
    bench.provider("conversation.item.added", item=item, previous_item_id="item_u1")
    where = {**place, "item_id": "item_f", "call_id": "call_7"}
    arguments = '{"order_id":"7"}'
    bench.provider("response.function_call_arguments.delta", **where, delta=arguments)
    done = {"arguments": arguments, "name": "get_order_status"}
    bench.provider("response.function_call_arguments.done", **where, **done)
    item = {**item, "status": "completed", "arguments": '{"order_id":"7"}'}
    bench.provider("conversation.item.done", item=item, previous_item_id="item_u1")
    bench.provider("response.output_item.done", **place, item=item)
    lose(bench)
    assert not bench.all(StartAnswer), "the client has the call: its result is awaited"
    bench.client(
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": "call_7", "output": "shipped"},
        }
    )
    bench.client({"type": "response.create"})
    assert bench.request.history[-2:] == (
        ToolCall("call_7", "get_order_status", '{"order_id":"7"}'),
        ToolResult("call_7", "shipped"),
    )


@pytest.mark.parametrize(
    ("status_details", "cause"),
    [
        ({"type": "failed", "error": {"type": "server_error", "code": None}}, "response_failed"),
        ({"type": "failed", "error": {"code": "rate_limit_exceeded"}}, "rate_limited"),
        ({"type": "failed", "error": {"code": "insufficient_quota"}}, "no_credit"),
    ],
)
def test_a_failed_response_on_a_healthy_socket_is_a_fault(
    bench: Bench, status_details: Any, cause: str
) -> None:
    bench.connect()
    bench.turn()
    bench.response_created("resp_1")
    bench.provider(
        "response.done",
        response={"id": "resp_1", "status": "failed", "status_details": status_details, "usage": None},
    )
    assert bench.failures() == [cause]
    assert "failed" not in [event["response"]["status"] for event in bench.of("response.done")]
    bench.answer("Sorry for the wait.")


def test_a_completed_response_without_audio_is_a_fault(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.response_created("resp_1")
    bench.provider(
        "response.done",
        response={"id": "resp_1", "status": "completed", "status_details": None, "usage": None, "output": []},
    )
    assert bench.failures() == ["empty_response"]
    bench.answer("Here I am.")


# --- deadlines ---


def test_silence_after_the_callers_turn_is_a_fault_at_the_deadline(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.wait(0.99)
    assert bench.failures() == []
    bench.wait(0.02)
    assert bench.failures() == ["response_timeout"]
    assert bench.rows("handover")[0]["trigger"] == "deadline"
    bench.answer("Here I am.")


def test_silence_after_response_created_is_a_fault(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.response_created("resp_1")
    bench.wait(1.01)
    assert bench.failures() == ["first_audio_timeout"]


def test_a_stall_counts_from_when_the_clients_buffer_runs_dry(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    for _ in range(9):
        bench.delta()
    bench.wait(2.0 + bench.policy.next_audio_s - 0.01)
    assert bench.failures() == []
    bench.wait(0.02)
    assert bench.failures() == ["next_audio_timeout"]


def test_a_tool_call_owes_no_audio(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.response_created("resp_1")
    item = {"id": "item_f", "object": "realtime.item", "type": "function_call", "status": "in_progress"}
    item |= {"name": "get_order_status", "call_id": "call_7", "arguments": ""}
    bench.provider("response.output_item.added", response_id="resp_1", output_index=0, item=item)
    bench.wait(3.0)
    assert bench.failures() == []


def test_a_provider_that_never_says_session_created_is_left_at_the_deadline(bench: Bench) -> None:
    bench.call.start(bench.now)
    bench.settle()
    bench.audio(500)
    bench.wait(1.01)
    assert bench.failures() == ["connect_timeout"]
    assert bench.received[0]["type"] == "session.created"
    assert bench.received[0]["session"]["orchestrator"]["tier"] == "B"
    bench.say()
    bench.words("Hello?")
    bench.answer("Hello!")


def test_a_refused_connection_leads_straight_to_tier_b_and_keeps_what_the_client_sent(bench: Bench) -> None:
    bench.call.start(bench.now)
    bench.settle()
    bench.client(
        {
            "type": "session.update",
            "session": {"type": "realtime", "instructions": "Be brief.", "tools": [TOOL]},
        }
    )
    lose(bench, Cause.REFUSED)
    assert bench.types() == ["session.created", "session.updated"]
    bench.client({"type": "response.create"})
    assert bench.request.instructions == "Be brief."
    assert bench.request.tools == (TOOL,)


def test_an_error_before_session_created_is_a_refusal(bench: Bench) -> None:
    bench.call.start(bench.now)
    bench.settle()
    bench.provider(
        "error", error={"type": "invalid_request_error", "code": "invalid_api_key", "message": "no"}
    )
    assert bench.failures() == ["bad_key"]
    assert not bench.of("error")


# --- a caller who speaks to nobody ---


def test_a_caller_the_provider_does_not_notice_is_answered(bench: Bench) -> None:
    bench.connect()
    loud = (b"\x00\x20\x00\xe0") * 240
    for data, count in ((loud, 50), (b"\x00" * 960, 80)):
        for _ in range(count):
            bench.call.client_audio(append(data), bench.now)
    bench.settle()
    check = bench.last(CheckSpeech)
    bench.call.speech_checked(check.from_ms, True, bench.now)
    bench.settle()
    assert bench.failures() == ["deaf"]
    bench.speech(*[0.9] * 30, *[0.0] * 20)
    bench.words("Is anybody there?")
    assert bench.rows("bridge")
    assert bench.request.history == (Message("user", "Is anybody there?"),)


def test_noise_is_not_a_silent_provider(bench: Bench) -> None:
    bench.connect()
    loud = (b"\x00\x20\x00\xe0") * 240
    for data, count in ((loud, 50), (b"\x00" * 960, 80)):
        for _ in range(count):
            bench.call.client_audio(append(data), bench.now)
    bench.settle()
    bench.call.speech_checked(0.0, False, bench.now)
    bench.settle()
    assert bench.failures() == []
    assert bench.call.state is State.RELAYING


# --- Tier B ---


def local(bench: Bench) -> None:
    bench.tier = "B"
    bench.call.start(bench.now)
    bench.settle()


def test_a_turn_on_tier_b_in_canonical_order(bench: Bench) -> None:
    local(bench)
    bench.client(
        {
            "type": "session.update",
            "session": {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}},
        }
    )
    bench.say()
    bench.words("What are your hours?")
    bench.answer("We open at nine.")
    assert bench.types()[2:] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]


def test_barge_in_cuts_the_answer_to_what_was_heard(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("Tell me everything.")
    bench.answer("one two three four five six seven eight nine ten", ms=1000, finish=False)
    bench.wait(0.5)
    bench.say()
    done = bench.of("response.done")[0]["response"]
    assert done["status"] == "cancelled"
    assert done["status_details"]["reason"] == "turn_detected"
    assert bench.all(StopAnswer)
    bench.words("Stop.")
    heard = bench.request.history[1]
    assert isinstance(heard, Message)
    assert heard.cut_off
    assert heard.text.split() == ["one", "two", "three", "four", "five"]
    bench.answer("All right.")


def test_barge_in_after_the_response_was_done_still_cuts_what_was_heard(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("Tell me everything.")
    bench.answer("one two three four five six seven eight nine ten", ms=1000)
    bench.wait(0.5)
    bench.say()
    bench.words("Stop.")
    assert bench.request.history[1] == Message("assistant", "one two three four five", cut_off=True)
    bench.answer("All right.")


def test_noise_that_is_no_words_gets_no_answer(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("")
    assert not bench.of("response.created")
    assert bench.rows("turn_closed")[0]["reason"] == "nothing_said"


def test_tools_go_to_the_client_and_their_results_come_back(bench: Bench) -> None:
    local(bench)
    bench.client({"type": "session.update", "session": {"type": "realtime", "tools": [TOOL]}})
    bench.say()
    bench.words("Where is order 4172?")
    bench.call_tool("get_order_status", '{"order_id":"4172"}')
    called = bench.of("response.function_call_arguments.done")[0]
    bench.client(
        {
            "type": "conversation.item.create",
            "item": {
                "type": "function_call_output",
                "call_id": called["call_id"],
                "output": '{"status":"shipped"}',
            },
        }
    )
    bench.client({"type": "response.create"})
    assert bench.request.history[-1] == ToolResult("call_b1", '{"status":"shipped"}')
    bench.answer("It is on its way.")


def test_when_tier_b_cannot_answer_tier_c_does(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("Hello?")
    bench.call.answer_event(bench.request.answer_id, Failed("agent", "it is down"), bench.now)
    bench.settle()
    assert [action.tier for action in bench.all(StartAnswer)] == ["B", "C"]
    bench.answer("I can only help with simple things right now.")
    assert bench.of("response.done")[0]["response"]["metadata"]["tier"] == "C"


def test_when_tier_b_is_silent_tier_c_answers_at_the_deadline(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("Hello?")
    bench.wait(bench.policy.answer_s + 0.01)
    assert [action.tier for action in bench.all(StartAnswer)] == ["B", "C"]
    bench.answer("Please hold on.")


def test_when_nobody_can_answer_the_caller_is_told(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("Hello?")
    for _ in range(2):
        bench.call.answer_event(bench.request.answer_id, Failed("agent", "it is down"), bench.now)
        bench.settle()
    done = bench.of("response.done")[0]["response"]
    assert (done["status"], done["output"][0]["content"][0]["transcript"]) == ("incomplete", "I am sorry.")
    assert bench.rows("turn_closed")[0]["reason"] == "answer_failed"


def test_transcription_that_does_not_come_does_not_hold_the_answer_for_ever(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.wait(bench.policy.answer_s + 0.01)
    assert bench.rows("transcription_late")


def test_a_refused_update_is_taken_back_and_later_ones_stay(bench: Bench) -> None:
    bench.connect()
    bench.client({"event_id": "one", **update(instructions="first", tool_choice="none")})
    bench.client({"event_id": "two", **update(instructions="second")})
    error = {"type": "invalid_request_error", "code": "invalid_value", "message": "no", "event_id": "one"}
    bench.provider("error", error=error)
    bench.provider("session.updated", session={})
    assert bench.ctx.session.instructions == "second"
    assert bench.ctx.session.fields["tool_choice"] == "auto"


def test_manual_turns_commit_and_answer_on_request(bench: Bench) -> None:
    local(bench)
    bench.client(
        {
            "type": "session.update",
            "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}},
        }
    )
    bench.client({"type": "input_audio_buffer.commit"})
    assert bench.of("error")[0]["error"]["code"] == "input_audio_buffer_commit_empty"
    bench.audio(1000)
    bench.client({"type": "input_audio_buffer.commit"})
    bench.client({"type": "response.create"})
    assert bench.of("response.created"), "a client's own request is taken up at once"
    bench.words("Hello")
    bench.answer("Hi.")


def test_cancel_retrieve_truncate_and_delete(bench: Bench) -> None:
    local(bench)
    bench.client({"type": "response.cancel"})
    assert bench.of("error")[0]["error"]["code"] == "response_cancel_not_active"
    bench.client({"type": "response.create"})
    bench.answer("one two three", ms=600, finish=False)
    bench.client({"type": "response.cancel"})
    done = bench.of("response.done")[0]["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    item_id = done["output"][0]["id"]
    bench.client(
        {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": 300}
    )
    bench.client(
        {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": 9999}
    )
    bench.client({"type": "conversation.item.retrieve", "item_id": item_id})
    bench.client({"type": "conversation.item.delete", "item_id": item_id})
    bench.client({"type": "conversation.item.delete", "item_id": item_id})
    assert len(bench.of("conversation.item.truncated")) == 1
    assert bench.of("conversation.item.retrieved")[0]["item"]["id"] == item_id
    assert len(bench.of("conversation.item.deleted")) == 1
    assert len(bench.of("error")) == 3


def test_an_out_of_band_answer_runs_beside_the_conversation(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("Hello?")
    first = bench.request
    wanted = {"conversation": "none", "input": [user_text("Sum up.")], "output_modalities": ["text"]}
    bench.client(
        {
            "type": "response.create",
            "response": {**wanted, "metadata": {"k": "v"}},
        }
    )
    second = bench.request
    assert second.history == (Message("user", "Sum up."),)
    assert second.speak is False
    bench.call.answer_event(
        second.answer_id,
        TextDelta("Nothing yet."),
        bench.now,
    )
    bench.call.answer_event(
        second.answer_id,
        Finished(),
        bench.now,
    )
    bench.settle()
    oob = bench.of("response.done")[0]["response"]
    assert oob["conversation_id"] is None
    assert oob["metadata"]["k"] == "v"
    assert first.answer_id != second.answer_id


# --- planned moves ---


def test_an_operator_moves_a_live_call_between_turns(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.tier, bench.decided_by = "B", DecidedBy.OVERRIDE
    bench.call.consider(bench.now)
    bench.settle()
    assert bench.call.state is State.RELAYING, "an answer is owed"
    bench.begin_answer()
    bench.end_answer()
    assert bench.call.state is State.LOCAL
    row = bench.rows("handover")[0]
    assert (row["trigger"], row["owed"]) == ("operator", 0)
    assert not bench.rows("bridge")


def test_another_calls_trouble_does_not_move_a_call_that_is_well(bench: Bench) -> None:
    bench.connect()
    bench.tier, bench.decided_by = "B", DecidedBy.HEALTH
    bench.call.consider(bench.now)
    assert bench.call.state is State.RELAYING


def promote(bench: Bench) -> None:
    bench.wait(1.6)
    assert bench.call.state is State.PROMOTING
    bench.provider("session.created", session={})
    held = bench.upstream[0]["session"]
    assert held["audio"]["input"]["turn_detection"] is None
    for event in [e for e in bench.upstream if e["type"] == "conversation.item.create"]:
        bench.provider("conversation.item.added", item=event["item"], previous_item_id=None)


def test_a_call_is_promoted_with_its_conversation_under_known_ids(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    lose(bench)
    bench.answer("Your order is on its way.")
    bench.wait(1.5)
    promote(bench)
    replayed = [e["item"] for e in bench.upstream if e["type"] == "conversation.item.create"]
    assert [(item["role"], item["content"][0]["text"]) for item in replayed] == [
        ("user", "Where is my order 4172?"),
        ("assistant", "Let me look"),
        ("assistant", "Your order is on its way."),
    ], "the bridge is no part of it"
    bench.confirm_updates()
    assert bench.call.state is State.RELAYING
    assert bench.of("session.updated")[-1]["session"]["orchestrator"]["tier"] == "A"
    at = bench.ctx.input.total_ms
    bench.turn("item_u2", start=0)
    started = bench.of("input_audio_buffer.speech_started")[-1]["audio_start_ms"]
    assert at - 320 <= started <= at, "provider times are rebased to the call's"
    bench.begin_answer("resp_2", "item_a2")
    bench.end_answer("resp_2", "item_a2")


def test_no_promotion_before_the_rung_has_proved_itself(bench: Bench) -> None:
    bench.connect()
    bench.healthy = False
    lose(bench)
    bench.wait(10)
    assert bench.call.state is State.LOCAL
    bench.healthy = True
    bench.wait(1)
    assert bench.call.state is State.PROMOTING


def test_a_caller_who_speaks_keeps_the_call_where_it_is(bench: Bench) -> None:
    bench.connect()
    lose(bench)
    bench.wait(1.6)
    assert bench.call.state is State.PROMOTING
    bench.say()
    assert bench.call.state is State.LOCAL
    assert bench.rows("promotion_abandoned")
    bench.words("Hello?")
    bench.answer("Yes?")


def test_a_failed_promotion_costs_the_caller_nothing(bench: Bench) -> None:
    bench.connect()
    lose(bench)
    bench.wait(1.6)
    before = len(bench.frames)
    lose(bench, Cause.REFUSED)
    assert bench.call.state is State.LOCAL
    assert len(bench.frames) == before
    assert bench.failures() == ["closed", "refused"]


def test_late_news_of_a_lost_session_is_ignored(bench: Bench) -> None:
    bench.connect()
    old = bench.attempt
    lose(bench)
    before = len(bench.frames)
    bench.call.upstream_lost(old, Cause.CLOSED, bench.now)
    bench.call.upstream_frame(
        old, b'{"type":"rate_limits.updated","event_id":"e","rate_limits":[]}', bench.now
    )
    bench.settle()
    assert len(bench.frames) == before


def test_items_born_in_tier_b_are_answered_by_us_after_the_promotion(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    lose(bench)
    bench.answer("Your order is on its way.", ms=2000)
    item_id = bench.of("response.done")[-1]["response"]["output"][-1]["id"]
    bench.wait(3)
    promote(bench)
    bench.confirm_updates()
    bench.upstream.clear()
    bench.client(
        {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": 500}
    )
    assert bench.of("conversation.item.truncated")[0]["item_id"] == item_id
    assert bench.upstream == []


def test_hanging_up_ends_everything(bench: Bench) -> None:
    bench.connect()
    bench.call.client_closed(bench.now)
    bench.settle()
    assert bench.call.state is State.ENDED
    assert bench.upstream_closed
    assert bench.call.next_due() is None
    bench.call.client_closed(bench.now)


def test_the_table_of_states_is_closed() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(target in TRANSITIONS for targets in TRANSITIONS.values() for target in targets)
    assert TRANSITIONS[State.ENDED] == frozenset()


def test_a_new_provider_session_is_opened_once(bench: Bench) -> None:
    bench.connect()
    assert len(bench.all(OpenUpstream)) == 1


# --- what else may go wrong ---


def fail_response(bench: Bench, response_id: str = "resp_1") -> None:
    details = {"type": "failed", "error": {"type": "server_error", "code": None}}
    wire = {"id": response_id, "status": "failed", "status_details": details, "usage": None}
    bench.provider("response.done", response=wire)


def test_a_response_that_fails_after_closing_its_items_is_still_owed(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    place = {"response_id": "resp_1", "item_id": "item_a1", "output_index": 0, "content_index": 0}
    bench.provider("response.output_audio.done", **place)
    bench.provider("response.output_audio_transcript.done", **place, transcript="Let me look")
    bench.provider("response.content_part.done", **place, part={"type": "audio", "transcript": "Let me look"})
    wire = {"id": "item_a1", "object": "realtime.item", "type": "message", "role": "assistant"}
    wire |= {"status": "incomplete", "content": [{"type": "output_audio", "transcript": "Let me look"}]}
    bench.provider("conversation.item.done", item=wire, previous_item_id="item_u1")
    bench.provider("response.output_item.done", response_id="resp_1", output_index=0, item=wire)
    fail_response(bench)
    assert Message("assistant", "Let me look", cut_off=True) in bench.request.history
    bench.answer("Here is the rest.")


def test_a_provider_that_goes_mute_while_the_caller_speaks(bench: Bench) -> None:
    bench.connect()
    bench.provider("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_u1")
    loud = (b"\x00\x20\x00\xe0") * 240
    for data, count in ((loud, 50), (b"\x00" * 960, 80)):
        for _ in range(count):
            bench.call.client_audio(append(data), bench.now)
    bench.settle()
    bench.call.speech_checked(bench.last(CheckSpeech).from_ms, True, bench.now)
    bench.settle()
    bench.speech(*[0.9] * 30, *[0.0] * 20)
    assert len(bench.of("input_audio_buffer.speech_started")) == 1
    assert bench.of("input_audio_buffer.speech_stopped")[0]["item_id"] == "item_u1"
    bench.words("Is anybody there?")
    assert bench.rows("bridge")
    bench.answer("I am here.")


def test_a_cough_that_cuts_an_answer_off_does_not_lose_it(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("Tell me everything.")
    bench.answer("one two three four", ms=800, finish=False)
    bench.wait(0.4)
    bench.say(200)
    bench.words("")
    assert bench.rows("false_interruption")
    assert bench.request.history == (
        Message("user", "Tell me everything."),
        Message("assistant", "one two", cut_off=True),
    )
    bench.answer("three four")


def test_what_the_client_asked_for_survives_a_caller_who_speaks_first(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.client({"type": "response.create", "response": {"conversation": "auto", "metadata": {"n": "1"}}})
    lose(bench)
    bench.say()
    bench.words("Never mind.")
    bench.answer("All right.")
    bench.answer("And this is what you asked for.")
    assert [e["response"]["metadata"].get("n") for e in bench.of("response.done")].count("1") == 1


def test_requests_in_flight_when_the_provider_dies_are_carried_out(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    bench.end_answer()
    bench.client({"type": "conversation.item.retrieve", "item_id": "item_u1"})
    bench.client(
        {"type": "conversation.item.truncate", "item_id": "item_a1", "content_index": 0, "audio_end_ms": 100}
    )
    bench.client({"type": "conversation.item.delete", "item_id": "item_a1"})
    bench.client({"type": "input_audio_buffer.clear"})
    bench.provider("conversation.item.retrieved", item=bench.ctx.conversation.get("item_u1").wire)
    lose(bench)
    for kind in ("item.retrieved", "item.truncated", "item.deleted"):
        assert len(bench.of(f"conversation.{kind}")) == 1, kind
    assert len(bench.of("input_audio_buffer.cleared")) == 1


def test_an_unlimited_answer_is_limited_towards_the_provider_only(bench: Bench) -> None:
    bench.connect()
    bench.client({"type": "response.create", "response": {"max_output_tokens": "inf"}})
    assert bench.upstream[-1]["response"]["max_output_tokens"] == 4096
    bench.begin_answer()
    bench.end_answer()
    shown = [
        e["response"]["max_output_tokens"] for e in bench.of("response.created") + bench.of("response.done")
    ]
    assert shown == ["inf", "inf"]


def test_the_providers_own_defaults_are_what_the_client_is_told(bench: Bench) -> None:
    bench.call.start(bench.now)
    bench.settle()
    detection = {"type": "server_vad", "silence_duration_ms": 200}
    audio = {"input": {"turn_detection": detection}, "output": {"voice": "alloy"}}
    bench.provider(
        "session.created", session={"type": "realtime", "instructions": "Be nice.", "audio": audio}
    )
    told = bench.received[0]["session"]
    assert told["instructions"] == "Be nice."
    assert told["audio"]["output"]["voice"] == "alloy"
    assert told["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 200

"""Tiers B and C: turn taking, items and responses are ours."""

from __future__ import annotations

import pytest

from orchestrator.core.actions import StartAnswer, StopAnswer, Transcribe
from orchestrator.protocol.answers import Failed, Finished, Message, TextDelta, ToolResult
from tests.core.bench import TOOL, Bench, audio_input, local, lose, update, user_text


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
    bench.wait(0.3)
    bench.answer("I can only help with simple things right now.")
    assert bench.of("response.done")[0]["response"]["metadata"]["tier"] == "C"
    (recovery,) = bench.rows("recovery")
    assert recovery["what"] == "retry"
    assert recovery["took_ms"] >= 300


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


def test_a_turn_that_could_not_be_written_down_is_not_met_with_silence(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.call.transcribed(bench.last(Transcribe).item_id, None, bench.now)
    bench.settle()
    assert not bench.all(StartAnswer)
    done = bench.of("response.done")[-1]["response"]
    assert done["output"][0]["content"][0]["transcript"] == "I am sorry."
    assert bench.rows("turn_ended")[0]["outcome"] == "closed"


def test_a_transcript_that_comes_too_late_is_not_met_with_silence(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.wait(bench.policy.answer_s + 0.1)
    assert bench.rows("transcription_late")
    assert bench.of("response.done")
    assert bench.ctx.outcomes.open == []


@pytest.mark.parametrize("kind", ["input_audio_buffer.commit", "input_audio_buffer.clear", ""])
def test_what_the_client_asked_for_is_answered_after_a_turn_that_wants_no_answer(
    bench: Bench, kind: str
) -> None:
    """The caller spoke over the answer before it, and the client took that turn over, or wants no answers to turns."""
    bench.connect()
    bench.turn()
    bench.client({"type": "conversation.item.create", "item": user_text("And my refund?")})
    bench.client({"type": "response.create"})
    lose(bench)
    if not kind:
        bench.client(audio_input(turn_detection={"type": "server_vad", "create_response": False}))
    bench.audio(600)
    bench.speech(*[0.9] * 16)
    assert bench.ctx.outcomes.open == [2]
    if kind:
        bench.client({"type": kind})
    else:
        bench.audio(800)
        bench.speech(*[0.0] * 24)
    if kind != "input_audio_buffer.clear":
        bench.words("Never mind.")
    bench.answer("It is on its way.")
    assert bench.ctx.outcomes.open == []
    bench.check()

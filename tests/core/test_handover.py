"""Losing Tier A: what was half open is closed, and what is owed is answered by the next tier."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.actions import CheckSpeech, StartAnswer, Transcribe
from orchestrator.protocol.answers import Message, ToolCall, ToolResult
from tests.core.bench import Bench, append, local, lose

# --- losing Tier A ---


def test_killed_in_mid_answer_the_turn_is_answered_by_tier_b(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    lose(bench)
    assert not bench.rows("bridge"), "the client still has 200 ms to play"
    bench.wait(0.06)
    cut, bridged = bench.of("response.done")[0]["response"], bench.of("response.created")[1]["response"]
    assert (cut["status"], cut["usage"]) == ("incomplete", None)
    assert bridged["metadata"]["tier"] == "B"
    assert bench.rows("bridge"), "the caller hears the bridge when that runs out"
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
    bench.wait(0.2)
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
    bench.words("Hello there")
    assert bench.of("input_audio_buffer.speech_stopped")[0]["item_id"] == "item_u1"
    assert len(bench.of("input_audio_buffer.speech_started")) == 1
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
    assert bench.all(CheckSpeech)
    bench.call.speech_checked(False, bench.now)
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
    bench.say(400)
    bench.words("")
    assert bench.rows("false_interruption")
    assert bench.request.history == (
        Message("user", "Tell me everything."),
        Message("assistant", "one two", cut_off=True),
    )
    bench.wait(0.3)
    bench.answer("three four")
    (recovery,) = bench.rows("recovery")
    assert recovery["what"] == "interruption"
    assert 300 <= recovery["took_ms"] < 1000


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

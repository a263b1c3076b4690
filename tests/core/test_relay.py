"""Tier A: what passes, what is masked, what counts as a failure."""

from __future__ import annotations

import pytest

from orchestrator.core.actions import CheckSpeech, Listen
from orchestrator.core.call import Audio, State
from orchestrator.core.health import Cause
from orchestrator.core.outcomes import Outcome
from orchestrator.protocol.answers import Message
from tests.conformance.checker import Frame
from tests.core.bench import TOOL, Bench, append, delta_frame, lose, user_text

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
    assert bench.all(CheckSpeech)
    bench.call.speech_checked(True, bench.now)
    bench.settle()
    assert bench.failures() == ["deaf"]
    assert [listen.from_ms for listen in bench.all(Listen)] == [0.0], "heard once, from the beginning"
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
    bench.call.speech_checked(False, bench.now)
    bench.settle()
    assert bench.failures() == []
    assert bench.call.state is State.RELAYING


def speak_unnoticed(bench: Bench, quiet_ms: int) -> None:
    """A second of speech and a pause after it, of which the provider says nothing."""
    for _ in range(50):
        bench.call.client_audio(append((b"\x00\x20\x00\xe0") * 240), bench.now)
    bench.audio(quiet_ms)


@pytest.mark.parametrize("quiet_ms", [100, 400], ids=["not yet suspicious", "being looked at"])
def test_a_provider_that_fails_before_it_is_known_to_be_deaf_takes_no_turn_with_it(
    bench: Bench, quiet_ms: int
) -> None:
    bench.connect()
    bench.audio(2000)
    speak_unnoticed(bench, quiet_ms)
    lose(bench)
    assert bench.last(Listen).from_ms == 1700.0
    if quiet_ms == 400:
        assert bench.all(CheckSpeech)
        bench.call.speech_checked(True, bench.now)
        bench.settle()
    assert bench.failures() == ["closed"]
    assert len(bench.all(Listen)) == 1
    bench.audio(800)
    bench.speech(*[0.0] * 9, *[0.9] * 31, *[0.0] * 20)
    bench.words("Is anybody there?")
    bench.answer("I am here.")
    assert bench.rows("turn_ended") == [{"turn": 1, "outcome": "answered"}]
    bench.check()


def test_a_caller_who_talks_over_an_answer_that_breaks_off_is_heard(bench: Bench) -> None:
    bench.connect()
    bench.client({"type": "conversation.item.create", "item": user_text("Tell me a story.")})
    bench.client({"type": "response.create"})
    bench.begin_answer()
    speak_unnoticed(bench, 100)
    bench.wait(1.0)
    assert bench.failures() == ["next_audio_timeout"]
    bench.audio(800)
    bench.speech(*[0.9] * 31, *[0.0] * 20)
    assert bench.of("response.done")[-1]["response"]["status"] == "cancelled"
    bench.words("Never mind.")
    bench.answer("All right.")
    outcomes = bench.ctx.outcomes
    assert (outcomes.count(Outcome.STOPPED), outcomes.count(Outcome.ANSWERED)) == (1, 1)
    assert bench.last(Listen).from_ms == 0.0
    bench.check()

"""Tiers B and C hear a caller: pauses written down, answers begun in silence, interruptions and "mm-hm"."""

from __future__ import annotations

import pytest

from orchestrator.core.actions import StartAnswer, StopAnswer, Transcribe
from orchestrator.core.context import Policy
from orchestrator.core.steps import Step, StepAction, StepPolicy
from orchestrator.protocol.answers import (
    AnswerRequest,
    AudioDelta,
    Charge,
    Charged,
    Failed,
    Finished,
    Message,
    TextDelta,
    ToolCallReady,
    Transcript,
)
from orchestrator.protocol.audio import AudioFormat
from tests.core.bench import TOOL, Bench, audio_input, local, update
from tests.core.test_money_any_order import Prices

PAUSE = 160
"""Quiet after which a pause is told: 5 windows."""
STARTED = "input_audio_buffer.speech_started"
STOPPED = "input_audio_buffer.speech_stopped"


def pauses(bench: Bench, words: str = "Where is order 4172?", ms: int = 960) -> None:
    """The caller says something, is quiet for the length of a pause, and it is written down."""
    bench.live(0.9, ms)
    bench.live(0.0, PAUSE)
    bench.words(words)


def speculated(bench: Bench) -> AnswerRequest:
    """The answer that was begun before the turn was over."""
    assert not bench.of("response.created")
    return bench.request


def tells(bench: Bench, *events: object) -> None:
    for event in events:
        bench.call.answer_event(bench.request.answer_id, event, bench.now)  # type: ignore[arg-type]
    bench.settle()


# --- pauses and the end of a turn ---


def test_a_turn_is_written_down_at_its_first_pause_and_only_once(bench: Bench) -> None:
    local(bench)
    bench.client(audio_input(transcription={"model": "whisper-1"}))
    bench.live(0.9, 960)
    bench.live(0.0, PAUSE)
    assert not bench.of(STOPPED)
    assert len(bench.last(Transcribe).audio) == pytest.approx((960 + PAUSE) * 48, abs=32 * 48)
    bench.words("Where is order 4172?")
    bench.live(0.0, 384)
    assert len(bench.all(Transcribe)) == 1
    completed = bench.of("conversation.item.input_audio_transcription.completed")
    assert [e["transcript"] for e in completed] == ["Where is order 4172?"]
    assert completed[0]["item_id"] == bench.of(STOPPED)[0]["item_id"]
    bench.answer("On its way.")
    bench.check()


def test_a_caller_who_goes_on_is_written_down_anew(bench: Bench) -> None:
    local(bench)
    pauses(bench, "I would like to")
    bench.live(0.9, 640)
    bench.live(0.0, PAUSE)
    bench.words("I would like to cancel.")
    bench.live(0.0, 384)
    assert bench.request.history == (Message("user", "I would like to cancel."),)
    bench.answer("All right.")
    bench.check()


@pytest.mark.parametrize(
    ("words", "ends_after_ms"), [("My order number is", 1024), ("It is 4172.", 512), ("the blue one", 512)]
)
def test_an_unfinished_turn_waits_longer(bench: Bench, words: str, ends_after_ms: int) -> None:
    local(bench)
    pauses(bench, words)
    bench.live(0.0, ends_after_ms - PAUSE - 32)
    assert not bench.of(STOPPED)
    bench.live(0.0, 32)
    assert len(bench.of(STOPPED)) == 1


def test_the_digits_of_a_number_that_was_asked_for_are_waited_for(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("I want to track a parcel.")
    bench.answer("What is your order number?")
    bench.wait(1.0)
    pauses(bench, "Four one.")
    bench.live(0.0, 512)
    assert len(bench.of(STOPPED)) == 1, "the first turn's"


def test_a_turn_stays_open_for_its_words_and_ends_with_them(bench: Bench) -> None:
    local(bench)
    bench.live(0.9, 960)
    bench.live(0.0, 640)
    assert not bench.of(STOPPED)
    bench.words("Where is order 4172?")
    assert bench.of(STOPPED)
    assert bench.request.history == (Message("user", "Where is order 4172?"),)


def test_a_turn_ends_without_its_words_and_takes_them_when_they_come(bench: Bench) -> None:
    local(bench)
    bench.live(0.9, 960)
    bench.live(0.0, 1024)
    assert bench.of(STOPPED)
    assert not bench.all(StartAnswer)
    bench.words("Where is order 4172?")
    assert len(bench.all(Transcribe)) == 1
    assert bench.request.history == (Message("user", "Where is order 4172?"),)


def test_a_turn_ends_by_the_clock_where_no_more_audio_comes(bench: Bench) -> None:
    local(bench)
    bench.live(0.9, 960)
    bench.live(0.0, 512)
    bench.wait(0.6)
    assert not bench.of(STOPPED)
    bench.wait(0.2)
    assert bench.of(STOPPED)


def test_words_of_a_pause_that_could_not_be_had_are_tried_again(bench: Bench) -> None:
    local(bench)
    bench.live(0.9, 960)
    bench.live(0.0, PAUSE)
    bench.call.transcribed(bench.last(Transcribe).item_id, None, bench.now)
    bench.live(0.0, 384)
    assert len(bench.all(Transcribe)) == 2
    assert bench.last(Transcribe).item_id == bench.of(STOPPED)[0]["item_id"]
    bench.words("Hello.")
    bench.answer("Hello.")


def test_one_pause_is_written_down_at_a_time(bench: Bench) -> None:
    local(bench)
    bench.live(0.9, 960)
    bench.live(0.0, PAUSE)
    bench.live(0.9, 320)
    bench.live(0.0, PAUSE)
    assert len(bench.all(Transcribe)) == 1
    bench.words("Where is")
    assert len(bench.all(Transcribe)) == 2
    bench.words("Where is my order?")
    bench.live(0.0, 384)
    assert bench.request.history == (Message("user", "Where is my order?"),)


@pytest.mark.parametrize("kind", ["commit", "clear"])
def test_a_commit_or_a_clear_gives_up_what_a_pause_began(bench: Bench, kind: str) -> None:
    local(bench)
    pauses(bench)
    bench.client({"type": f"input_audio_buffer.{kind}"})
    assert [row["result"] for row in bench.rows("speculation")] == ["dropped"]
    bench.live(0.0, 640)
    assert not bench.of(STOPPED), "the turn was ended by the client"
    bench.check()


# --- speculation ---


def test_an_answer_begun_at_a_pause_is_there_when_the_turn_ends(bench: Bench) -> None:
    local(bench)
    pauses(bench)
    begun = speculated(bench)
    audio = AudioDelta(AudioFormat.PCM.silence(400))
    tells(bench, TextDelta("On its way."), audio, Finished(rung="kokoro"))
    assert not bench.of("response.created"), "nothing is heard before the turn is over"
    bench.live(0.0, 384)
    assert [a.request.answer_id for a in bench.all(StartAnswer)] == [begun.answer_id]
    (done,) = bench.of("response.done")
    assert done["response"]["output"][0]["content"][0]["transcript"] == "On its way."
    (row,) = bench.rows("speculation")
    assert (row["result"], row["saved_ms"]) == ("used", 0.0), "all was there at once on the bench"
    assert bench.rows("answer")[0]["ttfa_ms"] == 0.0
    bench.check()


def test_an_answer_that_is_still_being_made_goes_on(bench: Bench) -> None:
    local(bench)
    pauses(bench)
    tells(bench, TextDelta("On its way."))
    bench.live(0.0, 384)
    assert bench.of("response.created")
    assert bench.rows("speculation")[0]["saved_ms"] == pytest.approx(352, abs=1)
    tells(bench, AudioDelta(AudioFormat.PCM.silence(400)), Finished(rung="kokoro"))
    assert bench.of("response.done")[0]["response"]["status"] == "completed"
    assert not bench.all(StopAnswer)
    bench.check()


def test_an_answer_is_thrown_away_when_the_caller_goes_on(bench: Bench) -> None:
    local(bench)
    pauses(bench, "Where is my order?")
    first = speculated(bench)
    tells(bench, TextDelta("Which order?"), AudioDelta(AudioFormat.PCM.silence(400)))
    bench.live(0.9, 320)
    assert bench.last(StopAnswer).answer_id == first.answer_id
    bench.live(0.0, PAUSE)
    bench.words("Where is my order? The blue one.")
    bench.live(0.0, 384)
    assert bench.request.history == (Message("user", "Where is my order? The blue one."),)
    bench.answer("It is on its way.")
    said = [e["response"]["output"][0]["content"][0]["transcript"] for e in bench.of("response.done")]
    assert said == ["It is on its way."]
    assert [row["result"] for row in bench.rows("speculation")] == ["dropped", "used"]
    bench.check()


def test_a_blip_after_the_words_costs_no_answer(bench: Bench) -> None:
    local(bench)
    pauses(bench)
    bench.live(0.9, 64)
    bench.live(0.0, 512)
    assert [row["result"] for row in bench.rows("speculation")] == ["used"]


def test_a_tool_is_not_called_before_the_turn_is_over(bench: Bench) -> None:
    local(bench)
    bench.client(update(tools=[TOOL]))
    pauses(bench)
    tells(bench, ToolCallReady("call_b1", "get_order_status", '{"order_id":"4172"}'), Finished(rung="kokoro"))
    assert "response.function_call_arguments.done" not in bench.types()
    bench.live(0.0, 384)
    (called,) = bench.of("response.function_call_arguments.done")
    assert called["call_id"] == "call_b1"
    bench.check()


def test_a_tool_asked_for_too_early_is_never_called_when_the_caller_goes_on(bench: Bench) -> None:
    local(bench)
    bench.client(update(tools=[TOOL]))
    pauses(bench, "Cancel order 4172.")
    tells(bench, ToolCallReady("call_b1", "get_order_status", '{"order_id":"4172"}'), Finished(rung="kokoro"))
    bench.live(0.9, 320)
    bench.live(0.0, PAUSE)
    bench.words("Cancel order 4172. No, wait.")
    bench.live(0.0, 384)
    bench.answer("All right.")
    assert "response.function_call_arguments.done" not in bench.types()


def test_what_has_changed_meanwhile_is_asked_anew(bench: Bench) -> None:
    local(bench)
    pauses(bench)
    first = speculated(bench)
    bench.client(update(instructions="Speak like a pirate."))
    bench.live(0.0, 384)
    assert bench.request.answer_id != first.answer_id
    assert bench.request.instructions == "Speak like a pirate."
    assert bench.rows("speculation")[0]["result"] == "dropped"
    assert [a.answer_id for a in bench.all(StopAnswer)] == [first.answer_id]


def test_an_answer_that_failed_in_silence_is_tried_again(bench: Bench) -> None:
    local(bench)
    pauses(bench)
    tells(bench, Failed("agent", "it is down"))
    assert not bench.failures()
    bench.live(0.0, 384)
    assert len(bench.all(StartAnswer)) == 2
    bench.answer("On its way.")
    assert bench.of("response.done")[0]["response"]["metadata"]["tier"] == "B"


@pytest.mark.parametrize(
    ("policy", "words", "detection"),
    [
        (Policy(speculate=False), "Where is it?", {}),
        (Policy(), "Where is the", {}),
        (Policy(), "", {}),
        (Policy(), "Where is it?", {"create_response": False}),
    ],
)
def test_nothing_is_begun_that_is_not_wanted(policy: Policy, words: str, detection: dict[str, bool]) -> None:
    bench = Bench(policy)
    local(bench)
    bench.client(audio_input(turn_detection={"type": "server_vad", **detection}))
    pauses(bench, words)
    assert not bench.all(StartAnswer)


def test_a_call_that_ends_stops_what_it_had_begun(bench: Bench) -> None:
    local(bench)
    pauses(bench)
    begun = speculated(bench)
    bench.call.client_closed(bench.now)
    bench.settle()
    assert bench.last(StopAnswer).answer_id == begun.answer_id
    assert bench.call.over


# --- what it costs ---


def agent(amount: int = 400) -> Charged:
    return Charged(Charge("agent", "gpt", amount, {"prompt_tokens": 1}))


def charges(bench: Bench) -> list[int]:
    return [row["nanodollars"] for row in bench.rows("charge")]


def test_what_was_thrown_away_is_paid_for() -> None:
    bench = Bench(costs=Prices())
    local(bench)
    pauses(bench)
    tells(bench, agent(), TextDelta("Which?"))
    bench.live(0.9, 320)
    assert charges(bench) == [400]
    assert bench.rows("charge")[0]["speculation"]
    assert dict(bench.ctx.purse.running) == {}
    assert bench.rows("speculation")[0]["cost_usd"] == 400 / 1e9


def test_an_agent_that_had_not_told_its_bill_is_charged_at_its_worst() -> None:
    bench = Bench(costs=Prices())
    local(bench)
    pauses(bench)
    bench.live(0.9, 320)
    assert charges(bench) == [500]
    assert dict(bench.ctx.purse.running) == {}


def test_an_answer_that_is_used_is_charged_once() -> None:
    bench = Bench(costs=Prices())
    local(bench)
    pauses(bench)
    tells(bench, agent(), TextDelta("On its way."), Finished(rung="kokoro"))
    bench.call.answer_closed(bench.request.answer_id, (), bench.now)
    assert bench.ctx.purse.worst(bench.request.answer_id), "its bill is still to be counted"
    bench.live(0.0, 384)
    assert charges(bench) == [400]
    assert bench.rows("answer")[0]["cost_usd"] == 400 / 1e9
    assert dict(bench.ctx.purse.running) == {}


def test_an_answer_that_had_ended_when_it_was_thrown_away_leaves_nothing_set_aside() -> None:
    bench = Bench(costs=Prices())
    local(bench)
    pauses(bench)
    tells(bench, agent(), TextDelta("On its way."), Finished(rung="kokoro"))
    bench.call.answer_closed(bench.request.answer_id, (), bench.now)
    bench.live(0.9, 320)
    assert charges(bench) == [400]
    assert dict(bench.ctx.purse.running) == {}
    assert bench.ctx.closing == {}


def test_a_call_that_has_become_cheaper_spends_nothing_on_a_guess() -> None:
    bench = Bench(costs=Prices(), steps=StepPolicy((Step(0.0, StepAction.CONCISE),)))
    local(bench)
    bench.wait(1.0)
    assert bench.ctx.stepper.level is StepAction.CONCISE
    pauses(bench)
    assert not bench.all(StartAnswer)


# --- interruptions ---


def speaks_to_the_caller(bench: Bench, detection: dict[str, object] | None = None) -> None:
    """The assistant is heard for the next four seconds."""
    local(bench)
    if detection:
        bench.client(audio_input(turn_detection=detection))
    bench.say()
    bench.words("Tell me everything.")
    bench.answer("one two three four five six seven eight", ms=4000, finish=False)


def test_a_short_burst_does_not_stop_the_assistant(bench: Bench) -> None:
    speaks_to_the_caller(bench)
    for ms in (32, 128, 256):
        bench.live(0.9, ms)
        bench.live(0.0, 384)
    assert len(bench.of(STARTED)) == 1
    assert not bench.all(StopAnswer)


def test_speech_stops_the_assistant_within_400_ms(bench: Bench) -> None:
    speaks_to_the_caller(bench)
    bench.live(0.0, 384)
    began = bench.now
    while not bench.all(StopAnswer):
        bench.live(0.9, 32)
    assert bench.now - began <= 0.32
    assert bench.of("response.done")[0]["response"]["status_details"]["reason"] == "turn_detected"
    bench.check()


def test_a_burst_begins_a_turn_where_nobody_is_interrupted(bench: Bench) -> None:
    local(bench)
    bench.live(0.9, 128)
    assert bench.of(STARTED)


def test_a_caller_who_may_not_interrupt_is_heard_as_usual(bench: Bench) -> None:
    speaks_to_the_caller(bench, {"type": "server_vad", "interrupt_response": False})
    bench.live(0.9, 128)
    assert len(bench.of(STARTED)) == 2
    assert not bench.all(StopAnswer)


SEMANTIC: dict[str, object] = {"type": "semantic_vad"}


def utters(bench: Bench, words: str | None) -> None:
    bench.live(0.9, 416)
    bench.live(0.0, 224)
    transcript = None if words is None else Transcript(words, 0.6)
    bench.call.transcribed(bench.last(Transcribe).item_id, transcript, bench.now)
    bench.settle()


@pytest.mark.parametrize("words", ["Mm-hm.", "Okay.", "", None])
def test_an_mm_hm_is_let_pass(bench: Bench, words: str | None) -> None:
    speaks_to_the_caller(bench, SEMANTIC)
    utters(bench, words)
    assert len(bench.of(STARTED)) == 1
    assert not bench.all(StopAnswer)
    assert bench.rows("backchannel") == [{"text": words or ""}]
    bench.answer(finish=True)
    bench.check()


def test_a_short_word_that_matters_stops_the_assistant_and_is_answered(bench: Bench) -> None:
    speaks_to_the_caller(bench, SEMANTIC)
    utters(bench, "Stop.")
    assert len(bench.of(STARTED)) == 2
    assert bench.of("response.done")[0]["response"]["status"] == "cancelled"
    bench.live(0.0, 384)
    assert len(bench.of(STOPPED)) == 2
    assert bench.request.history[-1] == Message("user", "Stop.")
    assert len(bench.all(Transcribe)) == 2
    bench.answer("All right.")
    bench.check()


def test_long_speech_stops_the_assistant_whatever_is_said(bench: Bench) -> None:
    speaks_to_the_caller(bench, SEMANTIC)
    bench.live(0.9, 672)
    assert bench.all(StopAnswer)


def test_an_okay_after_the_assistant_has_spoken_is_an_answer(bench: Bench) -> None:
    speaks_to_the_caller(bench, SEMANTIC)
    bench.call.answer_event(bench.request.answer_id, Finished(rung="kokoro"), bench.now)
    bench.wait(3.6)
    utters(bench, "Okay.")
    assert len(bench.of(STARTED)) == 2
    bench.live(0.0, 512)
    assert bench.request.history[-1] == Message("user", "Okay.")


def test_an_utterance_that_goes_on_is_one_turn_with_what_follows(bench: Bench) -> None:
    speaks_to_the_caller(bench, SEMANTIC)
    bench.live(0.9, 416)
    bench.live(0.0, 224)
    first = bench.last(Transcribe)
    bench.live(0.9, 672)
    started = bench.of(STARTED)[-1]
    assert started["audio_start_ms"] < bench.ctx.input.total_ms - 1200
    bench.call.transcribed(first.item_id, Transcript("Okay.", 0.6), bench.now)
    bench.settle()
    assert len(bench.of(STARTED)) == 2
    bench.check()


def test_server_vad_lets_no_words_pass(bench: Bench) -> None:
    speaks_to_the_caller(bench)
    bench.live(0.9, 416)
    assert bench.all(StopAnswer)

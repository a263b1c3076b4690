"""What guardrails vetoed: no agent gets it, and a line that is in memory is said instead."""

from __future__ import annotations

from orchestrator.core.actions import StartAnswer, Transcribe
from orchestrator.core.outcomes import Outcome
from orchestrator.core.veto import WITHHELD
from orchestrator.protocol.answers import Message, Transcript
from tests.core.bench import CLIPS, Bench, audio_input, local, lose, update

LINE = CLIPS["cannot_say"]


def vetoed(bench: Bench, veto: str = "cannot_say") -> None:
    """The latest words asked for are not let through."""
    key = bench.last(Transcribe).item_id
    bench.call.transcribed(key, Transcript(WITHHELD, 1.0, veto=veto), bench.now)
    bench.settle()


def said(bench: Bench) -> list[str]:
    return [event["transcript"] for event in bench.of("response.output_audio_transcript.done")]


# --- heard, in Tiers B and C ---


def test_a_vetoed_turn_is_answered_with_the_line_and_no_agent_is_asked(bench: Bench) -> None:
    local(bench)
    bench.say()
    vetoed(bench)
    assert bench.all(StartAnswer) == []
    [done] = bench.of("response.done")
    assert done["response"]["status"] == "completed"
    assert done["response"]["metadata"] == {"tier": "C", "rung": "prompts"}
    assert said(bench) == [LINE]
    assert bench.of("response.output_audio.delta")
    assert bench.ctx.outcomes.count(Outcome.ANSWERED) == 1
    assert [row["text"] for row in bench.rows("caller_said")] == [WITHHELD]


def test_the_next_turn_is_answered_by_an_agent_that_never_sees_the_words(bench: Bench) -> None:
    local(bench)
    bench.say()
    vetoed(bench)
    bench.wait(1.0)
    bench.say()
    bench.words("When do you open?")
    assert bench.request.history == (
        Message("user", WITHHELD),
        Message("assistant", LINE),
        Message("user", "When do you open?"),
    )
    bench.answer("At nine.")


def test_the_clients_transcript_is_withheld_too(bench: Bench) -> None:
    local(bench)
    bench.client(audio_input(transcription={"model": "gpt-transcribe"}))
    bench.say()
    vetoed(bench)
    [told] = bench.of("conversation.item.input_audio_transcription.completed")
    assert told["transcript"] == WITHHELD


def test_nothing_is_begun_on_what_was_vetoed_at_a_pause(bench: Bench) -> None:
    local(bench)
    bench.live(0.9, 1000)
    bench.live(0.0, 300)
    assert bench.last(Transcribe).item_id.startswith("pause")
    vetoed(bench)
    assert bench.all(StartAnswer) == []
    bench.live(0.0, 1500)
    assert bench.all(StartAnswer) == []
    assert said(bench) == [LINE]
    assert len(bench.all(Transcribe)) == 1, "its words are the turn's"


def test_a_caller_who_goes_on_after_a_vetoed_pause_is_heard_anew(bench: Bench) -> None:
    local(bench)
    bench.live(0.9, 1000)
    bench.live(0.0, 300)
    vetoed(bench)
    bench.live(0.9, 1000)
    bench.live(0.0, 300)
    bench.words("Sorry, when do you open?")
    bench.live(0.0, 1500)
    assert bench.request.history == (Message("user", "Sorry, when do you open?"),)
    bench.answer("At nine.")


def test_a_clients_own_request_gets_the_line_and_text_alone_gets_its_words(bench: Bench) -> None:
    local(bench)
    bench.client(update(output_modalities=["text"]))
    bench.client(audio_input(turn_detection=None))
    bench.audio(1000)
    bench.client({"type": "input_audio_buffer.commit"})
    bench.client({"type": "response.create"})
    vetoed(bench)
    [done] = bench.of("response.done")
    assert done["response"]["output"][0]["content"] == [{"type": "output_text", "text": LINE}]
    assert not bench.of("response.output_audio.delta")


def test_an_answer_beside_the_conversation_is_none_to_the_turn(bench: Bench) -> None:
    local(bench)
    bench.client(audio_input(turn_detection=None))
    bench.audio(1000)
    bench.client({"type": "input_audio_buffer.commit"})
    vetoed(bench)
    request = {"conversation": "none", "output_modalities": ["text"], "instructions": "Summarise."}
    bench.client({"type": "response.create", "response": request})
    assert bench.request.history == (Message("user", WITHHELD),)
    bench.answer("Nothing yet.", ms=0)


def test_a_turn_that_a_provider_lost_is_vetoed_after_the_handover(bench: Bench) -> None:
    bench.connect()
    bench.turn(words=None)
    lose(bench)
    vetoed(bench)
    assert bench.all(StartAnswer) == []
    assert LINE in said(bench)


def test_a_hedge_asks_no_agent_about_what_was_vetoed(bench: Bench) -> None:
    bench.connect()
    bench.turn(words=None)
    bench.wait(0.6)
    vetoed(bench)
    assert bench.all(StartAnswer) == []
    bench.wait(0.6)
    assert bench.rows("handover")
    assert bench.all(StartAnswer) == []
    assert LINE in said(bench)

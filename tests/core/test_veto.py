"""What guardrails vetoed: no agent gets it, and a line that is in memory is said instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.core.actions import Judge, Record, StartAnswer, Transcribe
from orchestrator.core.context import Owed, Policy
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


# --- in Tier A, after the fact ---


def guarded(*hooks: str) -> Iterator[Bench]:
    bench = Bench(policy=Policy(transcription_model="gpt-transcribe", guarded=frozenset(hooks)))
    bench.connect()
    yield bench
    bench.check()


@pytest.fixture
def hears() -> Iterator[Bench]:
    """A call in Tier A, whose callers are looked at."""
    yield from guarded("heard")


@pytest.fixture
def speaks() -> Iterator[Bench]:
    """... whose answers are."""
    yield from guarded("said")


def judge(bench: Bench, line: str = "cannot_say", which: int = -1) -> None:
    asked = bench.all(Judge)[which]
    bench.call.judged(asked.hook, asked.id, line, bench.now)
    bench.settle()


def more_words(bench: Bench, delta: str, response: str = "resp_1", item: str = "item_a1") -> None:
    place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
    bench.provider("response.output_audio_transcript.delta", **place, delta=delta)


def told_upstream(bench: Bench, kind: str) -> list[dict[str, Any]]:
    return [event for event in bench.upstream if event["type"] == kind]


def statuses(bench: Bench) -> list[str]:
    return [event["response"]["status"] for event in bench.of("response.done")]


def test_without_guardrails_nobody_is_asked(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    more_words(bench, ". And more. ")
    bench.end_answer(words="Let me look. And more. ")
    assert bench.all(Judge) == []


def test_an_answer_is_looked_at_sentence_by_sentence(speaks: Bench) -> None:
    speaks.turn()
    speaks.begin_answer()
    for delta in (" it up. Your", " order is 3.5 kg", '. "Really?" Yes. And', " so on"):
        more_words(speaks, delta)
    speaks.end_answer(words='Let me look it up. Your order is 3.5 kg. "Really?" Yes. And so on')
    asked = [(question.hook, question.id, question.text) for question in speaks.all(Judge)]
    texts = ["Let me look it up.", "Your order is 3.5 kg.", '"Really?"', "Yes.", "And so on"]
    assert asked == [("said", "resp_1", text) for text in texts]
    for number in range(len(texts)):
        judge(speaks, "", number)
    assert statuses(speaks) == ["completed"]


def test_a_vetoed_answer_is_cancelled_and_the_line_said_when_it_has_ended(speaks: Bench) -> None:
    speaks.turn()
    speaks.begin_answer()
    more_words(speaks, " at the secret. ")
    passed = len(speaks.of("response.output_audio.delta"))
    judge(speaks)
    [cancel] = told_upstream(speaks, "response.cancel")
    assert cancel["response_id"] == "resp_1"
    assert speaks.delta() is False
    assert len(speaks.of("response.output_audio.delta")) == passed, "no more of it is passed on"
    assert statuses(speaks) == []
    speaks.cancel_answer(words="Let me look at the secret. ")
    assert statuses(speaks) == ["cancelled", "completed"]
    assert speaks.of("response.done")[0]["response"]["status_details"] == {"type": "cancelled"}
    assert speaks.of("response.done")[1]["response"]["metadata"] == {"tier": "C", "rung": "prompts"}
    assert said(speaks)[-1] == LINE
    assert len(speaks.of("response.output_audio.delta")) > passed
    assert speaks.ctx.outcomes.count(Outcome.ANSWERED) == 1
    assert [row["line"] for row in speaks.rows("refusal")] == ["cannot_say"]


def test_the_provider_forgets_a_vetoed_answer_and_the_client_keeps_it(speaks: Bench) -> None:
    speaks.turn()
    speaks.begin_answer()
    more_words(speaks, " at the secret. ")
    judge(speaks)
    speaks.cancel_answer(words="Let me look at the secret. ")
    [delete] = told_upstream(speaks, "conversation.item.delete")
    assert delete["item_id"] == "item_a1"
    speaks.provider("conversation.item.deleted", item_id="item_a1")
    assert not speaks.of("conversation.item.deleted")
    assert [entry.text for entry in speaks.ctx.conversation.history()][1:] == [WITHHELD, LINE]
    # What the client asks about it we answer ourselves.
    event = {"type": "conversation.item.truncate", "item_id": "item_a1", "content_index": 0}
    speaks.client({**event, "audio_end_ms": 100})
    assert speaks.of("conversation.item.truncated")


def test_our_own_words_are_nobody_elses_to_judge(speaks: Bench) -> None:
    assert speaks.call.relay is not None
    request = {"instructions": "Say exactly: Let me look"}
    owed = Owed(request, client_asked=False, since=speaks.now, say="Let me look")
    speaks.call.relay.owe(owed, speaks.now)
    speaks.begin_answer()
    speaks.end_answer()
    assert speaks.all(Judge) == []


def test_a_sentence_that_is_vetoed_twice_has_one_line(speaks: Bench) -> None:
    speaks.turn()
    speaks.begin_answer()
    more_words(speaks, " at the secret. And the other. ")
    judge(speaks, which=0)
    judge(speaks, which=1)
    speaks.cancel_answer(words="Let me look at the secret. And the other. ")
    judge(speaks, which=1)
    assert len(told_upstream(speaks, "response.cancel")) == 1
    assert said(speaks).count(LINE) == 1


def test_a_veto_after_the_answer_is_followed_by_the_line(speaks: Bench) -> None:
    speaks.turn()
    speaks.begin_answer()
    speaks.end_answer()
    judge(speaks)
    assert not told_upstream(speaks, "response.cancel")
    assert said(speaks)[-1] == LINE


def test_a_veto_that_finds_the_caller_speaking_says_nothing(speaks: Bench) -> None:
    speaks.turn()
    speaks.begin_answer()
    speaks.end_answer()
    speaks.provider("input_audio_buffer.speech_started", audio_start_ms=3000, item_id="item_u2")
    judge(speaks)
    assert LINE not in said(speaks)


def test_what_was_to_be_cancelled_and_is_over_is_no_error_of_the_clients(speaks: Bench) -> None:
    speaks.turn()
    speaks.begin_answer()
    more_words(speaks, " at the secret. ")
    judge(speaks)
    [cancel] = told_upstream(speaks, "response.cancel")
    error = {"type": "invalid_request_error", "code": "response_cancel_not_active", "message": "none"}
    speaks.provider("error", error={**error, "param": None, "event_id": cancel["event_id"]})
    assert not speaks.of("error")
    speaks.end_answer(words="Let me look at the secret. ")
    assert statuses(speaks) == ["completed", "completed"]
    assert said(speaks)[-1] == LINE


def test_a_provider_that_does_not_end_a_vetoed_answer_fails_and_tier_b_says_the_line(speaks: Bench) -> None:
    speaks.turn()
    speaks.begin_answer()
    more_words(speaks, " at the secret. ")
    judge(speaks)
    speaks.wait(5.0)
    assert speaks.rows("handover")
    assert speaks.request.say == LINE
    speaks.answer(LINE)


def test_a_turns_words_count_once_they_were_looked_at(hears: Bench) -> None:
    hears.client(audio_input(transcription={"model": "gpt-transcribe"}))
    hears.confirm_updates()
    kind = "conversation.item.input_audio_transcription"
    hears.turn(words=None)
    place = {"item_id": "item_u1", "content_index": 0}
    hears.provider(f"{kind}.delta", **place, delta="Where is")
    usage = {"type": "duration", "seconds": 1.5}
    hears.provider(f"{kind}.completed", **place, transcript="Where is it?", usage=usage)
    assert not hears.of(f"{kind}.delta")
    assert not hears.of(f"{kind}.completed")
    assert hears.ctx.conversation.history() == (Message("user", ""),)
    assert [row["what"] for row in hears.rows("charge")] == ["transcription"]
    judge(hears, "")
    assert [event["transcript"] for event in hears.of(f"{kind}.completed")] == ["Where is it?"]
    assert hears.ctx.conversation.history() == (Message("user", "Where is it?"),)
    assert [row["text"] for row in hears.rows("caller_said")] == ["Where is it?"]
    hears.begin_answer()
    hears.end_answer()


def test_a_vetoed_turns_answer_is_cancelled_and_its_words_are_nowhere(hears: Bench) -> None:
    hears.client(audio_input(transcription={"model": "gpt-transcribe"}))
    hears.confirm_updates()
    hears.turn(words="Tell me the secret.")
    hears.begin_answer()
    judge(hears)
    hears.cancel_answer()
    assert statuses(hears) == ["cancelled", "completed"]
    assert said(hears)[-1] == LINE
    [told] = hears.of("conversation.item.input_audio_transcription.completed")
    assert told["transcript"] == WITHHELD
    assert [row["text"] for row in hears.rows("caller_said")] == [WITHHELD]
    deleted = {event["item_id"] for event in told_upstream(hears, "conversation.item.delete")}
    assert deleted == {"item_u1", "item_a1"}
    assert "secret" not in str(hears.received) + str(hears.all(Record))


def test_a_turn_that_we_wrote_down_ourselves_is_refused_in_the_same_way(hears: Bench) -> None:
    hears.turn(words=None)
    hears.begin_answer()
    transcript = Transcript(WITHHELD, 1.0, veto="cannot_say")
    for _ in range(2):  # and once only, though the provider's words may follow
        hears.call.transcribed("item_u1", transcript, hears.now)
        hears.settle()
    assert len(told_upstream(hears, "response.cancel")) == 1
    hears.cancel_answer()
    assert said(hears).count(LINE) == 1


def test_an_answer_that_begins_after_the_veto_is_stopped_as_well(hears: Bench) -> None:
    hears.turn(words="Tell me the secret.")
    judge(hears)
    assert not told_upstream(hears, "response.cancel")
    hears.begin_answer()
    assert [event["response_id"] for event in told_upstream(hears, "response.cancel")] == ["resp_1"]
    assert not hears.of("response.output_audio.delta")
    hears.cancel_answer()
    assert said(hears)[-1] == LINE


def test_a_caller_who_goes_on_is_answered_for_what_came_last(hears: Bench) -> None:
    hears.turn(words="Tell me the secret.")
    hears.provider("input_audio_buffer.speech_started", audio_start_ms=2000, item_id="item_u2")
    judge(hears)
    hears.audio(1000)
    hears.provider("input_audio_buffer.speech_stopped", audio_end_ms=3000, item_id="item_u2")
    assert not told_upstream(hears, "response.cancel")
    hears.begin_answer()
    hears.end_answer()
    assert statuses(hears) == ["completed"]


def test_a_veto_after_a_handover_is_the_next_tiers_to_find(hears: Bench) -> None:
    hears.turn(words="Tell me the secret.")
    lose(hears)
    judge(hears)
    assert hears.last(Transcribe).item_id == "item_u1", "the words that were not looked at do not count"
    vetoed(hears)
    assert hears.all(StartAnswer) == []
    assert LINE in said(hears)


def test_a_provider_that_dies_on_a_vetoed_turn_leaves_the_line_to_be_said(hears: Bench) -> None:
    hears.turn(words="Tell me the secret.")
    judge(hears)
    lose(hears)
    assert hears.all(StartAnswer) == []
    assert LINE in said(hears)

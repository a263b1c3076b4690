"""Tier B as a whole: with scripted parts for what may go wrong, and once with all the real ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.core.price_list import ModelPrice
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import (
    AnsweredBy,
    AnswerRequest,
    AudioDelta,
    Charged,
    Failed,
    Finished,
    Message,
    TextDelta,
    ToolCall,
    ToolCallReady,
    ToolResult,
)
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Float32, Pcm16, to_pcm16
from orchestrator.simulate.cartesia import CartesiaSimulator, Options
from orchestrator.simulate.cartesia_faults import CATALOGUE
from orchestrator.simulate.fault_board import parse
from orchestrator.simulate.voices import ToneVoice
from tests.tiers.pipeline.scripted import (
    BY_CHARACTER,
    CHARACTER,
    ORDER_TOOL,
    SOON,
    THOUGHT,
    Deaf,
    Prompts,
    Script,
    Voice,
    asking,
    audio,
    charges,
    collect,
    kinds,
    pipeline,
    says,
    text,
)
from tiers import flow
from tiers.pipeline.agent import Agent, AgentEvent, Done, Words
from tiers.pipeline.cartesia import CartesiaSpeech
from tiers.pipeline.embedded import EMBEDDED, EmbeddedModel
from tiers.pipeline.errors import AgentFailed, Cause, EngineFailed
from tiers.pipeline.kokoro import KokoroSpeech
from tiers.pipeline.metering import CHARACTERS_PER_TOKEN, Paid
from tiers.pipeline.pipeline import DELTA_MS, Pipeline
from tiers.pipeline.rungs import Resting
from tiers.pipeline.stt import WhisperTranscriber
from tiers.speech import SpeechFailed

# An answer of the agent's


async def test_words_come_just_before_their_audio_clause_by_clause() -> None:
    events = await collect(pipeline(says("The first sentence is here. Then the second one follows.")))
    assert kinds(events) == ["TextDelta", "AudioDelta", "TextDelta", "AudioDelta", "Finished"]
    assert [event.text for event in events if isinstance(event, TextDelta)] == [
        "The first sentence is here.",
        " Then the second one follows.",
    ]
    spoken = text(events).replace(" Then", "Then")
    assert len(audio(events)) == len(spoken) * CHARACTER * 2


@pytest.mark.parametrize("fmt", AudioFormat)
async def test_audio_is_in_the_sessions_format_and_in_small_pieces(fmt: AudioFormat) -> None:
    words = "The first sentence is here. Then the second one follows."
    events = await collect(pipeline(says(words)), asking(format=fmt))
    pieces = [fmt.ms(len(event.data)) for event in events if isinstance(event, AudioDelta)]
    assert min(pieces) > 0
    assert max(pieces) <= DELTA_MS
    assert sum(pieces) == pytest.approx((len(words) - 1) * CHARACTER / SPEAK_RATE * 1000, abs=1)
    middle = to_pcm16(audio(events), fmt)[fmt.rate // 2 : fmt.rate]
    assert np.abs(middle - 1000).max() < 50


async def test_the_engine_is_told_the_sessions_voice_speed_and_language() -> None:
    voice = Voice()
    await collect(pipeline(says("Hello to you."), voice), asking(voice="cedar", speed=1.2, language="es"))
    assert voice.options == {"voice": "cedar", "speed": 1.2, "language": "es"}


async def test_what_it_cost_and_how_long_it_took() -> None:
    voice = Voice(price=BY_CHARACTER)
    agent = Script(Words("Hello to you."), THOUGHT, Done("script", 10, 5))
    events = await collect(pipeline(agent, voice))
    done = events[-1]
    assert isinstance(done, Finished)
    assert (done.input_tokens, done.output_tokens) == (10, 5)
    spent = [(charge.what, charge.nanodollars) for charge in charges(events)]
    assert sorted(spent) == [("agent", 1000), ("speech", 13 * 100)]
    assert (done.rung, done.end_call) == ("voice", False)
    assert set(done.parts) == {"agent_first_token", "tts_first_audio", "first_audio"}
    assert 0 <= done.parts["agent_first_token"] <= done.parts["first_audio"] < SOON


async def test_an_engine_is_paid_for_the_characters_it_is_sent() -> None:
    voice = Voice(price=BY_CHARACTER)
    events = await collect(pipeline(says("Order 4172 is here."), voice))
    [speech] = [charge for charge in charges(events) if charge.what == "speech"]
    # It is sent "Order 4 1 7 2 is here.": 22 characters.
    assert (speech.model, speech.nanodollars, speech.usage) == ("voice", 2_200, {"characters": 22})


async def test_an_engine_of_ones_own_is_paid_for_by_the_minute_it_speaks() -> None:
    voice = Voice(price=ModelPrice(per_minute=0.006), fails_after=7)
    events = await collect(pipeline(says("Hello to you."), voice, Voice("spare")))
    [speech] = [charge for charge in charges(events) if charge.what == "speech"]
    # 7 of 15 characters a second: 466.7 ms, and a millisecond is 100 nano-dollars.
    assert (speech.usage, speech.nanodollars) == ({"seconds": 0.467}, 46_700)


async def test_a_clause_that_two_engines_were_sent_is_paid_for_twice() -> None:
    first, second = Voice("first", fails_after=0, price=BY_CHARACTER), Voice("second", price=BY_CHARACTER)
    events = await collect(pipeline(says("Hello to you."), first, second))
    spent = [(charge.model, charge.nanodollars) for charge in charges(events) if charge.what == "speech"]
    assert spent == [("first", 1_300), ("second", 1_300)]


async def test_a_prompt_that_was_not_at_hand_is_paid_for() -> None:
    said = flow.Say("hours")
    for cached, cost in ((True, []), (False, [("speech", "voice", len("prompt hours") * 100)])):
        prompts = Prompts(cached=cached)
        voice = Voice(price=BY_CHARACTER)
        tier = pipeline(says("no"), voice, prompts=prompts, prompt_speech=voice, decide=lambda _: said)
        spent = charges(await collect(tier))
        assert [(charge.what, charge.model, charge.nanodollars) for charge in spent] == cost


async def test_what_a_closed_answer_cost_can_be_asked_for_once() -> None:
    class Leaving(Script):
        async def reply(self, request: AnswerRequest, paid: Paid) -> AsyncIterator[AgentEvent]:
            try:
                yield Words("Hello to you. And")
                await asyncio.Event().wait()
            finally:
                paid(THOUGHT)

    tier = pipeline(Leaving(), Voice(price=BY_CHARACTER))
    answer = tier.answer(asking())
    told = []
    while not any(isinstance(event, AudioDelta) for event in told):
        told.append(await anext(answer))
    assert [charge.what for charge in charges(told)] == ["speech"]
    assert tier.untold("answer_1") == []
    await answer.aclose()
    assert tier.untold("answer_1") == [THOUGHT]
    assert tier.untold("answer_1") == []


async def test_no_answer_costs_more_than_its_worst_case() -> None:
    words = "one two three four five six, " * 40
    voice = Voice(price=BY_CHARACTER)
    tier = pipeline(says(words), voice)
    request = asking(max_output_tokens=100)
    assert tier.worst(request) == tier.worst_agent(request) + 100 * CHARACTERS_PER_TOKEN * 100
    events = await collect(tier, request)
    speech = sum(charge.nanodollars for charge in charges(events) if charge.what == "speech")
    assert 300 * 100 < speech <= 100 * CHARACTERS_PER_TOKEN * 100
    assert words.startswith(text(events).rstrip(","))
    assert isinstance(events[-1], Finished)
    # What costs nothing goes on.
    tier = pipeline(says(words), Voice(price=BY_CHARACTER), Voice("own"))
    assert len(text(await collect(tier, request))) > 1_000


def test_text_alone_costs_no_speech() -> None:
    tier = pipeline(says("Yes."), Voice(price=BY_CHARACTER))
    silent = asking(speak=False)
    assert tier.worst(silent) == tier.worst_agent(silent) == 5_000


async def test_without_speech_the_words_are_passed_on_as_they_come() -> None:
    voice = Voice()
    agent = Script(Words("**It"), Words(" is"), Words(" here.**"), Done("script", 1, 1))
    events = await collect(pipeline(agent, voice), asking(speak=False))
    assert events[:-1] == [TextDelta("**It"), TextDelta(" is"), TextDelta(" here.**")]
    assert isinstance(events[-1], Finished)
    assert (events[-1].rung, voice.texts) == ("script", [])


async def test_the_agent_writes_on_while_a_clause_is_spoken_and_the_reader_lags() -> None:
    """Nobody has read past the first audio, and the second clause is synthesised already."""
    voice = Voice()
    answer = pipeline(says("The first sentence is here. Then the second one follows."), voice).answer(
        asking()
    )
    assert isinstance(await anext(answer), TextDelta)
    async with asyncio.timeout(SOON):
        assert await voice.asked.get() == "The first sentence is here."
        assert await voice.asked.get() == "Then the second one follows."
    await answer.aclose()


async def test_the_first_clause_is_spoken_before_the_agent_is_done() -> None:
    never = asyncio.Event()
    agent = Script(Words("The first sentence is here. Then"), never, Done("script"))
    answer = pipeline(agent).answer(asking())
    assert await asyncio.wait_for(anext(answer), SOON) == TextDelta("The first sentence is here.")
    assert isinstance(await asyncio.wait_for(anext(answer), SOON), AudioDelta)
    await answer.aclose()


async def test_a_tool_call_comes_after_the_words_before_it() -> None:
    call = ToolCallReady("call_1", "look", "{}")
    events = await collect(pipeline(Script(Words("Let me look."), call, Done("script"))))
    assert kinds(events) == ["TextDelta", "AudioDelta", "ToolCallReady", "Finished"]
    silent = await collect(pipeline(Script(call, Done("script"))))
    assert silent[0] == call
    assert kinds(silent) == ["ToolCallReady", "Finished"]


async def test_half_a_sentence_at_the_token_limit_is_left_unsaid() -> None:
    assert (
        text(await collect(pipeline(says("All is well here. And then", cut_short=True))))
        == "All is well here."
    )
    assert text(await collect(pipeline(says("All is", cut_short=True)))) == "All is"


# The call's own words


async def test_words_of_the_call_are_spoken_as_they_are_and_nobody_is_asked() -> None:
    voice, agent = Voice(), Script()
    words = "I have order 4172, to be cancelled. Is that right?"
    events = await collect(pipeline(agent, voice, prompts=Prompts()), asking("Goodbye.", say=words))
    assert text(events) == words
    assert kinds(events) == ["TextDelta", "AudioDelta"] * 3 + ["Finished"]
    assert voice.texts == ["I have order 4172,", "to be cancelled.", "Is that right?"]
    assert agent.requests == []
    done = events[-1]
    assert isinstance(done, Finished)
    assert (done.rung, done.input_tokens, done.output_tokens) == ("voice", 0, 0)


async def test_words_of_the_call_cost_speech_and_no_agent() -> None:
    words = "I have order 4172, to be cancelled. Is that right?"
    tier = pipeline(Script(), Voice(price=BY_CHARACTER))
    request = asking(say=words)
    assert tier.worst_agent(request) == 0
    spent = charges(await collect(tier, request))
    assert {charge.what for charge in spent} == {"speech"}
    assert 0 < sum(charge.nanodollars for charge in spent) <= tier.worst(request)
    assert tier.worst(asking(say=words, speak=False)) == 0


async def test_words_of_the_call_are_written_where_no_speech_is_wanted() -> None:
    voice = Voice()
    events = await collect(pipeline(Script(), voice), asking(say="Is that right?", speak=False))
    assert events == [TextDelta("Is that right?"), Finished(rung="say")]
    assert voice.texts == []


async def test_words_of_the_call_go_on_with_the_next_engine() -> None:
    first, second = Voice("first", fails_after=10), Voice("second")
    events = await collect(pipeline(Script(), first, second), asking(say="Your order number is on its way."))
    assert second.texts == ["number is on its way."]
    assert isinstance(events[-1], Finished)


async def test_words_of_the_call_that_nobody_can_say_are_a_failure() -> None:
    events = await collect(pipeline(Script(), Voice(fails_after=0)), asking(say="Is that right?"))
    assert kinds(events) == ["Failed"]
    [failed] = await collect(pipeline(Script()), asking(say=" **"))
    assert isinstance(failed, Failed)
    assert failed.cause == "pipeline_bad_request"


# What goes wrong


async def test_an_agent_that_fails_before_any_word() -> None:
    events = await collect(pipeline(Script(AgentFailed(Cause.RATE_LIMITED, "too many"))))
    assert events == [Failed("agent_rate_limited", "too many")]


async def test_an_agent_that_fails_in_the_middle_keeps_what_was_spoken() -> None:
    agent = Script(Words("The first sentence is here. Then the"), AgentFailed(Cause.TIMEOUT, "silent"))
    events = await collect(pipeline(agent))
    assert kinds(events) == ["TextDelta", "AudioDelta", "Failed"]
    assert text(events) == "The first sentence is here."
    assert events[-1] == Failed("agent_timeout", "silent")


async def test_an_agent_that_ends_without_a_word() -> None:
    assert await collect(pipeline(Script())) == [
        Failed("agent_empty", "the text agent ended without an answer")
    ]


async def test_an_unexpected_error_is_a_failed_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    events = await collect(pipeline(Script(RuntimeError("sk-of-nobody"))))
    assert events == [Failed("pipeline_error", "unexpected RuntimeError")]
    assert "an answer of the pipeline failed" in caplog.text


async def test_the_next_rung_speaks_where_the_first_cannot() -> None:
    first, second = Voice("first", fails_after=0), Voice("second")
    events = await collect(pipeline(says("One sentence is here. Then there is another one."), first, second))
    assert kinds(events) == ["AnsweredBy", "TextDelta", "AudioDelta", "TextDelta", "AudioDelta", "Finished"]
    assert events[0] == AnsweredBy("B", "second")
    assert isinstance(events[-1], Finished)
    assert events[-1].rung == "second"
    assert first.texts == ["One sentence is here."], (
        "a rung that failed is not asked again in the same answer"
    )
    assert second.texts == ["One sentence is here.", "Then there is another one."]


async def test_no_word_that_was_spoken_is_repeated_by_the_next_rung() -> None:
    """By the pace of speech: 10 characters were heard, "Your order", and no more may have begun."""
    first, second = Voice("first", fails_after=10), Voice("second")
    events = await collect(pipeline(says("Your order number is on its way."), first, second))
    assert second.texts == ["number is on its way."]
    assert text(events) == "Your order number is on its way."
    assert kinds(events) == ["TextDelta", "AudioDelta", "AnsweredBy", "AudioDelta", "Finished"]


async def test_an_engine_that_knows_what_is_left_is_believed() -> None:
    left = EngineFailed(Cause.TIMEOUT, "late", rest="its way.")
    first, second = Voice("first", fails_after=3, failure=left), Voice("second")
    await collect(pipeline(says("Your order is on its way."), first, second))
    assert second.texts == ["its way."]


async def test_a_provider_cut_off_in_mid_sentence_is_followed_word_by_word() -> None:
    """Cartesia's word times tell what the caller has heard, and the next rung begins right there."""
    sentence = "Your order number is on its way to your house."
    simulator = CartesiaSimulator(Options(ToneVoice(), first_audio_ms=5, pace=20))
    async with simulator.start() as origin:
        cartesia, second = CartesiaSpeech("key", origin), Voice("second")
        simulator.faults.arm(parse({"fault": "drop", "moment": "mid_context", "after_ms": 500}, CATALOGUE))
        events = await collect(pipeline(says(sentence), cartesia, second))
        await cartesia.close()
    assert text(events) == sentence
    assert kinds(events) == ["TextDelta", "AudioDelta", "AnsweredBy", "AudioDelta", "Finished"]
    [rest] = second.texts
    assert sentence.endswith(f" {rest}")
    heard_first = len(audio(events)) / 2 - len(rest) * CHARACTER
    assert heard_first / SPEAK_RATE >= 0.5


async def test_a_clause_that_failed_at_its_very_end_is_not_said_again() -> None:
    first = Voice("first", fails_after=24, failure=EngineFailed(Cause.TIMEOUT, "late", rest=""))
    second = Voice("second")
    await collect(pipeline(says("Your order is on its way. That is all."), first, second))
    assert second.texts == ["That is all."]


async def test_an_engine_that_hangs_is_left(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Voice("first", fails_after=0), Voice("second")
    first.hang = True
    events = await collect(pipeline(says("Hello to you."), first, second, next_audio_timeout=0.1))
    assert (text(events), second.texts) == ("Hello to you.", ["Hello to you."])
    assert first.closed.is_set()


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (EngineFailed(Cause.RATE_LIMITED, "busy"), "tts_rate_limited"),
        (SpeechFailed("odd"), "tts_unavailable"),
        (ModelMissing("Kokoro", Path("/none")), "model_missing"),
    ],
)
async def test_without_a_rung_left_the_answer_fails(failure: Exception, cause: str) -> None:
    events = await collect(pipeline(says("Hello to you."), Voice(fails_after=0, failure=failure)))
    assert len(events) == 1
    assert isinstance(events[0], Failed)
    assert events[0].cause == cause


async def test_an_engine_without_any_audio_has_failed() -> None:
    class Mute(Voice):
        async def speak(self, text: str, **options: Any) -> AsyncIterator[Pcm16]:
            yield np.zeros(0, dtype=np.int16)

    assert await collect(pipeline(says("Hello to you."), Mute("mute"))) == [
        Failed("tts_empty", "mute gave no audio for a clause")
    ]


async def test_a_rung_that_failed_rests_and_is_then_tried_again() -> None:
    now = 0.0
    first, second = Voice("first", fails_after=0), Voice("second")
    tier = pipeline(says("Hello to you."), first, second, health=Resting(15, clock=lambda: now))
    await collect(tier)
    first.fails_after = None
    await collect(tier)
    assert (len(first.texts), len(second.texts)) == (1, 2)
    now = 15.0
    await collect(tier)
    assert (len(first.texts), len(second.texts)) == (2, 2)


async def test_a_resting_rung_is_better_than_silence() -> None:
    voice = Voice(fails_after=0)
    tier = pipeline(says("Hello to you."), voice)
    await collect(tier)
    voice.fails_after = None
    assert text(await collect(tier)) == "Hello to you."


async def test_a_pipeline_needs_an_engine() -> None:
    with pytest.raises(ValueError, match="at least one speech engine"):
        Pipeline(Deaf(), Script(), ())


# Leaving early


async def test_leaving_stops_the_agent_and_the_engine_at_once() -> None:
    voice = Voice(fails_after=3)
    voice.hang = True
    agent = Script(Words("The first sentence is here. Then"), asyncio.Event())
    answer = pipeline(agent, voice).answer(asking())
    assert isinstance(await anext(answer), TextDelta)
    assert isinstance(await anext(answer), AudioDelta)
    await asyncio.wait_for(answer.aclose(), 1)
    assert agent.closed.is_set()
    assert voice.closed.is_set()


async def test_leaving_while_the_reader_is_far_behind() -> None:
    voice = Voice()
    agent = Script(*[Words("This sentence is one of very many. ")] * 50, Done("script"))
    answer = pipeline(agent, voice).answer(asking())
    await anext(answer)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(voice.texts) < 10, "what is made ahead is bounded"
    await asyncio.wait_for(answer.aclose(), 1)
    made = len(voice.texts)
    await asyncio.sleep(0)
    assert len(voice.texts) == made
    assert voice.closed.is_set()


async def test_a_cancelled_reader_leaves_nothing_behind() -> None:
    voice = Voice(fails_after=0)
    voice.hang = True
    agent = says("Hello to you.")
    before = asyncio.all_tasks()
    reading = asyncio.create_task(collect(pipeline(agent, voice)))
    await asyncio.wait_for(voice.asked.get(), SOON)
    reading.cancel()
    await asyncio.wait([reading])
    assert voice.closed.is_set()
    assert asyncio.all_tasks() == before


# The flow


async def test_a_known_wish_is_answered_from_the_prompts() -> None:
    agent, voice, prompts = Script(), Voice(), Prompts()
    events = await collect(pipeline(agent, voice, prompts=prompts), asking("What are your opening hours?"))
    assert kinds(events) == ["AnsweredBy", "TextDelta", "AudioDelta", "Finished"]
    assert events[:2] == [AnsweredBy("C", "prompts"), TextDelta("prompt opening_hours")]
    assert len(audio(events)) == SPEAK_RATE * 2
    done = events[-1]
    assert isinstance(done, Finished)
    assert (done.rung, done.end_call, set(done.parts)) == ("prompts", False, {"prompt", "first_audio"})
    assert (agent.requests, voice.texts) == ([], [])


async def test_who_asks_for_the_same_assistant_is_told_the_truth_whatever_the_agent_would_say() -> None:
    agent, prompts = says("Of course I am."), Prompts()
    events = await collect(pipeline(agent, prompts=prompts), asking("Am I talking to the same assistant?"))
    assert text(events) == "prompt simpler_service"
    assert agent.requests == []


async def test_a_goodbye_lets_the_call_end() -> None:
    done = (await collect(pipeline(Script(), prompts=Prompts()), asking("Thanks, bye.")))[-1]
    assert isinstance(done, Finished)
    assert done.end_call


async def test_an_order_goes_through_the_sessions_tool() -> None:
    prompts = Prompts()
    tier = pipeline(Script(), prompts=prompts)
    question = asking("Where is my order four one seven two?", tools=(ORDER_TOOL,))
    call, done = await collect(tier, question)
    assert isinstance(call, ToolCallReady)
    assert (call.name, json.loads(call.arguments)) == ("get_order_status", {"order_id": "4172"})
    assert isinstance(done, Finished)
    history = (
        *question.history,
        ToolCall(call.call_id, call.name, call.arguments),
        ToolResult(call.call_id, '{"status": "shipped"}'),
    )
    events = await collect(tier, AnswerRequest("answer_2", history, tools=(ORDER_TOOL,)))
    assert prompts.asked == [("order_status", {"order_id": "4172", "status": "shipped"}, "en")]
    assert text(events) == "prompt order_status"


async def test_without_speech_a_prompt_is_words_only() -> None:
    events = await collect(pipeline(Script(), prompts=Prompts()), asking("When are you open?", speak=False))
    assert kinds(events) == ["AnsweredBy", "TextDelta", "Finished"]


async def test_the_flow_may_be_switched_off() -> None:
    events = await collect(
        pipeline(says("I do not know."), prompts=Prompts(), decide=None), asking("When are you open?")
    )
    assert text(events) == "I do not know."


async def test_without_prompts_the_agent_answers_what_the_flow_would_say() -> None:
    assert (
        text(await collect(pipeline(says("I do not know.")), asking("When are you open?")))
        == "I do not know."
    )


@pytest.mark.parametrize(("trusted", "expected"), [(True, "It was shipped."), (False, "")])
async def test_a_tools_result_is_retold_only_by_an_agent_that_can_be_trusted(
    trusted: bool, expected: str
) -> None:
    agent = Script(Words("It was shipped."), Done("script"), trusted=trusted)
    history = (
        Message("user", "Where is my order 4172?"),
        ToolCall("call_1", "get_order_status", '{"order_id": "4172"}'),
        ToolResult("call_1", "shipped"),
    )
    tier = pipeline(agent, prompts=Prompts(SpeechFailed("no voice")))
    events = await collect(tier, AnswerRequest("answer_1", history, tools=(ORDER_TOOL,)))
    assert text(events) == expected
    assert isinstance(events[-1], Finished if trusted else Failed)


# All the real parts


async def test_a_turn_with_real_models(
    kokoro: KokoroSpeech,
    whisper: WhisperTranscriber,
    smollm2: EmbeddedModel,
    heard: Callable[[Pcm16], Float32],
) -> None:
    """A caller's words, spoken and heard; an answer by the embedded model, spoken and heard again."""
    agent = Agent(embedded=smollm2, first_token_timeout=SOON, stall_timeout=SOON)
    await agent.warm()
    tier = Pipeline(whisper, agent, [kokoro], next_audio_timeout=SOON)
    question = np.concatenate([pcm async for pcm in kokoro.speak("How are you today?", voice="am_michael")])
    transcript = await tier.transcribe(heard(question))
    assert "how are you" in transcript.text.lower()
    events = await collect(tier, asking(transcript.text))
    done = events[-1]
    assert isinstance(done, Finished)
    assert done.rung == "kokoro"
    assert not any(isinstance(event, Charged) for event in events)
    assert done.output_tokens > 0
    answer = to_pcm16(audio(events), AudioFormat.PCM)
    again = await tier.transcribe(heard(answer))
    said, understood = set(text(events).lower().split()), set(again.text.lower().split())
    assert len(said & understood) >= len(said) / 2
    assert EMBEDDED not in text(events)


async def test_leaving_a_real_answer_frees_the_engine(
    kokoro: KokoroSpeech, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what the answer still had to say nothing is begun any more."""
    begun = []
    create = kokoro._create

    def watched(text: str, *args: Any) -> Float32:
        begun.append(text)
        return create(text, *args)

    monkeypatch.setattr(kokoro, "_create", watched)
    agent = Script(*[Words("This is one of very many sentences that nobody will hear. ")] * 9, Done("script"))
    answer = pipeline(agent, kokoro, next_audio_timeout=SOON).answer(asking())
    assert isinstance(await asyncio.wait_for(anext(answer), SOON), TextDelta)
    await asyncio.wait_for(answer.aclose(), 1)
    left = len(begun)
    await kokoro._worker.run(lambda: None)  # waits behind whatever is in the line
    assert len(begun) == left < 4

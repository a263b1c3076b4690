"""Tier C as a call's own tier: the real flow and catalogue, a test voice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cache import ClipCache, DiskStore
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import (
    AnsweredBy,
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Failed,
    Finished,
    HistoryItem,
    Message,
    TextDelta,
    ToolCall,
    ToolCallReady,
    ToolResult,
)
from orchestrator.protocol.audio import AudioFormat
from tiers.prompts.catalogue import Catalogue
from tiers.prompts.prompts import Prompts
from tiers.speech import SpeechFailed

ORDER_TOOL = {
    "type": "function",
    "name": "get_order_status",
    "description": "Where an order is.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}},
        "required": ["order_id"],
    },
}
CATALOGUE = Catalogue.load()


def user(text: str) -> Message:
    return Message("user", text)


def agent(name: str, *, cut_to: int | None = None) -> Message:
    text = CATALOGUE.fill(name).text
    return Message("assistant", text[:cut_to], cut_off=cut_to is not None)


def asked(
    *history: HistoryItem, tools: tuple[dict[str, Any], ...] = (ORDER_TOOL,), **other: Any
) -> AnswerRequest:
    return AnswerRequest("answer_1", history, tools=tools, **other)


async def events(prompts: Prompts, *history: HistoryItem, **other: Any) -> list[AnswerEvent]:
    return [event async for event in prompts.answer(asked(*history, **other))]


async def said(prompts: Prompts, *history: HistoryItem, **other: Any) -> str:
    """The name of the prompt that was said, else its words."""
    words = "".join(
        event.text for event in await events(prompts, *history, **other) if isinstance(event, TextDelta)
    )
    names = [line.name for line in CATALOGUE.constant() if line.text == words]
    return names[0] if names else words


def result(**fields: Any) -> tuple[ToolCall, ToolResult]:
    call = ToolCall("call_1", "get_order_status", json.dumps({"order_id": "4172"}))
    return call, ToolResult("call_1", json.dumps(fields))


async def test_an_order_status_goes_through_the_tool_and_comes_back_in_words(prompts):
    question = user("Where is my order number 4172?")
    call, done = await events(prompts, question)
    assert isinstance(call, ToolCallReady)
    assert (call.name, json.loads(call.arguments)) == ("get_order_status", {"order_id": "4172"})
    assert call.call_id.startswith("call_")
    assert done == Finished(rung="prompts")
    answer = await said(prompts, question, *result(order_id="4172", status="out_for_delivery"))
    assert answer == "Your order number 4172 is out for delivery."


async def test_each_call_of_a_tool_has_its_own_id(prompts):
    question = user("Where is my order 4172?")
    first, second = [(await events(prompts, question))[0] for _ in range(2)]
    assert first.call_id != second.call_id


async def test_a_tool_that_the_session_does_not_offer_is_never_called(prompts):
    other = ORDER_TOOL | {"name": "cancel_subscription"}
    for tools in ((), (other,)):
        came = await events(prompts, user("Where is my order number 4172?"), tools=tools)
        assert not any(isinstance(event, ToolCallReady) for event in came)
        assert any(isinstance(event, AudioDelta) for event in came)


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        ("When are you open?", "opening_hours"),
        ("What are your opening hours?", "opening_hours"),
        ("I'd like to know where my order is.", "ask_order_number"),
        ("Am I talking to the same assistant?", "simpler_service"),
        ("Goodbye.", "goodbye"),
    ],
)
async def test_simple_requests_are_answered(prompts, words, prompt):
    assert await said(prompts, user(words)) == prompt


async def test_only_a_goodbye_ends_the_call(prompts):
    assert (await events(prompts, user("Goodbye.")))[-1].end_call
    assert not (await events(prompts, user("When are you open?")))[-1].end_call


@pytest.mark.parametrize("heard", ["", "  ", "...", "[BLANK_AUDIO]", "(wind blowing)", "♪"])
async def test_a_turn_without_a_word_is_asked_for_again(prompts, heard):
    assert await said(prompts, user(heard)) == "did_not_catch"


@pytest.mark.parametrize("words", ["Write me a poem about the sea.", "Book a table for two.", "Ja, hallo?"])
async def test_anything_else_gets_one_honest_line_and_an_offer(prompts, words):
    assert await said(prompts, user(words)) == "offer_choice"


async def test_a_call_that_starts_in_this_tier_with_nothing_said_is_told_what_it_can_do(prompts):
    assert await said(prompts) == "offer_choice"


async def test_the_offer_is_made_in_full_only_once(prompts):
    history = [user("Write me a poem."), agent("offer_choice"), user("A short one about the sea.")]
    assert await said(prompts, *history) == "offer_again"
    history += [agent("offer_again"), user("When are you open?"), agent("opening_hours"), user("And a poem?")]
    assert await said(prompts, *history) == "offer_again"


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        ("I'll wait.", "chose_wait"),
        ("Hold on, I can stay on the line.", "chose_wait"),
        ("The first one.", "chose_wait"),
        ("I'd rather be called.", "chose_call_back"),
        ("Call me back, please.", "chose_call_back"),
        ("A person, please.", "chose_person"),
        ("Give me a human!", "chose_person"),
        ("The last one.", "chose_person"),
        ("When are you open?", "opening_hours"),
        ("Hmm, I don't know.", "offer_again"),
        ("I don\u2019t want to wait.", "offer_again"),
        ("I can't wait that long, get me a person.", "chose_person"),
        ("No, not a person, I'd rather wait.", "chose_wait"),
        ("", "did_not_catch"),
    ],
)
@pytest.mark.parametrize("offer", ["offer_choice", "offer_again"])
async def test_what_the_caller_chooses_after_an_offer_is_answered(prompts, offer, words, prompt):
    assert await said(prompts, user("Write me a poem."), agent(offer), user(words)) == prompt


async def test_a_choice_counts_when_it_cuts_the_offer_short(prompts):
    cut = agent("offer_choice", cut_to=60)
    assert await said(prompts, user("Write me a poem."), cut, user("A person!")) == "chose_person"
    assert await said(prompts, user("Write me a poem."), cut, user("But a poem!")) == "offer_again"


async def test_a_turn_whose_answer_was_cut_off_by_a_fault_is_answered(prompts):
    cut = Message("assistant", "We are open", cut_off=True)
    assert await said(prompts, user("When are you open?"), cut) == "opening_hours"
    assert await said(prompts, user("Write me a poem."), cut) == "offer_choice"
    assert await said(prompts, user(""), cut) == "did_not_catch"
    assert await said(prompts, user("I need a real person."), cut) == "chose_person"
    chosen = (user("Write me a poem."), agent("offer_choice"), user("I'll wait."), cut)
    assert await said(prompts, *chosen) == "chose_wait"


@pytest.mark.parametrize("words", ["Wait, what?", "My last name is Holder.", "I called you yesterday."])
async def test_the_same_words_choose_nothing_where_no_offer_was_made(prompts, words):
    assert await said(prompts, user(words)) == "offer_choice"
    assert (
        await said(prompts, user("Hello."), Message("assistant", "How are you?"), user(words))
        == "offer_choice"
    )


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        ("Can I speak to a human, please?", "chose_person"),
        ("I want to talk with someone about my order.", "chose_person"),
        ("I need a real person.", "chose_person"),
        ("Please call me back.", "chose_call_back"),
    ],
)
async def test_a_clear_wish_needs_no_offer_first(prompts, words, prompt):
    assert await said(prompts, user(words)) == prompt


@pytest.mark.parametrize("fmt", list(AudioFormat), ids=lambda fmt: fmt.name)
async def test_audio_comes_in_the_calls_format_in_pieces_of_200_ms(prompts, fmt):
    came = await events(prompts, user("When are you open?"), format=fmt)
    assert came[0] == AnsweredBy("C", "prompts")
    assert came[1] == TextDelta(CATALOGUE.fill("opening_hours").text)
    pieces = [event.data for event in came if isinstance(event, AudioDelta)]
    assert len(pieces) == len(came) - 3
    assert {fmt.ms(len(piece)) for piece in pieces[:-1]} == {200}
    assert 0 < fmt.ms(len(pieces[-1])) <= 200
    assert b"".join(pieces) == await prompts.audio("opening_hours", form=fmt)
    assert isinstance(came[-1], Finished)
    assert came[-1].parts["tts_first_audio"] >= 0


async def test_a_call_without_audio_costs_no_speech(prompts, hum):
    came = await events(prompts, user("When are you open?"), speak=False)
    assert came == [TextDelta(CATALOGUE.fill("opening_hours").text), Finished(rung="prompts")]
    assert hum.spoken == []


async def test_it_speaks_in_the_calls_voice_and_speed(prompts, hum):
    await events(prompts, user("When are you open?"), voice="cedar", speed=1.25, language="en-US")
    assert [spoken[1:] for spoken in hum.spoken] == [("cedar", 1.25, "en")]


@pytest.mark.parametrize("status", ["", "x" * 101, "***"])
async def test_a_tool_result_that_cannot_be_spoken_ends_in_the_offer(prompts, status):
    history = (user("Where is order 4172?"), *result(order_id="4172", status=status))
    words = await said(prompts, *history)
    assert words in ("offer_choice", "order_unknown") or "could not find" in words


async def test_without_a_voice_the_failure_says_what_to_do(hum):
    prompts = Prompts(CATALOGUE, ClipCache(), None)
    (failed,) = await events(prompts, user("When are you open?"))
    assert isinstance(failed, Failed)
    assert failed.cause == "voice_missing"
    assert "orchestrator models fetch" in failed.message


async def test_missing_weights_are_a_clear_failure(prompts, hum):
    hum.fault = ModelMissing("Hum", Path("hum.onnx"))
    (failed,) = await events(prompts, user("When are you open?"))
    assert failed.cause == "voice_missing"
    assert "orchestrator models fetch" in failed.message


async def test_a_voice_that_fails_is_a_failure_before_any_word(prompts, mute):
    prompts = Prompts(CATALOGUE, ClipCache(), mute)
    assert await events(prompts, user("When are you open?")) == [Failed("speech_failed", "mute says nothing")]


async def test_a_cached_prompt_is_said_in_the_default_voice_when_no_engine_can_say_it_in_the_calls(
    hum, tmp_path: Path
):
    before = Prompts(CATALOGUE, ClipCache(DiskStore(tmp_path)), hum)
    await before.warm([])
    await before.cache.aclose()
    expected = await before.audio("opening_hours")

    gone = Prompts(CATALOGUE, ClipCache(DiskStore(tmp_path)), None, engine="hum 1")
    hum.fault = SpeechFailed("out of breath")
    broken = Prompts(CATALOGUE, ClipCache(DiskStore(tmp_path)), hum)
    for prompts in (gone, broken):
        came = await events(prompts, user("When are you open?"), voice="cedar", speed=1.1)
        assert b"".join(event.data for event in came if isinstance(event, AudioDelta)) == expected


async def test_a_caller_who_hangs_up_ends_the_render(prompts, hum):
    hum.go.clear()
    first = asyncio.create_task(events(prompts, user("When are you open?")))
    await hum.started.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    hum.go.set()
    assert await said(prompts, user("When are you open?")) == "opening_hours"
    assert len(hum.spoken) == 2

"""Words that a call wants said exactly, in Tier C: its own engine says them, and nothing of them is kept."""

from __future__ import annotations

from typing import Any

import pytest

from cache import ClipCache
from orchestrator.core.price_list import ModelPrice
from orchestrator.protocol.answers import (
    AnsweredBy,
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Charged,
    Failed,
    Finished,
    Message,
    TextDelta,
)
from orchestrator.protocol.audio import AudioFormat
from tests.tiers.prompts.conftest import Hum
from tiers.prompts.catalogue import Catalogue
from tiers.prompts.prompts import Prompts
from tiers.speech import SpeechFailed

WORDS = "I have order 4172, to be cancelled. Is that right?"


async def said(prompts: Prompts, say: str = WORDS, **fields: Any) -> list[AnswerEvent]:
    request = AnswerRequest("answer_1", (Message("user", "Goodbye."),), say=say, **fields)
    return [event async for event in prompts.answer(request)]


def text(events: list[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_the_words_are_said_one_clause_after_the_other(prompts: Prompts, hum: Hum) -> None:
    events = await said(prompts, voice="cedar", speed=1.2)
    assert events[0] == AnsweredBy("C", "prompts")
    assert isinstance(events[-1], Finished)
    assert text(events) == WORDS
    assert [(words, voice, speed) for words, voice, speed, _ in hum.spoken] == [
        ("I have order 4172,", "cedar", 1.2),
        ("to be cancelled.", "cedar", 1.2),
        ("Is that right?", "cedar", 1.2),
    ]


@pytest.mark.parametrize("fmt", AudioFormat)
async def test_they_are_in_the_sessions_format(prompts: Prompts, hum: Hum, fmt: AudioFormat) -> None:
    events = await said(prompts, format=fmt)
    pieces = [fmt.ms(len(event.data)) for event in events if isinstance(event, AudioDelta)]
    assert 0 < min(pieces) <= max(pieces) <= 200
    made = sum(len(hum.samples(words, "marin")) for words, *_ in hum.spoken) / 24
    assert sum(pieces) == pytest.approx(made, abs=1)


async def test_nothing_of_them_is_kept(prompts: Prompts, hum: Hum) -> None:
    await said(prompts)
    await said(prompts)
    assert len(hum.spoken) == 6


async def test_without_an_engine_they_cannot_be_said() -> None:
    prompts = Prompts(Catalogue.load(), ClipCache(), None, engine="kokoro 1.0")
    [failed] = await said(prompts)
    assert isinstance(failed, Failed)
    assert failed.cause == "voice_missing"


async def test_an_engine_that_fails_fails_the_answer(prompts: Prompts, hum: Hum) -> None:
    hum.fault = SpeechFailed("hum is hoarse")
    failed = (await said(prompts))[-1]
    assert failed == Failed("speech_failed", "hum is hoarse")


async def test_words_alone_need_no_engine() -> None:
    prompts = Prompts(Catalogue.load(), ClipCache(), None, engine="kokoro 1.0")
    events = await said(prompts, speak=False)
    assert text(events) == WORDS
    assert isinstance(events[-1], Finished)


async def test_they_cost_what_was_set_aside_at_most() -> None:
    class Paid(Hum):
        price = ModelPrice(per_character=100e-9)

    prompts = Prompts(Catalogue.load(), ClipCache(), Paid())
    spent = [event.charge.nanodollars for event in await said(prompts) if isinstance(event, Charged)]
    request = AnswerRequest("answer_1", (), say=WORDS)
    assert 0 < sum(spent) <= prompts.worst(request)
    assert prompts.worst(AnswerRequest("answer_1", (), say=WORDS, speak=False)) == 0

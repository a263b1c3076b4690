"""The first words of an answer, from memory the second time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import ClipCache, DiskStore
from orchestrator.core.price_list import ModelPrice
from orchestrator.protocol.answers import (
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Charged,
    Finished,
    Message,
    TextDelta,
    Transcript,
)
from orchestrator.protocol.audio import AudioFormat, Float32, Pcm16
from tiers.pipeline.agent import AgentEvent, Done, Words
from tiers.pipeline.errors import Cause
from tiers.pipeline.metering import FREE, Paid
from tiers.pipeline.openings import LONGEST, Openings
from tiers.pipeline.pipeline import Pipeline
from tiers.speech import SpeechFailed

LINES = ("Sure.", "Let me check that for you.")


class Voice:
    """An engine that gives a second of sound; `words` are the texts it was sent."""

    version = "1"

    def __init__(self, *, own: bool = True, price: ModelPrice = FREE) -> None:
        self.rung, self.self_hosted, self.price = "voice", own, price
        self.words: list[str] = []
        self.fails = False

    async def speak(self, text: str, **options: Any) -> AsyncIterator[Pcm16]:
        self.words.append(text)
        if self.fails:
            raise SpeechFailed("told to fail")
        for _ in range(2):
            yield np.full(12_000, 1000 + len(text), dtype=np.int16)

    async def render_ahead(self, text: str, *, voice: str = "", language: str = "en") -> Pcm16:
        return np.concatenate([pcm async for pcm in self.speak(text)])


class Script:
    trusted_with_tools = True

    def __init__(self) -> None:
        self.text = ""

    def limit(self, request: AnswerRequest) -> int:
        return 100

    def worst(self, request: AnswerRequest) -> int:
        return 0

    async def reply(self, request: AnswerRequest, paid: Paid) -> AsyncIterator[AgentEvent]:
        yield Words(self.text)
        yield Done("script")


class Deaf:
    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        return Transcript("", 0.0)


class Health:
    """Everything is usable; `told` is what was reported."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def usable(self, rung: str) -> bool:
        return True

    def failed(self, rung: str, cause: Cause) -> None:
        self.told.append("failed")

    def worked(self, rung: str) -> None:
        self.told.append("worked")


class Tier:
    def __init__(self, voice: Voice, openings: Openings) -> None:
        self.voice, self.agent, self.health = voice, Script(), Health()
        self.pipeline = Pipeline(Deaf(), self.agent, [voice], openings=openings, health=self.health)

    async def answer(self, text: str, **fields: Any) -> list[AnswerEvent]:
        self.agent.text = text
        request = AnswerRequest("answer_1", (Message("user", "Tell me."),), **fields)
        self.voice.words.clear()
        self.health.told.clear()
        return [event async for event in self.pipeline.answer(request)]


def tier(voice: Voice | None = None, lines: tuple[str, ...] = LINES, **options: Any) -> Tier:
    return Tier(voice or Voice(), Openings(ClipCache(), lines, **options))


def hit(events: list[AnswerEvent]) -> float | None:
    done = events[-1]
    assert isinstance(done, Finished)
    return done.parts.get("opening_cached")


def audio(events: list[AnswerEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, AudioDelta))


async def test_the_second_time_an_opening_is_not_synthesised() -> None:
    made = tier()
    first = await made.answer("Sure. It is on its way.")
    assert (hit(first), made.voice.words) == (0.0, ["Sure.", "It is on its way."])
    second = await made.answer("Sure. It comes today.")
    assert (hit(second), made.voice.words) == (1.0, ["It comes today."])
    assert [event.text for event in second if isinstance(event, TextDelta)] == ["Sure.", " It comes today."]
    again = await made.answer("Sure. It is on its way.")
    assert audio(again) == audio(first)


async def test_any_short_beginning_is_learned_of_an_engine_of_our_own() -> None:
    made = tier()
    assert hit(await made.answer("Good morning, Ms. Hill, how are you?")) == 0.0
    assert hit(await made.answer("Good morning, Ms. Hill, how is it?")) == 1.0
    long = "It goes on and on without a mark " * 3
    assert len(long) > LONGEST
    await made.answer("Good evening to you. Bye.")
    assert made.voice.words == ["Good evening to you.", "Bye."]
    await made.answer("Bye. Good evening to you.")
    assert made.voice.words == ["Bye.", "Good evening to you."], "only what was an opening is kept"


async def test_of_a_paid_engine_only_configured_lines_are_kept() -> None:
    made = tier(Voice(own=False, price=ModelPrice(per_character=100e-9)))
    for cost in (5, 0):
        events = await made.answer("Sure.")
        spent = sum(event.charge.nanodollars for event in events if isinstance(event, Charged))
        assert spent == cost * 100
    await made.answer("Good morning.")
    assert hit(await made.answer("Good morning.")) == 0.0


@pytest.mark.parametrize("other", [{"voice": "cedar"}, {"speed": 1.2}, {"language": "es"}])
@pytest.mark.parametrize("text", ["Sure.", "Good morning."])
async def test_another_voice_speed_or_language_is_another_sound(text: str, other: dict[str, Any]) -> None:
    made = tier()
    await made.answer(text)
    assert hit(await made.answer(text, **other)) == 0.0
    assert hit(await made.answer(text, **other)) == 1.0
    assert hit(await made.answer(text)) == 1.0


@pytest.mark.parametrize("fmt", AudioFormat)
async def test_it_sounds_the_same_in_every_format(fmt: AudioFormat) -> None:
    made = tier()
    first = await made.answer("Sure. It is here.", format=fmt)
    assert audio(await made.answer("Sure. It is here.", format=fmt)) == audio(first)


async def test_what_failed_is_not_kept_and_what_was_kept_proves_no_health() -> None:
    made = tier()
    made.voice.fails = True
    await made.answer("Sure.")
    assert made.health.told == ["failed"]
    made.voice.fails = False
    assert hit(await made.answer("Sure.")) == 0.0
    assert made.health.told == ["worked"]
    await made.answer("Sure.")
    assert made.health.told == []


async def test_memory_is_bounded_and_what_recurs_stays() -> None:
    made = tier(learned_bytes=3 * 48_000)
    await made.answer("Good morning.")
    for number in range(20):
        await made.answer(f"Good day {number}.")
        assert hit(await made.answer("Good morning.")) == 1.0
    assert hit(await made.answer("Good day 3.")) == 0.0
    none = tier(learned_bytes=0)
    await none.answer("Good morning.")
    assert hit(await none.answer("Good morning.")) == 0.0


async def test_configured_lines_outlive_the_process_and_learned_ones_do_not(tmp_path: Path) -> None:
    for number, known in ((0, (0.0, 0.0)), (1, (1.0, 0.0))):
        cache = ClipCache(DiskStore(tmp_path))
        made = Tier(Voice(), Openings(cache, LINES))
        assert (hit(await made.answer("Sure.")), hit(await made.answer("Hello Ms. Hill."))) == known, number
        await cache.aclose()


async def test_configured_lines_are_made_ahead() -> None:
    made = tier()
    openings = made.pipeline.openings
    assert openings is not None
    await openings.make_ahead(made.voice, "marin")
    assert made.voice.words == sorted(LINES)
    assert hit(await made.answer("Let me check that for you. It takes a moment.")) == 1.0
    made.voice.words.clear()
    await openings.make_ahead(made.voice, "marin")
    assert made.voice.words == []


async def test_a_failure_to_make_them_ahead_is_none_of_the_calls() -> None:
    made = tier()
    made.voice.fails = True
    openings = made.pipeline.openings
    assert openings is not None
    await openings.make_ahead(made.voice, "marin")


async def test_words_of_the_call_are_not_learned() -> None:
    made = tier()
    for _ in range(2):
        events = await made.answer("", say="Your code is 12.")
        assert hit(events) is None
        assert made.voice.words == ["Your code is 12."]


async def test_without_a_memory_nothing_is_told_of_it() -> None:
    voice, agent = Voice(), Script()
    agent.text = "Sure."
    pipeline = Pipeline(Deaf(), agent, [voice])
    request = AnswerRequest("answer_1", (Message("user", "Tell me."),))
    events = [event async for event in pipeline.answer(request)]
    assert hit(events) is None

"""Scripted parts of Tier B: an agent, voices, prompts and ears that do what a test tells them to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from orchestrator.core.price_list import ModelPrice
from orchestrator.protocol.answers import (
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Charge,
    Charged,
    Message,
    SpokenPrompt,
    TextDelta,
    Transcript,
)
from orchestrator.protocol.audio import SPEAK_RATE, Float32, Pcm16
from tiers.pipeline.agent import AgentEvent, Done, Words
from tiers.pipeline.metering import FREE, Paid
from tiers.pipeline.pipeline import Pipeline
from tiers.speech import Speech, SpeechFailed

SOON = 30.0
CHARACTER = 1600
"""Samples that the scripted engine speaks a character for: 15 characters a second."""
ORDER_TOOL = {
    "type": "function",
    "name": "get_order_status",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}},
        "required": ["order_id"],
    },
}


class Script:
    """An agent that says what it is told to: words, tool calls, waits, failures."""

    def __init__(self, *steps: AgentEvent | Charge | asyncio.Event | Exception, trusted: bool = True) -> None:
        self.steps = steps
        self.trusted_with_tools = trusted
        self.requests: list[AnswerRequest] = []
        self.closed = asyncio.Event()

    def limit(self, request: AnswerRequest) -> int:
        return min(request.max_output_tokens or 400, 400)

    def worst(self, request: AnswerRequest) -> int:
        return 5_000

    async def reply(self, request: AnswerRequest, paid: Paid) -> AsyncIterator[AgentEvent]:
        self.requests.append(request)
        try:
            for step in self.steps:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                elif isinstance(step, Charge):
                    paid(step)
                else:
                    yield step
        finally:
            self.closed.set()


BY_CHARACTER = ModelPrice(per_character=100e-9)
THOUGHT = Charge("agent", "script", 1000, {"prompt_tokens": 10, "completion_tokens": 5})


def says(text: str, *, cut_short: bool = False) -> Script:
    return Script(Words(text), Done("script", 10, 5, cut_short))


class Voice:
    """An engine that gives 15 characters a second, and does what it is told after so many characters."""

    def __init__(
        self,
        rung: str = "voice",
        *,
        fails_after: int | None = None,
        failure: Exception | None = None,
        price: ModelPrice = FREE,
    ) -> None:
        self.rung = rung
        self.price = price
        self.fails_after, self.failure = fails_after, failure or SpeechFailed("told to fail")
        self.texts: list[str] = []
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.options: dict[str, Any] = {}
        self.hang = False
        self.closed = asyncio.Event()

    async def speak(self, text: str, **options: Any) -> AsyncIterator[Pcm16]:
        self.texts.append(text)
        self.asked.put_nowait(text)
        self.options = options
        try:
            for position in range(len(text)):
                if position == self.fails_after:
                    if self.hang:
                        await asyncio.Event().wait()
                    raise self.failure
                yield np.full(CHARACTER, 1000, dtype=np.int16)
        finally:
            self.closed.set()


class Prompts:
    """A prompt source with a sentence for every prompt."""

    def __init__(self, failure: Exception | None = None, *, cached: bool = True) -> None:
        self.failure, self.cached = failure, cached
        self.asked: list[tuple[str, dict[str, str], str]] = []

    async def prompt(self, name: str, variables: dict[str, str], language: str = "en") -> SpokenPrompt:
        self.asked.append((name, variables, language))
        if self.failure is not None:
            raise self.failure
        return SpokenPrompt(name, f"prompt {name}", np.full(SPEAK_RATE, 500, dtype=np.int16), self.cached)


class Deaf:
    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        return Transcript("heard", len(audio) / 16_000, language or "en")


def pipeline(agent: Any, *speech: Speech, **options: Any) -> Pipeline:
    return Pipeline(Deaf(), agent, speech or (Voice(),), **options)


def asking(text: str = "Tell me a story.", **fields: Any) -> AnswerRequest:
    return AnswerRequest("answer_1", (Message("user", text),), **fields)


async def collect(pipeline: Pipeline, request: AnswerRequest | None = None) -> list[AnswerEvent]:
    async with asyncio.timeout(SOON):
        return [event async for event in pipeline.answer(request or asking())]


def text(events: Sequence[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def charges(events: Sequence[AnswerEvent]) -> list[Charge]:
    return [event.charge for event in events if isinstance(event, Charged)]


def audio(events: Sequence[AnswerEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, AudioDelta))


def kinds(events: Sequence[AnswerEvent]) -> list[str]:
    """The kinds of events, runs of audio as one."""
    names = [type(event).__name__ for event in events if not isinstance(event, Charged)]
    return [name for index, name in enumerate(names) if index == 0 or name != names[index - 1]]

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from cache import ClipCache
from orchestrator.protocol.audio import Pcm16
from tiers.prompts.catalogue import Catalogue
from tiers.prompts.prompts import Prompts
from tiers.speech import SpeechFailed


class Hum:
    """A voice for tests: one wavelength a character, its pitch from the voice's name, in two chunks.

    The same words always make the same samples, other words or voices make others. `go` holds it back,
    `fault` makes it fail.
    """

    rung = "hum"
    version = "1"

    def __init__(self) -> None:
        self.spoken: list[tuple[str, str, float, str]] = []
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()
        self.fault: Exception | None = None

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        self.spoken.append((text, voice, speed, language))
        self.started.set()
        samples = self.samples(text, voice)
        yield samples[: len(samples) // 2]
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        yield samples[len(samples) // 2 :]

    @staticmethod
    def samples(text: str, voice: str = "") -> Pcm16:
        period = 60 + sum(voice.encode()) % 40
        wave = np.sin(2 * np.pi * np.arange(period) / period)
        return np.concatenate([wave * 100 * (code % 90 + 10) for code in text.encode()]).astype(np.int16)


class Mute(Hum):
    rung = "mute"

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        raise SpeechFailed("mute says nothing")
        yield


@pytest.fixture
def hum() -> Hum:
    return Hum()


@pytest.fixture
def mute() -> Mute:
    return Mute()


@pytest.fixture
def prompts(hum: Hum) -> Prompts:
    return Prompts(Catalogue.load(), ClipCache(), hum)

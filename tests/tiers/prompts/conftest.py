from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

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


class Choir(Hum):
    """A `Hum` that has voices of some languages, and renders ahead when `free` is set."""

    rung = "choir"
    VOICES: ClassVar = {
        "en": {"marin": "en_f", "cedar": "en_m", "sage": "en_f"},
        "fr": {"marin": "fr_f", "cedar": "fr_f"},
        "es": {"marin": "es_f", "cedar": "es_m"},
    }

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.free.set()
        self.ahead: list[tuple[str, str, str]] = []

    async def voice_for(self, voice: str, language: str) -> str | None:
        voices = self.VOICES.get(language, {})
        return voices.get(voice, voices.get("marin"))

    async def render_ahead(self, text: str, *, voice: str = "", language: str = "en") -> Pcm16:
        await self.free.wait()
        if self.fault is not None:
            raise self.fault
        self.ahead.append((text, voice, language))
        return self.samples(text, voice)


@pytest.fixture
def hum() -> Hum:
    return Hum()


@pytest.fixture
def choir() -> Choir:
    return Choir()


@pytest.fixture
def mute() -> Mute:
    return Mute()


@pytest.fixture
def prompts(hum: Hum) -> Prompts:
    return Prompts(Catalogue.load(), ClipCache(), hum)

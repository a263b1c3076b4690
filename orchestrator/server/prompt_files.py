"""Catalogue prompts as files in the form that a client asks for: at once from memory, else from Tier C."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast, get_args

from cache import FORMS, Clip, Form, Found, Source
from orchestrator.server.http_files import About, Abouts, tag_of
from orchestrator.server.purse import Purse
from tiers.prompts.catalogue import DEFAULT_LANGUAGE, Line
from tiers.prompts.prompts import Prompts

AudioName = Literal["wav", "mp3", "opus", "flac", "aac", "pcm", "pcm_16000", "pcm_8000", "pcmu", "pcma"]
"""Forms of audio as requests name them, `cache.FORMS` being what they are."""
AUDIO_NAMES: frozenset[str] = frozenset(get_args(AudioName))
CacheResult = Literal["hit", "stale", "miss"]
SLOWEST, FASTEST = 0.5, 2.0
"""Speeds that prompts may be said at."""
LONG = 1 << 17
"""Bytes that it takes longer to hash than others had better wait."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt that somebody wants to hear. `voice` "" is the default one."""

    name: str
    variables: Mapping[str, object] = field(default_factory=dict)
    form: AudioName = "wav"
    voice: str = ""
    language: str = DEFAULT_LANGUAGE
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class SpokenFile:
    """A prompt as bytes in the form asked for, with their entity tag. `cache`: whether it had to be rendered."""

    text: str
    audio: bytes
    tag: str
    cache: CacheResult
    seconds: float
    cost_nanodollars: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be said. `worst_nanodollars`: what rendering it now can cost at most."""

    language: str
    text: str
    spoken: str
    voice: str
    cached: bool
    worst_nanodollars: int


class PromptVoice(Protocol):
    """Tier C as the API uses it."""

    async def speak_file(self, asked: Asked) -> SpokenFile:
        """Raises a `PromptError`; anything else means that no engine could say it."""
        ...

    async def quick_file(self, asked: Asked) -> SpokenFile | None:
        """The same from memory alone, in a millisecond or a few: None where it is not there."""
        ...

    async def preview(self, asked: Asked) -> Preview:
        """Raises a `PromptError`. Nothing is rendered."""
        ...

    async def worst(self, asked: Asked) -> int:
        """What it may cost at most, in nano-dollars: nothing where it is kept. Raises a `PromptError`."""
        ...


class PromptFiles:
    """`PromptVoice` over the prompts of this process."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self._abouts = Abouts()

    async def speak_file(self, asked: Asked) -> SpokenFile:
        line, found = await self._prompts.find(
            asked.name, asked.variables, asked.language, asked.voice or None, asked.speed
        )
        form = FORMS[asked.form]
        audio = await self._prompts.cache.form(found.clip, form)
        cost = sum(charge.nanodollars for charge in self._prompts.charges(line, found))
        return await self._file(line, found.clip, form, audio, _cache_result(found), cost)

    async def quick_file(self, asked: Asked) -> SpokenFile | None:
        prompts, cache, form = self._prompts, self._prompts.cache, FORMS[asked.form]
        line = prompts.catalogue.fill(asked.name, asked.variables, asked.language)
        voice = asked.voice or None
        for key in prompts.keys(line, voice, asked.speed):
            data = cache.peek_form(key, form)
            about = None if data is None else self._abouts.get((key, form), data)
            if data is not None and about is not None:
                return SpokenFile(line.text, data, about.tag, "hit", about.seconds)
        clip = prompts.peek(line, voice, asked.speed)
        if clip is None:
            return None
        return await self._file(line, clip, form, await cache.form(clip, form), "hit", 0)

    async def preview(self, asked: Asked) -> Preview:
        prompts = self._prompts
        line = prompts.catalogue.fill(asked.name, asked.variables, asked.language)
        voice = asked.voice or prompts.voice
        cached = await prompts.is_cached(line, voice, asked.speed)
        worst = 0 if cached else await self.worst(asked)
        return Preview(line.language, line.text, line.spoken, voice, cached, worst)

    async def worst(self, asked: Asked) -> int:
        prompts = self._prompts
        line = prompts.catalogue.fill(asked.name, asked.variables, asked.language)
        worst = prompts.meter.worst(len(line.spoken), asked.speed) if prompts.meter else 0
        if worst and await prompts.is_cached(line, asked.voice or prompts.voice, asked.speed):
            return 0
        return worst

    async def _file(
        self, line: Line, clip: Clip, form: Form, audio: bytes, cache: CacheResult, cost: int
    ) -> SpokenFile:
        about = self._abouts.get((clip.key, form), audio)
        if about is None:
            long = len(audio) > LONG
            tag = await asyncio.to_thread(tag_of, audio) if long else tag_of(audio)
            about = self._abouts.note((clip.key, form), audio, About(tag, clip.seconds))
        return SpokenFile(line.text, audio, about.tag, cache, about.seconds, cost)


async def speak_paid(voice: PromptVoice, purse: Purse, bucket: str, asked: Asked) -> SpokenFile:
    """The prompt, for what `bucket` has left. Raises `BudgetSpent`, and what `PromptVoice.speak_file` does."""
    async with purse.take(bucket, await voice.worst(asked)) as tab:
        spoken = await voice.speak_file(asked)
        tab.cost = spoken.cost_nanodollars
    return spoken


def audio_name(text: str) -> AudioName | None:
    """`text` as the name of a form; None where there is no such form."""
    return cast(AudioName, text) if text in AUDIO_NAMES else None


def _cache_result(found: Found) -> CacheResult:
    if found.source is Source.STALE:
        return "stale"
    return "hit" if found.source in (Source.MEMORY, Source.STORE) else "miss"

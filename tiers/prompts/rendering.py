"""How a line of the catalogue becomes a clip: in which voice, from the cache or an engine, trimmed to its sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import numpy as np

from cache import Clip, ClipCache, Found, clip_key
from orchestrator.models import ModelMissing
from orchestrator.protocol.audio import Pcm16
from tiers.prompts.assembly import Assembly
from tiers.prompts.catalogue import DEFAULT_LANGUAGE, Line, PromptError
from tiers.prompts.trim import trim
from tiers.speech import RendersAhead, Speech, SpeechFailed, Voices, engine_id

TRIMMED = "trimmed"
"""What is done to an engine's sound before it is kept: part of a clip's key, as it changes what is heard."""


class VoiceMissing(PromptError):
    """No engine can say the prompt, and it is not in the cache."""


class Renderer:
    """Clips of lines. `engine` names the engine and version that they are kept under; without it, `speech` tells.

    With `speech` None only what is in the cache can be had.
    """

    def __init__(
        self, cache: ClipCache, speech: Speech | None, engine: str | None, default_voice: str
    ) -> None:
        self.cache = cache
        self._speech = speech
        self._engine = engine or (engine_id(speech) if speech is not None else "")
        self._default_voice = default_voice
        self.assembly = Assembly(cache, speech, self._engine, self._alone)

    def key(self, line: Line, voice: str, speed: float = 1.0) -> str:
        engine = f"{self._engine} {TRIMMED}"
        return clip_key(line.spoken, voice=voice, engine=engine, language=line.language, speed=speed)

    def keys(self, line: Line, voice: str, speed: float = 1.0) -> tuple[str, ...]:
        """Of the clips that the line may be: put together, where it can be, before whole."""
        whole = self.key(line, voice, speed)
        return (self.assembly.key(line, voice, speed), whole) if line.spots else (whole,)

    async def say(self, line: Line, voice: str, speed: float = 1.0, *, fresh: bool = False) -> Found:
        """Put together, where the line is and all its pieces are there; else whole, from the cache or the engine.

        Unless it has to be `fresh` it may be what an older version of the engine said, while the new one says it.
        Raises `VoiceMissing`, `SpeechFailed` or `ModelMissing`.
        """
        stitched = await self.assembly.find(line, voice, speed) if line.spots else None
        if stitched is not None:
            return stitched
        key = self.key(line, voice, speed)
        return await self.cache.fetch(
            key,
            lambda: self._render(key, line, voice, speed),
            stale_key=self._any_version(line, voice, speed),
            fresh=fresh,
            keep_s=line.keep_s,
        )

    def peek(self, line: Line, voice: str, speed: float = 1.0) -> Clip | None:
        """The line's clip, if it is in memory or can be put together from what is."""
        stitched = self.assembly.peek(line, voice, speed) if line.spots else None
        return stitched or self.cache.peek(self.key(line, voice, speed))

    async def is_cached(self, line: Line, voice: str, speed: float = 1.0) -> bool:
        """Whether saying the line needs no engine."""
        if line.spots and await self.assembly.find(line, voice, speed) is not None:
            return True
        return await self.cache.get(self.key(line, voice, speed)) is not None

    def _any_version(self, line: Line, voice: str, speed: float) -> str | None:
        """The key of the line in any version of the engine; none for one that is paid, as nobody would be charged."""
        if not getattr(self._speech, "self_hosted", False) or self._speech is None:
            return None
        engine = f"{self._speech.rung} {TRIMMED}"
        return clip_key(line.spoken, voice=voice, engine=engine, language=line.language, speed=speed)

    async def say_ahead(self, line: Line, voice: str) -> Clip:
        """As `say`, but by the engine only while nobody needs it; who asks for the line meanwhile does not wait."""
        key = self.key(line, voice)
        clip = await self.cache.get(key)
        if clip is None:
            clip = await self._render(key, line, voice, 1.0, ahead=True)
        return (await self.cache.fetch(key, partial(_as_is, clip))).clip

    async def voice_for(self, voice: str, language: str) -> str:
        """The voice that a session's `voice` comes to in `language`: the engine's own. Raises `VoiceMissing`.

        In the default language the default voice keeps its name, so that its clips are found without an engine. An
        engine that does not tell has one voice here, as it may take money for each.
        """
        if not isinstance(self._speech, Voices):
            return self._default_voice
        try:
            own = await self._speech.voice_for(voice, language)
            default = await self._speech.voice_for(self._default_voice, language)
        except (SpeechFailed, ModelMissing):
            raise
        except Exception as error:
            raise SpeechFailed(
                f"{self._speech.rung} could not load its voices: {type(error).__name__}"
            ) from error
        if own is None:
            raise VoiceMissing(f"{self._speech.rung} has no voice that speaks {language!r}")
        return self._default_voice if language == DEFAULT_LANGUAGE and own == default else own

    async def _render(self, key: str, line: Line, voice: str, speed: float, *, ahead: bool = False) -> Clip:
        what = f"prompt {line.name}"
        pcm = await self._sound(line.spoken, voice, speed, line.language, what, ahead=ahead)
        pcm = await asyncio.to_thread(trim, pcm)
        pcm.flags.writeable = False
        return Clip(key, line.spoken, pcm)

    async def _alone(self, text: str, voice: str, speed: float, language: str) -> Pcm16:
        return await self._sound(text, voice, speed, language, f"a piece of {len(text)} characters")

    async def _sound(
        self, text: str, voice: str, speed: float, language: str, what: str, *, ahead: bool = False
    ) -> Pcm16:
        if self._speech is None:
            raise VoiceMissing(
                f"{what} is not in the cache in voice {voice!r}, and no speech engine is set up "
                f"to say it: fetch one with `orchestrator models fetch`, or warm the cache where there is one"
            )
        try:
            if ahead and isinstance(self._speech, RendersAhead):
                pcm = await self._speech.render_ahead(text, voice=voice, language=language)
            else:
                pcm = await _whole(self._speech.speak(text, voice=voice, speed=speed, language=language))
        except (SpeechFailed, ModelMissing):
            raise
        except Exception as error:
            # The class only: an engine's own text may hold an address or a key.
            cause = type(error).__name__
            raise SpeechFailed(f"{self._speech.rung} could not say {what}: {cause}") from error
        if not pcm.any():
            raise SpeechFailed(f"{self._speech.rung} returned no sound for {what}")
        return pcm


async def _whole(chunks: AsyncIterator[Pcm16]) -> Pcm16:
    pcm = [chunk async for chunk in chunks]
    return np.concatenate(pcm) if pcm else np.zeros(0, np.int16)


async def _as_is(clip: Clip) -> Clip:
    return clip

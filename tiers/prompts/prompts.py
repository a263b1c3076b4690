"""Tier C: catalogue prompts from the cache or a self-hosted voice; as a source of bridges, and as a call's own tier."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import orjson

from cache import Clip, ClipCache, Form, Found, Source, clip_key
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import (
    AnsweredBy,
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Failed,
    Finished,
    SpokenPrompt,
    TextDelta,
    ToolCallReady,
)
from orchestrator.protocol.audio import AudioFormat
from tiers.flow import CallTool, Say
from tiers.prompts.catalogue import DEFAULT_LANGUAGE, Catalogue, Line, PromptError, VariablesInvalid
from tiers.prompts.choices import next_step
from tiers.prompts.tone import tone
from tiers.speech import Speech, SpeechFailed, engine_id

log = logging.getLogger(__name__)

TIER = "C"
RUNG = "prompts"
DELTA_MS = 200
TONE_MS = 600
DEFAULT_VOICE = "marin"
"""The voice a session has that asks for none, so that what is warm fits most calls."""

Progress = Callable[[int, int, str], None]
"""Called after each prompt of a warm-up: how many are done, of how many, and its name."""


class VoiceMissing(PromptError):
    """The prompt is not in the cache, and there is no engine to say it."""


@dataclass(slots=True)
class Warmed:
    """What a warm-up came to: prompts ready in memory, and why others are not, by name and language."""

    ready: int = 0
    failed: dict[str, str] = field(default_factory=dict)


class Prompts:
    """Says catalogue prompts; an `Answerer` and a `PromptSource`.

    `engine` names the engine and version that clips are kept under; without it, `speech` tells. With `speech`
    None only what is in the cache can be said, and `engine` tells which engine said it.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        cache: ClipCache,
        speech: Speech | None,
        *,
        engine: str | None = None,
        voice: str = DEFAULT_VOICE,
    ) -> None:
        self.catalogue = catalogue
        self.cache = cache
        self.voice = voice
        self._speech = speech
        self._engine = engine or (engine_id(speech) if speech is not None else "")
        self._warm: dict[tuple[str, str, str, AudioFormat], bytes] = {}

    async def render(
        self,
        name: str,
        variables: Mapping[str, object] | None = None,
        language: str = DEFAULT_LANGUAGE,
        voice: str | None = None,
        speed: float = 1.0,
    ) -> Clip:
        """The prompt as a clip. Raises a `PromptError` (variables, language, voice) or `SpeechFailed`."""
        return (await self.find(name, variables, language, voice, speed))[1].clip

    async def find(
        self,
        name: str,
        variables: Mapping[str, object] | None = None,
        language: str = DEFAULT_LANGUAGE,
        voice: str | None = None,
        speed: float = 1.0,
    ) -> tuple[Line, Found]:
        """The prompt's words, its clip and where that came from; raises as `render` does."""
        line = self.catalogue.fill(name, variables, language)
        return line, await self._say(line, voice or self.voice, speed)

    async def audio(
        self,
        name: str,
        variables: Mapping[str, object] | None = None,
        form: Form = AudioFormat.PCM,
        language: str = DEFAULT_LANGUAGE,
        voice: str | None = None,
        speed: float = 1.0,
    ) -> bytes:
        """The prompt as bytes of `form`; raises as `render` does."""
        return await self.cache.form(await self.render(name, variables, language, voice, speed), form)

    async def prompt(
        self, name: str, variables: dict[str, str], language: str = DEFAULT_LANGUAGE
    ) -> SpokenPrompt:
        """The prompt in the language nearest to `language`; raises as `render` does."""
        line = self.catalogue.fill(name, variables, self.catalogue.nearest(name, language))
        found = await self._say(line, self.voice, 1.0)
        return SpokenPrompt(name, line.text, found.clip.pcm, found.source is not Source.RENDER)

    def clip(
        self,
        name: str,
        fmt: AudioFormat,
        variables: Mapping[str, object] | None = None,
        *,
        language: str = DEFAULT_LANGUAGE,
        voice: str | None = None,
    ) -> bytes | None:
        """Wire bytes that are in memory already, else None, in which case there is `tone`.

        Looks for `voice` and then for the default voice: a caller who is owed an answer would rather hear
        another voice than none.
        """
        language = self.catalogue.nearest(name, language)
        for candidate in dict.fromkeys((voice or self.voice, self.voice)):
            data = None if variables else self._warm.get((name, language, candidate, fmt))
            if data is None:
                line = self.catalogue.fill(name, variables, language)
                data = self.cache.peek_form(self._key(line, candidate, 1.0), fmt)
            if data is not None:
                return data
        return None

    def bridge(
        self,
        name: str,
        fmt: AudioFormat,
        *,
        language: str = DEFAULT_LANGUAGE,
        voice: str | None = None,
    ) -> tuple[str, bytes]:
        """A prompt's words and wire bytes, at once; where it is not in memory, no words and the tone."""
        data = self.clip(name, fmt, language=language, voice=voice)
        if data is None:
            return "", tone(fmt, TONE_MS)
        return self.catalogue.fill(name, {}, self.catalogue.nearest(name, language)).text, data

    @staticmethod
    def tone(fmt: AudioFormat, ms: int) -> bytes:
        """A gentle two-note tone for when no clip is ready."""
        return tone(fmt, ms)

    async def warm(
        self,
        formats: Iterable[AudioFormat],
        progress: Progress | None = None,
        *,
        voices: Iterable[str] = (),
    ) -> Warmed:
        """Puts every prompt without variables into memory, in `formats` and the default voice (or `voices`).

        Bridges come first. They stay in memory whatever else the cache lets go of. One that cannot be said
        does not stop the others. Running it again does only what is missing.
        """
        formats, voices = tuple(formats), tuple(voices) or (self.voice,)
        todo = [(line, voice) for line in self.catalogue.constant() for voice in voices]
        warmed = Warmed()
        for done, (line, voice) in enumerate(todo, start=1):
            try:
                await self._warm_one(line, voice, formats)
                warmed.ready += 1
            except (PromptError, SpeechFailed, ModelMissing) as error:
                warmed.failed[f"{line.name}.{line.language}"] = str(error)
                log.warning("prompt %s is not ready: %s", line.name, error)
            if progress is not None:
                progress(done, len(todo), line.name)
        return warmed

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerEvent]:
        """Tier C as a call's own tier: the flow, the order tool, catalogue prompts. Never a model."""
        step = next_step(request, self.catalogue)
        if isinstance(step, CallTool):
            arguments = orjson.dumps(step.arguments).decode()
            yield ToolCallReady(f"call_{uuid.uuid4().hex[:24]}", step.name, arguments)
            yield Finished(rung=RUNG)
            return
        line = self._line(step, request.language)
        if not request.speak:
            yield TextDelta(line.text)
            yield Finished(rung=RUNG, end_call=step.end_call)
            return
        started = time.perf_counter()
        try:
            clip = await self._say_in_call(line, request)
        except (PromptError, ModelMissing) as error:
            yield Failed("voice_missing", str(error))
            return
        except SpeechFailed as error:
            yield Failed("speech_failed", str(error))
            return
        data = await self.cache.form(clip, request.format)
        parts = {"tts_first_audio": time.perf_counter() - started}
        yield AnsweredBy(TIER, RUNG)
        yield TextDelta(line.text)
        size = DELTA_MS * request.format.bytes_per_ms
        for start in range(0, len(data), size):
            yield AudioDelta(data[start : start + size])
        yield Finished(rung=RUNG, parts=parts, end_call=step.end_call)

    def _line(self, step: Say, language: str) -> Line:
        """The step's prompt; what a tool returned may be unspeakable, and then the honest offer is made."""
        try:
            return self.catalogue.fill(
                step.prompt, step.variables, self.catalogue.nearest(step.prompt, language)
            )
        except VariablesInvalid as error:
            names = ", ".join(wrong.variable for wrong in error.errors)
            log.warning("prompt %s could not be said: %s cannot be spoken", step.prompt, names)
            return self.catalogue.fill("offer_choice", {}, self.catalogue.nearest("offer_choice", language))

    async def _say_in_call(self, line: Line, request: AnswerRequest) -> Clip:
        """In the call's voice and speed; where no engine can, in the default voice from the cache."""
        try:
            return (await self._say(line, request.voice or self.voice, request.speed)).clip
        except (VoiceMissing, SpeechFailed, ModelMissing):
            clip = await self.cache.get(self._key(line, self.voice, 1.0))
            if clip is None:
                raise
            return clip

    async def _warm_one(self, line: Line, voice: str, formats: Iterable[AudioFormat]) -> None:
        clip = (await self._say(line, voice, 1.0)).clip
        for fmt in formats:
            self._warm[line.name, line.language, voice, fmt] = await self.cache.form(clip, fmt)

    async def _say(self, line: Line, voice: str, speed: float) -> Found:
        key = self._key(line, voice, speed)
        return await self.cache.fetch(key, lambda: self._render(key, line, voice, speed))

    async def _render(self, key: str, line: Line, voice: str, speed: float) -> Clip:
        if self._speech is None:
            raise VoiceMissing(
                f"prompt {line.name} is not in the cache in voice {voice!r}, and no speech engine is set up "
                f"to say it: fetch one with `orchestrator models fetch`, or warm the cache where there is one"
            )
        try:
            spoken = self._speech.speak(line.spoken, voice=voice, speed=speed, language=line.language)
            chunks = [chunk async for chunk in spoken]
        except (SpeechFailed, ModelMissing):
            raise
        except Exception as error:
            # The class only: an engine's own text may hold an address or a key.
            cause = type(error).__name__
            raise SpeechFailed(f"{self._speech.rung} could not say prompt {line.name}: {cause}") from error
        pcm = np.concatenate(chunks) if chunks else np.zeros(0, np.int16)
        if not pcm.any():
            raise SpeechFailed(f"{self._speech.rung} returned no sound for prompt {line.name}")
        pcm.flags.writeable = False
        return Clip(key, line.spoken, pcm)

    def _key(self, line: Line, voice: str, speed: float) -> str:
        return clip_key(line.spoken, voice=voice, engine=self._engine, language=line.language, speed=speed)

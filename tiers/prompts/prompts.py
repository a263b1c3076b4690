"""Tier C: catalogue prompts from the cache or a self-hosted voice; as a source of bridges, and as a call's own tier."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from cache import Clip, ClipCache, Form, Found, Source
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import (
    AnsweredBy,
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Charge,
    Charged,
    Failed,
    Finished,
    SpokenPrompt,
    TextDelta,
    ToolCallReady,
)
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat
from tiers.flow import CallTool, Say
from tiers.pipeline.metering import SpeechMeter
from tiers.pipeline.worker import closing
from tiers.prompts.assembly import Wanted
from tiers.prompts.catalogue import DEFAULT_LANGUAGE, Catalogue, Line, PromptError, VariablesInvalid
from tiers.prompts.choices import next_step
from tiers.prompts.exactly import RUNG, TIER, len_spoken, say_exactly
from tiers.prompts.pieces import Piece
from tiers.prompts.rendering import Renderer, VoiceMissing
from tiers.prompts.tone import tone
from tiers.prompts.trim import trim_wire
from tiers.speech import Speech, SpeechFailed

log = logging.getLogger(__name__)

DELTA_MS = 200
LONGEST_LINE = 1_000
"""Characters that a line of a catalogue is taken to have at most, as an engine is sent them."""
TONE_MS = 600
DEFAULT_VOICE = "marin"
"""The voice a session has that asks for none, so that what is warm fits most calls."""
DEFAULT_BRIDGE = "one_moment"
MAX_EXPECTED = 1000
"""Pairs of language and voice that are remembered as asked for: clients may make up voices."""

Progress = Callable[[int, int, str], None]
"""Called after each prompt of a warm-up: how many are done, of how many, and its name."""


@dataclass(slots=True)
class Warmed:
    """What a warm-up came to: prompts ready in memory, and why others are not, by name and language."""

    ready: int = 0
    rendered: int = 0
    """Those that were not there before."""
    failed: dict[str, str] = field(default_factory=dict)

    def count(self, source: Source) -> None:
        """One more that is ready."""
        self.ready += 1
        self.rendered += source is Source.RENDER

    def add(self, other: Warmed) -> None:
        self.ready += other.ready
        self.rendered += other.rendered
        self.failed |= other.failed


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
        bridge: str = DEFAULT_BRIDGE,
    ) -> None:
        self.meter = SpeechMeter(speech) if speech is not None else None
        self._speech = speech
        self.catalogue = catalogue
        self.cache = cache
        self.voice = voice
        self._bridge = bridge
        self._renderer = Renderer(cache, speech, engine, voice)
        self._warm: dict[tuple[str, str, AudioFormat], dict[str, bytes]] = {}
        """By name, language and format: the bytes of each voice."""
        self._formats: tuple[AudioFormat, ...] = tuple(AudioFormat)
        self._own_voices: dict[tuple[str, str], str] = {}
        """Language and session's voice to the voice that bridges are kept in."""
        self._expected: set[tuple[str, str]] = set()
        self._to_render: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

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
        return line, await self._renderer.say(line, self._voice(line, voice), speed * line.speed)

    def keys(self, line: Line, voice: str | None = None, speed: float = 1.0) -> tuple[str, ...]:
        """Of the clips that the line may be, the one that is said first before the others."""
        return self._renderer.keys(line, self._voice(line, voice), speed * line.speed)

    def peek(self, line: Line, voice: str | None = None, speed: float = 1.0) -> Clip | None:
        """The line's clip if it is in memory, or can be put together from what is."""
        return self._renderer.peek(line, self._voice(line, voice), speed * line.speed)

    async def is_cached(self, line: Line, voice: str | None = None, speed: float = 1.0) -> bool:
        """Whether saying the line needs no engine."""
        return await self._renderer.is_cached(line, self._voice(line, voice), speed * line.speed)

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
        found = await self._renderer.say(line, self._voice(line), line.speed)
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

        Looks for `voice`, then for the default voice, then for any of that language: a caller who is owed an
        answer would rather hear another voice than none.
        """
        language = self.catalogue.nearest(name, language)
        own = self.catalogue[name].voice or self.voice
        asked = dict.fromkeys((voice or own, own))
        warm = {} if variables else self._warm.get((name, language, fmt), {})
        for candidate in asked:
            data = warm.get(self._own_voices.get((language, candidate), candidate))
            if data is None:
                line = self.catalogue.fill(name, variables, language)
                data = self.cache.peek_form(self._renderer.key(line, candidate, line.speed), fmt)
            if data is not None:
                return data
        return next(iter(warm.values()), None)

    def bridge(
        self,
        name: str,
        fmt: AudioFormat,
        *,
        language: str = DEFAULT_LANGUAGE,
        voice: str | None = None,
    ) -> tuple[str, bytes]:
        """A prompt's words and wire bytes, at once; where it is not in memory, no words and the tone.

        A bridge that is not there in the caller's language gives way to the default one in that language, and that to
        the tone: one that is asked for in a language it does not have is not said in another. Any other prompt is
        said in the nearest language.
        """
        if not self.catalogue[name].bridge:
            data = self.clip(name, fmt, language=language, voice=voice)
            text = self.catalogue.fill(name, {}, self.catalogue.nearest(name, language)).text
            return ("", tone(fmt, TONE_MS)) if data is None else (text, data)
        for candidate in dict.fromkeys((name, self._bridge)):
            written = self.catalogue.written(candidate, language)
            data = self.clip(candidate, fmt, language=written, voice=voice) if written else None
            if written and data is not None:
                return self.catalogue.fill(candidate, {}, written).text, data
        self.expect(language, voice)
        return "", tone(fmt, TONE_MS)

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
        languages: Iterable[str] = (DEFAULT_LANGUAGE,),
    ) -> Warmed:
        """Puts every prompt without variables into memory, in `formats` and the default voice (or `voices`).

        Bridges come first, in `languages`; those of other languages are for `expect`. They stay in memory whatever
        else the cache lets go of. One that cannot be said does not stop the others. Running it again does only what
        is missing.
        """
        catalogue = self.catalogue
        self._formats, voices, languages = tuple(formats), tuple(voices) or (self.voice,), tuple(languages)
        bridges = [line for language in languages for line in self.catalogue.bridges(language)]
        todo = [(line, voice) for line in (*bridges, *self.catalogue.constant()) for voice in voices]
        warmed = Warmed()
        for done, (line, voice) in enumerate(todo, start=1):
            try:
                await self._warm_one(line, voice)
                warmed.ready += 1
            except (PromptError, SpeechFailed, ModelMissing) as error:
                warmed.failed[f"{line.name}.{line.language}"] = str(error)
                log.warning("prompt %s is not ready in %s: %s", line.name, line.language, error)
            if progress is not None:
                progress(done, len(todo), line.name)
        if self.catalogue is not catalogue:  # others are in use by now
            return await self.warm(self._formats, progress, voices=voices, languages=languages)
        return warmed

    async def use(self, catalogue: Catalogue) -> Warmed:
        """Says the prompts of another catalogue from now on; what is warm is made anew first, where its words are.

        A fixed prompt that cannot be said as it is now leaves memory, so that nobody hears its old words.
        """
        before = set(self._fixed(self.catalogue, self._warm))
        after = set(self._fixed(catalogue, self._warm))
        warmed, ready = Warmed(), []
        for line, voice in sorted(after - before, key=lambda pair: pair[0].name):
            try:
                clip = (await self._renderer.say(line, line.voice or voice, line.speed)).clip
                ready.append((line, line.voice or voice, await self._all_forms(clip)))
                warmed.ready += 1
            except (PromptError, SpeechFailed, ModelMissing) as error:
                warmed.failed[f"{line.name}.{line.language}"] = str(error)
                log.warning("prompt %s is not ready in %s: %s", line.name, line.language, error)
        self.catalogue = catalogue
        for line, _ in before - after:
            for fmt in self._formats:
                self._warm.pop((line.name, line.language, fmt), None)
        for line, voice, forms in ready:
            self._put(line, voice, forms)
        return warmed

    def _fixed(
        self, catalogue: Catalogue, warm: Mapping[tuple[str, str, AudioFormat], Mapping[str, bytes]]
    ) -> Iterator[tuple[Line, str]]:
        """Prompts without variables that are warm or ought to be, in every voice that they are warm in."""
        for name in catalogue:
            if not catalogue.is_constant(name):
                continue
            for language in catalogue[name].text:
                voices = {voice for fmt in self._formats for voice in warm.get((name, language, fmt), {})}
                if not catalogue[name].bridge or language == DEFAULT_LANGUAGE:
                    voices = voices or ({self.voice} if warm else set())
                for voice in voices:
                    yield catalogue.fill(name, {}, language), voice

    async def warm_fixed(
        self,
        forms: Sequence[Form],
        progress: Progress | None = None,
        *,
        voices: Sequence[str] = (),
        languages: Sequence[str] = (DEFAULT_LANGUAGE,),
    ) -> Warmed:
        """Puts every prompt without variables into the cache, in `languages` and the default voice (or `voices`).

        `forms` are made as well. Nothing stays in memory for good: that is what `warm` does in a server.
        """
        fixed = [line for name in self.catalogue for line in self._lines(name, languages)]
        todo = [(line, voice) for line in fixed for voice in voices or (self.voice,)]
        warmed = Warmed()
        for done, (line, voice) in enumerate(todo, start=1):
            try:
                own = line.voice or await self._voice_of(line, voice)
                found = await self._renderer.say(line, own, line.speed, fresh=True)
                for form in forms:
                    await self.cache.form(found.clip, form)
                warmed.count(found.source)
            except VoiceMissing as error:
                # Nobody hears it in that language: there is a tone, or another language.
                log.info("prompt %s is not said in %s: %s", line.name, line.language, error)
            except (PromptError, SpeechFailed, ModelMissing) as error:
                warmed.failed[f"{line.name}.{line.language} in {voice}"] = str(error)
            if progress is not None:
                progress(done, len(todo), line.name)
        return warmed

    async def warm_pieces(
        self,
        progress: Progress | None = None,
        *,
        voices: Sequence[str] = (),
        languages: Sequence[str] | None = None,
    ) -> Warmed:
        """Makes what stitched prompts are put together from, in the default voice (or `voices`).

        What is in the cache already is not made again, so that a run that was cut short goes on where it was.
        """
        todo = await asyncio.to_thread(self._pieces, voices or (self.voice,), languages)
        warmed = Warmed()
        for done, (wanted, name) in enumerate(todo.items(), start=1):
            try:
                warmed.count((await self._renderer.assembly.make(*wanted)).source)
            except (PromptError, SpeechFailed, ModelMissing) as error:
                warmed.failed[f"{name}: {wanted}"] = str(error)
            if progress is not None:
                progress(done, len(todo), name)
        return warmed

    async def load_pieces(self) -> int:
        """Takes what `warm_pieces` made out of the store into memory: how many pieces are there then."""
        wanted = await asyncio.to_thread(self._pieces, (self.voice,))
        loaded = await self._renderer.assembly.load_all(wanted)
        log.info("%d of %d pieces of stitched prompts are in memory", loaded, len(wanted))
        return loaded

    def _lines(self, name: str, languages: Sequence[str]) -> Iterator[Line]:
        """A prompt that needs no variables, in those of `languages` that it is written in."""
        if self.catalogue.is_constant(name):
            for language in self.catalogue[name].text:
                if language in languages:
                    yield self.catalogue.fill(name, {}, language)

    async def _voice_of(self, line: Line, voice: str) -> str:
        """As `_warm_one` has it: other languages have voices of their own."""
        return voice if line.language == DEFAULT_LANGUAGE else await self._own_voice(line, voice)

    def _pieces(self, voices: Sequence[str], languages: Sequence[str] | None = None) -> dict[Wanted, str]:
        """Every piece that stitched prompts need, in an order that stays, and the first prompt that does."""
        found: dict[Wanted, str] = {}
        for name, language in self.catalogue.stitched():
            if languages is not None and language not in languages:
                continue
            prompt = self.catalogue[name]
            pieces = sorted(self.catalogue.pieces(name, language), key=Piece.order)
            for voice in voices:
                for piece in pieces:
                    found.setdefault(Wanted(piece, prompt.voice or voice, language, prompt.speed), name)
        return found

    def expect(self, language: str, voice: str | None = None) -> None:
        """A caller speaks `language` and may come to need its bridges, in the voice nearest to `voice`.

        Returns at once; `render_ahead` does the work. Costs nothing where that was said before.
        """
        pair = (language, voice or self.voice)
        if pair in self._expected or len(self._expected) >= MAX_EXPECTED:
            return
        self._expected.add(pair)
        self._to_render.put_nowait(pair)

    async def render_ahead(self) -> None:
        """Renders the bridges that were expected, while the engine has nobody to speak to; until cancelled."""
        while True:
            pair = await self._to_render.get()
            try:
                await self._make_ready(*pair)
            except VoiceMissing as error:
                log.warning("callers hear a tone for the bridges in %s: %s", pair[0], error)
            except (SpeechFailed, ModelMissing) as error:
                self._expected.discard(pair)  # the next call tries again
                log.warning("the bridges in %s are not ready: %s", pair[0], error)
            finally:
                self._to_render.task_done()

    def worst(self, request: AnswerRequest) -> int:
        """Nano-dollars that one answer can cost at most: its longest line, made anew by an engine that is paid."""
        longest = LONGEST_LINE if request.say is None else len_spoken(request.say, request.language)
        return self.meter.worst(longest, request.speed) if self.meter and request.speak else 0

    def untold(self, answer_id: str) -> Sequence[Charge]:
        """Nothing: a line is paid for before it is said."""
        return ()

    def charges(self, line: Line, found: Found) -> list[Charge]:
        """What having it cost: nothing where it was in the cache."""
        if self.meter is None or found.source is not Source.RENDER:
            return []
        made = self.meter.text(len(line.spoken)), self.meter.audio(len(found.clip.pcm) / SPEAK_RATE)
        return [charge for charge in made if charge is not None]

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerEvent]:
        """Tier C as a call's own tier: the flow, the order tool, catalogue prompts. Never a model."""
        if request.say is not None:
            async with closing(say_exactly(request, self._speech, self.voice)) as events:
                async for event in events:
                    yield event
            return
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
            found = await self._say_in_call(line, request)
        except (PromptError, ModelMissing) as error:
            yield Failed("voice_missing", str(error))
            return
        except SpeechFailed as error:
            yield Failed("speech_failed", str(error))
            return
        for charge in self.charges(line, found):
            yield Charged(charge)
        data = await self.cache.form(found.clip, request.format)
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

    async def _say_in_call(self, line: Line, request: AnswerRequest) -> Found:
        """In the call's voice and speed; where no engine can, in the default voice from the cache."""
        try:
            speed = request.speed * line.speed
            return await self._renderer.say(line, self._voice(line, request.voice), speed)
        except (VoiceMissing, SpeechFailed, ModelMissing):
            voice = self._voice(line)
            if not await self._renderer.is_cached(line, voice, line.speed):
                raise
            return await self._renderer.say(line, voice, line.speed)

    def _voice(self, line: Line, asked: str | None = None) -> str:
        return asked or line.voice or self.voice

    async def _warm_one(self, line: Line, voice: str) -> None:
        voice = line.voice or voice
        if self.catalogue[line.name].bridge and line.language != DEFAULT_LANGUAGE:
            voice = await self._own_voice(line, voice)
        await self._keep((await self._renderer.say(line, voice, fresh=True)).clip, line, voice)

    async def _make_ready(self, language: str, voice: str) -> None:
        lines = list(self.catalogue.bridges(language))
        if not lines:
            log.info("no bridge is written in %r: its callers hear a tone", language)
        for line in lines:
            own = await self._own_voice(line, voice)
            if any(own not in self._warm.get((line.name, line.language, fmt), {}) for fmt in self._formats):
                await self._keep(await self._renderer.say_ahead(line, own), line, own)

    async def _own_voice(self, line: Line, voice: str) -> str:
        own = await self._renderer.voice_for(voice, line.language)
        self._own_voices[line.language, voice] = own
        return own

    async def _keep(self, clip: Clip, line: Line, voice: str) -> None:
        self._put(line, voice, await self._all_forms(clip))

    async def _all_forms(self, clip: Clip) -> dict[AudioFormat, bytes]:
        return {
            fmt: await asyncio.to_thread(trim_wire, await self.cache.form(clip, fmt), fmt)
            for fmt in self._formats
        }

    def _put(self, line: Line, voice: str, forms: Mapping[AudioFormat, bytes]) -> None:
        for fmt, data in forms.items():
            self._warm.setdefault((line.name, line.language, fmt), {})[voice] = data

"""Any text as speech, through the same cache and engines as prompts: what `/v1/audio/speech` does, without HTTP."""

from __future__ import annotations

import asyncio
import logging
import re
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache import FORMS, ClipCache, Source, clip_key
from cache.forms import CODED, Form
from cache.streamed import form_stream
from orchestrator.core.prices import NANO
from orchestrator.protocol.audio import SPEAK_RATE, Pcm16
from orchestrator.server.prompt_files import AudioName
from orchestrator.server.purse import Purse, Tab
from tiers.pipeline.clauses import split
from tiers.pipeline.kokoro import LANGUAGES, VOICES
from tiers.pipeline.metering import SpeechMeter
from tiers.pipeline.worker import closing
from tiers.speech import Speech, SpeechFailed, engine_id
from tiers.speech_pool import Load, SpeechPool
from tiers.urgency import Priority, asking

log = logging.getLogger(__name__)

ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Models of OpenAI's that clients ask for by default: the first engine that can."""
_LOCAL = frozenset({"kokoro", "kokoro-torch"})
NOTHING = np.zeros(0, np.int16)
BEGUN_S = 60.0
"""How long a sentence may wait for an engine when those before it can be heard already."""
_ENDED = re.compile(r"[.!?…][\"')\]*_`\u2019\u201d]*$")


class UnknownModel(Exception):
    """No engine goes by that name; the message says which ones do."""


class UnknownVoice(Exception):
    """The engine has no such voice; the message says which ones there are."""


@dataclass(frozen=True, slots=True)
class SpeechAsked:
    """What is to be said. `voice` is an OpenAI voice or one of the engine's own."""

    text: str
    model: str = ALIASES[0]
    voice: str = ""
    language: str = "en"
    speed: float = 1.0
    form: AudioName = "mp3"


@dataclass(frozen=True, slots=True)
class Voice:
    """`languages` are tags; empty where the engine does not tell."""

    id: str
    model: str
    languages: tuple[str, ...] = ()
    like: str = ""
    """For an OpenAI voice: the engine's own that speaks for it."""


@dataclass(slots=True)
class Told:
    """What became of it, complete once the audio has ended."""

    engine: str = ""
    source: Source | None = None
    seconds: float = 0.0
    cost_nanodollars: int = 0

    @property
    def cost_usd(self) -> float:
        return self.cost_nanodollars / NANO


@dataclass(slots=True)
class Saying:
    """Speech that has begun. `whole`: all of it, where that was there already; else `pieces` are still to come."""

    told: Told
    whole: bytes | None = None
    pieces: AsyncIterator[bytes] = field(default_factory=lambda: _none())


class Speaking:
    """`engines` in the order in which they stand in for each other.

    `chosen` are voices of Kokoro by OpenAI's, over those it has. `purse` and `bucket` say who pays; without them
    nobody counts.
    """

    def __init__(
        self,
        cache: ClipCache,
        engines: Sequence[Speech],
        *,
        voices: Path | None = None,
        default_voice: str = "",
        chosen: Mapping[str, str] | None = None,
        purse: Purse | None = None,
        bucket: str = "default",
    ) -> None:
        self._cache = cache
        self._engines = {engine.rung: engine for engine in engines}
        self._meters = {engine.rung: SpeechMeter(engine) for engine in engines}
        self._voices_file, self._default_voice = voices, default_voice
        self._like = {**VOICES, **(chosen or {})}
        self.purse, self.bucket = purse, bucket
        self._own: tuple[str, ...] | None = None

    @property
    def models(self) -> list[str]:
        return [*self._engines, *ALIASES]

    @property
    def loads(self) -> dict[str, Load]:
        """How busy the engines are that have workers of their own."""
        return {rung: each.load() for rung, each in self._engines.items() if isinstance(each, SpeechPool)}

    async def voices(self) -> list[Voice]:
        """Those that are known by name. A paid engine takes its own ids beside them."""
        own = await self._kokoro_voices()
        found = []
        for rung in self._engines:
            if rung in _LOCAL:
                languages = _languages()
                found += [Voice(name, rung, languages.get(name[0], ())) for name in own]
            own_for = self._like if rung in _LOCAL else dict.fromkeys(VOICES, "")
            found += [Voice(name, rung, like=like) for name, like in own_for.items()]
        return found

    async def begin(self, asked: SpeechAsked) -> Saying:
        """Speech with its first bytes ready.

        Raises `UnknownModel`, `UnknownVoice`, `BudgetSpent`, or whatever else the last engine raised.

        An engine that fails before its first sound gives way to the next one, where the model leaves that open.
        """
        chain = self._chain(asked.model)
        voice = await self._voice(asked.voice, chain[0])
        for engine in chain[:-1]:
            try:
                return await self._begin(engine, asked, voice)
            except Exception as error:
                if getattr(error, "retry_after_s", None) is not None:
                    raise
                log.warning("%s cannot speak, the next one does: %s", engine.rung, type(error).__name__)
        return await self._begin(chain[-1], asked, voice)

    async def _begin(self, engine: Speech, asked: SpeechAsked, voice: str) -> Saying:
        form, told = FORMS[asked.form], Told(engine.rung)
        key, any_version = (
            clip_key(asked.text, voice=voice, engine=name, language=asked.language, speed=asked.speed)
            for name in (engine_id(engine), engine.rung)
        )
        clip = await self._cache.get(key)
        if clip is not None:
            told.source, told.seconds = Source.MEMORY, clip.seconds
            return Saying(told, await self._cache.form(clip, form))

        def became(source: Source) -> None:
            told.source = source

        # Where an older version's clip is heard, nobody would be charged for the new one.
        stale_key = any_version if engine.rung in _LOCAL else None
        sound = self._cache.stream(
            key, asked.text, lambda: self._paid(engine, asked, voice), stale_key=stale_key, told=became
        )
        pieces = self._encoded(sound, form, told, asked)
        with asking(Priority.REQUEST):
            first = await anext(pieces, b"")
        return Saying(told, pieces=_after(first, pieces))

    async def _paid(self, engine: Speech, asked: SpeechAsked, voice: str) -> AsyncIterator[Pcm16]:
        """A render, its money set aside: whoever asked, and whoever of those still listens, it is paid once."""
        meter, heard = self._meters[engine.rung], 0
        # A local engine is heard when a piece is done; the others send sound before.
        texts = sentences(asked.text) if engine.rung in _LOCAL else [asked.text]
        async with self._take(meter.worst(len(asked.text), asked.speed)) as tab:
            async with closing(_by_sentence(engine, texts, voice, asked)) as pieces:
                async for pcm in pieces:
                    heard += len(pcm)
                    yield pcm
            tab.cost = _cost(meter, asked, heard / SPEAK_RATE)

    def _take(self, worst: int) -> AbstractAsyncContextManager[Tab]:
        return nullcontext(Tab()) if self.purse is None else self.purse.take(self.bucket, worst)

    async def _encoded(
        self, sound: AsyncIterator[Pcm16], form: Form, told: Told, asked: SpeechAsked
    ) -> AsyncIterator[bytes]:
        stream, heard = form_stream(form), 0
        async with closing(sound) as pieces:
            async for piece in pieces:
                heard += len(piece)
                data = await _off_loop(form, lambda piece=piece: stream.feed(piece))  # type: ignore[misc]
                if data:
                    yield data
        told.seconds = heard / SPEAK_RATE
        if told.source is Source.RENDER:
            told.cost_nanodollars = _cost(self._meters[told.engine], asked, told.seconds)
        yield await _off_loop(form, lambda: stream.feed(NOTHING, last=True))

    def _chain(self, model: str) -> list[Speech]:
        if model in self._engines:
            return [self._engines[model]]
        if model in ALIASES or model.startswith("gpt-4o-mini-tts-"):
            return list(self._engines.values())
        known = ", ".join(self.models)
        raise UnknownModel(f"the model {model!r} does not exist here; there are {known}")

    async def _voice(self, voice: str, engine: Speech) -> str:
        """A voice that is not there is told of rather than replaced; paid engines know their own."""
        if not voice or engine.rung not in _LOCAL or voice in self._like:
            return voice or self._default_voice
        own = await self._kokoro_voices()
        if own and voice not in own:
            message = f"there is no voice {voice!r}; there are {', '.join(self._like)}, and {', '.join(own)}"
            raise UnknownVoice(message)
        return voice

    async def _kokoro_voices(self) -> tuple[str, ...]:
        """By the names in the file of voices, which does not have to be loaded for that."""
        if self._own is None and self._voices_file is not None:
            self._own = await asyncio.to_thread(_names_in, self._voices_file)
        return self._own or ()


def sentences(text: str) -> list[str]:
    """`text` cut where sentences end, so that the first one can be heard while the next is made."""
    found: list[str] = []
    for clause in split(text):
        if found and not _ENDED.search(found[-1]):
            found[-1] += f" {clause}"
        else:
            found.append(clause)
    return found or [text]


async def _by_sentence(
    engine: Speech, texts: Sequence[str], voice: str, asked: SpeechAsked
) -> AsyncIterator[Pcm16]:
    held: list[Pcm16] | None = []
    """What is silent at the beginning, so that an engine without a sound can still become an error."""
    for place, text in enumerate(texts):
        # What has begun is not refused any more, however much else there is to do.
        with asking(Priority.REQUEST, None if place == 0 else BEGUN_S):
            pieces = engine.speak(text, voice=voice, speed=asked.speed, language=asked.language)
            async with closing(pieces):
                async for piece in pieces:
                    if held is not None:
                        held.append(piece)
                        if not piece.any():
                            continue
                        piece, held = np.concatenate(held), None
                    yield piece
    if held is not None:
        raise SpeechFailed(f"{engine.rung} returned no sound")


def _names_in(path: Path) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(path) as file:
            return tuple(sorted(name.removesuffix(".npy") for name in file.namelist()))
    except (OSError, zipfile.BadZipFile):
        return ()


def _languages() -> Mapping[str, tuple[str, ...]]:
    """Tags of languages by the first letter of Kokoro's voices."""
    found: dict[str, tuple[str, ...]] = {}
    for tag, (_, letter) in LANGUAGES.items():
        found[letter] = (*found.get(letter, ()), tag)
    return found


async def _off_loop(form: Form, work: Callable[[], bytes]) -> bytes:
    """FFmpeg's encoders take milliseconds; samples as they are take less than going to a thread."""
    return await asyncio.to_thread(work) if form in CODED else work()


def _cost(meter: SpeechMeter, asked: SpeechAsked, seconds: float) -> int:
    """Of a render, in nano-dollars."""
    charges = meter.text(len(asked.text)), meter.audio(seconds)
    return sum(charge.nanodollars for charge in charges if charge)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with closing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _none() -> AsyncIterator[bytes]:
    return
    yield b""

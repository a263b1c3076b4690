"""The first words of answers that recur ("Sure."), kept so that nobody waits for their synthesis twice.

Lines that are configured are kept like prompts, in the content cache and its store. Other openings of an engine of
our own are learned: they stay in this process's memory, since they may hold a caller's name, and the ones that were
not used for longest go first. A clip is played only where an answer begins with its very words.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from cache import Clip, ClipCache, clip_key
from cache.memory import Lru
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import AnswerRequest
from orchestrator.protocol.audio import Pcm16
from tiers.pipeline.reading import spoken
from tiers.speech import RendersAhead, Speech, SpeechFailed, engine_id

log = logging.getLogger(__name__)

LONGEST = 60
"""Characters that an opening may have; longer ones do not recur."""
LEARNED_BYTES = 16 << 20
"""Some hundred of the longest."""
LANGUAGE = "en"
"""Configured lines are taken to be in it when they are made ahead."""


class Openings:
    """`lines`: the configured ones, as an agent writes them. Belongs to one event loop."""

    def __init__(
        self, cache: ClipCache, lines: Iterable[str] = (), *, learned_bytes: int = LEARNED_BYTES
    ) -> None:
        self._cache = cache
        self._lines = frozenset(" ".join(line.split()) for line in lines)
        self._learned: Lru[str, Pcm16] = Lru(learned_bytes)

    async def find(self, speech: Speech, text: str, request: AnswerRequest) -> Pcm16 | None:
        """The audio of `text` in the request's voice, speed and language, by that engine; None where it is not kept."""
        key = _key(speech, text, request.voice, request.language, request.speed)
        if text in self._lines:
            clip = await self._cache.get(key)
            return clip.pcm if clip is not None else None
        return self._learned.get(key)

    async def keep(self, speech: Speech, text: str, request: AnswerRequest, pcm: Pcm16) -> None:
        """`pcm` is the whole of it. Words that are not configured are kept of an engine of our own only."""
        key = _key(speech, text, request.voice, request.language, request.speed)
        if text in self._lines:
            await self._store(key, text, request.language, pcm)
        elif getattr(speech, "self_hosted", False) and len(text) <= LONGEST:
            self._learned.put(key, pcm, pcm.nbytes)

    async def make_ahead(self, speech: Speech, voice: str) -> None:
        """The configured lines in `voice`, made while nobody is spoken to; nothing by an engine that cannot do that."""
        if not isinstance(speech, RendersAhead):
            return
        for line in sorted(self._lines):
            key = _key(speech, line, voice, LANGUAGE, 1.0)
            if await self._cache.get(key) is not None:
                continue
            try:
                pcm = await speech.render_ahead(line, voice=voice, language=LANGUAGE)
            except (SpeechFailed, ModelMissing) as error:
                log.warning("openings are not made ahead: %s", error)
                return
            await self._store(key, line, LANGUAGE, pcm)

    async def _store(self, key: str, text: str, language: str, pcm: Pcm16) -> None:
        if not len(pcm):
            return
        pcm = np.array(pcm, dtype=np.int16)
        pcm.flags.writeable = False
        clip = Clip(key, spoken(text, language), pcm)

        async def as_is() -> Clip:
            return clip

        await self._cache.fetch(key, as_is)


def _key(speech: Speech, text: str, voice: str, language: str, speed: float) -> str:
    return clip_key(
        spoken(text, language), voice=voice, engine=engine_id(speech), language=language, speed=speed
    )

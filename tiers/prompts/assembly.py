"""Stitched lines: pieces are made once and kept as clips, and any line is put together from them in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from cache import Clip, ClipCache, Found, Source, clip_key
from cache.memory import Lru
from orchestrator.protocol.audio import Pcm16
from tiers.prompts import stitching
from tiers.prompts.catalogue import Line
from tiers.prompts.pieces import Piece
from tiers.speech import Speech, TellsParts

CUT = "cut 1"
"""How pieces are made: part of their keys, as it changes what is heard."""
STITCHED = f"{CUT} stitched"
HELD_BYTES = 96 << 20
"""Pieces that stay in memory whatever else the cache lets go of: two thousand, of half a second each."""
KEPT_S = 600.0
"""How long a stitched line may be kept, in forms that take long to make: it can be put together again at any time."""

Say = Callable[[str, str, float, str], Awaitable[Pcm16]]
"""The engine's whole sound of a text, in a voice, at a speed, in a language."""


class Wanted(NamedTuple):
    """A piece as it is to be heard."""

    piece: Piece
    voice: str
    language: str
    speed: float = 1.0

    def __str__(self) -> str:
        before, after = self.piece.before.value, self.piece.after.value
        return f"{self.piece.words!r} ({before}, {after}) in {self.voice}"


class Assembly:
    """The pieces of all stitched prompts. `engine` is the name and version that their clips are kept under."""

    def __init__(self, cache: ClipCache, speech: Speech | None, engine: str, say: Say) -> None:
        self._cache = cache
        self._speech = speech
        self._engine = engine
        self._say = say
        self._held: Lru[Wanted, Pcm16] = Lru(HELD_BYTES)

    def key(self, line: Line, voice: str, speed: float) -> str:
        """The stitched line's: another than that of the same words said whole."""
        engine = f"{self._engine} {STITCHED}"
        return clip_key(line.spoken, voice=voice, engine=engine, language=line.language, speed=speed)

    def peek(self, line: Line, voice: str, speed: float) -> Clip | None:
        """The line, if all its pieces are in memory. Well under a millisecond of work."""
        spots = []
        for spot in line.spots:
            pcm = self._held.get(Wanted(spot.piece, voice, line.language, speed))
            if pcm is None:
                return None
            spots.append((pcm, spot.join))
        if not spots:
            return None
        pcm = stitching.stitch(spots, speed)
        kept = KEPT_S if line.keep_s is None else min(KEPT_S, line.keep_s)
        return Clip(self.key(line, voice, speed), line.spoken, pcm, time.time() + kept)

    async def find(self, line: Line, voice: str, speed: float) -> Found | None:
        """The line from pieces in memory or the store; None where one of them was never made."""
        source = Source.MEMORY
        for spot in line.spots:
            wanted = Wanted(spot.piece, voice, line.language, speed)
            if wanted not in self._held:
                source = Source.STORE
                if not await self._load(wanted):
                    return None
        clip = self.peek(line, voice, speed)
        return None if clip is None else Found(clip, source)

    async def load_all(self, wanted: Iterable[Wanted]) -> int:
        """Takes pieces out of the store into memory; how many of them are there then."""
        return sum([each in self._held or await self._load(each) for each in wanted])

    async def make(self, piece: Piece, voice: str, language: str, speed: float = 1.0) -> Found:
        """The piece, made by the engine unless it was before. Raises as `Renderer.say` does."""
        wanted = Wanted(piece, voice, language, speed)
        key = self._key(wanted)
        found = await self._cache.fetch(key, lambda: self._render(key, wanted))
        self._hold(wanted, found.clip)
        return found

    async def _load(self, wanted: Wanted) -> bool:
        clip = await self._cache.get(self._key(wanted))
        if clip is None:
            return False
        self._hold(wanted, clip)
        return True

    def _hold(self, wanted: Wanted, clip: Clip) -> None:
        self._held.put(wanted, clip.pcm, clip.nbytes)

    def _key(self, wanted: Wanted) -> str:
        piece, voice, language, speed = wanted
        said = stitching.frame(piece, language)
        text = f"{piece.before.value} {said.index} {piece.after.value} {said.text}"
        return clip_key(text, voice=voice, engine=f"{self._engine} {CUT}", language=language, speed=speed)

    async def _render(self, key: str, wanted: Wanted) -> Clip:
        piece, voice, language, speed = wanted
        said = stitching.frame(piece, language)
        parts = None
        if isinstance(self._speech, TellsParts):
            parts = await self._speech.speak_parts(said.parts, voice=voice, speed=speed, language=language)
        if parts is not None:
            pcm = await asyncio.to_thread(stitching.cut, parts.pcm, parts.between, piece, said.index)
        else:
            alone = await self._say(stitching.alone(piece), voice, speed, language)
            pcm = await asyncio.to_thread(stitching.whole, alone)
        return Clip(key, piece.words, pcm)

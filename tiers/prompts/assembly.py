"""Stitched lines: pieces are made once and kept as clips, and any line is put together from them in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

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


class Assembly:
    """The pieces of all stitched prompts. `engine` is the name and version that their clips are kept under."""

    def __init__(self, cache: ClipCache, speech: Speech | None, engine: str, say: Say) -> None:
        self._cache = cache
        self._speech = speech
        self._engine = engine
        self._say = say
        self._held: Lru[tuple[Piece, str, str, float], Pcm16] = Lru(HELD_BYTES)

    def key(self, line: Line, voice: str, speed: float) -> str:
        """The stitched line's: another than that of the same words said whole."""
        engine = f"{self._engine} {STITCHED}"
        return clip_key(line.spoken, voice=voice, engine=engine, language=line.language, speed=speed)

    def peek(self, line: Line, voice: str, speed: float) -> Clip | None:
        """The line, if all its pieces are in memory. Well under a millisecond of work."""
        spots = []
        for spot in line.spots:
            pcm = self._held.get((spot.piece, voice, line.language, speed))
            if pcm is None:
                return None
            spots.append((pcm, spot.join))
        if not spots:
            return None
        pcm = stitching.stitch(spots, speed)
        return Clip(self.key(line, voice, speed), line.spoken, pcm, time.time() + KEPT_S)

    async def find(self, line: Line, voice: str, speed: float) -> Found | None:
        """The line from pieces in memory or the store; None where one of them was never made."""
        source = Source.MEMORY
        for spot in line.spots:
            if (spot.piece, voice, line.language, speed) not in self._held:
                source = Source.STORE
                if not await self.load(spot.piece, voice, line.language, speed):
                    return None
        clip = self.peek(line, voice, speed)
        return None if clip is None else Found(clip, source)

    async def load(self, piece: Piece, voice: str, language: str, speed: float) -> bool:
        """Takes a piece out of the store into memory; False where it is not there."""
        clip = await self._cache.get(self._key(piece, voice, language, speed))
        if clip is None:
            return False
        self._hold(piece, voice, language, speed, clip.pcm)
        return True

    async def load_all(self, pieces: Iterable[Piece], voice: str, language: str) -> int:
        """How many of them are in memory then."""
        return sum([await self.load(piece, voice, language, 1.0) for piece in pieces])

    async def make(self, piece: Piece, voice: str, language: str, speed: float = 1.0) -> Found:
        """The piece, made by the engine unless it was before. Raises as `Renderer.say` does."""
        key = self._key(piece, voice, language, speed)
        found = await self._cache.fetch(key, lambda: self._render(key, piece, voice, language, speed))
        self._hold(piece, voice, language, speed, found.clip.pcm)
        return found

    def _key(self, piece: Piece, voice: str, language: str, speed: float) -> str:
        said = stitching.frame(piece, language)
        text = f"{piece.before.value} {said.index} {piece.after.value} {said.text}"
        return clip_key(text, voice=voice, engine=f"{self._engine} {CUT}", language=language, speed=speed)

    def _hold(self, piece: Piece, voice: str, language: str, speed: float, pcm: Pcm16) -> None:
        self._held.put((piece, voice, language, speed), pcm, pcm.nbytes)

    async def _render(self, key: str, piece: Piece, voice: str, language: str, speed: float) -> Clip:
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

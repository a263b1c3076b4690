"""How a simulator speaks: a modulated tone that needs no model, or Kokoro with its clips kept on disk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import ceil
from typing import Protocol

import numpy as np

from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Encoder, Pcm16

FIRST_PIECE_MS = 100
PIECE_MS = 200
SECONDS_PER_CHARACTER = 0.065
"""How long speech takes, where only its text is known."""
TONE_SECONDS = 10
_FUNDAMENTAL_HZ = 140
_SYLLABLES_HZ = 4
_LOUDNESS = 0.12


@dataclass(frozen=True, slots=True)
class Piece:
    """At most 200 ms of an answer: wire audio, and the words that it starts."""

    text: str
    audio: bytes
    ms: float


class Voice(Protocol):
    def speak(self, sentences: list[str], fmt: AudioFormat, speed: float) -> AsyncGenerator[Piece, None]:
        """Speak the sentences one after the other, in the wire format."""
        ...

    async def warm(self) -> None:
        """Load what speaking needs."""
        ...

    async def prepare(self, sentences: list[str]) -> None:
        """Have these sentences ready for later."""
        ...


@cache
def _tone() -> Pcm16:
    """Ten seconds, seamless when repeated: a buzz with the rhythm of syllables, never silent for long."""
    time = np.arange(TONE_SECONDS * SPEAK_RATE) / SPEAK_RATE
    buzz = sum(np.sin(2 * np.pi * _FUNDAMENTAL_HZ * n * time) / n for n in range(1, 9))
    rhythm = 0.55 + 0.45 * np.sin(2 * np.pi * _SYLLABLES_HZ * time)
    wave = np.asarray(buzz * rhythm)
    return np.asarray(wave * (_LOUDNESS * 32767 / np.sqrt(np.mean(wave**2))), dtype=np.int16)


@cache
def _tone_bytes(fmt: AudioFormat) -> bytes:
    return Encoder(fmt).encode(_tone(), last=True)[: TONE_SECONDS * 1000 * fmt.bytes_per_ms]


@cache
def _tone_piece(fmt: AudioFormat, start_ms: int, ms: int) -> bytes:
    """Shared between all answers, so that a long one costs no memory."""
    loop = _tone_bytes(fmt)
    start = start_ms * fmt.bytes_per_ms
    return (loop + loop)[start : start + ms * fmt.bytes_per_ms]


def tone(seconds: float, fmt: AudioFormat) -> bytes:
    """A tone of that length as wire audio."""
    return b"".join(
        _tone_piece(fmt, start % (TONE_SECONDS * 1000), ms) for start, ms in cut(round(seconds * 1000))
    )


def cut(total_ms: int) -> Iterator[tuple[int, int]]:
    """Start and length in milliseconds of the pieces that an answer is sent in."""
    start, size = 0, FIRST_PIECE_MS
    while start < total_ms:
        yield start, min(size, total_ms - start)
        start, size = start + size, PIECE_MS


def spread(text: str, pieces: int) -> list[str]:
    """The words of `text` over so many pieces, in order, never behind the audio; some pieces may get none."""
    words = text.split()
    edges = [ceil(index * len(words) / pieces) for index in range(pieces + 1)]
    parts = [" ".join(words[a:b]) for a, b in pairwise(edges)]
    # A delta begins with the space before its first word, unless the text itself begins without one.
    begun = text.startswith(" ")
    for index, part in enumerate(parts):
        if part:
            parts[index] = f" {part}" if begun else part
            begun = True
    return parts


class ToneVoice:
    """Speaks every answer as `seconds` of tone, or as long as the words would take where that is None."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds

    async def speak(
        self, sentences: list[str], fmt: AudioFormat, speed: float
    ) -> AsyncGenerator[Piece, None]:
        text = " ".join(sentences)
        seconds = self._seconds if self._seconds is not None else len(text) * SECONDS_PER_CHARACTER / speed
        cuts = list(cut(round(seconds * 1000)))
        for words, (start, ms) in zip(spread(text, len(cuts)) if cuts else [], cuts, strict=True):
            yield Piece(words, _tone_piece(fmt, start % (TONE_SECONDS * 1000), ms), ms)

    async def warm(self) -> None:
        _tone_bytes(AudioFormat.PCM)

    async def prepare(self, sentences: list[str]) -> None:
        return None

"""How a simulator hears: speech probabilities for turn detection, and words.

`ToneEars` needs no models: speech is what is loud, and the words are a script. `ModelEars` uses Silero VAD and
Whisper, the same models as Tier B.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from orchestrator.protocol.audio import AudioFormat, Decoder, hear, to_pcm16

ENERGY_WINDOW_MS = 20
LOUD = 0.02
"""RMS (full scale 1) that counts as certain speech; half of it passes a threshold of 0.5."""
DEFAULT_HEARD = ("Hello, can you hear me?",)


class Ear(Protocol):
    """Turns one stream of wire audio into speech probabilities, one for each complete window."""

    window_ms: float

    def feed(self, data: bytes) -> list[float]: ...


class Ears(Protocol):
    def ear(self, fmt: AudioFormat) -> Ear: ...

    async def transcribe(self, audio: bytes, fmt: AudioFormat, turn: int) -> str:
        """The words of a session's turn number `turn` (from 0); empty where there are none."""
        ...


class EnergyEar:
    """Speech is what is loud."""

    window_ms: float = ENERGY_WINDOW_MS

    def __init__(self, fmt: AudioFormat) -> None:
        self._fmt = fmt
        self._size = ENERGY_WINDOW_MS * fmt.bytes_per_ms
        self._rest = b""

    def feed(self, data: bytes) -> list[float]:
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._size
        self._rest = data[whole:]
        if not whole:
            return []
        samples = to_pcm16(data[:whole], self._fmt).astype(np.float32).reshape(whole // self._size, -1)
        loudness = np.sqrt(np.einsum("ij,ij->i", samples, samples) / samples.shape[1]) / 32768.0
        return list(np.minimum(1.0, loudness / LOUD).tolist())


class ToneEars:
    """Hears loudness; the words of turn n are line n of the script, over and over."""

    def __init__(self, script: tuple[str, ...] = DEFAULT_HEARD) -> None:
        self._script = script or DEFAULT_HEARD

    def ear(self, fmt: AudioFormat) -> Ear:
        return EnergyEar(fmt)

    async def transcribe(self, audio: bytes, fmt: AudioFormat, turn: int) -> str:
        return self._script[turn % len(self._script)]


class SileroEar:
    """Silero VAD on the stream, resampled to 16 kHz."""

    window_ms: float = 32.0

    def __init__(self, fmt: AudioFormat) -> None:
        from tiers.pipeline.vad import Vad

        self._decoder = Decoder(fmt)
        self._vad = Vad()

    def feed(self, data: bytes) -> list[float]:
        return list(self._vad.feed(self._decoder.decode(data)))


class ModelEars:
    """Hears with Silero VAD and Whisper."""

    def __init__(self, whisper: Path) -> None:
        from tiers.pipeline.stt import WhisperTranscriber

        self._transcriber: Any = WhisperTranscriber(whisper, threads=1)

    def ear(self, fmt: AudioFormat) -> Ear:
        return SileroEar(fmt)

    async def transcribe(self, audio: bytes, fmt: AudioFormat, turn: int) -> str:
        transcript = await self._transcriber.transcribe(hear(audio, fmt), "en")
        return str(transcript.text).strip()

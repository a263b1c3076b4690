"""How a simulator hears: speech probabilities for turn detection, and words.

`ToneEars` needs no models: speech is what is loud, and the words are a script. `real_speech.ModelEars` really hears.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.protocol.audio import AudioFormat, to_pcm16

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

    async def warm(self) -> None:
        """Load what hearing needs."""
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
        samples = to_pcm16(data[:whole], self._fmt).astype(np.float32)
        return [_certainty(window) for window in samples.reshape(whole // self._size, -1)]


def _certainty(window: NDArray[np.float32]) -> float:
    """How sure a window (int16 range) is speech."""
    loudness = math.sqrt(np.dot(window, window) / len(window)) / 32768.0
    return min(1.0, loudness / LOUD)


class ToneEars:
    """Hears loudness; the words of turn n are line n of the script, over and over."""

    def __init__(self, script: tuple[str, ...] = DEFAULT_HEARD) -> None:
        self._script = script or DEFAULT_HEARD

    def ear(self, fmt: AudioFormat) -> Ear:
        return EnergyEar(fmt)

    async def transcribe(self, audio: bytes, fmt: AudioFormat, turn: int) -> str:
        return self._script[turn % len(self._script)]

    async def warm(self) -> None:
        return None

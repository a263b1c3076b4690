"""The sound for a caller who is owed an answer when not even a bridge is ready."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from orchestrator.protocol.audio import AudioFormat, Float32, from_pcm16

NOTES_HZ = (523.25, 659.26)
"""C5 and E5: a rising major third, within what a telephone carries."""
PEAK = 0.1
"""-20 dBFS."""
ATTACK_S = 0.02
RELEASE_S = 0.06
FADE = 0.5
"""What a note has sunk to, of its start, when its release begins."""


@lru_cache(maxsize=16)
def tone(fmt: AudioFormat, ms: int) -> bytes:
    """Two notes, half of `ms` each, without a click at either end; exactly `ms` of `fmt`, peak -20 dBFS."""
    samples = ms * fmt.rate // 1000
    first = _note(NOTES_HZ[0], samples // 2, fmt.rate)
    second = _note(NOTES_HZ[1], samples - samples // 2, fmt.rate)
    return from_pcm16((np.concatenate((first, second)) * 32767.0).astype(np.int16), fmt)


def _note(hertz: float, samples: int, rate: int) -> Float32:
    envelope = np.linspace(1.0, FADE, samples)
    for seconds, ramp in ((ATTACK_S, envelope[:]), (RELEASE_S, envelope[::-1])):
        length = min(int(seconds * rate), samples // 2)
        ramp[:length] *= np.sin(np.linspace(0.0, np.pi / 2, length, endpoint=False)) ** 2
    note = PEAK * envelope * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)
    return note.astype(np.float32)

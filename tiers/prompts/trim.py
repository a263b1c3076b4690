"""Clips that begin with sound: an engine's silence before and after the words is time that a caller waits."""

from __future__ import annotations

import numpy as np

from orchestrator.listening import SILENCE_DBFS, WINDOW_MS, loudness
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Pcm16, from_pcm16, to_pcm16

LEAD_MS = WINDOW_MS
"""What is left before the first sound: one window, so that trimming again changes nothing."""
TAIL_MS = 80
"""What is left after the last sound: the end of a breath, and less than a pause between sentences."""


def trim(pcm: Pcm16, rate: int = SPEAK_RATE) -> Pcm16:
    """Samples without the silence at both ends (see `SILENCE_DBFS`), faded where they were cut.

    What is silent throughout comes back as it is.
    """
    loud = np.flatnonzero(loudness(pcm, rate) > SILENCE_DBFS)
    if not len(loud):
        return pcm
    window, lead, tail = (rate * ms // 1000 for ms in (WINDOW_MS, LEAD_MS, TAIL_MS))
    start = max(0, int(loud[0]) * window - lead)
    end = min(len(pcm), (int(loud[-1]) + 1) * window + tail)
    if (start, end) == (0, len(pcm)):
        return pcm
    kept = pcm[start:end].astype(np.float32)
    if start:
        kept[:lead] *= np.linspace(0.0, 1.0, lead, dtype=np.float32)
    if end < len(pcm):
        kept[-tail:] *= np.linspace(1.0, 0.0, tail, dtype=np.float32)
    return kept.astype(np.int16)


def trim_wire(data: bytes, fmt: AudioFormat) -> bytes:
    """Wire bytes, likewise: of an s, which lies above what a telephone carries, nothing may be left to be heard."""
    return from_pcm16(trim(to_pcm16(data, fmt), fmt.rate), fmt)

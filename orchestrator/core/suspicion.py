"""A provider that died quietly looks like an idle one. This notices a caller who spoke to nobody.

One frame in `SAMPLE_EVERY` has its energy measured. Someone who was loud for a while and then quiet, without the
provider announcing speech, is a suspicion; real voice activity detection then confirms or dismisses it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.protocol.audio import AudioFormat, to_pcm16

SAMPLE_EVERY = 5
LOUD_RMS = 400.0
"""About -38 dBFS: quiet speech is above it, line noise below."""
LOUD_MS = 300.0
"""Loud audio of this length may have been speech."""
PATIENCE_MS = 1500.0
"""Quiet after it, before we wonder: the longest usual silence_duration_ms and a second to answer."""


def rms(data: bytes, fmt: AudioFormat) -> float:
    """Root mean square of wire audio, in int16 units."""
    samples = to_pcm16(data, fmt).astype(np.float32)
    return math.sqrt(samples.dot(samples) / len(samples)) if len(samples) else 0.0


@dataclass(slots=True)
class Suspicion:
    """One caller's level, followed."""

    loud_from_ms: float | None = None
    _loud_ms: float = 0.0
    _quiet_ms: float = 0.0
    _raised: bool = False

    def hear(self, level: float, at_ms: float, span_ms: float) -> bool:
        """One sample, standing for `span_ms` of input that ends at `at_ms`; True once when suspicion arises."""
        if level >= LOUD_RMS:
            if self.loud_from_ms is None:
                self.loud_from_ms = at_ms - span_ms
            self._loud_ms += span_ms
            self._quiet_ms = 0.0
            return False
        if self.loud_from_ms is None or self._raised:
            return False
        self._quiet_ms += span_ms
        if self._loud_ms < LOUD_MS:
            if self._quiet_ms >= LOUD_MS:
                self.provider_noticed()
            return False
        if self._quiet_ms < PATIENCE_MS:
            return False
        self._raised = True
        return True

    def provider_noticed(self) -> None:
        """The provider announced speech, or the suspicion was dismissed: start afresh."""
        self.loud_from_ms = None
        self._loud_ms = self._quiet_ms = 0.0
        self._raised = False

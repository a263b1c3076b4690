"""A provider that died quietly looks like an idle one. This notices a caller who speaks to nobody.

One frame in `SAMPLE_EVERY` has its energy measured. Two things are suspicious: someone who has been loud for a while
and the provider has announced no speech; and, once it has, someone who fell quiet long ago and the provider has not
said that the turn is over. Real voice activity detection then confirms or dismisses it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.protocol.audio import AudioFormat, to_pcm16
from orchestrator.protocol.wire import Event

SAMPLE_EVERY = 5
LOUD_RMS = 400.0
"""About -38 dBFS: quiet speech is above it, line noise below."""
LOUD_MS = 300.0
"""Loud audio of this length may have been speech."""
NOTICE_MS = 1200.0
"""From the first loud sound to ``speech_started``, at most: providers take a fifth of a second."""
CLOSE_MS = 700.0
"""From where the turn should have ended to ``speech_stopped``, at most."""
MOST_PATIENT = 8
"""Each dismissed suspicion doubles the patience, up to this factor: steady noise is looked at ever more rarely."""
SEMANTIC_WAIT_MS = {"high": 2000.0, "auto": 4000.0, "medium": 4000.0, "low": 8000.0}
"""How long a provider may wait for more under semantic_vad, by eagerness."""


def patience_ms(detection: Event) -> float:
    """Silence after which a turn should be over under this ``turn_detection``."""
    if detection.get("type") == "semantic_vad":
        return SEMANTIC_WAIT_MS.get(str(detection.get("eagerness")), SEMANTIC_WAIT_MS["auto"])
    return float(detection.get("silence_duration_ms") or 500.0)


def rms(data: bytes, fmt: AudioFormat) -> float:
    """Root mean square of wire audio, in int16 units."""
    samples = to_pcm16(data, fmt).astype(np.float32)
    return math.sqrt(samples.dot(samples) / len(samples)) if len(samples) else 0.0


@dataclass(slots=True)
class Suspicion:
    """One caller's level, followed."""

    loud_from_ms: float | None = None
    """Where the caller became loud without the provider saying so."""
    _in_turn: bool = False
    _loud_ms: float = 0.0
    _quiet_ms: float = 0.0
    _raised: bool = False
    _patience: int = 1

    def hear(self, level: float, at_ms: float, span_ms: float, silence_ms: float) -> bool:
        """One sample, standing for `span_ms` of input that ends at `at_ms`; True once when suspicion arises.

        `silence_ms`: the silence that ends a turn, see `patience_ms`.
        """
        if level >= LOUD_RMS:
            if self.loud_from_ms is None:
                self.loud_from_ms = at_ms - span_ms
            self._loud_ms += span_ms
            self._quiet_ms = 0.0
        else:
            self._quiet_ms += span_ms
        if self._raised or (self.loud_from_ms is None and not self._in_turn):
            return False
        self._raised = self._late_stop(silence_ms) if self._in_turn else self._late_start(at_ms)
        return self._raised

    def _late_start(self, at_ms: float) -> bool:
        assert self.loud_from_ms is not None
        if self._loud_ms < LOUD_MS and self._quiet_ms >= LOUD_MS:
            self._begin()  # a click
            return False
        since = at_ms - self.loud_from_ms
        return self._loud_ms >= LOUD_MS and since >= NOTICE_MS * self._patience

    def _late_stop(self, silence_ms: float) -> bool:
        return self._quiet_ms >= (silence_ms + CLOSE_MS) * self._patience

    def turn_began(self) -> None:
        """The provider announced speech."""
        self._begin()
        self._in_turn, self._patience = True, 1

    def turn_ended(self) -> None:
        """The provider announced the end of the turn."""
        self._begin()
        self._in_turn, self._patience = False, 1

    def dismissed(self) -> None:
        """It was not speech: start afresh, and be slower to suspect."""
        self._begin()
        self._patience = min(self._patience * 2, MOST_PATIENT)

    @property
    def in_turn(self) -> bool:
        """The provider has announced speech and not its end: the doubt is whether the caller still speaks."""
        return self._in_turn

    @property
    def unnoticed_from_ms(self) -> float | None:
        """Where the caller became loud, as long as the provider has not announced speech."""
        return None if self._in_turn else self.loud_from_ms

    @property
    def raised(self) -> bool:
        return self._raised

    def _begin(self) -> None:
        self.loud_from_ms = None
        self._loud_ms = self._quiet_ms = 0.0
        self._raised = False

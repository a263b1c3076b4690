"""Endpointing: speech probabilities in, the beginning and end of the caller's speech out.

Used in Tiers B and C with the session's own ``turn_detection``; Tier A's provider does this itself. One
probability stands for one window of 32 ms (512 samples at 16 kHz).
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.session import SEMANTIC_SILENCE_MS
from orchestrator.protocol.wire import Event

WINDOW_MS = 32.0
ONSET_MS = 96.0
"""Speech this long starts a turn; shorter bursts are clicks and coughs."""
EXIT_MARGIN = 0.15
"""Speech goes on while the probability stays above threshold minus this."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    at_ms: float
    """Where the turn's audio begins, prefix padding included."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    from_ms: float
    at_ms: float
    """Where the turn's audio ends, trailing silence included."""


class TurnDetector:
    """Follows one caller's speech. `detection` None (manual commits) never fires."""

    def __init__(self, detection: Event | None, at_ms: float, *, speaking_since: float | None = None) -> None:
        self._at_ms = at_ms
        self._loud_ms = 0.0
        self._quiet_ms = 0.0
        self._started_ms = speaking_since
        self.configure(detection)

    def configure(self, detection: Event | None) -> None:
        """Take over changed settings; a turn under way goes on under them."""
        self._enabled = detection is not None
        detection = detection or {}
        self._threshold = float(detection.get("threshold", 0.5))
        self._prefix_ms = float(detection.get("prefix_padding_ms", 300))
        if detection.get("type") == "semantic_vad":
            self._silence_ms = float(SEMANTIC_SILENCE_MS[detection.get("eagerness", "auto")])
        else:
            self._silence_ms = float(detection.get("silence_duration_ms", 500))

    @property
    def speaking(self) -> bool:
        return self._started_ms is not None

    @property
    def at_ms(self) -> float:
        """Input time up to which probabilities were seen."""
        return self._at_ms

    def feed(self, probability: float) -> SpeechStarted | SpeechStopped | None:
        self._at_ms += WINDOW_MS
        if not self._enabled:
            return None
        if self._started_ms is None:
            return self._wait_for_onset(probability)
        return self._wait_for_silence(probability)

    def _wait_for_onset(self, probability: float) -> SpeechStarted | None:
        self._loud_ms = self._loud_ms + WINDOW_MS if probability >= self._threshold else 0.0
        if self._loud_ms < ONSET_MS:
            return None
        self._started_ms = max(0.0, self._at_ms - self._loud_ms - self._prefix_ms)
        self._quiet_ms = 0.0
        return SpeechStarted(self._started_ms)

    def _wait_for_silence(self, probability: float) -> SpeechStopped | None:
        quiet = probability < self._threshold - EXIT_MARGIN
        self._quiet_ms = self._quiet_ms + WINDOW_MS if quiet else 0.0
        if self._quiet_ms < self._silence_ms:
            return None
        assert self._started_ms is not None
        stopped = SpeechStopped(self._started_ms, self._at_ms)
        self._started_ms = None
        self._loud_ms = 0.0
        return stopped

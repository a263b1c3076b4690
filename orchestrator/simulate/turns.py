"""The input audio buffer, and turn detection on top of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

START_MS = 60
"""Speech shorter than this starts nothing."""
SEMANTIC_SILENCE_MS = {"low": 1200, "medium": 600, "auto": 600, "high": 300}
"""This server does not judge meaning: semantic_vad is a silence that depends on the eagerness."""
SEMANTIC_PREFIX_MS = 300
SEMANTIC_THRESHOLD = 0.5


class Edge(Enum):
    STARTED = "started"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Detection:
    """What turn detection goes by; times in milliseconds."""

    threshold: float
    prefix_ms: int
    silence_ms: int
    idle_ms: int | None
    create_response: bool
    interrupt_response: bool

    @classmethod
    def parse(cls, settings: dict[str, Any] | None) -> Detection | None:
        """From a session's `turn_detection`; None where the client decides about turns."""
        if settings is None:
            return None
        create = bool(settings.get("create_response", False))
        interrupt = bool(settings.get("interrupt_response", False))
        if settings["type"] == "semantic_vad":
            silence = SEMANTIC_SILENCE_MS[settings["eagerness"]]
            return cls(SEMANTIC_THRESHOLD, SEMANTIC_PREFIX_MS, silence, None, create, interrupt)
        return cls(
            settings["threshold"],
            settings["prefix_padding_ms"],
            settings["silence_duration_ms"],
            settings.get("idle_timeout_ms"),
            create,
            interrupt,
        )


class TurnDetector:
    """Speech probabilities in, edges of the caller's turns out."""

    def __init__(self, detection: Detection) -> None:
        self.detection = detection
        self.speaking = False
        self.run_ms = 0.0
        """How long the present run of speech (or, while speaking, of silence) has lasted."""

    def feed(self, probability: float, window_ms: float) -> Edge | None:
        speech = probability >= self.detection.threshold
        self.run_ms = self.run_ms + window_ms if speech is not self.speaking else 0.0
        needed = self.detection.silence_ms if self.speaking else START_MS
        if self.run_ms == 0.0 or self.run_ms < needed:
            return None
        self.speaking = not self.speaking
        return Edge.STARTED if self.speaking else Edge.STOPPED


class InputBuffer:
    """Audio that the client appended and nobody committed, addressed in milliseconds since the session began."""

    def __init__(self, bytes_per_ms: int) -> None:
        self._rate = bytes_per_ms
        self._data = bytearray()
        self._start_ms = 0.0

    @property
    def start_ms(self) -> float:
        return self._start_ms

    @property
    def end_ms(self) -> float:
        return self._start_ms + len(self._data) / self._rate

    @property
    def length_ms(self) -> float:
        return len(self._data) / self._rate

    def append(self, data: bytes) -> None:
        self._data += data

    def take(self, start_ms: float, end_ms: float) -> bytes:
        """Remove and give the audio of a turn; what came before it is dropped, what came after it stays."""
        self.drop_before(start_ms)
        cut = min(len(self._data), self._index(end_ms))
        taken = bytes(self._data[:cut])
        self._drop(cut)
        return taken

    def drop_before(self, ms: float) -> None:
        self._drop(min(len(self._data), self._index(ms)))

    def clear(self) -> None:
        self._drop(len(self._data))

    def restart(self, bytes_per_ms: int) -> None:
        """Go on at the same time with another format; what is in the buffer is dropped."""
        self._start_ms = self.end_ms
        self._data.clear()
        self._rate = bytes_per_ms

    def _index(self, ms: float) -> int:
        return max(0, int(ms - self._start_ms)) * self._rate

    def _drop(self, size: int) -> None:
        del self._data[:size]
        self._start_ms += size / self._rate

"""Streaming voice activity detection: Silero VAD v6, from the faster-whisper wheel.

The model looks at 512 new samples behind 64 old ones and carries two vectors of state. One session serves all
calls; a call keeps a few kilobytes. A window costs well under 0.2 ms, so `Vad.feed` runs on the event loop.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

from orchestrator.protocol.audio import HEAR_RATE, Float32
from tiers.pipeline.errors import Cause, TranscriptionFailed

WINDOW = 512
"""Samples of one decision: 32 ms."""
WINDOW_MS = WINDOW * 1000 // HEAR_RATE
_TAIL = 128
"""Samples at a window's end whose level tells whether the sound goes on: 8 ms."""
FALL = 10 ** (-30 / 20)
"""Where a window ends so much quieter than the sound before it (30 dB), that sound is over: the model is slower to
say so by up to 100 ms. In noise it alone tells."""
_FORGET = 0.93
"""How much of the loudest level is still held against the next window: 6 dB in 300 ms."""
_CONTEXT = 64
_STATE_SHAPE = (1, 1, 128)


@cache
def _session() -> ort.InferenceSession:
    import faster_whisper

    path = Path(faster_whisper.__file__).parent / "assets" / "silero_vad_v6.onnx"
    if not path.is_file():
        raise TranscriptionFailed(
            Cause.MISSING, f"expected the Silero VAD model at {path}: install faster-whisper 1.2.1 or later"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def warm() -> None:
    """Loads the model: some 50 ms once, best in a thread at start."""
    Vad().feed(np.zeros(WINDOW, dtype=np.float32))


class Vad:
    """One stream's detector."""

    def __init__(self) -> None:
        self._run = _session().run
        self._rest = np.zeros(0, dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        """Forgets what was heard, as if the stream began again."""
        self._rest = self._rest[:0]
        self._input = np.zeros((1, _CONTEXT + WINDOW), dtype=np.float32)
        self._h = np.zeros(_STATE_SHAPE, dtype=np.float32)
        self._c = np.zeros(_STATE_SHAPE, dtype=np.float32)
        self._loudest = 0.0

    def feed(self, samples: Float32) -> list[float]:
        """Speech probability of each window that `samples` (16 kHz, any number) completes."""
        if self._rest.size:
            samples = np.concatenate((self._rest, samples))
        whole = len(samples) - len(samples) % WINDOW
        self._rest = samples[whole:].copy()
        return [self._window(samples[start : start + WINDOW]) for start in range(0, whole, WINDOW)]

    def _window(self, window: Float32) -> float:
        self._input[0, :_CONTEXT] = self._input[0, -_CONTEXT:]
        self._input[0, _CONTEXT:] = window
        probability, self._h, self._c = self._run(None, {"input": self._input, "h": self._h, "c": self._c})
        return 0.0 if self._falls_silent(window) else float(probability.item())

    def _falls_silent(self, window: Float32) -> bool:
        self._loudest = max(_level(window), self._loudest * _FORGET)
        return _level(window[-_TAIL:]) < self._loudest * FALL


def _level(samples: Float32) -> float:
    """RMS."""
    return math.sqrt(float(np.dot(samples, samples)) / len(samples))

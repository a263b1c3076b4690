"""Kokoro that tells where in its sound each part of a text lies, so that words can be cut out of a sentence.

The model works out how long each phoneme takes before it speaks. Its export keeps that to itself; here the number is
made an output of the graph. It costs reading the file into memory, so that only who cuts speech up uses this engine.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from orchestrator.models import ModelMissing
from orchestrator.protocol.audio import float_to_pcm16
from tiers.pipeline.errors import Cause, EngineFailed
from tiers.pipeline.kokoro import SPEEDS, KokoroSpeech, StoppableSession, language_of, nearest_voice
from tiers.pipeline.reading import spoken
from tiers.speech import Parts

log = logging.getLogger(__name__)

DURATIONS = "/encoder/Clip_output_0"
"""The tensor of the ONNX export that holds the frames of each token."""
FRAME = 600
"""Samples of a frame, at 24 kHz."""
LAG = 3 * FRAME
"""Sound comes so much before the frames that it is counted to: measured where words begin after a pause."""
LONGEST = 400
"""Phonemes that are said in one piece; the model takes 510."""
_MARKS = frozenset(" ,.;:!?\u2026\u2014")
_GRAPH, _OUTPUT, _NAME = 7, 12, 1
"""Field numbers of ONNX's ModelProto.graph, GraphProto.output and ValueInfoProto.name."""


class KokoroParts(KokoroSpeech):
    """See `tiers.speech.TellsParts`."""

    async def speak_parts(
        self, parts: Sequence[str], *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> Parts | None:
        options = ort.RunOptions()

        def stop() -> None:
            options.terminate = True

        def work() -> Parts | None:
            return self._create_parts(parts, self._own(voice or self._voice), speed, language, options)

        speed = min(max(speed, SPEEDS[0]), SPEEDS[1])
        try:
            return await self._worker.run(work, stop)
        except (EngineFailed, ModelMissing):
            raise
        except Exception as error:
            message = f"{self.rung} could not say {len(parts)} parts: {type(error).__name__}"
            raise EngineFailed(Cause.UNAVAILABLE, message) from error

    def _create_parts(
        self, parts: Sequence[str], voice: str, speed: float, language: str, options: ort.RunOptions
    ) -> Parts | None:
        kokoro = self._load()
        if DURATIONS not in {output.name for output in kokoro.sess.get_outputs()}:
            return None
        phonemes, starts = self._phonemes(kokoro, parts, language)
        if len(phonemes) > LONGEST:
            return None
        tokens = kokoro.tokenizer.tokenize(phonemes)
        style = self._styles[nearest_voice(voice, language, self._styles)]
        inputs = {
            kokoro.sess.get_inputs()[0].name: np.array([[0, *tokens, 0]], dtype=np.int64),
            "style": np.asarray(style[min(len(tokens), len(style)) - 1], dtype=np.float32).reshape(1, -1),
            "speed": np.array([speed], dtype=np.float32),
        }
        with kokoro.sess.running(options):
            samples, frames = kokoro.sess.run(["audio", DURATIONS], inputs)
        # The first token is padding; `edges[i]` is where phoneme i begins.
        edges = np.cumsum(np.ravel(frames)).astype(int) * FRAME
        between = [_between(phonemes, start, edges) for start in starts[1:]]
        return Parts(float_to_pcm16(np.ravel(samples)), tuple(between))

    def _phonemes(self, kokoro: Any, parts: Sequence[str], language: str) -> tuple[str, list[int]]:
        """All parts as phonemes, and at which of them each part begins."""
        joined, starts = "", []
        for part in parts:
            said = part
            if any(char.isalnum() for char in part):
                said = kokoro.tokenizer.phonemize(spoken(part, language), language_of(language)[0])
                joined += " " if joined else ""
            said = kokoro.tokenizer.known(said)
            if not said:
                raise EngineFailed(
                    Cause.BAD_REQUEST, f"{self.rung} has no sounds for one of {len(parts)} parts"
                )
            starts.append(len(joined))
            joined += said
        return joined, starts

    def _session(self) -> StoppableSession:
        try:
            return StoppableSession(self._model, self._threads, _with_durations(self._model))
        except Exception as error:  # onnxruntime has no base class for its own
            log.warning("this export of Kokoro tells no durations: %s", type(error).__name__)
            return super()._session()


def _between(phonemes: str, start: int, edges: Any) -> tuple[int, int]:
    """Samples of the space and the marks around the beginning of a part; of the end, where nothing follows them."""
    first = last = start
    while first and phonemes[first - 1] in _MARKS:
        first -= 1
    while last < len(phonemes) and phonemes[last] in _MARKS:
        last += 1
    end = edges[last] if last < len(phonemes) else edges[-1]
    return max(0, int(edges[first]) - LAG), max(0, int(end) - LAG)


def _with_durations(model: Path) -> bytes:
    """The model with one more output. In Protocol Buffers what is appended to a message is merged into it."""
    output = _field(_OUTPUT, _field(_NAME, DURATIONS.encode()))
    return model.read_bytes() + _field(_GRAPH, output)


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return bytes(_varint(number << 3 | 2)) + bytes(_varint(len(payload))) + payload


def _varint(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value

"""The forms a clip leaves in: the wire formats of a call, and files."""

from __future__ import annotations

import io
import wave
from enum import Enum

from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Encoder, Pcm16


class Container(Enum):
    """A file format, by the name that OpenAI's speech API has for it."""

    WAV = "wav"


Form = AudioFormat | Container


def transcode(pcm: Pcm16, form: Form) -> bytes:
    """24 kHz samples as wire bytes, or as a whole file."""
    if isinstance(form, AudioFormat):
        return Encoder(form).encode(pcm, last=True)
    return _wav(pcm)


def _wav(pcm: Pcm16) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SPEAK_RATE)
        out.writeframes(pcm.astype("<i2", copy=False).tobytes())
    return file.getvalue()

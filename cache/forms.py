"""The forms a clip leaves in: the wire formats of a call, raw samples at other rates, and files."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

import av
import numpy as np
import soxr

from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Encoder, Pcm16


class Container(Enum):
    """A file format by the name that OpenAI's speech API has for it, or samples at a rate that no call has."""

    WAV = "wav"
    MP3 = "mp3"
    OPUS = "opus"
    """In an Ogg file."""
    FLAC = "flac"
    AAC = "aac"
    """As an ADTS stream."""
    PCM_16K = "pcm_16000"
    """Signed 16 bit, little endian, no header; 16 kHz."""
    PCM_8K = "pcm_8000"


Form = AudioFormat | Container

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "pcm": AudioFormat.PCM,
        "pcmu": AudioFormat.PCMU,
        "pcma": AudioFormat.PCMA,
        **{form.value: form for form in Container},
    }
)
"""All forms by the names that requests have for them; ``pcm`` is 24 kHz."""
MEDIA_TYPES: Mapping[Form, str] = MappingProxyType(
    {
        AudioFormat.PCM: "audio/pcm;rate=24000",
        AudioFormat.PCMU: "audio/pcmu",
        AudioFormat.PCMA: "audio/pcma",
        Container.WAV: "audio/wav",
        Container.MP3: "audio/mpeg",
        Container.OPUS: "audio/ogg;codecs=opus",
        Container.FLAC: "audio/flac",
        Container.AAC: "audio/aac",
        Container.PCM_16K: "audio/pcm;rate=16000",
        Container.PCM_8K: "audio/pcm;rate=8000",
    }
)
NAMES: Mapping[Form, str] = MappingProxyType({form: name for name, form in FORMS.items()})


class Codec(NamedTuple):
    """How FFmpeg is asked for a form."""

    encoder: str
    muxer: str
    samples: str
    """What the encoder takes its samples as."""
    bit_rate: int | None = None
    """Bits a second; None where nothing is lost."""
    rate: int = SPEAK_RATE


CODED: Mapping[Form, Codec] = {
    Container.MP3: Codec("libmp3lame", "mp3", "s16p", 64_000),
    Container.OPUS: Codec("libopus", "ogg", "s16", 32_000),
    Container.FLAC: Codec("flac", "flac", "s16"),
    Container.AAC: Codec("aac", "adts", "fltp", 64_000),
}
RAW_RATES: Mapping[Form, int] = {Container.PCM_16K: 16_000, Container.PCM_8K: 8_000}

DEAR: frozenset[Form] = frozenset(CODED)
"""Forms that take longer to make than to fetch from a store. The others are made anew in each process."""


def transcode(pcm: Pcm16, form: Form) -> bytes:
    """24 kHz samples as wire bytes, or as a whole file. The same samples always give the same bytes."""
    if isinstance(form, AudioFormat):
        return Encoder(form).encode(pcm, last=True)
    if form in RAW_RATES:
        samples = soxr.resample(pcm, SPEAK_RATE, RAW_RATES[form], quality="HQ")
        return np.asarray(samples, dtype="<i2").tobytes()
    return _coded(pcm, CODED[form]) if form in CODED else _wav(pcm)


def _wav(pcm: Pcm16) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SPEAK_RATE)
        out.writeframes(pcm.astype("<i2", copy=False).tobytes())
    return file.getvalue()


def _coded(pcm: Pcm16, codec: Codec) -> bytes:
    file = io.BytesIO()
    if not len(pcm):
        pcm = np.zeros(
            SPEAK_RATE // 1000, np.int16
        )  # an encoder wants something, and nobody hears a millisecond
    # bitexact: no random serial number or date in the file, so that replicas give out equal bytes.
    with av.open(file, "w", format=codec.muxer, options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream(codec.encoder, rate=codec.rate, layout="mono", options={"threads": "1"})
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.format = codec.samples
        if codec.bit_rate is not None:
            stream.codec_context.bit_rate = codec.bit_rate
        samples = pcm if codec.samples != "fltp" else pcm.astype(np.float32) / 32768
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format=codec.samples, layout="mono")
        frame.sample_rate = codec.rate
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()

"""The forms of `forms.py` while the sound is still being made: bytes as soon as there is something to hear."""

from __future__ import annotations

import struct
from typing import Protocol

import av
import numpy as np
import soxr

from cache.forms import CODED, RAW_RATES, Codec, Container, Form
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Encoder, Pcm16

_UNKNOWN = 0xFFFFFFFF
"""As a size in a WAV header: it goes on until it ends."""


class FormStream(Protocol):
    """One sound, in order. What comes out of all calls together is a whole file."""

    def feed(self, pcm: Pcm16, *, last: bool = False) -> bytes:
        """Bytes that are ready after so many more 24 kHz samples; maybe none. `last` ends it."""
        ...


def form_stream(form: Form) -> FormStream:
    """Belongs to one thread at a time."""
    if isinstance(form, AudioFormat):
        return _Wire(form)
    if form in CODED:
        return _Coded(CODED[form])
    return _Samples(RAW_RATES.get(form, SPEAK_RATE), _wav_header() if form is Container.WAV else b"")


class _Wire:
    def __init__(self, form: AudioFormat) -> None:
        self._encoder = Encoder(form)

    def feed(self, pcm: Pcm16, *, last: bool = False) -> bytes:
        return self._encoder.encode(pcm, last=last)


class _Samples:
    def __init__(self, rate: int, header: bytes) -> None:
        self._header = header
        self._resampler = (
            None
            if rate == SPEAK_RATE
            else soxr.ResampleStream(SPEAK_RATE, rate, 1, dtype="int16", quality="HQ")
        )

    def feed(self, pcm: Pcm16, *, last: bool = False) -> bytes:
        header, self._header = self._header, b""
        if self._resampler is not None:
            pcm = np.asarray(self._resampler.resample_chunk(pcm, last=last))
        return header + pcm.astype("<i2", copy=False).tobytes()


class _Coded:
    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._ready: list[bytes] = []
        # What cannot be sought in is written from front to back. Each packet is passed on at once: an Ogg page
        # otherwise gathers a second of sound.
        options = {"fflags": "+bitexact", "flush_packets": "1"}
        if codec.muxer == "ogg":
            options["page_duration"] = "20000"
        self._out = av.open(_Sink(self._ready), "w", format=codec.muxer, options=options)
        stream = self._out.add_stream(codec.encoder, rate=codec.rate, layout="mono", options={"threads": "1"})
        assert isinstance(stream, av.AudioStream)
        self._stream = stream
        self._stream.codec_context.format = codec.samples
        if codec.bit_rate is not None:
            self._stream.codec_context.bit_rate = codec.bit_rate
        self._samples = 0

    def feed(self, pcm: Pcm16, *, last: bool = False) -> bytes:
        if len(pcm):
            samples = pcm if self._codec.samples != "fltp" else pcm.astype(np.float32) / 32768
            frame = av.AudioFrame.from_ndarray(
                samples.reshape(1, -1), format=self._codec.samples, layout="mono"
            )
            frame.sample_rate, frame.pts = self._codec.rate, self._samples
            self._samples += len(pcm)
            self._out.mux(self._stream.encode(frame))
        if last:
            self._out.mux(self._stream.encode(None))
            self._out.close()
        data = b"".join(self._ready)
        self._ready.clear()
        return data


class _Sink:
    """A file that can only be added to."""

    def __init__(self, ready: list[bytes]) -> None:
        self._ready = ready

    def write(self, data: bytes) -> int:
        self._ready.append(bytes(data))
        return len(data)


def _wav_header() -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SPEAK_RATE, SPEAK_RATE * 2, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", _UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", _UNKNOWN)

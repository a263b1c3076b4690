"""From wire bytes to a stereo file, piece by piece. Everything here may wait for a disk or an encoder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import av
import numpy as np
import soxr

from orchestrator.protocol.audio import AudioFormat, Pcm16, to_pcm16
from orchestrator.server.recording_tracks import RATE

LEAST = RATE // 50
"""Samples of a file: one without any is none that a player takes."""
CODECS = {"opus": ("libopus", "ogg"), "flac": ("flac", "flac")}
BIT_RATE = 48_000


class Wire:
    """One direction's wire bytes as samples at `RATE`; the format may change in the middle."""

    def __init__(self) -> None:
        self._fmt: AudioFormat | None = None
        self._resampler: soxr.ResampleStream | None = None
        self._rest = b""

    def samples(self, data: bytes, fmt: AudioFormat) -> Pcm16:
        if fmt is not self._fmt:
            self._fmt, self._rest = fmt, b""
            self._resampler = None
            if fmt.rate != RATE:
                self._resampler = soxr.ResampleStream(fmt.rate, RATE, 1, dtype="int16", quality="MQ")
        data = self._rest + data
        cut = len(data) - len(data) % fmt.width
        self._rest = data[cut:]
        samples = to_pcm16(data[:cut], fmt)
        if self._resampler is None or not len(samples):
            return samples
        return np.asarray(self._resampler.resample_chunk(samples), dtype=np.int16)


class SoundFile:
    """A stereo file under way, for its owner alone. OSError and av.FFmpegError where the disk does not take it."""

    def __init__(self, path: Path, format: Literal["opus", "flac"]) -> None:
        encoder, muxer = CODECS[format]
        self._raw = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")  # noqa: SIM115
        self._out = av.open(self._raw, "w", format=muxer)
        stream = self._out.add_stream(encoder, rate=RATE, layout="stereo", options={"threads": "1"})
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.format = "s16"
        if format == "opus":
            stream.codec_context.bit_rate = BIT_RATE
        self._stream, self._written, self._closed = stream, 0, False

    def write(self, samples: Pcm16) -> None:
        """Left and right by turns."""
        if not len(samples):
            return
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = RATE
        frame.pts = self._written
        self._written += len(samples) // 2
        self._out.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Once, whatever comes of it."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._written:
                self.write(np.zeros(2 * LEAST, np.int16))
            self._out.mux(self._stream.encode(None))
            self._out.close()
        finally:
            self._raw.close()

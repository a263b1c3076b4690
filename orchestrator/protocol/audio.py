"""Audio formats of the Realtime wire, and the two conversions that every tier needs.

The wire carries mono audio as base64: ``audio/pcm`` (signed 16 bit little endian, 24 kHz), ``audio/pcmu``
and ``audio/pcma`` (G.711, 8 kHz). Models hear 16 kHz float32 and speak 24 kHz int16. `Decoder` goes from the
wire to a model's ear, `Encoder` from a model's mouth to the wire; both keep resampler state, so one instance
serves one stream.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

Pcm16 = NDArray[np.int16]
Float32 = NDArray[np.float32]

SPEAK_RATE = 24_000
"""Sample rate of everything that is synthesised here, in Hz."""
HEAR_RATE = 16_000
"""Sample rate of everything that is recognised here, in Hz."""


class AudioFormat(Enum):
    """A wire format: its Realtime name, sample rate in Hz, bytes per sample."""

    PCM = ("audio/pcm", 24_000, 2)
    PCMU = ("audio/pcmu", 8_000, 1)
    PCMA = ("audio/pcma", 8_000, 1)

    def __init__(self, wire: str, rate: int, width: int) -> None:
        self.wire = wire
        self.rate = rate
        self.width = width

    @property
    def bytes_per_ms(self) -> int:
        return self.rate * self.width // 1000

    def ms(self, size: int) -> float:
        """Milliseconds that `size` bytes of this format play for."""
        return size / self.bytes_per_ms

    def silence(self, ms: int) -> bytes:
        return SILENCE_BYTE[self] * (ms * self.bytes_per_ms)

    @classmethod
    def parse(cls, value: dict[str, Any]) -> AudioFormat:
        """The format of a session's ``{"type": "audio/pcm", "rate": 24000}`` object; ValueError says what is."""
        for fmt in cls:
            if value.get("type") == fmt.wire:
                if fmt is cls.PCM and value.get("rate", 24_000) != 24_000:
                    raise ValueError(f"audio/pcm has a rate of 24000 Hz here, not {value['rate']!r}")
                return fmt
        raise ValueError(f"expected type audio/pcm, audio/pcmu or audio/pcma, not {value.get('type')!r}")

    def describe(self) -> dict[str, Any]:
        """The session object for this format."""
        return {"type": self.wire, "rate": self.rate} if self is AudioFormat.PCM else {"type": self.wire}


SILENCE_BYTE = {AudioFormat.PCM: b"\x00", AudioFormat.PCMU: b"\xff", AudioFormat.PCMA: b"\xd5"}


def _ulaw_table() -> Pcm16:
    """G.711 mu-law to linear, all 256 codes."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> Pcm16:
    """G.711 A-law to linear, all 256 codes."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (code & 0x70) >> 4, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _nearest_codes(table: Pcm16) -> NDArray[np.uint8]:
    """For every 16 bit sample (offset by 32768) the code whose value in `table` is nearest."""
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.int32)
    edges = (values[:-1] + values[1:]) // 2
    samples = np.arange(-32768, 32768, dtype=np.int32)
    return order[np.searchsorted(edges, samples, side="left")].astype(np.uint8)


_TO_LINEAR = {AudioFormat.PCMU: _ulaw_table(), AudioFormat.PCMA: _alaw_table()}
_FROM_LINEAR = {fmt: _nearest_codes(table) for fmt, table in _TO_LINEAR.items()}


def to_pcm16(data: bytes, fmt: AudioFormat) -> Pcm16:
    """Wire bytes as int16 samples at the format's own rate; a trailing half sample is dropped."""
    if fmt is AudioFormat.PCM:
        return np.frombuffer(data, dtype="<i2", count=len(data) // 2)
    return _TO_LINEAR[fmt][np.frombuffer(data, dtype=np.uint8)]


def from_pcm16(samples: Pcm16, fmt: AudioFormat) -> bytes:
    """int16 samples, already at the format's rate, as wire bytes."""
    if fmt is AudioFormat.PCM:
        return samples.astype("<i2", copy=False).tobytes()
    return _FROM_LINEAR[fmt][samples.astype(np.int32) + 32768].tobytes()


def float_to_pcm16(samples: Float32) -> Pcm16:
    return (np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)


class Decoder:
    """Wire bytes to 16 kHz float32 mono in [-1, 1]; keeps a half sample and the resampler between calls."""

    def __init__(self, fmt: AudioFormat) -> None:
        self.fmt = fmt
        self._resampler = soxr.ResampleStream(fmt.rate, HEAR_RATE, 1, dtype="float32", quality="HQ")
        self._rest = b""

    def decode(self, data: bytes, *, last: bool = False) -> Float32:
        data = self._rest + data
        cut = len(data) - len(data) % self.fmt.width
        self._rest = data[cut:]
        samples = to_pcm16(data[:cut], self.fmt).astype(np.float32) / 32768.0
        return np.asarray(self._resampler.resample_chunk(samples, last=last), dtype=np.float32)


class Encoder:
    """24 kHz int16 samples to wire bytes; `last=True` flushes the resampler at the end of an utterance."""

    def __init__(self, fmt: AudioFormat) -> None:
        self.fmt = fmt
        self._resampler = (
            None
            if fmt.rate == SPEAK_RATE
            else soxr.ResampleStream(SPEAK_RATE, fmt.rate, 1, dtype="int16", quality="HQ")
        )

    def encode(self, samples: Pcm16, *, last: bool = False) -> bytes:
        if self._resampler is not None:
            samples = np.asarray(self._resampler.resample_chunk(samples, last=last), dtype=np.int16)
        return from_pcm16(samples, self.fmt)


def hear(data: bytes, fmt: AudioFormat) -> Float32:
    """A whole utterance as 16 kHz float32."""
    return Decoder(fmt).decode(data, last=True)

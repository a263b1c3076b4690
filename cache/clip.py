"""A clip of synthesised speech, the key of its content, and the bytes it is kept as."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import orjson

from orchestrator.protocol.audio import SPEAK_RATE, Pcm16

_MAGIC = b"CLIP1\n"
_DIGEST_SIZE = hashlib.sha256().digest_size


class CorruptClip(Exception):
    """Stored bytes that are not the clip they are kept as: torn, altered, or another key's."""


def clip_key(text: str, *, voice: str, engine: str, language: str, speed: float = 1.0) -> str:
    """SHA-256 (hex) over all that the sound depends on; `engine` names the engine and its version."""
    content = orjson.dumps([text, voice, engine, language, f"{speed:.3f}"])
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """`text` is what the engine was given, `pcm` 24 kHz mono int16 that nobody writes to."""

    key: str
    text: str
    pcm: Pcm16

    @property
    def seconds(self) -> float:
        return len(self.pcm) / SPEAK_RATE

    @property
    def nbytes(self) -> int:
        return self.pcm.nbytes

    def to_bytes(self) -> bytes:
        """Magic, SHA-256 of the rest, a JSON header up to a line end, samples (little endian)."""
        header = orjson.dumps({"key": self.key, "text": self.text, "rate": SPEAK_RATE})
        body = header + b"\n" + self.pcm.astype("<i2", copy=False).tobytes()
        return _MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Clip:
        """The clip that was stored under `key`; `CorruptClip` where the bytes are anything else."""
        if not data.startswith(_MAGIC):
            raise CorruptClip(f"expected a clip that starts with {_MAGIC!r}, got {data[: len(_MAGIC)]!r}")
        start = len(_MAGIC) + _DIGEST_SIZE
        if hashlib.sha256(memoryview(data)[start:]).digest() != data[len(_MAGIC) : start]:
            raise CorruptClip(f"the digest of {len(data)} bytes is not the one in their header")
        end = data.index(b"\n", start)
        header = orjson.loads(data[start:end])
        if header["key"] != key or header["rate"] != SPEAK_RATE:
            raise CorruptClip(
                f"expected clip {key} at {SPEAK_RATE} Hz, got {header['key']} at {header['rate']} Hz"
            )
        return cls(key, header["text"], np.frombuffer(data, dtype="<i2", offset=end + 1))

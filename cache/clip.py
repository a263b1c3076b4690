"""A clip of synthesised speech, the key of its content, and the bytes that it and its forms are kept as."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from orchestrator.protocol.audio import SPEAK_RATE, Pcm16

_MAGIC = b"CLIP1\n"
_PART_MAGIC = b"PART1\n"
_DIGEST_SIZE = hashlib.sha256().digest_size


class CorruptClip(Exception):
    """Stored bytes that are not the clip they are kept as: torn, altered, or another key's."""


def clip_key(text: str, *, voice: str, engine: str, language: str, speed: float = 1.0) -> str:
    """SHA-256 (hex) over all that the sound depends on; `engine` names the engine and its version."""
    content = orjson.dumps([text, voice, engine, language, f"{speed:.3f}"])
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """`text` is what the engine was given, `pcm` 24 kHz mono int16 that nobody writes to.

    `until` is when it may no longer be used (seconds since 1970); None is never.
    """

    key: str
    text: str
    pcm: Pcm16
    until: float | None = None

    @property
    def seconds(self) -> float:
        return len(self.pcm) / SPEAK_RATE

    @property
    def nbytes(self) -> int:
        return self.pcm.nbytes

    @property
    def is_over(self) -> bool:
        return self.until is not None and time.time() >= self.until

    def to_bytes(self) -> bytes:
        """Magic, SHA-256 of the rest, a JSON header up to a line end, samples (little endian)."""
        about: dict[str, Any] = {"key": self.key, "text": self.text, "rate": SPEAK_RATE}
        if self.until is not None:
            about["until"] = self.until
        header = orjson.dumps(about)
        return _sealed(_MAGIC, header + b"\n" + self.pcm.astype("<i2", copy=False).tobytes())

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Clip:
        """The clip that was stored under `key`; `CorruptClip` where the bytes are anything else."""
        header, start = _opened(_MAGIC, data)
        if header["key"] != key or header["rate"] != SPEAK_RATE:
            raise CorruptClip(
                f"expected clip {key} at {SPEAK_RATE} Hz, got {header['key']} at {header['rate']} Hz"
            )
        return cls(key, header["text"], np.frombuffer(data, dtype="<i2", offset=start), header.get("until"))


@dataclass(frozen=True, slots=True)
class Part:
    """What is kept beside clips: a clip in another form, or the key of the newest clip of its kind."""

    name: str
    data: bytes
    until: float | None = None

    @property
    def is_over(self) -> bool:
        return self.until is not None and time.time() >= self.until

    def to_bytes(self) -> bytes:
        """As clips are kept: magic, SHA-256 of the rest, a JSON header up to a line end, the bytes."""
        header = orjson.dumps({"name": self.name, "until": self.until})
        return _sealed(_PART_MAGIC, header + b"\n" + self.data)

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Part:
        """What was stored under `name`; `CorruptClip` where the bytes are anything else."""
        header, start = _opened(_PART_MAGIC, data)
        if header["name"] != name:
            raise CorruptClip(f"expected {name}, got {header['name']}")
        return cls(name, data[start:], header["until"])


def _sealed(magic: bytes, body: bytes) -> bytes:
    return magic + hashlib.sha256(body).digest() + body


def _opened(magic: bytes, data: bytes) -> tuple[dict[str, Any], int]:
    """The header, and where what follows it begins."""
    if not data.startswith(magic):
        raise CorruptClip(f"expected bytes that start with {magic!r}, got {data[: len(magic)]!r}")
    start = len(magic) + _DIGEST_SIZE
    if hashlib.sha256(memoryview(data)[start:]).digest() != data[len(magic) : start]:
        raise CorruptClip(f"the digest of {len(data)} bytes is not the one in their header")
    end = data.index(b"\n", start)
    return orjson.loads(data[start:end]), end + 1

"""Real speech for a simulator: Silero VAD and Whisper to hear, Kokoro to speak, every sentence kept on disk."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import numpy as np

from orchestrator import models
from orchestrator.protocol.audio import AudioFormat, Decoder, Encoder, Pcm16, hear
from orchestrator.simulate.ears import Ear
from orchestrator.simulate.voices import Piece, cut, spread
from tiers.pipeline import vad
from tiers.pipeline.kokoro import KokoroSpeech
from tiers.pipeline.stt import WhisperTranscriber

DEFAULT_VOICE = "am_michael"
"""Not the one that Tier B speaks in by default, so that a listener hears which of them answers."""


def clip_dir() -> Path:
    """Where rendered sentences are kept."""
    return models.cache_dir() / "simulate"


class SileroEar:
    """Silero VAD on the stream, resampled to 16 kHz."""

    window_ms: float = vad.WINDOW_MS

    def __init__(self, fmt: AudioFormat) -> None:
        self._decoder = Decoder(fmt)
        self._vad = vad.Vad()

    def feed(self, data: bytes) -> list[float]:
        return self._vad.feed(self._decoder.decode(data))


class ModelEars:
    """Hears with Silero VAD and Whisper; its weights are under `model_dir`."""

    def __init__(self, model_dir: Path | None = None) -> None:
        self._transcriber = WhisperTranscriber(models.whisper(model_dir), threads=1)

    def ear(self, fmt: AudioFormat) -> Ear:
        return SileroEar(fmt)

    async def transcribe(self, audio: bytes, fmt: AudioFormat, turn: int) -> str:
        transcript = await self._transcriber.transcribe(hear(audio, fmt), "en")
        return transcript.text.strip()

    async def warm(self) -> None:
        await asyncio.to_thread(vad.warm)
        await self._transcriber.warm()

    def close(self) -> None:
        self._transcriber.close()


class KokoroVoice:
    """Speaks in `voice` (a Kokoro name), whatever voice the session asks for; weights are under `model_dir`."""

    def __init__(
        self, voice: str = DEFAULT_VOICE, model_dir: Path | None = None, clips: Path | None = None
    ) -> None:
        model, voices = models.kokoro_model(model_dir), models.kokoro_voices(model_dir)
        self._engine = KokoroSpeech(model, voices, threads=1, voice=voice)
        self._clips = clips or clip_dir()
        # The same sentence is another clip where it is another model's.
        self._key = f"{voice}/{model.stat().st_size}/{voices.stat().st_size}"
        self._answers = 0
        self._preparing: asyncio.Task[Pcm16] | None = None
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def warm(self) -> None:
        await self._engine.warm()

    async def prepare(self, sentences: list[str]) -> None:
        for sentence in sentences:
            while not await self._prepared(sentence):
                pass

    async def _prepared(self, sentence: str) -> bool:
        """Render a sentence while nobody speaks; False when somebody began to, who goes first."""
        await self._quiet.wait()
        self._preparing = asyncio.create_task(self._clip(sentence, 1.0))
        try:
            await asyncio.wait((self._preparing,))
        finally:
            task, self._preparing = self._preparing, None
            task.cancel()
        if not task.cancelled():
            task.result()
        return not task.cancelled()

    async def speak(
        self, sentences: list[str], fmt: AudioFormat, speed: float
    ) -> AsyncGenerator[Piece, None]:
        encoder = Encoder(fmt)
        ahead: asyncio.Task[Pcm16] | None = None
        self._busy(+1)
        try:
            for number, sentence in enumerate(sentences):
                clip = await (ahead or self._clip(sentence, speed))
                following = sentences[number + 1] if number + 1 < len(sentences) else None
                # The next sentence is rendered while this one is sent.
                ahead = asyncio.create_task(self._clip(following, speed)) if following is not None else None
                audio = encoder.encode(clip, last=following is None)
                for piece in _pieces(f" {sentence}" if number else sentence, audio, fmt):
                    yield piece
        finally:
            self._busy(-1)
            if ahead is not None:
                ahead.cancel()

    def _busy(self, more: int) -> None:
        self._answers += more
        if not self._answers:
            self._quiet.set()
            return
        self._quiet.clear()
        if self._preparing is not None:
            self._preparing.cancel()

    async def _clip(self, sentence: str, speed: float) -> Pcm16:
        name = hashlib.sha256(f"{self._key}/{speed:.2f}/{sentence}".encode()).hexdigest()
        path = self._clips / f"{name}.npy"
        known = await asyncio.to_thread(_read, path)
        if known is not None:
            return known
        parts = [part async for part in self._engine.speak(sentence, speed=speed)]
        clip = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)
        await asyncio.to_thread(_write, path, clip)
        return clip

    def close(self) -> None:
        self._engine.close()


def _pieces(text: str, audio: bytes, fmt: AudioFormat) -> Iterator[Piece]:
    size = fmt.bytes_per_ms
    cuts = list(cut(len(audio) // size))
    for words, (start, ms) in zip(spread(text, len(cuts)) if cuts else [], cuts, strict=True):
        yield Piece(words, audio[start * size : (start + ms) * size], ms)


def _read(path: Path) -> Pcm16 | None:
    try:
        return np.asarray(np.load(path), dtype=np.int16)
    except (OSError, ValueError):
        return None


def _write(path: Path, clip: Pcm16) -> None:
    """Keep a clip, whole or not at all; a disk that cannot be written to costs only time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            np.save(file, clip)
        os.replace(temporary, path)

"""Cartesia's own shapes: requests checked with its SDK's types, audio in its formats, events and errors."""

from __future__ import annotations

import base64
import io
import secrets
import wave
from typing import Any

import numpy as np
import soxr
from cartesia.types.generation_request import GenerationRequest
from pydantic import ValidationError

from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Pcm16, from_pcm16

MODELS = (
    "sonic-3.5",
    "sonic-3.5-2026-05-04",
    "sonic-3",
    "sonic-3-2026-01-12",
    "sonic-3-2025-10-27",
    "sonic-latest",
)
SPEEDS = {"slow": 0.8, "normal": 1.0, "fast": 1.25}
SPEED_RANGE = (0.6, 1.5)
MAX_BUFFER_DELAY_MS = 5000
_G711 = {"pcm_mulaw": AudioFormat.PCMU, "pcm_alaw": AudioFormat.PCMA}


class BadRequest(Exception):
    """A request that Cartesia would refuse with a 400; the message says what was wrong."""


def parse_request(body: Any) -> GenerationRequest:
    """A websocket generation request; HTTP ones have the same fields, bar the context's."""
    if not isinstance(body, dict):
        raise BadRequest(f"expected a JSON object, not {type(body).__name__}")
    voice = body.get("voice")
    if isinstance(voice, str):
        body = {**body, "voice": {"mode": "id", "id": voice}}
    elif isinstance(voice, dict):
        body = {**body, "voice": {"mode": "id", **voice}}
    try:
        request = GenerationRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    if request.llm_model_id not in MODELS:
        raise BadRequest(f"model_id: expected one of {', '.join(MODELS)}, not {request.llm_model_id!r}")
    delay = request.max_buffer_delay_ms or 0
    if not 0 <= delay <= MAX_BUFFER_DELAY_MS:
        raise BadRequest(f"max_buffer_delay_ms: expected 0 to {MAX_BUFFER_DELAY_MS}, not {delay}")
    speed = request.generation_config.speed if request.generation_config else None
    if speed is not None and not SPEED_RANGE[0] <= speed <= SPEED_RANGE[1]:
        raise BadRequest(
            f"generation_config.speed: expected {SPEED_RANGE[0]} to {SPEED_RANGE[1]}, not {speed}"
        )
    return request


def speed_of(request: GenerationRequest) -> float:
    config = request.generation_config
    if config is not None and config.speed is not None:
        return config.speed
    return SPEEDS[request.speed or "normal"]


class RawEncoder:
    """24 kHz samples to a raw format; keeps the resampler between calls."""

    def __init__(self, encoding: str, rate: int) -> None:
        self._encoding = encoding
        self._resampler = (
            soxr.ResampleStream(SPEAK_RATE, rate, 1, dtype="int16", quality="HQ")
            if rate != SPEAK_RATE
            else None
        )

    def encode(self, samples: Pcm16, *, last: bool = False) -> bytes:
        if self._resampler is not None:
            samples = np.asarray(self._resampler.resample_chunk(samples, last=last), dtype=np.int16)
        if self._encoding == "pcm_f32le":
            return (samples.astype("<f4") / 32768.0).tobytes()
        return from_pcm16(samples, _G711.get(self._encoding, AudioFormat.PCM))


def wav(samples: Pcm16, rate: int) -> bytes:
    """24 kHz samples as a WAV file of 16 bit at another rate."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(RawEncoder("pcm_s16le", rate).encode(samples, last=True))
    return file.getvalue()


def chunk(audio: bytes, step_ms: float, *, done: bool = False) -> dict[str, Any]:
    data = base64.b64encode(audio).decode()
    return {"type": "chunk", "data": data, "done": done, "status_code": 206, "step_time": round(step_ms, 3)}


def timestamps(words: list[str], start_ms: float, ms: float) -> dict[str, Any]:
    """The words that begin in a piece of audio, evenly over it."""
    step = ms / len(words)
    starts = [round((start_ms + number * step) / 1000, 3) for number in range(len(words))]
    ends = [round((start_ms + (number + 1) * step) / 1000, 3) for number in range(len(words))]
    times = {"words": words, "start": starts, "end": ends}
    return {"type": "timestamps", "done": False, "status_code": 206, "word_timestamps": times}


def error(status: int, code: str, title: str, message: str) -> dict[str, Any]:
    return {
        "type": "error",
        "done": True,
        "status_code": status,
        "error_code": code,
        "title": title,
        "message": message,
        "request_id": secrets.token_hex(8),
    }


def too_many() -> dict[str, Any]:
    return error(429, "concurrency_limited", "Too many requests", "You have reached your concurrency limit.")


def decoded(event: dict[str, Any]) -> bytes:
    """The audio of a chunk event."""
    return base64.b64decode(event["data"])

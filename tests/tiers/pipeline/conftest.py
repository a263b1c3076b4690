"""Real models, shared by the whole session, and small servers on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import uvicorn
from faster_whisper import decode_audio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator import models
from orchestrator.protocol.audio import HEAR_RATE, SPEAK_RATE, Float32, Pcm16
from tests import planted
from tiers.pipeline.embedded import EmbeddedModel
from tiers.pipeline.kokoro import KokoroSpeech
from tiers.pipeline.stt import WhisperTranscriber

AUDIO = Path(__file__).parents[2] / "fixtures" / "audio"
REFUSED = {"error": {"message": f"told to fail, keys {planted.AGENT} {planted.EARS} {planted.VOICE}"}}
"""Providers repeat keys in what they say of them."""


@pytest.fixture(scope="session")
def human() -> Callable[[str], Float32]:
    """A recording of `tests/fixtures/audio` by name, as 16 kHz float32."""
    return lambda name: np.asarray(decode_audio(str(AUDIO / name)), dtype=np.float32)


@pytest.fixture(scope="session")
def heard() -> Callable[[Pcm16], Float32]:
    """What was spoken here, as a transcriber takes it."""

    def resample(pcm: Pcm16) -> Float32:
        samples = pcm.astype(np.float32) / 32768
        return np.asarray(soxr.resample(samples, SPEAK_RATE, HEAR_RATE), dtype=np.float32)

    return resample


@pytest.fixture(scope="session")
def kokoro() -> Iterator[KokoroSpeech]:
    engine = KokoroSpeech(models.kokoro_model(), models.kokoro_voices())
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def whisper() -> Iterator[WhisperTranscriber]:
    transcriber = WhisperTranscriber(models.whisper())
    yield transcriber
    transcriber.close()


@pytest.fixture(scope="session")
def smollm2() -> Iterator[EmbeddedModel]:
    model = EmbeddedModel(models.smollm2())
    yield model
    model.close()


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """Runs an application on a free port; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.force_exit = server.should_exit = True
        await running


Reply = Callable[[Request], Awaitable[Response]]


class OpenAI:
    """A server with the three OpenAI-compatible routes; a test says what each answers."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[Any] = []
        self.gone = asyncio.Event()
        """Set when a client left before its stream was over."""
        self.reply: Reply = self._unprepared

    @staticmethod
    async def _unprepared(request: Request) -> Response:
        raise AssertionError(f"nothing was prepared for {request.url.path}")

    async def handle(self, request: Request) -> Response:
        if request.headers["content-type"].startswith("application/json"):
            self.requests.append(await request.json())
        else:
            form = await request.form()
            self.requests.append({key: value for key, value in form.items() if isinstance(value, str)})
        return await self.reply(request)

    def fails(self, *statuses: int, then: Reply | None = None) -> None:
        """Answers with these statuses, then as `then`, else with the last one for ever."""
        left = list(statuses)

        async def reply(request: Request) -> Response:
            if len(left) > 1 or (left and then is not None):
                return JSONResponse(REFUSED, left.pop(0))
            if then is not None:
                return await then(request)
            return JSONResponse(REFUSED, left[0])

        self.reply = reply

    def streams(self, *parts: bytes, hang: bool = False, media_type: str = "text/event-stream") -> None:
        """Streams `parts`, then ends or falls silent until the client leaves."""

        async def body() -> AsyncIterator[bytes]:
            try:
                for part in parts:
                    yield part
                if hang:
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.gone.set()
                raise

        async def reply(request: Request) -> Response:
            return StreamingResponse(body(), media_type=media_type)

        self.reply = reply

    def chats(
        self, *deltas: dict[str, Any], finish: str = "stop", hang: bool = False, **used: dict[str, int]
    ) -> None:
        """Streams chat chunks with these deltas, the finish reason and the usage."""
        chunks = [chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
        if not hang:
            chunks.append(chunk([{"index": 0, "delta": {}, "finish_reason": finish}]))
            usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, **used}
            chunks.append(chunk([], usage=usage))
            chunks.append(b"data: [DONE]\n\n")
        self.streams(*chunks, hang=hang)

    def says(self, *words: str, **options: Any) -> None:
        self.chats(*({"content": word} for word in words), **options)


def chunk(choices: list[dict[str, Any]], **fields: Any) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
    }
    return f"data: {json.dumps({**body, **fields})}\n\n".encode()


@pytest.fixture
async def openai() -> AsyncIterator[OpenAI]:
    server = OpenAI()
    paths = ("/v1/chat/completions", "/v1/audio/speech", "/v1/audio/transcriptions")
    app = Starlette(routes=[Route(path, server.handle, methods=["POST"]) for path in paths])
    async with serving(app) as server.address:
        yield server

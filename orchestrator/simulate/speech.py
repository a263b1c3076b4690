"""Stands in for a self-hosted speech server: `/v1/audio/transcriptions`, `/v1/audio/speech`, `/control/*`.

It neither hears nor speaks: transcripts are scripted, speech is a modulated tone of realistic length. What is real is
its timing, which is what load work needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import wave
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate.control import control_routes
from orchestrator.simulate.ears import DEFAULT_HEARD
from orchestrator.simulate.fault_board import FaultBoard
from orchestrator.simulate.http_faults import CATALOGUE, StreamFault, error, struck
from orchestrator.simulate.serving import running
from orchestrator.simulate.streaming import Stream, bearer
from orchestrator.simulate.voices import SECONDS_PER_CHARACTER, ToneVoice

KEPT_REQUESTS = 1000
MAX_INPUT = 4096
SPEEDS = (0.25, 4.0)
TEXT_FORMATS = ("json", "text", "verbose_json")
AUDIO_FORMATS = ("pcm",)


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves; times in milliseconds."""

    transcripts: tuple[str, ...] = DEFAULT_HEARD
    """What is heard, in order, over and over."""
    stt_ms: int = 300
    """From a whole request to its transcript."""
    tts_ms: int = 200
    """From a request to its first audio."""
    rtf: float = 0.3
    """Seconds of work for a second of speech: 0.5 sends at twice real time."""
    tempo: float = 1.0
    """How many times shorter its speech is than a person's would be: for tests that are not to wait for it."""
    slots: int | None = None
    """How many requests are worked on at once; the others wait in line. None sets no limit."""
    api_key: str | None = field(default=None, repr=False)


class SpeechSimulator:
    """The server's state. Serve `app`, or use `async with simulator.start()`."""

    def __init__(self, options: Options, board: FaultBoard | None = None) -> None:
        self.options = options
        self.faults = board or FaultBoard()
        self.requests: deque[dict[str, Any]] = deque(maxlen=KEPT_REQUESTS)
        self._heard = 0
        self._voice = ToneVoice()
        self._slots: contextlib.AbstractAsyncContextManager[Any] = contextlib.nullcontext()
        if options.slots is not None:
            self._slots = asyncio.Semaphore(options.slots)
        self.app = Starlette(
            routes=[
                Route("/v1/audio/transcriptions", self._transcribe, methods=["POST"]),
                Route("/v1/audio/speech", self._speak, methods=["POST"]),
                *control_routes(self.faults, CATALOGUE, self.state),
            ]
        )

    @contextlib.asynccontextmanager
    async def start(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on loopback in this event loop; gives the origin."""
        async with running(self.app, port=port) as origin:
            yield origin

    def state(self) -> dict[str, Any]:
        return {"requests": list(self.requests)}

    async def _refused(self, request: Request, model: str) -> Response | None:
        if self.options.api_key is not None and bearer(request) != self.options.api_key:
            return error(401, "invalid_api_key", "Incorrect API key provided.")
        return await struck(self.faults, model)

    # -- transcription ---------------------------------------------------------------------------

    async def _transcribe(self, request: Request) -> Response:
        async with request.form() as form:
            file, model = form.get("file"), str(form.get("model") or "")
            shape = str(form.get("response_format") or "json")
            audio = await file.read() if isinstance(file, UploadFile) else None
        self.requests.append({"path": request.url.path, "model": model, "bytes": len(audio or b"")})
        refused = await self._refused(request, model) or _unfit_audio(audio, model, shape)
        if refused is not None:
            return refused
        text = self.options.transcripts[self._heard % len(self.options.transcripts)]
        self._heard += 1
        async with self._slots:
            await asyncio.sleep(self.options.stt_ms / 1000)
        return _transcript(text, _seconds(audio or b""), shape)

    # -- speech ----------------------------------------------------------------------------------

    async def _speak(self, request: Request) -> Response:
        try:
            body = await request.json()
        except ValueError as wrong:
            return error(400, "invalid_json", f"The body is not JSON: {wrong}")
        self.requests.append({"path": request.url.path, "body": body})
        refused = _unfit_speech(body) or await self._refused(request, str(body["model"]))
        if refused is not None:
            return refused
        return Stream(self._audio(body), "audio/pcm")

    async def _audio(self, body: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        fault = StreamFault(self.faults, str(body["model"]))
        async with self._slots:
            await asyncio.sleep(self.options.tts_ms / 1000)
            speed = float(body.get("speed") or 1.0) * self.options.tempo
            async with contextlib.aclosing(
                self._voice.speak([body["input"]], AudioFormat.PCM, speed)
            ) as pieces:
                async for piece in pieces:
                    if await fault.before_chunk():
                        yield b"\x00"
                    yield piece.audio
                    await asyncio.sleep(piece.ms / 1000 * self.options.rtf * fault.slowness)


def _unfit_audio(audio: bytes | None, model: str, shape: str) -> Response | None:
    if not model:
        return error(400, "missing_required_parameter", "Missing required parameter: 'model'.", "model")
    if not audio:
        return error(400, "missing_required_parameter", "Missing required parameter: 'file'.", "file")
    if shape not in TEXT_FORMATS:
        told = f"Invalid 'response_format': {shape!r}. Supported values are: {', '.join(TEXT_FORMATS)}."
        return error(400, "invalid_value", told, "response_format")
    return None


def _seconds(audio: bytes) -> float:
    """How long a WAV file plays; 0 for another kind of file, which is not looked into."""
    try:
        with wave.open(io.BytesIO(audio)) as reader:
            return float(reader.getnframes() / reader.getframerate())
    except (wave.Error, EOFError):
        return 0.0


def _transcript(text: str, seconds: float, shape: str) -> Response:
    if shape == "text":
        return PlainTextResponse(f"{text}\n")
    usage = {"type": "duration", "seconds": round(seconds, 2)}
    if shape == "json":
        return JSONResponse({"text": text, "usage": usage})
    body = {"task": "transcribe", "language": "english", "duration": seconds, "text": text, "segments": []}
    return JSONResponse({**body, "usage": usage})


def _unfit_speech(body: Any) -> Response | None:
    for name in ("model", "input", "voice"):
        if not isinstance(body, dict) or not body.get(name):
            return error(400, "missing_required_parameter", f"Missing required parameter: '{name}'.", name)
    if len(str(body["input"])) > MAX_INPUT:
        told = f"Invalid 'input': string too long. Expected a string with maximum length {MAX_INPUT}."
        return error(400, "string_above_max_length", told, "input")
    shape = body.get("response_format", "mp3")
    if shape not in AUDIO_FORMATS:
        told = f"Invalid 'response_format': {shape!r}. Only {', '.join(AUDIO_FORMATS)} is made here."
        return error(400, "invalid_value", told, "response_format")
    speed = body.get("speed", 1.0)
    if not isinstance(speed, int | float) or not SPEEDS[0] <= speed <= SPEEDS[1]:
        return error(400, "invalid_value", f"Invalid 'speed': {speed!r}. Expected 0.25 to 4.0.", "speed")
    return None


def speech_seconds(text: str, speed: float = 1.0) -> float:
    """How long the tone for a text is."""
    return len(text) * SECONDS_PER_CHARACTER / speed

"""Everything that is there before the curtain rises: spoken lines, a provider, the service; and what it writes down."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import wave
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from orchestrator import models
from orchestrator.demo.processes import Child, StartFailed, clean_environment, free_port, orchestrator_command
from orchestrator.demo.recording import WIRE, Recording
from orchestrator.demo.script import RULES, Voices, trimmed
from orchestrator.listening import Span
from orchestrator.protocol.audio import Pcm16, from_pcm16, hear, to_pcm16

PROVIDER = "https://api.openai.com"
READY_S = 300.0
SERVICE_LOG, PROVIDER_LOG, EVENTS = "service.log", "provider.log", "service-events.jsonl"
LOGS = (SERVICE_LOG, PROVIDER_LOG, EVENTS)
"""What a run leaves in its directory beside the configuration."""
POLL_S = 0.05
CONFIG = """\
[server]
host = "127.0.0.1"
port = 0
events_path = {events}

[business_events]
sinks = []

# The simulated provider and every local model share this machine's processor: that it is slow is no fault here.
[deadlines]
session_s = 3.0
response_s = 3.0
first_audio_s = 3.0
next_audio_s = 1.0
answer_s = 20.0

# A lost provider is looked for again every two seconds at the latest: nobody wants to wait for half a minute here.
[breaker]
probe_max_s = 2.0
"""

Progress = Callable[[], None]
"""Called for every line that is ready."""


async def speak(lines: Iterable[str], voice: str, progress: Progress) -> dict[str, bytes]:
    """Lines as wire audio by their words; what was spoken on an earlier run comes from the disk."""
    from orchestrator.simulate.real_speech import KokoroVoice

    speaker, spoken = KokoroVoice(voice), {}
    try:
        for line in lines:
            pieces = [piece.audio async for piece in speaker.speak([line], WIRE, 1.0)]
            spoken[line] = from_pcm16(trimmed(to_pcm16(b"".join(pieces), WIRE)), WIRE)
            progress()
    finally:
        speaker.close()
    return spoken


@dataclass
class Stage:
    """A running service and its provider."""

    service: Child
    provider: Child
    events: Path
    api_key: str = field(repr=False)
    url: str = ""

    async def ready(self, loading: Callable[[str], None]) -> None:
        """Wait until the service can take calls in every tier; `loading` is told what is still missing."""
        self.url = await self.service.ready()
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=READY_S) as http:
            try:
                async with asyncio.timeout(READY_S):
                    while missing := await self._missing(http):
                        loading(", ".join(missing))
                        await asyncio.sleep(0.25)
            except (TimeoutError, httpx.HTTPError) as failure:
                problem = f"the service did not get ready ({type(failure).__name__})"
                raise StartFailed(self.service.explain(problem)) from None

    async def _missing(self, http: httpx.AsyncClient) -> list[str]:
        parts = [part for part in (await http.get("/readyz")).json()["parts"] if part["required"]]
        broken = [f"{p['name']}: {p['detail']}" for p in parts if not p["ready"] and p["detail"] != "loading"]
        if broken:
            raise StartFailed("the service cannot take calls in every tier; " + "; ".join(broken))
        return [part["name"] for part in parts if not part["ready"]]


@asynccontextmanager
async def stage(directory: Path, voices: Voices, live_key: str | None) -> AsyncIterator[Stage]:
    """Start the service; it is ended on leaving, and so is the provider, which the user starts.

    `directory` takes config, events and logs. With `live_key` the provider is the way to the real one.
    """
    port, key = free_port(), secrets.token_urlsafe(16)
    provider_key = live_key or f"sk-made-up-{secrets.token_hex(8)}"
    config, events = directory / "orchestrator.toml", directory / EVENTS
    config.write_text(CONFIG.format(events=json.dumps(str(events))))
    environment = clean_environment(
        OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1", OPENAI_API_KEY=provider_key, ORCHESTRATOR_API_KEY=key
    )
    serve = orchestrator_command("serve", "--config", str(config))
    command = _relay(port) if live_key else _simulator(port, voices.provider, provider_key)
    service = Child("the service", serve, environment, directory / SERVICE_LOG)
    provider = Child("the provider", command, clean_environment(), directory / PROVIDER_LOG)
    try:
        await service.start()
        yield Stage(service, provider, events, key)
    finally:
        await asyncio.gather(service.stop(), provider.stop())


def _simulator(port: int, voice: str, key: str) -> list[str]:
    """The stand-in for OpenAI Realtime: its own speech recognition, its own voice, and a key that it insists on."""
    return orchestrator_command(
        *("simulate", "realtime", "--port", str(port), "--speech", "kokoro", "--voice", voice),
        *("--answer-orders", "spoken", "--rules", str(RULES), "--api-key", key),
    )


def _relay(port: int) -> list[str]:
    """The way to the real provider, which can be cut."""
    return [sys.executable, "-m", "orchestrator.demo.relay", str(port), PROVIDER]


@asynccontextmanager
async def following(events: Path, recording: Recording) -> AsyncIterator[None]:
    """Add the rows of the service's events file to the recording as they are written."""

    async def follow() -> None:
        read = 0
        while True:
            rows, read = await asyncio.to_thread(_rows_from, events, read)
            for row in rows:
                recording.add_service_row(row)
            await asyncio.sleep(POLL_S)

    task = asyncio.create_task(follow())
    try:
        yield
        with suppress(TimeoutError):
            await recording.wait("the end of the call", lambda row: row.type == "call_ended", seconds=3.0)
    finally:
        task.cancel()
        await asyncio.wait([task])


def _rows_from(events: Path, position: int) -> tuple[list[dict[str, Any]], int]:
    """The complete lines behind `position`, and the position behind them."""
    if not events.exists():
        return [], position
    with events.open("rb") as file:
        file.seek(position)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], position + len(whole)


def write_down(recording: Recording, span: Span) -> str:
    """What is heard in a stretch of the audio that the client received. Blocks for a second or two.

    This is the usual faster-whisper, with a beam and a full window: slower and surer than the one that hears calls.
    """
    from faster_whisper import WhisperModel

    heard = hear(from_pcm16(recording.heard_audio().between(span.start, span.end), WIRE), WIRE)
    model = WhisperModel(str(models.whisper()), device="cpu", compute_type="int8")
    segments, _ = model.transcribe(heard, language="en", beam_size=5)
    return " ".join(segment.text.strip() for segment in segments)


def wav(left: Pcm16, right: Pcm16, path: Path) -> None:
    """Two channels of the wire's rate as a stereo file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(WIRE.rate)
        file.writeframes(np.column_stack([left, right]).astype("<i2").tobytes())


def channels(recording: Recording) -> dict[str, Pcm16]:
    """Both sides of the call on one clock that begins with the microphone."""
    caller, heard = recording.caller_audio(), recording.heard_audio()
    begin, end = caller.start, max(caller.end, heard.end)
    length = round((end - begin) * WIRE.rate)
    sides = {}
    for name, played in (("caller", caller), ("heard", heard)):
        side = np.zeros(length, dtype=np.int16)
        first = max(0, round((played.start - begin) * WIRE.rate))
        part = played.samples[: length - first]
        side[first : first + len(part)] = part
        sides[name] = side
    return sides

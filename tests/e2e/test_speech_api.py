"""Speech over HTTP from the real voice, by OpenAI's client, written down again by the real Whisper."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import secrets

import av
import httpx
import numpy as np
import pytest
from faster_whisper import WhisperModel
from openai import AsyncOpenAI

from orchestrator import models
from orchestrator.protocol.audio import AudioFormat, Float32, hear
from tests.e2e.stack import Stack

WORDS = "the garden gate is open please close it before the dog runs away"
"""What Whisper makes of it, in any voice."""
TEXT = "The garden gate is open. Please close it, before the dog runs away."


@pytest.fixture(scope="module")
def whisper() -> WhisperModel:
    return WhisperModel(str(models.whisper()), compute_type="int8", cpu_threads=1)


@pytest.fixture
async def client(live: Stack) -> AsyncOpenAI:
    http = httpx.AsyncClient(trust_env=False, timeout=120)
    return AsyncOpenAI(base_url=f"{live.service.url}/v1", api_key="none", http_client=http, max_retries=0)


async def heard(whisper: WhisperModel, audio: Float32) -> str:
    def transcribe() -> str:
        segments, _ = whisper.transcribe(audio, language="en", beam_size=1, condition_on_previous_text=False)
        return "".join(segment.text for segment in segments)

    text = await asyncio.to_thread(transcribe)
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def decoded(data: bytes) -> Float32:
    """A file of any kind as 16 kHz samples."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=16_000)
    with av.open(io.BytesIO(data)) as file:
        frames = [each for frame in file.decode(audio=0) for each in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float32)


async def test_what_is_asked_for_is_heard(client: AsyncOpenAI, whisper: WhisperModel) -> None:
    """Streamed while it is made, in a form that has to be decoded; then kept, in one of the telephone's."""
    asked = {"model": "tts-1", "voice": "nova", "input": TEXT}
    async with client.audio.speech.with_streaming_response.create(**asked, response_format="mp3") as speech:
        mp3 = b"".join([data async for data in speech.iter_bytes()])
        assert speech.headers["x-speech-engine"] == "kokoro"
    assert await heard(whisper, decoded(mp3)) == WORDS
    kept = await client.audio.speech.with_raw_response.create(
        **asked,
        response_format="pcmu",  # type: ignore[arg-type]
    )
    assert kept.headers["x-cache"] == "hit"
    assert await heard(whisper, hear(kept.content, AudioFormat.PCMU)) == WORDS


async def test_events_come_sentence_by_sentence(client: AsyncOpenAI, whisper: WhisperModel) -> None:
    events = []
    async with client.audio.speech.with_streaming_response.create(
        model="kokoro",
        voice="bm_fable",
        input=f"{secrets.randbelow(90) + 10} people came. {TEXT}",
        response_format="pcm",
        stream_format="sse",
    ) as speech:
        async for line in speech.iter_lines():
            if line:
                events.append(json.loads(line.removeprefix("data: ")))
    *deltas, done = events
    assert len(deltas) >= 3
    pcm = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert (await heard(whisper, hear(pcm, AudioFormat.PCM))).endswith(WORDS)
    assert done["orchestrator"]["seconds"] == pytest.approx(len(pcm) / 48_000, abs=0.01)


async def test_an_address_is_heard_without_a_key(live: Stack, whisper: WhisperModel) -> None:
    order = "41728306"
    body = {"variables": {"order_id": order, "status": "shipped"}, "format": "opus", "output": "url"}
    async with httpx.AsyncClient(trust_env=False, timeout=120) as http:
        made = (await http.post(f"{live.service.url}/v1/prompts/order_status", json=body)).json()
        whole = await http.get(made["url"])
        half = len(whole.content) // 2
        parts = [
            await http.get(made["url"], headers={"Range": f"bytes={span}", "If-Range": whole.headers["etag"]})
            for span in (f"0-{half - 1}", f"{half}-")
        ]
    assert [part.status_code for part in parts] == [206, 206]
    assert b"".join(part.content for part in parts) == whole.content
    assert len(whole.content) == made["bytes"]
    words = await heard(whisper, decoded(whole.content))
    assert words.startswith("your order number"), (order, words)
    assert words.endswith("has been shipped"), (order, words)

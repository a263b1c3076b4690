"""The speech server simulator, by the OpenAI SDK."""

from __future__ import annotations

import asyncio
import contextlib
import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, BadRequestError
from openai.types.audio import Transcription, TranscriptionVerbose

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate.fault_board import parse
from orchestrator.simulate.http_faults import CATALOGUE
from orchestrator.simulate.speech import Options, SpeechSimulator, speech_seconds
from tests import planted
from tests.simulate.simulated import extras, plain_http

TEXT = "Your order is on its way to you."


class Bench:
    def __init__(self, simulator: SpeechSimulator, origin: str) -> None:
        self.simulator = simulator
        self.origin = origin
        self.sdk = AsyncOpenAI(
            api_key=planted.VOICE, base_url=f"{origin}/v1", max_retries=0, http_client=plain_http()
        )

    def arm(self, fault: str, **fields: Any) -> None:
        self.simulator.faults.arm(parse({"fault": fault, **fields}, CATALOGUE))

    async def hear(self, **fields: Any) -> Any:
        return await self.sdk.audio.transcriptions.create(
            model="whisper-1", file=("a.wav", wav(2.5)), **fields
        )

    async def say(self, text: str = TEXT, **fields: Any) -> bytes:
        request = {"model": "tts-1", "voice": "alloy", "response_format": "pcm", **fields}
        async with self.sdk.audio.speech.with_streaming_response.create(input=text, **request) as answer:
            return b"".join([part async for part in answer.iter_bytes()])


def wav(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16000)
        writer.writeframes(bytes(int(seconds * 16000) * 2))
    return file.getvalue()


@pytest.fixture
async def start() -> AsyncIterator[Any]:
    async with contextlib.AsyncExitStack() as stack:

        async def begin(**options: Any) -> Bench:
            simulator = SpeechSimulator(Options(**{"stt_ms": 1, "tts_ms": 1, "rtf": 0.001, **options}))
            bench = Bench(simulator, await stack.enter_async_context(simulator.start()))
            stack.push_async_callback(bench.sdk.close)
            return bench

        yield begin


@pytest.fixture
async def bench(start: Any) -> Bench:
    return await start()  # type: ignore[no-any-return]


async def test_transcripts_are_the_script_in_order(start: Any) -> None:
    bench = await start(transcripts=("One.", "Two."))
    assert [(await bench.hear()).text for _ in range(3)] == ["One.", "Two.", "One."]


async def test_transcript_shapes(bench: Bench) -> None:
    files = {"file": ("a.wav", wav(2.5), "audio/wav")}
    async with plain_http(base_url=bench.origin) as http:
        plain, verbose, text = [
            await http.post(
                "/v1/audio/transcriptions", data={"model": "m", "response_format": shape}, files=files
            )
            for shape in ("json", "verbose_json", "text")
        ]
    short = Transcription.model_validate_json(plain.text)
    assert short.usage is not None
    assert (short.usage.type, short.usage.seconds) == ("duration", 2.5)
    long = TranscriptionVerbose.model_validate_json(verbose.text)
    assert (long.text, long.duration) == (short.text, 2.5)
    assert extras(short) == set()
    assert extras(long) <= {"task"}
    assert text.text == f"{short.text}\n"


@pytest.mark.parametrize("speed", [1.0, 2.0])
async def test_speech_is_as_long_as_the_text_takes(bench: Bench, speed: float) -> None:
    audio = await bench.say(speed=speed)
    seconds = AudioFormat.PCM.ms(len(audio)) / 1000
    assert seconds == pytest.approx(speech_seconds(TEXT, speed), abs=0.001)


async def test_a_tempo_makes_it_shorter(start: Any) -> None:
    bench = await start(tempo=4.0)
    seconds = AudioFormat.PCM.ms(len(await bench.say(speed=2.0))) / 1000
    assert seconds == pytest.approx(speech_seconds(TEXT, 8.0), abs=0.001)


async def test_latencies(start: Any) -> None:
    """Two seconds of speech at a factor of 0.1 take 0.2 s behind the first audio."""
    bench = await start(stt_ms=120, tts_ms=100, rtf=0.1)
    now = asyncio.get_running_loop().time
    began = now()
    await bench.hear()
    assert 0.12 <= now() - began < 3.0
    began = now()
    await bench.say()
    assert 0.1 + 0.1 * speech_seconds(TEXT) <= now() - began < 3.0


async def test_slots_make_a_queue(start: Any) -> None:
    bench = await start(stt_ms=60, slots=1)
    now = asyncio.get_running_loop().time
    began = now()
    await asyncio.gather(*(bench.hear() for _ in range(3)))
    assert now() - began >= 0.18


async def test_requests_are_remembered(bench: Bench) -> None:
    await bench.hear()
    await bench.say()
    heard, said = bench.simulator.state()["requests"]
    assert heard == {"path": "/v1/audio/transcriptions", "model": "whisper-1", "bytes": len(wav(2.5))}
    assert said["body"]["input"] == TEXT


@pytest.mark.parametrize(
    "fields", [{"response_format": "mp3"}, {"speed": 9.0}, {"voice": ""}, {"text": "x" * 5000}, {"text": ""}]
)
async def test_speech_that_is_refused(bench: Bench, fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        await bench.say(**fields)


@pytest.mark.parametrize("fields", [{"response_format": "srt"}, {"file": ("a.wav", b"")}, {"model": ""}])
async def test_transcriptions_that_are_refused(bench: Bench, fields: dict[str, Any]) -> None:
    request = {"model": "whisper-1", "file": ("a.wav", wav(1)), **fields}
    with pytest.raises(BadRequestError):
        await bench.sdk.audio.transcriptions.create(**request)


async def test_a_wrong_key(start: Any) -> None:
    bench = await start(api_key=planted.SPARE)
    for request in (bench.hear(), bench.say()):
        with pytest.raises(APIStatusError) as refused:
            await request
        assert refused.value.status_code == 401


async def test_faults(bench: Bench) -> None:
    bench.arm("http_503", count=2)
    for request in (bench.hear(), bench.say()):
        with pytest.raises(APIStatusError) as failed:
            await request
        assert failed.value.status_code == 503
    bench.arm("refused")
    with pytest.raises(APIConnectionError):
        await bench.hear()
    bench.arm("cut", after_chunks=2)
    with pytest.raises(httpx.ReadError):
        await bench.say()
    bench.arm("stall", after_chunks=2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await bench.say()
    bench.arm("garbage", after_chunks=1)
    assert len(await bench.say()) % 2 == 1

"""Whisper on human speech, on speech of our own and on no speech; and transcription servers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from orchestrator.core.price_list import ModelPrice
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import Charge, Transcript
from orchestrator.protocol.audio import HEAR_RATE, Float32
from tests import planted
from tiers.flow import order_number
from tiers.pipeline import stt
from tiers.pipeline.errors import Cause, TranscriptionFailed
from tiers.pipeline.kokoro import KokoroSpeech
from tiers.pipeline.stt import EndpointTranscriber, WhisperTranscriber

Human = Callable[[str], Float32]

SAID = {
    "austen-0870.wav": (
        "and mr john dashwood had then leisure to consider how much there might be prudently in his power "
        "to do for them"
    ),
    "austen-0880.wav": "he was not an old sposed young man",  # the one slip of tiny.en: "ill disposed"
    "cards-001.wav": "10 of clubs",
    "cards-004.wav": "5 5",
    "jfk.flac": (
        "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
    ),
}


HEARD_TOO = {"cards-004.wav": "5"}
"""What some processors make of it: 8-bit arithmetic is not the same on all of them."""


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def in_a_call(audio: Float32) -> Float32:
    """As a turn detector cuts it: some of the room before and after."""
    room = np.random.default_rng(1).normal(0, 0.002, HEAR_RATE).astype(np.float32)
    return np.concatenate((room[: HEAR_RATE * 3 // 10], audio, room[: HEAR_RATE // 2]))


@pytest.mark.parametrize("name", SAID)
async def test_human_speech_is_understood_in_the_short_window(
    whisper: WhisperTranscriber, human: Human, name: str
) -> None:
    """Bare and with a room around it. Every clip is shorter than the short window or makes it longer."""
    audio = human(name)
    transcript = await whisper.transcribe(audio)
    assert words(transcript.text) in (SAID[name], HEARD_TOO.get(name))
    assert transcript.seconds == pytest.approx(len(audio) / HEAR_RATE)
    assert words((await whisper.transcribe(in_a_call(audio))).text) in (SAID[name], HEARD_TOO.get(name))


async def test_a_loop_is_decoded_again_in_the_full_window(
    whisper: WhisperTranscriber, human: Human, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which utterances loop in the short window depends on the processor: here one is made to."""
    windows = []

    def watched(model: Any, audio: Float32, window: float, language: str) -> Any:
        windows.append(window)
        heard = decode(model, audio, window, language)
        return replace(heard, text="10 10 10 10") if window == stt.SHORT_WINDOW else heard

    decode = stt._decode
    monkeypatch.setattr(stt, "_decode", watched)
    assert words((await whisper.transcribe(human("cards-001.wav"))).text) == SAID["cards-001.wav"]
    assert windows == [stt.SHORT_WINDOW, stt.FULL_WINDOW]


async def test_the_full_window_says_the_same(
    human: Human, whisper: WhisperTranscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whisper, "_short_window", False)
    transcript = await whisper.transcribe(human("austen-0880.wav"))
    assert words(transcript.text) == SAID["austen-0880.wav"]


async def test_an_order_number_survives_being_said_and_heard(
    whisper: WhisperTranscriber, kokoro: KokoroSpeech, heard: Callable[[Any], Float32]
) -> None:
    spoken = [pcm async for pcm in kokoro.speak("Where is my order 4172?", voice="am_michael")]
    transcript = await whisper.transcribe(in_a_call(heard(np.concatenate(spoken))))
    assert order_number(transcript.text) == "4172"


async def test_more_than_a_window_of_speech(whisper: WhisperTranscriber, human: Human) -> None:
    speech = human("jfk.flac")
    transcript = await whisper.transcribe(np.concatenate((speech, speech, speech)))
    assert words(transcript.text).count("fellow americans") >= 2
    assert transcript.seconds > 30


async def test_the_loop_keeps_turning_while_whisper_works(whisper: WhisperTranscriber, human: Human) -> None:
    task = asyncio.create_task(whisper.transcribe(human("cards-001.wav")))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 50


async def test_missing_weights_say_so(tmp_path: Any) -> None:
    with pytest.raises(ModelMissing, match="orchestrator models fetch"):
        await WhisperTranscriber(tmp_path).transcribe(SECOND)


# Transcription servers


async def _text(request: Request) -> Response:
    return JSONResponse({"text": " Where is my order? "})


SECOND = np.zeros(HEAR_RATE, dtype=np.float32)


async def test_a_server_is_sent_a_wav_file(openai: Any) -> None:
    sizes = []

    async def reply(request: Request) -> Response:
        upload: Any = (await request.form())["file"]
        sizes.append(len(await upload.read()))
        return await _text(request)

    openai.reply = reply
    server = EndpointTranscriber(openai.address, "key", "gpt-transcribe")
    transcript = await server.transcribe(SECOND, "en-US")
    assert transcript == Transcript("Where is my order?", 1.0, "en-US")
    assert openai.requests == [{"model": "gpt-transcribe", "response_format": "json", "language": "en"}]
    assert sizes == [44 + 2 * HEAR_RATE]
    await server.close()


async def test_a_whisper_model_is_asked_how_sure_it_is(openai: Any) -> None:
    segments = [
        {"text": " Where is my order?", "no_speech_prob": 0.02, "avg_logprob": -0.3},
        {"text": " Thank you.", "no_speech_prob": 0.86, "avg_logprob": -0.6},
    ]

    async def reply(request: Request) -> Response:
        return JSONResponse({"text": " Where is my order? Thank you.", "segments": segments})

    openai.reply = reply
    server = EndpointTranscriber(openai.address, "key", "Systran/faster-whisper-small")
    assert (await server.transcribe(SECOND)).text == "Where is my order?"
    assert openai.requests[0]["response_format"] == "verbose_json"
    await server.close()


async def test_a_server_that_cannot_tell_is_asked_for_the_plain_text_from_then_on(openai: Any) -> None:
    openai.fails(400, then=_text)
    server = EndpointTranscriber(openai.address, "key", "whisper-1")
    for _ in range(2):
        assert (await server.transcribe(SECOND)).text == "Where is my order?"
    assert [r["response_format"] for r in openai.requests] == ["verbose_json", "json", "json"]
    await server.close()


@pytest.mark.parametrize("status", [500, 429])
async def test_who_got_the_audio_is_not_sent_it_twice(openai: Any, status: int) -> None:
    server = EndpointTranscriber(openai.address, "key", "m")
    openai.fails(status)
    with pytest.raises(TranscriptionFailed):
        await server.transcribe(SECOND)
    assert len(openai.requests) == 1
    await server.close()


async def test_a_refused_connection_is_tried_once_more() -> None:
    tries = []

    def refuse(request: httpx.Request) -> httpx.Response:
        tries.append(request.url.path)
        if len(tries) == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"text": "Yes."})

    server = EndpointTranscriber("http://stt/v1", "key", "m", price=PER_MINUTE)
    server._client = httpx.AsyncClient(base_url="http://stt/v1", transport=httpx.MockTransport(refuse))
    transcript = await server.transcribe(SECOND)
    assert (transcript.text, len(tries), len(transcript.charges)) == ("Yes.", 2, 1)
    await server.close()


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (httpx.ConnectError, False),
        (httpx.ConnectTimeout, False),
        (httpx.ReadError, True),
        (httpx.RemoteProtocolError, True),
    ],
)
async def test_a_lost_connection_costs_what_was_sent_on_it(
    error: type[httpx.TransportError], charged: bool
) -> None:
    def lose(request: httpx.Request) -> httpx.Response:
        raise error("gone")

    server = EndpointTranscriber("http://stt/v1", "key", "m", price=PER_MINUTE)
    server._client = httpx.AsyncClient(base_url="http://stt/v1", transport=httpx.MockTransport(lose))
    with pytest.raises(TranscriptionFailed) as caught:
        await server.transcribe(SECOND)
    assert bool(caught.value.charges) is charged
    await server.close()


@pytest.mark.parametrize(
    ("status", "cause"), [(401, Cause.REFUSED), (400, Cause.BAD_REQUEST), (404, Cause.BAD_REQUEST)]
)
async def test_a_lasting_failure_is_told_at_once_and_without_secrets(
    openai: Any, status: int, cause: Cause
) -> None:
    openai.fails(status)
    server = EndpointTranscriber(openai.address, planted.EARS, "m")
    with pytest.raises(TranscriptionFailed) as caught:
        await server.transcribe(SECOND)
    assert (caught.value.cause, len(openai.requests)) == (cause, 1)
    assert planted.EARS not in str(caught.value)
    await server.close()


PER_MINUTE = ModelPrice(per_minute=0.006)


async def test_a_transcript_costs_its_audio_by_the_minute(openai: Any) -> None:
    openai.reply = _text
    server = EndpointTranscriber(openai.address, "key", "m", price=PER_MINUTE)
    (charge,) = (await server.transcribe(SECOND[:8_001])).charges
    # 500.06 ms count as 501 ms, of which one costs 100 nano-dollars.
    used = {"type": "duration", "seconds": 0.501}
    assert charge == Charge("transcription", "stt-endpoint", 50_100, used)
    assert server.worst(8_001 / HEAR_RATE) >= charge.nanodollars
    assert (await server.transcribe(SECOND[:100])).charges == ()
    await server.close()


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_failure_costs_what_the_server_may_bill_for_it(openai: Any, hangs: bool) -> None:
    server = EndpointTranscriber(openai.address, "key", "m", timeout=0.1, price=PER_MINUTE)
    if hangs:
        openai.streams(hang=True, media_type="application/json")
    else:
        openai.fails(500)
    with pytest.raises(TranscriptionFailed) as caught:
        await server.transcribe(SECOND)
    charges = [(charge.nanodollars, charge.estimated) for charge in caught.value.charges]
    assert charges == ([(100_000, True)] if hangs else [])
    await server.close()


async def test_a_slow_server_is_not_waited_for(openai: Any) -> None:
    openai.streams(hang=True, media_type="application/json")
    server = EndpointTranscriber(openai.address, "key", "m", timeout=0.1)
    with pytest.raises(TranscriptionFailed) as caught:
        await asyncio.wait_for(server.transcribe(SECOND), 5)
    assert (caught.value.cause, len(openai.requests)) == (Cause.TIMEOUT, 1)
    await server.close()


@pytest.mark.parametrize("body", [b"[]", b"no json", b'{"text": 3}'])
async def test_an_answer_without_a_text_is_malformed(openai: Any, body: bytes) -> None:
    openai.streams(body, media_type="application/json")
    server = EndpointTranscriber(openai.address, "key", "m")
    with pytest.raises(TranscriptionFailed, match="expected a JSON object") as caught:
        await server.transcribe(SECOND)
    assert caught.value.cause is Cause.MALFORMED
    await server.close()

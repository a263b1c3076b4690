"""Speech servers over HTTP, and how a half-said text is finished."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import numpy as np
import pytest

from tests import planted
from tiers.pipeline.errors import Cause, EngineFailed
from tiers.pipeline.reading import spoken
from tiers.pipeline.tts import LONGEST, EndpointSpeech, Samples, unsaid

TONE = (np.sin(np.arange(4800) / 10) * 9000).astype("<i2")


async def test_a_server_is_asked_for_pcm_and_heard_as_it_streams(openai: Any) -> None:
    data = TONE.tobytes()
    openai.streams(data[:1001], data[1001:1002], data[1002:], media_type="audio/pcm")
    engine = EndpointSpeech(openai.address, "key", "tts-1", voices={"marin": "af_heart"})
    pcm = [part async for part in engine.speak("Your order 4172.", voice="marin", speed=1.2)]
    assert np.array_equal(np.concatenate(pcm), TONE)
    assert openai.requests == [
        {
            "model": "tts-1",
            "input": "Your order 4 1 7 2.",
            "voice": "af_heart",
            "response_format": "pcm",
            "speed": 1.2,
        }
    ]
    await engine.close()


async def test_what_grows_too_long_by_being_read_out_is_said_in_parts(openai: Any) -> None:
    openai.streams(TONE.tobytes(), media_type="audio/pcm")
    engine = EndpointSpeech(openai.address, "key", "tts-1")
    text = ("4" * 4000) + " parcels."
    pcm = [part async for part in engine.speak(text)]
    inputs = [request["input"] for request in openai.requests]
    assert len(inputs) > 1
    assert all(len(part) <= LONGEST for part in inputs)
    assert " ".join(inputs) == spoken(text, "en")
    assert sum(map(len, pcm)) == len(inputs) * len(TONE)
    await engine.close()


async def test_audio_is_given_on_before_the_stream_ends(openai: Any) -> None:
    openai.streams(TONE.tobytes(), hang=True, media_type="audio/pcm")
    engine = EndpointSpeech(openai.address, "key", "tts-1", stall_timeout=5)
    audio = engine.speak("Hello.")
    assert len(await asyncio.wait_for(anext(audio), 5)) > 0
    await audio.aclose()
    await asyncio.wait_for(openai.gone.wait(), 5)
    await engine.close()


async def test_a_stream_that_stalls_is_given_up(openai: Any) -> None:
    openai.streams(TONE.tobytes(), hang=True, media_type="audio/pcm")
    engine = EndpointSpeech(openai.address, "key", "tts-1", stall_timeout=0.1)
    with pytest.raises(EngineFailed) as caught:
        async for _ in engine.speak("Hello."):
            pass
    assert caught.value.cause is Cause.TIMEOUT
    await engine.close()


@pytest.mark.parametrize(
    ("status", "cause"), [(401, Cause.REFUSED), (429, Cause.RATE_LIMITED), (503, Cause.UNAVAILABLE)]
)
async def test_a_refusal_has_a_cause_and_tells_no_secret(openai: Any, status: int, cause: Cause) -> None:
    openai.fails(status)
    engine = EndpointSpeech(openai.address, planted.VOICE, "tts-1")
    with pytest.raises(EngineFailed) as caught:
        await anext(engine.speak("Hello."))
    assert caught.value.cause is cause
    assert planted.VOICE not in str(caught.value)
    await engine.close()


async def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    engine = EndpointSpeech(closed, "", "tts-1")
    with pytest.raises(EngineFailed) as caught:
        await anext(engine.speak("Hello."))
    assert caught.value.cause is Cause.UNAVAILABLE
    await engine.close()


async def test_a_refused_connection_is_tried_once_more() -> None:
    tries = []

    def refuse_once(request: httpx.Request) -> httpx.Response:
        tries.append(request.url.path)
        if len(tries) == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, content=TONE.tobytes())

    engine = EndpointSpeech("http://tts/v1", "key", "tts-1")
    engine._client = httpx.AsyncClient(base_url="http://tts/v1", transport=httpx.MockTransport(refuse_once))
    pcm = [part async for part in engine.speak("Hello.")]
    assert np.array_equal(np.concatenate(pcm), TONE)
    assert len(tries) == 2
    await engine.close()


def test_bytes_cut_anywhere_become_whole_samples() -> None:
    data, samples = TONE.tobytes(), Samples()
    cuts = [samples.feed(data[start : start + 333]) for start in range(0, len(data), 333)]
    assert np.array_equal(np.concatenate(cuts), TONE)


@pytest.mark.parametrize(
    ("seconds", "speed", "rest"),
    [
        (0.0, 1.0, "Your order is on its way."),
        (0.1, 1.0, "order is on its way."),
        (1.0, 1.0, "its way."),
        (0.5, 2.0, "its way."),
        (9.0, 1.0, ""),
    ],
)
def test_a_word_that_may_have_begun_is_not_said_again(seconds: float, speed: float, rest: str) -> None:
    assert unsaid("Your order is on its way.", seconds, speed) == rest

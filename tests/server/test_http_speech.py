"""OpenAI's speech API with OpenAI's own client, over a loopback port; an engine that speaks when it is told to."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest
import uvicorn
from openai import AsyncOpenAI

from cache import FORMS, ClipCache
from cache.forms import NAMES, RAW_RATES
from orchestrator.core.price_list import ModelPrice
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Pcm16
from orchestrator.server.http import build_api
from orchestrator.server.ledger import BucketView
from orchestrator.server.purse import Purse
from orchestrator.server.speaking import ALIASES, Speaking
from tests import planted
from tests.server.test_http import Server, make_server
from tiers.speech_pool import Overloaded
from tiers.urgency import Priority, urgency

PIECE_S = 0.5


@dataclass
class Engine:
    """Says half a second of a tone for every word, each when `go` lets it. `breaks_at`: the word it fails at."""

    rung: str = "endpoint"
    version: str = "1"
    price: ModelPrice = field(default_factory=ModelPrice)
    go: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1_000_000))
    breaks_at: int | None = None
    error: Exception = field(default_factory=lambda: RuntimeError("secret engine detail"))
    asked: list[dict[str, Any]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        told = {"voice": voice, "speed": speed, "language": language, "priority": urgency().priority}
        self.asked.append({"text": text, **told})
        at = np.arange(int(PIECE_S * SPEAK_RATE)) / SPEAK_RATE
        try:
            for place, _ in enumerate(text.split()):
                if place == self.breaks_at:
                    raise self.error
                await self.go.acquire()
                yield (np.sin(2 * np.pi * (300 + 50 * place) * at) * 9000).astype(np.int16)
        finally:
            self.ended.set()


@dataclass
class Api:
    server: Server
    engine: Engine
    url: str
    client: AsyncOpenAI


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    engine = Engine()
    async for each in serving(engine):
        yield each


async def serving(*engines: Engine, voices: Path | None = None, cap: float = 1.0) -> AsyncIterator[Api]:
    service = make_server(
        server={"api_key": planted.SERVER},
        budget={"buckets": {"default": {"usd_per_day": cap}}},
    )
    await service.fleet.start()
    purse = Purse(service.fleet.ledgers)
    service.speaking = Speaking(ClipCache(), engines, voices=voices, default_voice="marin", purse=purse)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running = uvicorn.Server(uvicorn.Config(build_api(service), log_level="error", lifespan="off"))
    task = asyncio.create_task(running.serve(sockets=[listener]))
    http = httpx.AsyncClient(trust_env=False)
    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key=planted.SERVER, max_retries=0, http_client=http
    ) as client:
        yield Api(service, engines[0], url, client)
    running.should_exit = True
    await task
    await service.fleet.close()


def seconds_of(data: bytes, form: str) -> float:
    kind = FORMS[form]
    if isinstance(kind, AudioFormat):
        return kind.ms(len(data)) / 1000
    if kind in RAW_RATES:
        return len(data) / 2 / RAW_RATES[kind]
    with av.open(io.BytesIO(data)) as file:
        return sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))


@pytest.mark.parametrize("form", FORMS)
async def test_openais_client_gets_every_form(api: Api, form: str) -> None:
    for cache in ("miss", "hit"):
        answer = await api.client.audio.speech.with_raw_response.create(
            model="tts-1",
            voice="alloy",
            input="One two three.",
            response_format=form,  # type: ignore[arg-type]
        )
        assert answer.headers["x-cache"] == cache
        assert answer.headers["content-type"].startswith("audio/")
        assert seconds_of(answer.content, form) == pytest.approx(3 * PIECE_S, abs=0.15)
    assert len(api.engine.asked) == 1
    assert NAMES[FORMS[form]] == form


async def test_mp3_is_what_comes_unless_another_form_is_asked_for(api: Api) -> None:
    speech = await api.client.audio.speech.create(model="gpt-4o-mini-tts", voice="coral", input="Hello.")
    assert speech.response.headers["content-type"] == "audio/mpeg"
    assert seconds_of(speech.content, "mp3") == pytest.approx(PIECE_S, abs=0.15)
    assert api.engine.asked == [
        {"text": "Hello.", "voice": "coral", "speed": 1.0, "language": "en", "priority": Priority.REQUEST}
    ]


@pytest.mark.parametrize("form", ["pcm", "wav", "mp3", "opus", "aac", "flac", "pcmu"])
async def test_the_first_bytes_come_before_the_rest_is_made(api: Api, form: str) -> None:
    api.engine.go = asyncio.Semaphore(1)
    got = b""
    async with api.client.audio.speech.with_streaming_response.create(
        model="tts-1",
        voice="alloy",
        input="One two three.",
        response_format=form,  # type: ignore[arg-type]
    ) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        async for data in answer.iter_bytes():
            if not got:
                # One piece of three was made, and some of it is here.
                assert not api.engine.ended.is_set()
                for _ in range(2):
                    api.engine.go.release()
            got += data
    assert seconds_of(got, form) == pytest.approx(3 * PIECE_S, abs=0.15)


async def test_as_events(api: Api) -> None:
    for cached in (False, True):
        events = []
        async with api.client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input="One two.", response_format="pcm", stream_format="sse"
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.iter_lines():
                if line:
                    assert line.startswith("data: ")
                    events.append(json.loads(line.removeprefix("data: ")))
        *deltas, done = events
        assert {event["type"] for event in deltas} == {"speech.audio.delta"}
        pcm = b"".join(base64.b64decode(event["audio"]) for event in deltas)
        assert seconds_of(pcm, "pcm") == 2 * PIECE_S
        assert done["type"] == "speech.audio.done"
        assert done["usage"] == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        assert done["orchestrator"]["seconds"] == 2 * PIECE_S
        assert done["orchestrator"]["cached"] is cached


async def test_a_local_engine_is_heard_after_its_first_sentence() -> None:
    """It renders a piece as a whole, so that it is given sentences; but only whole ones."""
    text = "Your parcel has left. It comes on Monday, before ten, or on Tuesday. Is that all right?"
    async for api in serving(Engine(rung="kokoro", go=asyncio.Semaphore(4))):
        async with api.client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=text, response_format="pcm"
        ) as answer:
            pcm = b""
            async for data in answer.iter_bytes():
                if not pcm:
                    assert len(api.engine.asked) < 3
                    for _ in text.split():
                        api.engine.go.release()
                pcm += data
        said = [asked["text"] for asked in api.engine.asked]
        assert said == [
            "Your parcel has left.",
            "It comes on Monday, before ten, or on Tuesday.",
            "Is that all right?",
        ]
        assert seconds_of(pcm, "pcm") == len(text.split()) * PIECE_S


async def test_many_who_ask_at_once_hear_one_render(api: Api) -> None:
    async def ask() -> bytes:
        speech = await api.client.audio.speech.create(
            model="tts-1", voice="ash", input="The same words.", response_format="pcm"
        )
        return speech.content

    heard = await asyncio.gather(*(ask() for _ in range(20)))
    assert len(set(heard)) == 1
    assert len(api.engine.asked) == 1


async def test_what_the_sound_depends_on_is_said_anew(api: Api) -> None:
    usual = {"model": "tts-1", "voice": "ash", "input": "Hello.", "speed": 1.0}
    for change in ({}, {"voice": "sage"}, {"speed": 1.5}, {"input": "Hello!"}, {"model": "tts-1-hd"}, {}):
        await api.client.audio.speech.create(**{**usual, **change}, extra_body={"language": "en-gb"})
    # The models are names for one engine.
    assert len(api.engine.asked) == 4
    assert {asked["language"] for asked in api.engine.asked} == {"en-gb"}


async def test_a_render_is_given_up_with_its_last_listener(api: Api) -> None:
    api.engine.go = asyncio.Semaphore(1)
    async with api.client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="One two three.", response_format="pcm"
    ) as answer:
        await anext(answer.iter_bytes())
    async with asyncio.timeout(10):
        await api.engine.ended.wait()
    assert api.engine.go.locked()


async def test_wrong_requests_are_told_as_openai_tells_them(api: Api) -> None:
    speak = api.client.audio.speech.create
    with pytest.raises(openai.NotFoundError) as unknown:
        await speak(model="tts-9", voice="alloy", input="Hello.")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert "tts-1" in unknown.value.message
    for wrong, param in (
        ({"input": ""}, "input"),
        ({"input": " ...!? "}, "input"),
        ({"input": "a" * 4097}, "input"),
        ({"speed": 9}, "speed"),
        ({"response_format": "ogg"}, "response_format"),
        ({"stream_format": "chunks"}, "stream_format"),
        ({"extra_body": {"stream": True}}, "stream"),
        ({"extra_body": {"voice": 7}}, "voice"),
    ):
        usual: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": "Hello."}
        with pytest.raises(openai.BadRequestError) as bad:
            await speak(**{**usual, **wrong})
        assert bad.value.type == "invalid_request_error"
        assert (bad.value.param or "").startswith(param), wrong
    with pytest.raises(openai.AuthenticationError):
        await api.client.with_options(api_key=planted.STRANGER).audio.speech.create(
            model="tts-1", voice="alloy", input="Hello."
        )
    assert not api.engine.asked


async def test_a_custom_voice_is_named_by_its_id(api: Api) -> None:
    await api.client.audio.speech.create(model="tts-1", voice={"id": "voice_1"}, input="Hello.")
    assert api.engine.asked[0]["voice"] == "voice_1"


async def test_too_much_at_once_is_said_quickly(api: Api) -> None:
    api.engine.breaks_at, api.engine.error = 0, Overloaded("kokoro", 7.2)
    with pytest.raises(openai.InternalServerError) as busy:
        await api.client.audio.speech.create(model="tts-1", voice="alloy", input="Hello.")
    assert (busy.value.status_code, busy.value.code) == (503, "overloaded")
    assert busy.value.response.headers["retry-after"] == "8"


async def test_an_engine_that_cannot_speak_is_an_error(api: Api) -> None:
    api.engine.breaks_at = 0
    with pytest.raises(openai.InternalServerError) as failed:
        await api.client.audio.speech.create(model="tts-1", voice="alloy", input="Hello.")
    assert (failed.value.status_code, failed.value.code) == (503, "speech_unavailable")
    assert "secret engine detail" not in failed.value.message
    # Nothing of it is kept.
    api.engine.breaks_at = None
    assert await api.client.audio.speech.create(model="tts-1", voice="alloy", input="Hello.")


async def test_half_an_answer_is_not_taken_for_a_whole_one(api: Api) -> None:
    api.engine.breaks_at = 1
    asked: dict[str, Any] = {
        "model": "tts-1",
        "voice": "alloy",
        "input": "One two.",
        "response_format": "pcm",
    }

    async def whole() -> None:
        async with api.client.audio.speech.with_streaming_response.create(**asked) as answer:
            await answer.read()

    with pytest.raises(httpx.RemoteProtocolError):
        await whole()
    async with api.client.audio.speech.with_streaming_response.create(**asked, stream_format="sse") as answer:
        events = [json.loads(line[6:]) async for line in answer.iter_lines() if line]
    assert [event["type"] for event in events] == ["speech.audio.delta", "error"]
    assert events[1]["error"]["code"] == "speech_unavailable"
    assert "secret" not in str(events)


async def test_the_next_engine_speaks_where_the_model_leaves_it_open() -> None:
    broken = Engine(rung="cartesia", breaks_at=0)
    second = Engine(rung="endpoint", price=ModelPrice(per_character=0.001))
    async for api in serving(broken, second):
        speak = api.client.audio.speech.with_raw_response.create
        answer = await speak(model="tts-1", voice="alloy", input="Hello.")
        assert answer.headers["x-speech-engine"] == "endpoint"
        assert answer.content
        await speak(model="tts-1", voice="alloy", input="Hello.")
        # Once for six characters; what is kept is free.
        assert api.server.fleet.ledgers.overview()["default"].spent == 6_000_000
        with pytest.raises(openai.InternalServerError):
            await speak(model="cartesia", voice="alloy", input="Hello.")


async def test_no_more_is_spent_than_there_is() -> None:
    paid = Engine(rung="endpoint", price=ModelPrice(per_character=0.001))
    async for api in serving(paid, cap=0.007):
        speak = api.client.audio.speech.create
        await speak(model="tts-1", voice="alloy", input="Hello.")
        with pytest.raises(openai.RateLimitError, match=r"budget\.buckets\.default") as spent:
            await speak(model="tts-1", voice="alloy", input="Hello you.")
        assert spent.value.code == "budget_spent"
        # What is kept costs nothing.
        await speak(model="tts-1", voice="alloy", input="Hello.")
        assert len(paid.asked) == 1


async def test_no_more_is_spent_than_there_is_by_a_crowd() -> None:
    paid = Engine(rung="endpoint", price=ModelPrice(per_character=0.001))
    async for api in serving(paid, cap=0.02):
        speak = api.client.audio.speech.create

        async def code(number: int) -> str | None:
            try:
                await speak(model="tts-1", voice="alloy", input=f"Hello {number:02}.")  # noqa: B023
            except openai.RateLimitError as error:
                return error.code
            return None

        found = await asyncio.gather(*(code(number) for number in range(30)))
        assert sorted(map(str, found)) == ["None"] * 2 + ["budget_spent"] * 28
        assert api.server.fleet.ledgers.view("default") == BucketView(18_000_000, 0, 20_000_000)


async def test_a_crowd_that_asks_for_the_same_pays_once() -> None:
    paid = Engine(rung="endpoint", price=ModelPrice(per_character=0.001))
    async for api in serving(paid, cap=0.007):
        speak = api.client.audio.speech.create
        asked = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "response_format": "pcm"}
        heard = await asyncio.gather(*(speak(**asked) for _ in range(20)))
        assert len({each.content for each in heard}) == 1
        assert len(paid.asked) == 1
        assert api.server.fleet.ledgers.view("default") == BucketView(6_000_000, 0, 7_000_000)


async def test_silence_is_no_speech(api: Api) -> None:
    class Mute(Engine):
        async def speak(self, text: str, **asked: Any) -> AsyncIterator[Pcm16]:
            yield np.zeros(2400, np.int16)

    service = api.server
    service.speaking = Speaking(ClipCache(), [Mute()])
    for _ in range(2):
        with pytest.raises(openai.InternalServerError) as failed:
            await api.client.audio.speech.create(model="tts-1", voice="alloy", input="Hello.")
        assert failed.value.code == "speech_unavailable"


async def test_models_and_voices(tmp_path: Path) -> None:
    file = tmp_path / "voices.npz"
    np.savez(file, af_heart=np.zeros(1), bf_emma=np.zeros(1), ff_siwis=np.zeros(1))
    async for api in serving(Engine(rung="kokoro"), voices=file):
        listed = [model.id async for model in api.client.models.list()]
        assert listed == ["kokoro", *ALIASES, "gpt-realtime-2.1"]
        assert (await api.client.models.retrieve("kokoro")).owned_by == "orchestrator"
        with pytest.raises(openai.NotFoundError, match="gpt-realtime-2"):
            await api.client.models.retrieve("gpt-9")
        answer = await api.client.get("/audio/voices", cast_to=httpx.Response)
        voices = {voice["id"]: voice for voice in answer.json()["data"]}
        assert voices["bf_emma"]["languages"] == ["en-gb"]
        assert voices["ff_siwis"]["languages"] == ["fr"]
        assert voices["marin"]["like"] == "af_heart"
        with pytest.raises(openai.BadRequestError, match="ff_siwis") as unknown:
            await api.client.audio.speech.create(model="tts-1", voice="af_nobody", input="Hello.")
        assert unknown.value.param == "voice"
        await api.client.audio.speech.create(model="tts-1", voice="bf_emma", input="Hello.")
        assert [asked["voice"] for asked in api.engine.asked] == ["bf_emma"]


async def test_a_new_version_of_our_own_voice_is_made_behind_the_old_clip() -> None:
    async for api in serving(Engine("kokoro")):
        asked = {"model": "kokoro", "voice": "marin", "input": "one", "response_format": "pcm"}
        before = await api.client.audio.speech.create(**asked)
        api.engine.version, api.engine.go = "2", asyncio.Semaphore(0)
        meanwhile = await api.client.audio.speech.create(**asked)
        assert meanwhile.content == before.content
        api.engine.go.release()
        assert api.server.speaking is not None
        await api.server.speaking._cache.flush()
        assert len(api.engine.asked) == 2


async def test_a_new_version_of_a_paid_voice_is_waited_for_and_paid() -> None:
    async for api in serving(Engine("endpoint", price=ModelPrice(per_character=0.001))):
        assert api.server.speaking is not None
        asked = {"model": "endpoint", "voice": "marin", "input": "one", "response_format": "pcm"}
        for version in ("1", "2"):
            api.engine.version = version
            await api.client.audio.speech.create(**asked)
        await api.server.speaking._cache.flush()
        spent = api.server.fleet.ledgers.view("default").spent
        assert (len(api.engine.asked), spent) == (2, 2 * 3_000_000)

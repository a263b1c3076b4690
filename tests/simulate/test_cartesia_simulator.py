"""The Cartesia simulator, by Cartesia's own SDK; every event is parsed strictly as the SDK's type for it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import wave
from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import numpy as np
import pytest
from cartesia import APIConnectionError, APIStatusError, AsyncCartesia, AuthenticationError, RateLimitError
from cartesia.types.tts_sse_event import TTSSSEEvent
from cartesia.types.websocket_response import WebsocketResponse
from pydantic import BaseModel
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from orchestrator.simulate.cartesia import CartesiaSimulator, Options
from orchestrator.simulate.cartesia_faults import CATALOGUE, FaultId
from orchestrator.simulate.fault_board import parse
from orchestrator.simulate.voices import SECONDS_PER_CHARACTER, ToneVoice
from tests import planted
from tests.simulate.simulated import extras, plain_http

PATIENCE = 5.0
SOON = 0.15
TEXT = "Your order is on its way."
PCM = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24000}
REQUEST: dict[str, Any] = {
    "context_id": "c1",
    "model_id": "sonic-3.5",
    "voice": {"mode": "id", "id": "f786b574-daa5-4673-aa0c-cbe3e8534c02"},
    "output_format": PCM,
    "transcript": TEXT,
}
HTTP_REQUEST = {name: value for name, value in REQUEST.items() if name != "context_id"}


def by_type(union: Any) -> dict[str, type[BaseModel]]:
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields["type"].annotation)[0]: member for member in members}


WEBSOCKET_TYPES, SSE_TYPES = by_type(WebsocketResponse), by_type(TTSSSEEvent)


def check(types: dict[str, type[BaseModel]], text: str | bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(text)
    parsed = types[event["type"]].model_validate_json(text, strict=True)
    assert not extras(parsed), (event["type"], extras(parsed))
    return event


class Bench:
    def __init__(self, simulator: CartesiaSimulator, origin: str, stack: contextlib.AsyncExitStack) -> None:
        self.simulator = simulator
        self.origin = origin
        self.sdk = self.client("sk_car_test")
        self._stack = stack

    def client(self, api_key: str) -> AsyncCartesia:
        websocket = self.origin.replace("http", "ws", 1)
        return AsyncCartesia(
            api_key=api_key, base_url=self.origin, websocket_base_url=websocket, max_retries=0
        )

    def arm(self, fault: str, **fields: Any) -> None:
        self.simulator.faults.arm(parse({"fault": fault, **fields}, CATALOGUE))

    async def connect(self, sdk: AsyncCartesia | None = None) -> Socket:
        manager = (sdk or self.sdk).tts.websocket_connect()
        return Socket(await self._stack.enter_async_context(manager))


class Socket:
    """The SDK's connection, its events checked."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []

    async def send(self, **fields: Any) -> None:
        await self.connection.send({**REQUEST, **fields})

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            event = check(WEBSOCKET_TYPES, await self.connection.recv_bytes())
        self.events.append(event)
        return event

    async def until(self, kind: str, context_id: str = "c1") -> dict[str, Any]:
        while True:
            event = await self.next()
            if event["type"] == kind and event.get("context_id", context_id) == context_id:
                return event

    def audio(self, context_id: str = "c1") -> bytes:
        chunks = [e for e in self.events if e["type"] == "chunk" and e["context_id"] == context_id]
        return b"".join(base64.b64decode(chunk["data"]) for chunk in chunks)

    async def silent(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON):
                await self.next()


@pytest.fixture
async def start() -> AsyncIterator[Any]:
    async with contextlib.AsyncExitStack() as servers, contextlib.AsyncExitStack() as clients:

        async def begin(seconds: float | None = None, **options: Any) -> Bench:
            fast = {"first_audio_ms": 5, "pace": 100.0, **options}
            simulator = CartesiaSimulator(Options(ToneVoice(seconds), **fast))
            bench = Bench(simulator, await servers.enter_async_context(simulator.start()), clients)
            clients.push_async_callback(bench.sdk.close)
            return bench

        yield begin


@pytest.fixture
async def bench(start: Any) -> Bench:
    return await start()  # type: ignore[no-any-return]


def milliseconds(audio: bytes) -> float:
    return len(audio) / 48


# -- speaking --------------------------------------------------------------------------------------


async def test_a_text_is_spoken_as_long_as_it_takes(bench: Bench) -> None:
    socket = await bench.connect()
    await socket.send()
    done = await socket.until("done")
    assert done == {"type": "done", "done": True, "status_code": 200, "context_id": "c1"}
    assert milliseconds(socket.audio()) == pytest.approx(len(TEXT) * SECONDS_PER_CHARACTER * 1000, abs=1)
    assert {event["type"] for event in socket.events} == {"chunk", "done"}


async def test_timestamps_name_every_word_in_order(bench: Bench) -> None:
    socket = await bench.connect()
    await socket.send(add_timestamps=True)
    await socket.until("done")
    times = [event["word_timestamps"] for event in socket.events if event["type"] == "timestamps"]
    assert [word for part in times for word in part["words"]] == TEXT.split()
    starts = [start for part in times for start in part["start"]]
    assert starts == sorted(starts)
    assert starts[-1] * 1000 < milliseconds(socket.audio())


async def test_continuations_and_flushes_by_the_sdks_own_context(bench: Bench) -> None:
    connection = (await bench.connect()).connection
    context = connection.context(
        "c1", model_id="sonic-3.5", voice=REQUEST["voice"], output_format=PCM, timeout=2
    )
    await context.push("Hello ")
    await context.push("there. ", flush=True)
    await context.push("And more.")
    await context.no_more_inputs()
    events = [event async for event in context.receive()]
    kinds = [event.type for event in events]
    assert kinds[-1] == "done"
    assert kinds.count("flush_done") == 1
    flush = kinds.index("flush_done")
    assert events[flush].flush_id == 1
    assert {event.flush_id for event in events[:flush]} == {1}
    assert {event.flush_id for event in events[flush + 1 : -1]} == {2}


async def test_text_is_buffered_until_a_sentence_is_complete(start: Any) -> None:
    bench = await start()
    socket = await bench.connect()
    buffered = {"continue": True, "max_buffer_delay_ms": 5000}
    await socket.send(transcript="Half a ", **buffered)
    await socket.silent()
    await socket.send(transcript="sentence.", **buffered)
    await socket.until("chunk")
    await socket.send(transcript="", **{"continue": False})
    await socket.until("done")
    assert milliseconds(socket.audio()) == pytest.approx(16 * SECONDS_PER_CHARACTER * 1000, abs=1)


async def test_a_full_buffer_delay_speaks_what_there_is(bench: Bench) -> None:
    socket = await bench.connect()
    await socket.send(transcript="Half a ", max_buffer_delay_ms=30, **{"continue": True})
    await socket.until("chunk")


async def test_contexts_share_a_socket(bench: Bench) -> None:
    socket = await bench.connect()
    await socket.send(context_id="a")
    await socket.send(context_id="b", transcript="Short.")
    ended = [(await socket.until("done", name))["context_id"] for name in ("b", "a")]
    assert ended == ["b", "a"]
    assert len(socket.audio("a")) > len(socket.audio("b")) > 0


async def test_a_cancelled_context_says_no_more(start: Any) -> None:
    bench = await start(seconds=60, pace=4.0)
    socket = await bench.connect()
    await socket.send()
    await socket.until("chunk")
    await socket.connection.send({"context_id": "c1", "cancel": True})
    await socket.send(context_id="c2", transcript="")
    await socket.until("done", "c2")
    events = len([event for event in socket.events if event["context_id"] == "c1"])
    await socket.silent()
    assert len(socket.events) <= events + 1
    assert bench.simulator.active == 0


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize(
    ("encoding", "width"), [("pcm_f32le", 4), ("pcm_s16le", 2), ("pcm_mulaw", 1), ("pcm_alaw", 1)]
)
async def test_formats(start: Any, rate: int, encoding: str, width: int) -> None:
    bench = await start(seconds=0.5)
    socket = await bench.connect()
    await socket.send(output_format={"container": "raw", "encoding": encoding, "sample_rate": rate})
    await socket.until("done")
    assert len(socket.audio()) / width / rate == pytest.approx(0.5, abs=0.002)


async def test_floats_are_the_samples_of_pcm(start: Any) -> None:
    bench = await start(seconds=0.2)
    socket = await bench.connect()
    await socket.send()
    await socket.until("done")
    await socket.send(context_id="c2", output_format={**PCM, "encoding": "pcm_f32le"})
    await socket.until("done", "c2")
    pcm = np.frombuffer(socket.audio("c1"), dtype="<i2") / 32768.0
    assert np.allclose(np.frombuffer(socket.audio("c2"), dtype="<f4"), pcm, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_id": "sonic-9"}, "model_id: expected one of sonic-3.5"),
        ({"voice": None}, "voice"),
        ({"output_format": {**PCM, "sample_rate": 12345}}, "output_format.sample_rate"),
        ({"max_buffer_delay_ms": 9000}, "max_buffer_delay_ms: expected 0 to 5000"),
        ({"generation_config": {"speed": 9.0}}, "generation_config.speed: expected 0.6 to 1.5"),
    ],
)
async def test_bad_requests(bench: Bench, change: dict[str, Any], told: str) -> None:
    socket = await bench.connect()
    await socket.connection._connection.send(json.dumps({**REQUEST, **change}))
    error = await socket.until("error")
    assert (error["status_code"], error["context_id"]) == (400, "c1")
    assert told in error["message"]


async def test_speed_shortens_speech(bench: Bench) -> None:
    socket = await bench.connect()
    await socket.send(generation_config={"speed": 1.25})
    await socket.until("done")
    assert milliseconds(socket.audio()) == pytest.approx(
        len(TEXT) * SECONDS_PER_CHARACTER * 1000 / 1.25, abs=1
    )


# -- who may -----------------------------------------------------------------------------------------


async def test_a_wrong_key(start: Any) -> None:
    bench = await start(api_key=planted.CARTESIA)
    with pytest.raises(InvalidStatus) as refused:
        await bench.connect()
    assert refused.value.response.status_code == 401
    with pytest.raises(AuthenticationError):
        await bench.sdk.tts.generate(**HTTP_REQUEST)
    async with bench.client(planted.CARTESIA) as sdk:
        await bench.connect(sdk)


async def test_the_version_header_is_needed(bench: Bench) -> None:
    async with plain_http(base_url=bench.origin, headers={"Authorization": "Bearer x"}) as http:
        answer = await http.post("/tts/bytes", json=HTTP_REQUEST)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "version_required")


async def test_contexts_beyond_the_limit_are_refused(start: Any) -> None:
    bench = await start(seconds=60, concurrency=1, pace=1.0)
    socket = await bench.connect()
    await socket.send()
    await socket.until("chunk")
    await socket.send(context_id="c2")
    error = await socket.until("error", "c2")
    assert (error["status_code"], error["error_code"]) == (429, "concurrency_limited")
    with pytest.raises(RateLimitError):
        await bench.sdk.tts.generate(**HTTP_REQUEST)


async def test_an_idle_socket_is_closed(start: Any) -> None:
    bench = await start(idle_seconds=0.05)
    socket = await bench.connect()
    with pytest.raises(ConnectionClosed):
        await socket.next()


# -- HTTP --------------------------------------------------------------------------------------------


async def test_bytes(bench: Bench) -> None:
    answer = await bench.sdk.tts.generate(**HTTP_REQUEST)
    assert milliseconds(await answer.read()) == pytest.approx(len(TEXT) * SECONDS_PER_CHARACTER * 1000, abs=1)


async def test_wav(bench: Bench) -> None:
    form = {"container": "wav", "encoding": "pcm_s16le", "sample_rate": 16000}
    answer = await bench.sdk.tts.generate(**{**HTTP_REQUEST, "output_format": form})
    with wave.open(io.BytesIO(await answer.read())) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (16000, 1, 2)
        assert reader.getnframes() / 16000 == pytest.approx(len(TEXT) * SECONDS_PER_CHARACTER, abs=0.002)


async def test_mp3_is_refused(bench: Bench) -> None:
    form = {"container": "mp3", "bit_rate": 128000, "sample_rate": 44100}
    with pytest.raises(APIStatusError, match="raw or wav"):
        await bench.sdk.tts.generate(**{**HTTP_REQUEST, "output_format": form})


async def test_sse(bench: Bench) -> None:
    body = {**HTTP_REQUEST, "add_timestamps": True, "context_id": "s1"}
    headers = {"Authorization": "Bearer x", "Cartesia-Version": "2026-08-14"}
    async with plain_http(base_url=bench.origin, headers=headers) as http:
        answer = await http.post("/tts/sse", json=body)
    frames = [frame.split("\ndata: ") for frame in answer.text.strip().split("\n\n")]
    events = [check(SSE_TYPES, data) for _, data in frames]
    assert [name.removeprefix("event: ") for name, _ in frames] == [event["type"] for event in events]
    assert {event["context_id"] for event in events} == {"s1"}
    assert [event["type"] for event in events if event["type"] != "timestamps"][-1] == "done"
    audio = b"".join(base64.b64decode(event["data"]) for event in events if event["type"] == "chunk")
    assert milliseconds(audio) == pytest.approx(len(TEXT) * SECONDS_PER_CHARACTER * 1000, abs=1)


async def test_sse_by_the_sdk(bench: Bench) -> None:
    stream = await bench.sdk.tts.generate_sse(**HTTP_REQUEST)
    kinds = [event.type async for event in stream]
    assert kinds[0] == "chunk"
    assert kinds[-1] == "done"


# -- faults ------------------------------------------------------------------------------------------

OBSERVED: set[FaultId] = set()


def observes(*faults: FaultId) -> Any:
    OBSERVED.update(faults)
    return lambda test: test


@observes(FaultId.REFUSED)
async def test_refused(bench: Bench) -> None:
    bench.arm("refused", count=2)
    with pytest.raises((InvalidMessage, ConnectionError)):
        await bench.connect()
    headers = {"Cartesia-Version": "2026-08-14"}
    async with plain_http(base_url=bench.origin, headers=headers) as http:
        with pytest.raises(httpx.ReadError):
            await http.post("/tts/bytes", json=HTTP_REQUEST)
    await bench.connect()


@observes(FaultId.HTTP_401, FaultId.HTTP_429, FaultId.HTTP_5XX)
@pytest.mark.parametrize(("fault", "status"), [("http_401", 401), ("http_429", 429), ("http_5xx", 503)])
async def test_http_status(bench: Bench, fault: str, status: int) -> None:
    bench.arm(fault, count=2)
    with pytest.raises(InvalidStatus) as refused:
        await bench.connect()
    assert refused.value.response.status_code == status
    with pytest.raises(APIStatusError) as failed:
        await bench.sdk.tts.generate(**HTTP_REQUEST)
    assert failed.value.status_code == status


@observes(FaultId.HANG)
async def test_hang(bench: Bench) -> None:
    bench.arm("hang", count=2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await bench.connect()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await bench.sdk.tts.generate(**HTTP_REQUEST)


@observes(FaultId.SILENT)
async def test_silent(bench: Bench) -> None:
    bench.arm("silent")
    socket = await bench.connect()
    await socket.send()
    await socket.silent()
    await socket.send(context_id="c2")
    await socket.until("done", "c2")


@observes(FaultId.DROP)
async def test_drop(bench: Bench) -> None:
    bench.arm("drop", after_ms=500, count=2)
    socket = await bench.connect()
    await socket.send()
    with pytest.raises(ConnectionClosed) as dropped:
        await socket.until("done")
    assert dropped.value.rcvd is None
    assert milliseconds(socket.audio()) == 500
    with pytest.raises(APIConnectionError) as failed:
        await bench.sdk.tts.generate(**HTTP_REQUEST)
    assert isinstance(failed.value.__cause__, httpx.ReadError)


@observes(FaultId.CLOSE_1011)
async def test_close(bench: Bench) -> None:
    bench.arm("close_1011")
    socket = await bench.connect()
    await socket.send()
    with pytest.raises(ConnectionClosed) as closed:
        await socket.until("done")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011


@observes(FaultId.STALL)
async def test_stall(bench: Bench) -> None:
    bench.arm("stall", after_ms=300)
    socket = await bench.connect()
    await socket.send()
    while milliseconds(socket.audio()) < 300:
        await socket.next()
    await socket.silent()


@observes(FaultId.SLOW)
async def test_slow(bench: Bench) -> None:
    """Chunks of 200 ms half a second apart."""
    bench.arm("slow")
    socket = await bench.connect()
    await socket.send()
    for _ in range(2):
        await socket.until("chunk")
    await socket.silent()
    await socket.until("chunk")


@observes(FaultId.RATE_LIMITED, FaultId.ERROR, FaultId.ERROR_WITHOUT_CONTEXT)
@pytest.mark.parametrize(
    ("fault", "status", "context_id"),
    [("rate_limited", 429, "c1"), ("error", 500, "c1"), ("error_without_context", 500, None)],
)
@pytest.mark.parametrize("moment", ["context", "mid_context"])
async def test_errors(bench: Bench, fault: str, status: int, context_id: str | None, moment: str) -> None:
    bench.arm(fault, moment=moment)
    socket = await bench.connect()
    await socket.send()
    error = await socket.until("error")
    assert (error["status_code"], error.get("context_id")) == (status, context_id)
    assert bool(socket.audio()) is (moment == "mid_context")
    await socket.silent()


@pytest.mark.parametrize("moment", ["context", "mid_context"])
async def test_a_fault_for_new_connections_spares_those_that_are_open(bench: Bench, moment: str) -> None:
    first = await bench.connect()
    bench.arm("error", moment=moment, new_sessions=True)
    await first.send()
    await first.until("done")
    second = await bench.connect()
    await second.send()
    await second.until("error")


def test_every_fault_is_observed() -> None:
    assert set(CATALOGUE) == set(FaultId) == OBSERVED

"""The Cartesia engine through the real SDK, against a server that does what a bad day brings."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from orchestrator.protocol.audio import SPEAK_RATE, Pcm16
from orchestrator.simulate.cartesia import CartesiaSimulator, Options
from orchestrator.simulate.cartesia_faults import CATALOGUE
from orchestrator.simulate.fault_board import parse
from orchestrator.simulate.voices import ToneVoice
from tests import planted
from tiers.pipeline.cartesia import KATIE, KIEFER, CartesiaSpeech, _addresses
from tiers.pipeline.errors import Cause, EngineFailed

SOON = 5.0
CHUNK = (np.sin(np.arange(SPEAK_RATE // 5) / 10) * 9000).astype("<i2")
"""200 ms."""

Script = Callable[["Cartesia", dict[str, Any]], Awaitable[None]]


class Cartesia:
    """A server whose answer to a text is a test's script."""

    def __init__(self) -> None:
        self.address = ""
        self.dials = 0
        self.received: list[dict[str, Any]] = []
        self.cancelled = asyncio.Event()
        self.refuse: HTTPStatus | None = None
        self.script: Script = says
        self.socket: ServerConnection

    async def handle(self, connection: ServerConnection) -> None:
        self.socket = connection
        async for text in connection:
            message = json.loads(text)
            self.received.append(message)
            if message.get("cancel"):
                self.cancelled.set()
            else:
                await self.script(self, message)

    def greet(self, connection: ServerConnection, request: Request) -> Response | None:
        self.dials += 1
        return connection.respond(self.refuse, "no") if self.refuse else None

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, "done": False, "status_code": 206, **fields}))

    async def chunk(self, name: str, pcm: Pcm16 = CHUNK) -> None:
        await self.send(
            "chunk", context_id=name, data=base64.b64encode(pcm.tobytes()).decode(), step_time=1.0
        )

    async def words(self, name: str, *words: tuple[str, float]) -> None:
        times = {
            "words": [w for w, _ in words],
            "start": [t for _, t in words],
            "end": [t + 0.1 for _, t in words],
        }
        await self.send("timestamps", context_id=name, word_timestamps=times)

    async def finish(self, name: str) -> None:
        await self.send("done", context_id=name)


async def says(server: Cartesia, message: dict[str, Any]) -> None:
    for _ in range(3):
        await server.chunk(message["context_id"])
    await server.finish(message["context_id"])


@pytest.fixture
async def server() -> AsyncIterator[Cartesia]:
    cartesia = Cartesia()
    async with serve(cartesia.handle, "127.0.0.1", 0, process_request=cartesia.greet) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        cartesia.address = f"http://127.0.0.1:{port}"
        yield cartesia


@pytest.fixture
async def engine(server: Cartesia) -> AsyncIterator[CartesiaSpeech]:
    engine = CartesiaSpeech(planted.CARTESIA, server.address, first_audio_timeout=0.5, stall_timeout=0.2)
    await engine.warm()
    yield engine
    await engine.close()


async def said(engine: CartesiaSpeech, text: str = "Hello to you.", **options: Any) -> list[Pcm16]:
    async with asyncio.timeout(SOON):
        return [pcm async for pcm in engine.speak(text, **options)]


async def failure(engine: CartesiaSpeech, text: str = "Hello to you.") -> EngineFailed:
    with pytest.raises(EngineFailed) as caught:
        await said(engine, text)
    assert planted.CARTESIA not in str(caught.value)
    return caught.value


async def test_a_text_is_streamed_as_24_khz_samples(server: Cartesia, engine: CartesiaSpeech) -> None:
    pcm = await said(engine, "Your order 4172.", voice="cedar", speed=2.0, language="en-US")
    assert np.array_equal(np.concatenate(pcm), np.tile(CHUNK, 3))
    [request] = server.received
    assert request.pop("context_id")
    assert request == {
        "model_id": "sonic-3.5",
        "transcript": "Your order 4 1 7 2.",
        "voice": {"mode": "id", "id": KIEFER},
        "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24000},
        "language": "en",
        "add_timestamps": True,
        "max_buffer_delay_ms": 0,
        "continue": False,
        "generation_config": {"speed": 1.5},
    }


async def test_callers_share_a_socket_and_get_their_own_audio(
    server: Cartesia, engine: CartesiaSpeech
) -> None:
    waiting: list[str] = []

    async def interleaved(server: Cartesia, message: dict[str, Any]) -> None:
        waiting.append(message["context_id"])
        if len(waiting) == 2:
            for value, name in enumerate(waiting, 1):
                await server.chunk(name, np.full(10, value, dtype="<i2"))
            for name in waiting:
                await server.finish(name)

    server.script = interleaved
    first, second = await asyncio.gather(said(engine), said(engine))
    assert {int(first[0][0]), int(second[0][0])} == {1, 2}
    assert (len(first), len(second), server.dials) == (1, 1, 1)


async def test_a_socket_that_was_closed_while_idle(server: Cartesia, engine: CartesiaSpeech) -> None:
    await said(engine)
    await server.socket.close()
    assert len(await said(engine)) == 3
    assert server.dials == 2


async def test_events_that_bring_no_audio_do_not_count_as_life(
    server: Cartesia, engine: CartesiaSpeech
) -> None:
    chattering: list[asyncio.Task[None]] = []

    async def chatter(name: str) -> None:
        while not server.cancelled.is_set():
            await server.words(name, ("Hello", 0.0))
            await asyncio.wait([asyncio.create_task(server.cancelled.wait())], timeout=0.05)

    async def begin(server: Cartesia, message: dict[str, Any]) -> None:
        chattering.append(asyncio.create_task(chatter(message["context_id"])))

    server.script = begin
    assert (await failure(engine)).cause is Cause.TIMEOUT
    await asyncio.wait_for(asyncio.gather(*chattering), SOON)


async def test_audio_slower_than_speech_is_given_up_before_the_gaps_add_up(
    server: Cartesia, engine: CartesiaSpeech
) -> None:
    """Each piece is in time by itself: 20 ms of audio every 60 ms or so."""
    trickling: list[asyncio.Task[None]] = []

    async def trickle(name: str) -> None:
        while not server.cancelled.is_set():
            await server.chunk(name, CHUNK[: SPEAK_RATE // 50])
            await asyncio.wait([asyncio.create_task(server.cancelled.wait())], timeout=0.06)

    async def begin(server: Cartesia, message: dict[str, Any]) -> None:
        trickling.append(asyncio.create_task(trickle(message["context_id"])))

    server.script = begin
    heard = []
    with pytest.raises(EngineFailed, match="late"):  # noqa: PT012
        async for pcm in engine.speak("Hello to you."):
            heard.append(len(pcm))
    assert 3 <= len(heard) <= 10
    await asyncio.wait_for(asyncio.gather(*trickling), SOON)


async def test_leaving_tells_the_server_and_waits_for_nothing(
    server: Cartesia, engine: CartesiaSpeech
) -> None:
    async def endless(server: Cartesia, message: dict[str, Any]) -> None:
        await server.chunk(message["context_id"])

    server.script = endless
    audio = engine.speak("Hello to you.")
    await asyncio.wait_for(anext(audio), SOON)
    reading = asyncio.ensure_future(anext(audio))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait_for(asyncio.wait([reading]), SOON)
    await audio.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(server.cancelled.wait(), SOON)
    assert server.received[-1] == {"context_id": server.received[0]["context_id"], "cancel": True}
    server.script = says
    assert len(await said(engine)) == 3


async def test_what_is_left_of_a_text_is_known_from_its_word_times(
    server: Cartesia, engine: CartesiaSpeech
) -> None:
    async def half(server: Cartesia, message: dict[str, Any]) -> None:
        await server.words(message["context_id"], ("Your", 0.0), ("order", 0.1), ("is", 0.25), ("here.", 0.4))
        await server.chunk(message["context_id"])
        await server.send("error", context_id=message["context_id"], status_code=500)

    server.script = half
    assert (await failure(engine, "Your order is here.")).rest == "is here."


async def test_without_word_times_what_is_left_is_not_claimed(
    server: Cartesia, engine: CartesiaSpeech
) -> None:
    async def half(server: Cartesia, message: dict[str, Any]) -> None:
        await server.chunk(message["context_id"])
        await server.send("error", context_id=message["context_id"], status_code=500)

    server.script = half
    assert (await failure(engine)).rest is None


async def test_audio_that_is_not_base64(server: Cartesia, engine: CartesiaSpeech) -> None:
    async def garble(server: Cartesia, message: dict[str, Any]) -> None:
        await server.send("chunk", context_id=message["context_id"], data="?", step_time=1.0)

    server.script = garble
    assert (await failure(engine)).cause is Cause.MALFORMED


async def test_an_event_that_is_not_json(server: Cartesia, engine: CartesiaSpeech) -> None:
    server.script = lambda server, message: server.socket.send("not json")
    assert (await failure(engine)).cause is Cause.MALFORMED


async def test_a_handshake_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        engine = CartesiaSpeech(planted.CARTESIA, address, connect_timeout=0.3)
        assert (await failure(engine)).cause is Cause.TIMEOUT
        await engine.close()


async def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    engine = CartesiaSpeech(planted.CARTESIA, address)
    assert (await failure(engine)).cause is Cause.UNAVAILABLE
    await engine.close()


async def test_whose_voice_it_is(server: Cartesia) -> None:
    own, id = "6ccbfb76-1fc6-48f7-b71d-91ac6298247b", "c961b81c-a935-4c17-bfb3-ba2239de8c2f"
    for engine, expected in (
        (CartesiaSpeech("key", server.address), [KATIE, KIEFER, KATIE, id]),
        (CartesiaSpeech("key", server.address, voice=own), [own, own, own, id]),
        (CartesiaSpeech("key", server.address, voices={"cedar": own}), [KATIE, own, KATIE, id]),
    ):
        server.received.clear()
        for voice in ("", "cedar", "af_heart", id):
            await said(engine, voice=voice)
        assert [message["voice"]["id"] for message in server.received] == expected
        await engine.close()


# The product's own simulator, for the faults that it knows


@pytest.fixture
async def simulator() -> AsyncIterator[tuple[CartesiaSimulator, CartesiaSpeech]]:
    simulator = CartesiaSimulator(Options(ToneVoice(), first_audio_ms=5, pace=20))
    async with simulator.start() as origin:
        engine = CartesiaSpeech(
            planted.CARTESIA, origin, connect_timeout=0.3, first_audio_timeout=0.3, stall_timeout=0.2
        )
        yield simulator, engine
        await engine.close()


async def test_the_simulator_is_heard(simulator: tuple[CartesiaSimulator, CartesiaSpeech]) -> None:
    pcm = np.concatenate(await said(simulator[1], "Your order is on its way."))
    assert len(pcm) > SPEAK_RATE
    assert np.abs(pcm).max() > 1000


FAULTS = [
    ("refused", "connecting", Cause.UNAVAILABLE),
    ("http_401", "connecting", Cause.REFUSED),
    ("http_429", "connecting", Cause.RATE_LIMITED),
    ("http_5xx", "connecting", Cause.UNAVAILABLE),
    ("hang", "connecting", Cause.TIMEOUT),
    ("silent", "context", Cause.TIMEOUT),
    ("drop", "context", Cause.UNAVAILABLE),
    ("drop", "mid_context", Cause.UNAVAILABLE),
    ("close_1011", "mid_context", Cause.UNAVAILABLE),
    ("stall", "mid_context", Cause.TIMEOUT),
    ("rate_limited", "context", Cause.RATE_LIMITED),
    ("error", "mid_context", Cause.UNAVAILABLE),
    ("error_without_context", "context", Cause.UNAVAILABLE),
    ("error_without_context", "mid_context", Cause.UNAVAILABLE),
]


@pytest.mark.parametrize(("fault", "moment", "cause"), FAULTS)
async def test_a_fault_ends_the_text_soon_and_the_next_text_is_spoken(
    simulator: tuple[CartesiaSimulator, CartesiaSpeech], fault: str, moment: str, cause: Cause
) -> None:
    server, engine = simulator
    server.faults.arm(parse({"fault": fault, "moment": moment, "after_ms": 0}, CATALOGUE))
    text = "Your order is on its way, and it will be with you in the afternoon."
    failed = await failure(engine, text)
    assert failed.cause is cause
    if moment == "mid_context":
        assert failed.rest
        assert text.endswith(failed.rest)
        assert failed.rest != text
    assert await said(engine)


def test_one_address_serves_both_protocols() -> None:
    assert _addresses("http://h:1/") == ("http://h:1", "ws://h:1")
    assert _addresses("wss://h/x") == ("https://h/x", "wss://h/x")
    assert _addresses(None) == (None, None)
    with pytest.raises(ValueError, match="expected an http"):
        _addresses("h:1")

"""What clients hear when a part of the speech path fails: the real server, Kokoro and Redis, over ASGI."""

from __future__ import annotations

import asyncio
import io
import os
import resource
import signal
import time
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from orchestrator.config import load_settings
from orchestrator.server.app import Orchestrator, build
from tests import planted_check
from tests.cache.conftest import RedisServer
from tiers.speech_pool import SpeechPool

TEXT = "Your parcel is on its way and comes tomorrow."


@dataclass
class Running:
    """A server in this process, its client, and the one worker of its voice."""

    service: Orchestrator
    http: httpx.AsyncClient

    @property
    def pool(self) -> SpeechPool:
        pool = self.service.engines._kokoro
        assert isinstance(pool, SpeechPool)
        return pool

    def signal_worker(self, number: int) -> None:
        (pid,) = self.pool.pids
        os.kill(pid, number)

    def ask(self, text: str = TEXT) -> asyncio.Task[httpx.Response]:
        body = {"model": "kokoro", "input": text, "voice": "marin", "response_format": "wav"}
        return asyncio.create_task(self.http.post("/v1/audio/speech", json=body))

    def prompt(self) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(self.http.post("/v1/prompts/goodbye", json={}))

    async def held(self, request: asyncio.Task[httpx.Response]) -> None:
        """Until the worker, which is stopped, has that request in hand."""
        for _ in range(2000):
            if self.pool.load().busy and not request.done():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the request never came to the worker")


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Running]:
    if "redis__url" not in settings:
        settings["cache__dir"] = folder / "clips"
    service, api = build(load_settings(**settings))
    transport = planted_check.transport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
        server = Running(service, client)
        await server.pool.warm()
        # With Redis nobody comes in before it has said whether there are keys.
        await service.door.keys.refresh()
        yield server
    await service.engines.close()


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """The kernel refuses this process to write more into a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CARTESIA_API_KEY", "OPENAI_API_KEY", "ORCHESTRATOR_CONFIG", "ORCHESTRATOR_SERVER__API_KEY"):
        monkeypatch.delenv(name, raising=False)


def clips(folder: Path) -> list[Path]:
    return list(folder.glob("clips/??/*.clip"))


def is_speech(answer: httpx.Response) -> bool:
    """A second of sound at least, at a level that is heard."""
    assert answer.status_code == 200, answer.text
    data = io.BytesIO(answer.content)
    with wave.open(data) as file:
        file.readframes(0)
        samples = np.frombuffer(answer.content[data.tell() :], dtype="<i2")
    return len(samples) > 24_000 and np.sqrt(np.mean(samples.astype(float) ** 2)) > 300


async def test_a_worker_killed_in_the_middle_of_a_request(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.signal_worker(signal.SIGSTOP)
        request = server.ask()
        await server.held(request)
        server.signal_worker(signal.SIGKILL)
        assert is_speech(await request)
        (voice,) = (await server.http.get("/v1/status")).json()["voices"]
        assert (voice["rung"], voice["workers"], voice["died"], voice["refused"]) == ("kokoro", 1, 1, 0)


async def test_redis_gone_in_the_middle_of_a_request(tmp_path: Path, redis: RedisServer) -> None:
    async with running(tmp_path, redis__url=redis.url) as server:
        server.signal_worker(signal.SIGSTOP)
        requests = [server.ask(), server.prompt()]
        await server.held(requests[0])
        redis.kill()
        server.signal_worker(signal.SIGCONT)
        assert [is_speech(await request) for request in requests] == [True, True]


async def test_a_disk_that_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path) as server:
        with no_file_over(1000):
            assert is_speech(await server.ask())
            assert is_speech(await server.prompt())
            await server.service.engines.prompts.cache.flush()
        assert "could not keep a clip" in caplog.text


async def test_a_corrupt_entry_is_said_again(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        before = await server.prompt()
    (path,) = clips(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    async with running(tmp_path) as server:
        again = await server.prompt()
        assert is_speech(again)
        assert [before.headers["x-cache"], again.headers["x-cache"]] == ["miss", "miss"]


async def test_two_fleets_with_different_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as older:
        first = await older.prompt()
        with monkeypatch.context() as patch:
            patch.setattr("tiers.pipeline.kokoro.VERSION", "another")
            async with running(tmp_path) as newer:
                meanwhile = await newer.prompt()
                await newer.service.engines.prompts.cache.flush()
                assert is_speech(await newer.prompt())
        assert is_speech(first)
        assert meanwhile.content == first.content
    assert len(clips(tmp_path)) == 2


async def test_more_than_can_be_said_in_time_is_refused_quickly(tmp_path: Path) -> None:
    async with running(tmp_path, speech__request_within_s=0.2) as server:
        server.signal_worker(signal.SIGSTOP)
        request = server.ask()
        await server.held(request)
        began = time.perf_counter()
        refused = await asyncio.gather(*(server.ask(f"{TEXT} {number}") for number in range(20)))
        took = time.perf_counter() - began
        server.signal_worker(signal.SIGCONT)
        assert is_speech(await request)
    assert {answer.status_code for answer in refused} == {503}
    for answer in refused:
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "overloaded"
    assert took < 1.0, f"refusing twenty took {took:.2f} s"

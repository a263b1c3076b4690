"""The rungs of Tier B's parts: one failure moves the whole fleet to the next one, one real answer brings it back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from orchestrator.config import Settings, load_settings
from orchestrator.core.health import BreakerPolicy, BreakerState
from orchestrator.core.health import Cause as FleetCause
from orchestrator.protocol.audio import HEAR_RATE
from orchestrator.server.app import Orchestrator
from orchestrator.server.fleet import Fleet
from orchestrator.server.http import _status
from orchestrator.server.part_health import PartHealth, local_rungs
from orchestrator.server.store import EmbeddedStore
from tests.server.fleets import ACME, changes_of, make_fleet, until
from tiers.pipeline.errors import Cause
from tiers.pipeline.rungs import in_order

CLOSED, OPEN, _, CANARY = BreakerState
SOON = BreakerPolicy(probe_after_s=0.01, probe_max_s=0.01, canary_after_s=60.0)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("ORCHESTRATOR_CONFIG", raising=False)
    return load_settings()


def state(fleet: Fleet, rung: str) -> BreakerState:
    return fleet.breakers[rung].state


@asynccontextmanager
async def replicas(count: int, **options: Any) -> AsyncIterator[list[Fleet]]:
    """Fleets on one store, whose probes are made."""
    store = EmbeddedStore()
    fleets = [make_fleet(store, breaker_policy=SOON, **options) for _ in range(count)]
    for fleet in fleets:
        await fleet.start()
    tasks = [asyncio.create_task(_probe(fleet)) for fleet in fleets]
    try:
        yield fleets
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for fleet in fleets:
            await fleet.close()


async def _probe(fleet: Fleet) -> None:
    async for rung, _ in fleet.probes():
        raise AssertionError(f"a part is not probed: {rung}")


async def test_every_rung_of_a_part_stands_in_the_status(settings: Settings) -> None:
    fleet = make_fleet(EmbeddedStore())
    PartHealth(fleet, settings, "stt", ["stt-endpoint", "faster-whisper"])
    assert (state(fleet, "stt:stt-endpoint"), state(fleet, "stt:faster-whisper")) == (CLOSED, CLOSED)


async def test_one_failure_is_enough_and_all_replicas_go_to_the_next_rung(settings: Settings) -> None:
    async with replicas(2) as fleets:
        one, two = (PartHealth(fleet, settings, "tts", ["cartesia", "kokoro"]) for fleet in fleets)
        changes = changes_of(fleets[1])
        one.failed("cartesia", Cause.TIMEOUT)
        assert fleets[0].breakers["tts:cartesia"].cause is FleetCause.RESPONSE_TIMEOUT
        await until(lambda: state(fleets[1], "tts:cartesia") is not CLOSED)
        assert state(fleets[1], "tts:kokoro") is CLOSED
        # The router has the same rungs as before: a part that fails has a stand-in.
        assert [rung.breaker_open for rung in fleets[0].view(ACME).rungs] == [False] * 3
        assert changes == []
        two.failed("kokoro", Cause.EMPTY)
        assert state(fleets[1], "tts:kokoro") is OPEN


async def test_a_real_answer_is_the_trial_and_one_at_a_time(settings: Settings) -> None:
    async with replicas(1) as (fleet,):
        health = PartHealth(fleet, settings, "tts", ["cartesia", "kokoro"])

        def order() -> list[str]:
            return in_order(["cartesia", "kokoro"], str, health)

        health.failed("cartesia", Cause.TIMEOUT)
        assert order() == ["kokoro", "cartesia"]
        await until(lambda: state(fleet, "tts:cartesia") is CANARY)
        assert order() == ["cartesia", "kokoro"]
        assert order() == ["kokoro", "cartesia"]
        health.worked("cartesia")
        assert state(fleet, "tts:cartesia") is CLOSED
        assert [order() for _ in range(3)] == [["cartesia", "kokoro"]] * 3


async def test_a_trial_that_fails_waits_again(settings: Settings) -> None:
    async with replicas(1) as (fleet,):
        health = PartHealth(fleet, settings, "stt", ["stt-endpoint"])
        health.failed("stt-endpoint", Cause.UNAVAILABLE)
        await until(lambda: state(fleet, "stt:stt-endpoint") is CANARY)
        assert health.usable("stt-endpoint")
        health.failed("stt-endpoint", Cause.UNAVAILABLE)
        assert state(fleet, "stt:stt-endpoint") is OPEN


async def test_what_had_begun_before_proves_nothing(settings: Settings) -> None:
    fleet = make_fleet(EmbeddedStore())
    health = PartHealth(fleet, settings, "agent", ["openai/gpt-4.1-mini"])
    health.failed("openai/gpt-4.1-mini", Cause.REFUSED)
    health.worked("openai/gpt-4.1-mini")
    assert state(fleet, "agent:openai/gpt-4.1-mini") is OPEN


async def test_the_whole_fleet_comes_back_with_one_answer(settings: Settings) -> None:
    async with replicas(3) as fleets:
        parts = [PartHealth(fleet, settings, "tts", ["cartesia"]) for fleet in fleets]
        parts[0].failed("cartesia", Cause.RATE_LIMITED)
        await until(lambda: all(state(fleet, "tts:cartesia") is CANARY for fleet in fleets))
        parts[1].worked("cartesia")
        await until(lambda: all(state(fleet, "tts:cartesia") is CLOSED for fleet in fleets))


async def test_an_engine_of_this_machine_is_nobody_elses_news(settings: Settings) -> None:
    store = EmbeddedStore()
    fleet = make_fleet(store)
    await fleet.start()
    health = PartHealth(fleet, settings, "tts", ["cartesia", "kokoro"])
    health.failed("kokoro", Cause.MISSING)
    health.failed("cartesia", Cause.TIMEOUT)
    await fleet._refresh()
    await until(lambda: not fleet.status().unsent)
    assert await store.keys("breaker:") == ["breaker:tts:cartesia"]
    assert state(fleet, "tts:kokoro") is OPEN
    await fleet.close()


async def test_a_request_that_was_not_liked_says_nothing_of_the_rung(settings: Settings) -> None:
    fleet = make_fleet(EmbeddedStore())
    health = PartHealth(fleet, settings, "agent", ["openai/gpt-4.1-mini"])
    health.failed("openai/gpt-4.1-mini", Cause.BAD_REQUEST)
    assert state(fleet, "agent:openai/gpt-4.1-mini") is CLOSED


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("localhost", True), ("stt.example", False)]
)
def test_a_server_beside_us_is_local(settings: Settings, host: str, local: bool) -> None:
    tier_b = {"stt_base_url": f"http://{host}:9/v1", "stt_model": "m", "stt_usd_per_minute": 0.0}
    given = load_settings(**{f"tier_b__{name}": value for name, value in tier_b.items()})
    assert ("stt-endpoint" in local_rungs(given)) is local
    assert {"kokoro", "faster-whisper"} <= local_rungs(settings)


async def test_the_service_gives_a_failing_part_to_the_next_rung_and_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ORCHESTRATOR_CONFIG", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    server = {"stt_base_url": closed, "stt_model": "m", "stt_usd_per_minute": 0.0}
    service = Orchestrator(load_settings(**{f"tier_b__{name}": value for name, value in server.items()}))
    transcript = await service.transcriber.transcribe(np.zeros(HEAR_RATE, dtype=np.float32))
    assert transcript.text == ""
    assert state(service.fleet, "stt:stt-endpoint") is OPEN
    assert state(service.fleet, "stt:faster-whisper") is CLOSED
    shown = {rung.rung: rung for rung in _status(service, with_calls=False).rungs}
    assert (shown["stt:stt-endpoint"].tier, shown["stt:stt-endpoint"].cause) == (None, "response_failed")
    assert {"agent:embedded/smollm2", "tts:kokoro"} <= shown.keys()

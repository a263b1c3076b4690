"""Latency budgets in calls over sockets: what is measured, and where a breach is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.clients.recorder import Recorder
from tests.e2e.stack import Engines, Stack, speech, stack


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tier_b: Engines) -> Iterator[Stack]:
    provider = ("--speech", "tone", "--answer-seconds", "1", "--first-audio-ms", "100")
    budgets = {"transport_ms": "5000", "reasoning_ms": "20", "recovery_ms": "1", "ping_s": "1"}
    settings = {f"latency_budgets__{name}": value for name, value in budgets.items()}
    with stack(tmp_path_factory.mktemp("latency"), *provider, **tier_b.settings, **settings) as running:
        yield running


@pytest.mark.long
async def test_a_call_is_held_against_its_budgets(service: Stack) -> None:
    server = service.service
    async with Recorder(service.realtime, orchestrator=True) as caller:
        await caller.wait_session()
        async with caller.microphone():
            await caller.say(speech())
            await caller.wait_for("response.done", timeout=20)
            service.arm("close_1011", "answer_owed")
            await caller.say(speech())
            await caller.wait_for(
                "response.done", lambda e: e["response"]["metadata"]["tier"] == "B", timeout=30
            )
        call_id = caller.session["orchestrator"]["call_id"]
        ended = await asyncio.to_thread(
            server.until, f"/v1/calls/{call_id}", lambda call: call["latency"]["transport"]["count"] > 1
        )
    service.disarm()
    latency = ended["latency"]
    assert latency["transport"]["breaches"] == 0
    assert 0 < latency["transport"]["longest_ms"] < 5000
    assert latency["reasoning"]["breaches"] == latency["reasoning"]["count"] >= 2
    assert latency["recovery"]["count"] >= 1
    breaches = [row for row in ended["rows"] if row["type"] == "latency_breach"]
    assert ended["breaches"] == len(breaches) >= 2
    first = breaches[0]
    assert (first["what"], first["tier"], first["limit_ms"]) == ("reasoning", "A", 20.0)
    assert first["took_ms"] > 90
    async with httpx.AsyncClient(base_url=server.url, timeout=5) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    assert any(line.startswith('orchestrator_latency_breaches_total{part="reasoning"}') for line in lines)
    route: dict[str, Any] = server.post("/v1/route", {}).json()
    known = {(each["tier"], each["part"]) for each in route["latency"]}
    assert {("A", "transport"), ("A", "reasoning"), ("B", "reasoning")} <= known

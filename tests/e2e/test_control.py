"""Drills, and orders that do not wait for the end of an answer, in calls over sockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.clients.recorder import Recorder
from tests.e2e.stack import ORDER_QUESTION, STAND_IN, Engines, Stack, speech, stack


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tier_b: Engines, own_redis: str) -> Iterator[Stack]:
    provider = ("--speech", "tone", "--heard", ORDER_QUESTION, "--first-audio-ms", "100", "--pace", "4")
    settings = {"promotion__quiet_s": "0.2", "promotion__min_interval_s": "0.5", "hedging__max_share": "0"}
    folder = tmp_path_factory.mktemp("control")
    with stack(folder, *provider, redis__url=own_redis, **tier_b.settings, **settings) as running:
        yield running


async def answered(caller: Recorder) -> str:
    done = await caller.wait_for(
        "response.done", lambda e: e["response"]["status"] == "completed", timeout=20
    )
    return str(done["response"]["metadata"]["tier"])


def delete(service: Stack, path: str) -> int:
    return httpx.delete(service.service.url + path, timeout=5).status_code


async def in_tier(caller: Recorder, tier: str) -> None:
    if caller.session["orchestrator"]["tier"] != tier:
        await caller.wait_for(
            "session.updated", lambda e: e["session"]["orchestrator"]["tier"] == tier, timeout=20
        )


@pytest.mark.long
@pytest.mark.parametrize("practice", ["lose_provider", "degrade"])
async def test_a_drill_end_to_end(service: Stack, practice: str) -> None:
    body: dict[str, Any] = {"practice": practice, "share": 100, "calls": 1, "reason": "monthly", "for": "5m"}
    drill = service.service.post("/v1/drills", body).json()
    async with Recorder(service.realtime, orchestrator=True) as caller:
        await caller.wait_session()
        async with caller.microphone():
            tiers = []
            for _ in range(2):
                await caller.say(speech())
                tiers.append(await answered(caller))
            if practice == "degrade":
                await in_tier(caller, "B")
            await in_tier(caller, "A")
        call_id = caller.session["orchestrator"]["call_id"]
    found = service.service.until(
        f"/v1/drills/{drill['id']}", lambda d: d["report"]["back_s"]["p50"] is not None
    )
    report = found["report"]
    print(report)
    assert (report["calls"], report["turns_lost"], report["not_back"]) == (1, 0, 0)
    (down, *_) = service.rows(call_id, "handover")
    assert (down["cause"], down["to_tier"]) == ("drill", "B")
    if practice == "lose_provider":
        assert "B" in tiers
        assert report["turns_answered"] >= 1
        assert STAND_IN in " ".join(caller.said())
    rungs = service.service.get("/v1/status")["rungs"]
    assert [r["breaker"] for r in rungs if r["tier"] == "A"] == ["closed"]
    assert [r["last_failure_at"] for r in rungs if r["tier"] == "A"] == [None], "no breaker learns from it"
    async with Recorder(service.realtime, orchestrator=True) as another:  # one call was enough
        await another.wait_session()
        async with another.microphone():
            await another.say(speech())
            assert await answered(another) == "A"
        assert not service.rows(another.session["orchestrator"]["call_id"], "drill")
    assert delete(service, f"/v1/drills/{drill['id']}") == 204
    assert delete(service, f"/v1/drills/{drill['id']}") == 404


async def test_an_order_in_mid_answer_is_followed_at_once(service: Stack) -> None:
    async with Recorder(service.realtime, orchestrator=True) as caller:
        await caller.wait_session()
        call_id = caller.session["orchestrator"]["call_id"]
        async with caller.microphone():
            await caller.say(speech())
            await caller.wait_for("response.output_audio.delta", timeout=10)
            body = {"tier": "B", "scope": f"call:{call_id}", "reason": "try", "for": "5m", "when": "now"}
            made = service.service.post("/v1/overrides", body).json()
            await in_tier(caller, "B")
            assert await answered(caller) == "B"
        assert delete(service, f"/v1/overrides/{made['id']}") == 204
    (row, *_) = service.rows(call_id, "handover")
    assert (row["trigger"], row["owed"]) == ("operator", 1)

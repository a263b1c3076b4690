"""POST /v1/estimate over ASGI; the simulation runs in its process as it does in service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from orchestrator.config import Settings
from orchestrator.estimate import Columns, Plan, estimate
from orchestrator.server import estimates
from orchestrator.server.door import Door
from orchestrator.server.estimates import EstimateBody, EstimateRefused, Estimator
from orchestrator.server.fleet import Fleet
from orchestrator.server.http import build_api
from orchestrator.server.metrics import Metrics
from orchestrator.server.store import EmbeddedStore
from orchestrator.server.tally import Tally
from tests import planted, planted_check


@dataclass
class Server:
    settings: Settings
    fleet: Fleet
    prompts: None = None
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.door = Door(self.settings)
        self.metrics = Metrics(self.settings)

    def calls(self) -> list[Any]:
        return []

    def readiness(self) -> list[Any]:
        return []


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY", "REDIS_URL", "ORCHESTRATOR_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def settings_with(**sections: Any) -> Settings:
    return Settings(**{"openai": {"api_key": planted.PROVIDER}, **sections})


def client_of(settings: Settings) -> httpx.AsyncClient:
    api = build_api(Server(settings, Fleet.from_settings(EmbeddedStore(), settings)))
    transport = planted_check.transport(api, client=("127.0.0.1", 5000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", timeout=60)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    buckets = {"acme": {"usd_per_day": 3, "call_usd": 0.3}}
    async with client_of(settings_with(budget={"buckets": buckets})) as client:
        yield client


async def test_it_is_the_estimate_of_the_library(client: httpx.AsyncClient) -> None:
    body = {
        "calls": 40,
        "seed": 5,
        "columns": {"call_s": 90},
        "plan": {"calls_per_day": 80},
        "bucket": "acme",
    }
    response = await client.post("/v1/estimate", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    plan = Plan.model_validate(answer["plan"])
    assert (plan.call_usd, plan.day_usd, plan.calls_per_day) == (0.3, 3, 80)
    # The same arithmetic here as in the other process.
    here = estimate(Columns(call_s=90), plan, settings_with().price_table(), calls=40, seed=5).to_dict()
    assert answer["cost_usd"] == here["cost_usd"]
    assert answer["tier_mix"] == here["tier_mix"]
    assert answer["latency"] == here["latency"]


async def test_calls_go_on_meanwhile() -> None:
    """The event loop turns while the other process works."""
    estimator = Estimator(settings_with())
    task = asyncio.create_task(estimator.estimate(EstimateBody(calls=300)))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await task)["calls"] == 300
    assert turns > 100


@pytest.mark.parametrize(
    ("body", "param", "teaches"),
    [
        ({"seed": True}, "seed", "valid integer"),
        (
            {"columns": {"length_profile": [1.0], "pace_profile": [1000.0]}, "calls": 20_000},
            "calls",
            "more than can be simulated",
        ),
        ({"columns": {"call_s": -1}}, "columns.call_s", "expected greater than or equal to 1"),
        ({"columns": {"lenght": 3}}, "columns.lenght", "there is no such field"),
        ({"columns": {"caller_share": 0.8}}, "columns", "at most 1 together, not 1.25"),
        ({"calls": 20_001}, "calls", "expected less than or equal to 20000"),
        ({"calls": 20_000, "columns": {"call_s": 3600}}, "calls", "lower calls"),
        ({"plan": {"rungs": ["gpt-unheard-of"]}}, "plan.rungs", '[prices."gpt-unheard-of"]'),
        ({"plan": {"tier_b": {"agent": "nobody"}}}, "plan.tier_b.agent", '[prices."nobody"]'),
        ({"plan": {"transcription_model": "deaf"}}, "plan.transcription_model", '[prices."deaf"]'),
        ({"plan": {"steps": [{"at": 2, "action": "tier_b"}]}}, "plan.steps.0.at", "less than or equal to 1"),
        ({"latencies": {"network_ms": "far"}}, "latencies.network_ms", "valid number"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, body: dict[str, Any], param: str, teaches: str
) -> None:
    response = await client.post("/v1/estimate", json=body)
    assert response.status_code == 422, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert teaches in error["message"]


async def test_it_asks_for_the_key() -> None:
    async with client_of(settings_with(server={"api_key": planted.SERVER})) as client:
        assert (await client.post("/v1/estimate", json={"calls": 1})).status_code == 401
        wrong = await client.post(
            "/v1/estimate", json={"calls": 0}, headers={"Authorization": f"Bearer {planted.SERVER}"}
        )
        assert wrong.status_code == 422


async def test_one_that_takes_too_long_is_ended() -> None:
    with pytest.raises(EstimateRefused, match="lower calls") as refused:
        await Estimator(settings_with(), timeout_s=0.01).estimate(EstimateBody(calls=5000))
    assert refused.value.status == 503


async def test_too_many_at_once_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    released = asyncio.Event()

    async def wait(wanted: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        await released.wait()
        return {}

    monkeypatch.setattr(estimates, "estimate_apart", wait)
    estimator = Estimator(settings_with())
    waiting = [asyncio.create_task(estimator.estimate(EstimateBody())) for _ in range(estimates.MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(EstimateRefused, match="try again shortly") as refused:
        await estimator.estimate(EstimateBody())
    assert refused.value.status == 503
    released.set()
    await asyncio.gather(*waiting)
    assert await estimator.estimate(EstimateBody()) == {}


async def test_a_process_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "job", lambda *_, **__: {"columns": {}})
    with pytest.raises(EstimateRefused, match="log says why") as refused:
        await Estimator(settings_with()).estimate(EstimateBody(calls=1))
    assert refused.value.status == 500


async def test_it_is_described(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    assert "/v1/estimate" in described["paths"]
    assert "barge_in" in described["components"]["schemas"]["Columns"]["properties"]


async def test_prices_of_this_replica_hold() -> None:
    spoken = []
    for rate in (64, 128):
        async with client_of(settings_with(prices={"gpt-realtime-2.1": {"audio_out": rate}})) as client:
            body = {"calls": 20, "plan": {"call_usd": None}}
            answer = (await client.post("/v1/estimate", json=body)).json()
            spoken.append(answer["parts_usd"]["audio spoken"])
    assert spoken[1] == pytest.approx(2 * spoken[0])

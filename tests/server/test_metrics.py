"""What /metrics shows, that its series stay few whatever comes, and what counting costs."""

from __future__ import annotations

import random
import time
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.config import Settings
from orchestrator.core.health import Cause
from orchestrator.server.app import Orchestrator
from orchestrator.server.metrics import Metrics
from tests import planted
from tests.server.fleets import until
from tests.server.test_http import Server, client_of, make_server, no_environment

__all__ = ["no_environment"]

HOSTILE = 10_000
MOST_SERIES = 2_500
TYPES = (
    "call_started",
    "call_ended",
    "turn_ended",
    "answer",
    "handover",
    "gap",
    "charge",
    "budget_step",
    "tool_result",
    "tool_approval",
    "hedge",
    "probe",
    "provider_lost",
    "provider_error",
    "answer_failed",
    "latency_breach",
    "recording",
)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    return samples(text).get((f"orchestrator_{name}", frozenset(labels.items())))


def hostile(number: int, rng: random.Random) -> dict[str, Any]:
    """A row whose every word is new."""

    def word() -> str:
        return rng.choice((f"w{number}", f'"}}\n{number}', "ü" * 200, f"call_{number:x}"))

    words = "tier outcome from_tier to_tier trigger cause what action result decision bucket user model rung state"
    return {
        "time": 0.0,
        "call_id": f"call_{number:x}",
        **{name: word() for name in words.split()},
        "type": TYPES[number % len(TYPES)],
        "ttfa_ms": 10.0,
        "voice_to_voice_ms": 20.0,
        "gap_ms": 5.0,
        "nanodollars": 1,
        "estimated": True,
        "ok": False,
    }


def test_series_stay_few_whatever_comes() -> None:
    metrics, rng = Metrics(Settings()), random.Random(8)
    for number in range(HOSTILE):
        metrics.row(hostile(number, rng))
        metrics.request(f"/v1/{number}", 200 + number % 400, f"code_{number}")
        metrics.refused(f"code_{number}")
        metrics.breaker(f"rung_{number}", "open")
    found = samples(metrics.expose().decode())
    assert len(found) < MOST_SERIES
    assert metrics.bucket("acme") == "other"
    charged = [n for (name, _), n in found.items() if name == "orchestrator_charged_usd_total"]
    assert sum(charged) == pytest.approx(HOSTILE // len(TYPES) * 1e-9)


def test_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(Settings()), Metrics(Settings())
    one.row({"type": "call_started", "tier": "A"})
    assert value(one.expose().decode(), "calls_started_total", tier="A") == 1
    assert value(other.expose().decode(), "calls_started_total", tier="A") is None


@pytest.fixture
async def server() -> Any:
    server = make_server(budget={"buckets": {"acme": {"usd_per_day": 5}}})
    await server.fleet.start()
    yield server
    await server.fleet.close()


async def scrape(client: httpx.AsyncClient) -> str:
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return response.text


async def test_rows_and_gauges_are_shown(server: Server) -> None:
    server.events.listeners.append(server.metrics.row)
    server.in_progress = [{"tier": "A"}, {"tier": "A"}, {"tier": "B"}]
    server.fleet.ledgers.spend("acme", 2_000_000_000)
    server.fleet.ledgers.spend("nobody configured this", 1_000_000_000)
    server.fleet.failed("gpt-realtime-2.1", Cause.BAD_KEY)
    fields = {"from_tier": "A", "to_tier": "B", "trigger": "fault", "cause": "closed"}
    server.events.add("handover", tier="A", call_id="call_1", from_rung="x", to_rung="y", **fields)
    server.events.add("gap", tier="B", call_id="call_1", gap_ms=250.0, trigger="fault", cause="closed")
    server.events.add("answer", tier="B", call_id="call_1", ttfa_ms=400.0, voice_to_voice_ms=900.0)
    async with client_of(server) as client:
        await client.get("/v1/overrides/nothing/at/all")
        await client.get("/v1/prompts/no-such-prompt")
        text = await scrape(client)
    assert value(text, "calls", tier="A") == 2
    assert value(text, "calls", tier="C") == 0
    assert value(text, "handovers_total", **fields) == 1
    assert value(text, "gap_seconds_sum", trigger="fault", cause="closed") == 0.25
    assert value(text, "voice_to_voice_seconds_sum", tier="B") == 0.9
    assert value(text, "bucket_spent_usd", bucket="acme") == 2
    assert value(text, "bucket_spent_usd", bucket="other") == 1
    assert value(text, "bucket_cap_usd", bucket="acme") == 5
    assert value(text, "breaker_state", tier="A", rung="gpt-realtime-2.1") == 2
    assert value(text, "tier_ready", tier="A") == 0
    assert value(text, "tier_ready", tier="B") == 1
    assert value(text, "store_connected", store="embedded") == 1
    assert value(text, "part_ready", part="store", required="true") == 1
    assert value(text, "http_requests_total", route="none", status="4xx") == 1
    assert value(text, "http_requests_total", route="/v1/prompts/{name}", status="4xx") == 1
    assert "call_1" not in text


async def test_refusals_and_limits_are_counted() -> None:
    server = make_server(
        server={"api_key": planted.SERVER}, access={"key_requests_per_minute": 6, "burst_s": 10}
    )
    key = {"Authorization": f"Bearer {planted.SERVER}"}
    async with client_of(server, "10.1.1.1") as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers=key)).status_code == 200
        assert (await client.get("/metrics", headers=key)).status_code == 429
    text = server.metrics.expose().decode()
    assert value(text, "http_requests_total", route="/metrics", status="429") == 1
    assert value(text, "refused_total", where="http", code="rate_limited") == 1


async def test_a_changed_breaker_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Orchestrator(Settings.model_validate({"openai": {"api_key": planted.PROVIDER}}))
    service.fleet.on_change(service._reconsider)
    service.fleet.failed("gpt-realtime-2.1", Cause.BAD_KEY)
    await until(
        lambda: (
            value(
                service.metrics.expose().decode(),
                "breaker_transitions_total",
                rung="gpt-realtime-2.1",
                state="open",
            )
            == 1
        )
    )


async def test_a_row_costs_little_and_a_scrape_not_much(server: Server) -> None:
    """Bounds that hold on a busy machine; what it costs on a quiet one is in docs/monitoring.md."""
    rows = [
        {"type": "answer", "tier": "B", "ttfa_ms": 300.0, "voice_to_voice_ms": 700.0},
        {"type": "caller_said", "tier": "B", "text": "…"},
        {
            "type": "handover",
            "tier": "A",
            "from_tier": "A",
            "to_tier": "B",
            "trigger": "fault",
            "cause": "x",
        },
    ]
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(100):
            for row in rows:
                server.metrics.row(row)
        times.append((time.perf_counter() - start) / 300)
    server.in_progress = [{"tier": "A"}] * 1000
    async with client_of(server) as client:
        await scrape(client)
        start = time.perf_counter()
        await scrape(client)
        scraped = time.perf_counter() - start
    print(f"a row {min(times) * 1e6:.1f} µs, a scrape with 1,000 calls {scraped * 1e3:.1f} ms")
    assert min(times) < 50e-6
    assert scraped < 0.5

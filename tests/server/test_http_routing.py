"""`POST /v1/route` explains itself: with the facts of a real fleet, its ledger and its breakers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from orchestrator.core.health import Cause, ProbeKind
from orchestrator.core.latency import Part, Taken
from orchestrator.core.overrides import Tier
from tests.server.test_http import Server, client_of, error_of, make_server, no_environment

__all__ = ["no_environment"]

RUNG = "gpt-realtime-2.1"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = make_server(budget={"buckets": {"acme": {"usd_per_day": 5}}})
    await server.fleet.start()
    yield server
    await server.fleet.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server) as client:
        yield client


async def route(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/v1/route", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def by_change(answer: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["change"], each["about"]): each for each in answer["would_change"]}


async def test_a_plain_call(client: httpx.AsyncClient) -> None:
    answer = await route(client)
    assert answer["sentence"] == f"{RUNG} (tier A) is the first choice, and nothing stands against it."
    assert [(c["rung"], c["decided_by"]) for c in answer["candidates"]] == [
        ("kokoro", "default"),
        ("prompts", "default"),
    ]
    fails = by_change(answer)["breaker_opens", RUNG]
    assert (fails["tier"], fails["rung"], fails["reason"], fails["decided_by"]) == (
        "B",
        "kokoro",
        "breaker_open",
        "health",
    )
    assert (fails["amount_usd"], fails["at"]) == (None, None)


async def test_a_breaker_with_its_times(server: Server, client: httpx.AsyncClient) -> None:
    server.fleet.failed(RUNG, Cause.REFUSED)
    answer = await route(client)
    sentence = answer["candidates"][0]["sentence"]
    assert sentence.startswith(f"{RUNG}: its breaker is open since 20")
    assert "UTC (0 s), refused; its next probe is due in 1 s." in sentence
    assert answer["sentence"] == f"kokoro (tier B) is the best rung that is left. {sentence}"
    assert by_change(answer)["breaker_closes", RUNG]["rung"] == RUNG
    # Nothing opens it again before it was closed: the outage is the same one.
    breaker = server.fleet.breakers[RUNG]
    opened_at = breaker.opened_at
    server.fleet.succeeded(RUNG, ProbeKind.SESSION)
    server.fleet.failed(RUNG, Cause.REFUSED)
    assert breaker.opened_at == opened_at
    server.fleet.succeeded(RUNG, ProbeKind.SESSION)
    for _ in range(3):
        server.fleet.succeeded(RUNG, ProbeKind.RESPONSE)
    assert breaker.opened_at is None
    assert (await route(client))["rung"] == RUNG


async def test_a_trial_says_how_far_it_is(server: Server, client: httpx.AsyncClient) -> None:
    server.fleet.failed(RUNG, Cause.REFUSED)
    server.fleet.succeeded(RUNG, ProbeKind.SESSION)
    server.fleet.succeeded(RUNG, ProbeKind.RESPONSE)
    server.fleet.breakers[RUNG].on_start("call_1", time.monotonic())
    answers = [await route(client, call_id=f"call_{n}") for n in range(20)]
    barred = [answer for answer in answers if answer["tier"] == "B"]
    assert barred, "of twenty calls none was kept from a rung on trial"
    assert "1 of 3 responses completed" in barred[0]["candidates"][0]["sentence"]


async def test_a_spent_bucket_says_how_much_is_missing(server: Server, client: httpx.AsyncClient) -> None:
    server.fleet.ledgers.spend("acme", 5_000_000_000)
    answer = await route(client, bucket="acme")
    assert answer["decided_by"] == "hard_cap"
    assert "bucket acme has $0.0000 left of $5.0000 today" in answer["candidates"][0]["sentence"]
    more = by_change(answer)["more_money", "bucket"]
    assert (more["rung"], more["sentence"]) == (RUNG, f"if bucket acme had ${more['amount_usd']:.4f} more")
    server.fleet.ledgers.spend("acme", -round(more["amount_usd"] * 1e9))
    assert (await route(client, bucket="acme"))["rung"] == RUNG
    day = by_change(answer)["day_ends", "acme"]
    assert day["rung"] == RUNG
    assert day["at"] % 86_400 == 0
    assert 0 < day["at"] - time.time() <= 86_400


async def test_a_calls_own_cap_counts(client: httpx.AsyncClient) -> None:
    """A new call begins with its cap, and what one answer costs has to be in it."""
    poor = make_server(budget={"call_usd": 0.001})
    async with client_of(poor) as asking:
        answer = await route(asking)
    assert (answer["tier"], answer["decided_by"]) == ("B", "hard_cap")
    assert "the call has $0.0010 left of $0.0010" in answer["candidates"][0]["sentence"]
    assert by_change(answer)["more_money", "call"]["rung"] == RUNG
    assert (await route(client))["rung"] == RUNG


async def test_an_override_and_what_its_end_brings(server: Server, client: httpx.AsyncClient) -> None:
    made = server.fleet.force(tier="C", scope="user:42", duration="15m", reason="drill", who="ann")
    answer = await route(client, user="42")
    assert answer["override_id"] == made.id
    assert "ann forces tier C on user:42 until 20" in answer["sentence"]
    assert f"({made.id}: drill)" in answer["candidates"][0]["sentence"]
    ends = by_change(answer)["override_ends", made.id]
    assert (ends["rung"], ends["at"]) == (RUNG, pytest.approx(made.until))
    # What is said of others' calls stays with them.
    assert made.id not in (await client.post("/v1/route", json={"user": "43"})).text


async def test_every_change_that_is_told_comes_true(server: Server, client: httpx.AsyncClient) -> None:
    """The service's own way to make a change gives the answer that was foretold."""
    before = by_change(await route(client, call_id="call_1"))
    server.fleet.force(tier="B", scope="call:call_1", duration="15m", reason="drill", who="ann")
    assert (await route(client, call_id="call_1"))["rung"] == before["override_made", "B"]["rung"]
    server.fleet.failed(RUNG, Cause.REFUSED)
    assert (await route(client))["rung"] == before["breaker_opens", RUNG]["rung"]
    server.fleet.set_missing(Tier.B)
    loading = await route(client)
    assert loading["rung"] == "prompts"
    assert by_change(loading)["tier_ready", "B"]["rung"] == "kokoro"


async def test_where_nothing_is_ready_every_rung_says_why(server: Server, client: httpx.AsyncClient) -> None:
    for tier in Tier:
        server.fleet.set_missing(tier)
    error = error_of(await client.post("/v1/route", json={}), 503)
    assert "kokoro: what it needs is not loaded yet" in error["message"]
    assert error["message"].endswith("/readyz says what is missing")


async def test_what_rungs_took_lately_is_told_and_changes_nothing(
    server: Server, client: httpx.AsyncClient
) -> None:
    assert (await route(client))["latency"] == []
    for ms in (900.0, 1600.0, 1700.0):
        server.lately.note(Taken(Part.REASONING, "A", RUNG, ms, 1500.0), time.monotonic())
    server.lately.note(Taken(Part.RECOVERY, "B", "kokoro", 400.0, None), time.monotonic())
    answer = await route(client)
    assert answer["rung"] == RUNG
    slow = {"count": 3, "median_ms": 1600.0, "p95_ms": 1700.0, "limit_ms": 1500.0, "breaches": 2}
    quick = {"count": 1, "median_ms": 400.0, "p95_ms": 400.0, "limit_ms": None, "breaches": 0}
    assert answer["latency"] == [
        {"tier": "A", "rung": RUNG, "part": "reasoning", **slow},
        {"tier": "B", "rung": "kokoro", "part": "recovery", **quick},
    ]

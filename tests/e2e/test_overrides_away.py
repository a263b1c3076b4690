"""Overrides of two replicas whose Redis is killed: they keep on both, and what was ordered meanwhile is told later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.clients.recorder import Recorder
from tests.e2e.stack import Engines, Running, Stack, stack
from tests.server.test_store import RedisServer

CALLS = [f"call_{number:012x}" for number in range(24)]
"""Calls that are to begin, for shares."""


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def replicas(
    tmp_path_factory: pytest.TempPathFactory, tier_b: Engines, redis_server: RedisServer
) -> Iterator[tuple[Stack, Stack]]:
    folder = tmp_path_factory.mktemp("replicas")
    settings = {"redis__url": redis_server.url, "hedging__max_share": "0", **tier_b.settings}
    with ExitStack() as running:
        one, two = (
            running.enter_context(stack(folder / name, "--speech", "tone", **settings))
            for name in ("one", "two")
        )
        yield one, two


def order(replica: Stack, **words: Any) -> str:
    answer = replica.service.post("/v1/overrides", {"for": "1h", "reason": "an outage", **words})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def clear(replica: Stack, override_id: str) -> None:
    answer = httpx.delete(f"{replica.service.url}/v1/overrides/{override_id}", timeout=5)
    assert answer.status_code == 204, answer.text


def known(replica: Stack) -> list[dict[str, Any]]:
    found = replica.service.get("/v1/overrides")["overrides"]
    return sorted(found, key=lambda override: str(override["id"]))


def route(service: Running, **asked: Any) -> dict[str, Any]:
    answer = service.post("/v1/route", asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def decided(replica: Stack) -> list[tuple[str, str]]:
    """Tier and reason of calls that each of the overrides may decide, as this replica sees it."""
    asked: list[dict[str, Any]] = [{"bucket": "acme"}, {"user": "late"}]
    asked += [{"purpose": "survey", "call_id": call_id} for call_id in CALLS]
    found = [route(replica.service, **each) for each in asked]
    return [(each["tier"], each["reason"]) for each in found]


def until_same(one: Stack, two: Stack, ids: set[str]) -> list[dict[str, Any]]:
    for replica in (one, two):
        replica.service.until(
            "/v1/overrides", lambda answer: {o["id"] for o in answer["overrides"]} == ids, timeout=10
        )
    assert known(one) == known(two)
    return known(one)


def store_part(replica: Stack) -> dict[str, Any]:
    (part,) = [part for part in replica.service.get("/readyz")["parts"] if part["name"] == "store"]
    return dict(part)


@pytest.mark.long
async def test_overrides_outlive_redis(replicas: tuple[Stack, Stack], redis_server: RedisServer) -> None:
    one, two = replicas
    async with Recorder(f"{two.realtime}&user=u1", orchestrator=True) as caller:
        await caller.wait_session()
        assert caller.session["orchestrator"]["tier"] == "A"
        ceiling = order(one, tier="B", limit="ceiling", scope="bucket:acme")
        share = order(one, tier="C", share=50, scope="purpose:survey")
        now = order(one, tier="B", when="now", scope="user:u1")
        updated = await caller.wait_for(
            "session.updated", lambda e: e["session"]["orchestrator"]["tier"] == "B", timeout=5
        )
        assert updated["session"]["orchestrator"]["reason"] == "override", (
            "told to one, followed at the other"
        )
        before = until_same(one, two, {ceiling, share, now})
        decisions = decided(one)
        assert decided(two) == decisions
        assert decisions[:2] == [("B", "ceiling"), ("A", "default")]
        assert {tier for tier, _ in decisions[2:]} == {"A", "C"}, "some calls are in the share, some are not"

        redis_server.stop()
        for replica in replicas:
            status = replica.service.until("/v1/status", lambda s: not s["store"]["connected"], timeout=20)
            assert status["store"]["away_since"] is not None
            part = store_part(replica)
            assert not part["ready"]
            assert "calls go on meanwhile" in part["remedy"]
            assert replica.service.get("/readyz")["ready"], "it takes calls all the same"
        assert known(one) == known(two) == before
        assert decided(one) == decided(two) == decisions
        assert caller.session["orchestrator"]["tier"] == "B"

        late = order(one, tier="C", scope="user:late")
        clear(two, share)
        assert route(one.service, user="late")["override_id"] == late, "it holds where it was told"
        assert route(two.service, user="late")["tier"] == "A"
        assert {o["id"] for o in known(two)} == {ceiling, now}
        for replica in replicas:
            assert replica.service.get("/v1/status")["store"]["unsent"] >= 1

        redis_server.start()
        for replica in replicas:
            replica.service.until(
                "/v1/status",
                lambda s: s["store"]["connected"] and not s["store"]["unsent"],
                timeout=20,
            )
            assert store_part(replica)["ready"]
        until_same(one, two, {ceiling, now, late})
        assert route(two.service, user="late")["override_id"] == late

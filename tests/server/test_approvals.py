"""Approvals by people: known at every replica, decided once, withdrawn with the call, no where nobody can be asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from orchestrator.core.actions import AskApproval
from orchestrator.core.redaction import REDACTED
from orchestrator.server.approvals import (
    CANNOT_ASK,
    DECIDED,
    PENDING,
    TIMEOUT,
    UNAVAILABLE,
    AlreadyDecided,
    Approvals,
    UnknownApproval,
)
from orchestrator.server.calls import CallInfo
from orchestrator.server.store import EmbeddedStore, RedisStore, Store, StoreUnavailable
from tests import planted
from tests.server.fleets import Wall, until
from tests.server.test_http import Server, client_of, error_of, make_server
from tests.server.test_store import RedisServer

INFO = CallInfo("call_1f2e3d", "gpt-realtime-2.1", user="42", purpose="support", bucket="acme")
REFUND = AskApproval(
    "call_a", "refund", {"order_id": "A-1042", "amount": 20, "pin": "8731"}, "refund 20 dollars with PIN 8731"
)
Answers = list[tuple[bool, str, str]]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("approvals"))
    yield server
    server.stop()


_namespaces = iter(range(1000))


@pytest.fixture(params=["embedded", "redis"])
async def stores(request: pytest.FixtureRequest, redis: RedisServer) -> AsyncIterator[tuple[Store, Store]]:
    if request.param == "embedded":
        store = EmbeddedStore()
        yield store, store
        return
    namespace = f"approvals{next(_namespaces)}:"
    both = RedisStore(redis.url, 2.0, namespace), RedisStore(redis.url, 2.0, namespace)
    yield both
    for store_ in both:
        await store_.close()


@pytest.fixture
async def pair(stores: tuple[Store, Store]) -> AsyncIterator[tuple[Approvals, Approvals]]:
    """Two replicas: the first one's calls ask."""
    here, there = Approvals(stores[0], 60.0, wall=Wall()), Approvals(stores[1], 60.0, wall=Wall())
    await here.start()
    await there.start()
    yield here, there
    await here.close()
    await there.close()


def ask(approvals: Approvals, info: CallInfo = INFO, action: AskApproval = REFUND) -> Answers:
    answers: Answers = []
    approvals.ask(info, action, lambda yes, who, reason: answers.append((yes, who, reason)))
    return answers


async def seen(approvals: Approvals) -> str:
    """The id of the one that is pending, as soon as it is known there."""
    await until(approvals.pending)
    (approval,) = approvals.pending()
    return approval.id


@pytest.mark.parametrize("approve", [True, False])
async def test_a_decision_made_elsewhere_reaches_the_call(
    pair: tuple[Approvals, Approvals], approve: bool
) -> None:
    here, there = pair
    answers = ask(here)
    approval, verdict = await there.decide(await seen(there), approve, "ann", "as agreed")
    assert (approval.call_id, verdict.approved, verdict.who) == ("call_1f2e3d", approve, "ann")
    await until(lambda: answers)
    assert answers == [(approve, "ann", "as agreed")]
    await until(lambda: not here.pending() and not there.pending())


async def test_a_decision_made_here_is_told_at_once(pair: tuple[Approvals, Approvals]) -> None:
    here, there = pair
    answers = ask(here)
    await seen(there)
    await here.decide(await seen(here), True, "ann")
    assert answers == [(True, "ann", "")]
    await until(lambda: not there.pending())


async def test_what_reviewers_see_holds_no_secret(
    pair: tuple[Approvals, Approvals], stores: tuple[Store, Store]
) -> None:
    here, there = pair
    ask(here)
    id = await seen(there)
    (approval,) = there.pending()
    assert approval == here.pending()[0]
    assert approval.arguments == {"order_id": "A-1042", "amount": 20, "pin": REDACTED}
    assert approval.summary == f"refund 20 dollars with PIN {REDACTED}"
    assert (approval.tool, approval.tool_call_id, approval.bucket) == ("refund", "call_a", "acme")
    assert approval.expires_at - approval.asked_at == 60.0
    kept = await stores[0].get(PENDING + id)
    assert kept is not None
    assert "8731" not in kept


async def test_of_many_decisions_at_both_replicas_one_counts(pair: tuple[Approvals, Approvals]) -> None:
    here, there = pair
    answers = ask(here)
    id = await seen(there)
    made = await asyncio.gather(
        *(replica.decide(id, n % 3 == 0, f"reviewer {n}") for n in range(10) for replica in pair),
        return_exceptions=True,
    )
    won = [found for found in made if not isinstance(found, BaseException)]
    lost = [found for found in made if isinstance(found, AlreadyDecided)]
    assert (len(won), len(lost)) == (1, 19)
    verdict = won[0][1]
    await until(lambda: answers)
    assert answers == [(verdict.approved, verdict.who, "")]
    assert {error.verdict for error in lost} == {verdict}
    assert str(lost[0]) == f"{id} was {verdict.word} by {verdict.who} already"
    # And it stays known.
    with pytest.raises(AlreadyDecided):
        await there.decide(id, True, "late")


async def test_nobody_knows_an_id_that_never_was(pair: tuple[Approvals, Approvals]) -> None:
    with pytest.raises(UnknownApproval):
        await pair[0].decide("apr_never", True, "ann")


async def test_a_call_that_ends_takes_back_what_it_asked(pair: tuple[Approvals, Approvals]) -> None:
    here, there = pair
    other = CallInfo("call_other", "m")
    answers, others = ask(here), ask(here, other)
    await until(lambda: len(there.pending()) == 2)
    id = next(approval.id for approval in there.pending() if approval.call_id == INFO.call_id)
    here.withdraw(INFO.call_id)
    await until(lambda: [approval.call_id for approval in there.pending()] == ["call_other"])
    with pytest.raises(AlreadyDecided, match=r"was rejected by withdrawn already \(the call is over\)"):
        await there.decide(id, True, "ann")
    await there.decide(await seen(there), True, "ann")
    await until(lambda: others)
    assert answers == []
    here.withdraw("call_unknown")


async def test_nobodys_answer_in_time_is_a_no(stores: tuple[Store, Store]) -> None:
    approvals = Approvals(stores[0], 0.02)
    await approvals.start()
    answers = ask(approvals)
    id = await seen(approvals)
    await until(lambda: answers)
    assert answers == [(False, TIMEOUT, "nobody decided within 0.02 s")]
    assert approvals.pending() == []
    with pytest.raises(AlreadyDecided, match="was rejected by timeout already"):
        await approvals.decide(id, True, "ann")
    await approvals.close()


async def test_a_decision_after_its_time_does_not_count(stores: tuple[Store, Store]) -> None:
    """The replica that asked is gone: nothing there says that the time is over."""
    wall = Wall()
    there = Approvals(stores[1], 60.0, wall=wall)
    await there.start()
    here = Approvals(stores[0], 60.0, wall=Wall())
    await here.start()
    ask(here)
    id = await seen(there)
    wall.now += 61
    assert there.pending() == []
    with pytest.raises(AlreadyDecided, match="by timeout already"):
        await there.decide(id, True, "ann")
    await here.close()
    await there.close()


async def test_a_replica_that_starts_later_knows_what_is_pending(
    pair: tuple[Approvals, Approvals], stores: tuple[Store, Store]
) -> None:
    here, there = pair
    answers = ask(here)
    id = await seen(there)
    late = Approvals(stores[1], 60.0, wall=Wall())
    await late.start()
    assert [approval.id for approval in late.pending()] == [id]
    await late.decide(id, False, "bob", "no")
    await until(lambda: answers)
    assert answers == [(False, "bob", "no")]
    await late.close()


async def test_what_a_replica_asked_ends_with_it(stores: tuple[Store, Store]) -> None:
    here, there = Approvals(stores[0], 60.0), Approvals(stores[1], 60.0)
    await here.start()
    await there.start()
    answers = ask(here)
    await seen(there)
    await here.close()
    await until(lambda: not there.pending())
    assert answers == []
    await there.close()


# The store goes away


class Shaky(EmbeddedStore):
    """It answers, does not answer, or loses what is published."""

    def __init__(self) -> None:
        super().__init__()
        self.away = self.deaf = False

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("Redis did not answer (TimeoutError)")

    async def get(self, key: str) -> str | None:
        self._check()
        return await super().get(key)

    async def put(self, key: str, value: str, ttl: float | None = None) -> None:
        self._check()
        await super().put(key, value, ttl)

    async def put_if(
        self, key: str, expected: str | None, value: str, ttl: float | None = None
    ) -> str | None:
        self._check()
        return await super().put_if(key, expected, value, ttl)

    async def keys(self, prefix: str) -> list[str]:
        self._check()
        return await super().keys(prefix)

    async def delete(self, key: str) -> bool:
        self._check()
        return await super().delete(key)

    async def publish(self, channel: str, message: str) -> None:
        self._check()
        if not self.deaf:
            await super().publish(channel, message)


async def test_without_the_store_nobody_can_be_asked() -> None:
    store = Shaky()
    approvals = Approvals(store, 60.0, refresh_s=0.01, rng=lambda: 0.0)
    await approvals.start()
    store.away = True
    answers = ask(approvals)
    assert answers == []  # never from within
    await until(lambda: answers)
    assert answers == [(False, UNAVAILABLE, CANNOT_ASK)]
    # It is known to be away now: nothing is even tried.
    answers = ask(approvals)
    assert approvals.pending() == []
    await until(lambda: answers)
    assert answers == [(False, UNAVAILABLE, CANNOT_ASK)]
    with pytest.raises(StoreUnavailable):
        await approvals.decide("apr_any", True, "ann")
    store.away = False
    await until(lambda: not ask(approvals) and approvals.pending())
    await approvals.close()


async def test_a_time_that_runs_out_without_the_store_is_a_no() -> None:
    store = Shaky()
    approvals = Approvals(store, 0.02)
    await approvals.start()
    answers = ask(approvals)
    id = await seen(approvals)
    await until(lambda: PENDING + id in store._values or answers)
    store.away = True
    await until(lambda: answers)
    assert answers[0][:2] == (False, TIMEOUT)
    store.away = False
    await approvals.close()


async def test_a_decision_whose_news_was_lost_is_found() -> None:
    store = Shaky()
    here, there = Approvals(store, 60.0, refresh_s=0.01), Approvals(store, 60.0)
    await here.start()
    await there.start()
    answers = ask(here)
    id = await seen(there)
    store.deaf = True
    await there.decide(id, True, "ann")
    await until(lambda: answers)
    assert answers == [(True, "ann", "")]
    await here.close()
    await there.close()


async def test_what_the_store_has_lost_is_put_back() -> None:
    store = EmbeddedStore()
    here = Approvals(store, 60.0, refresh_s=0.01)
    await here.start()
    answers = ask(here)
    id = await seen(here)
    await until(lambda: PENDING + id in store._values)
    await store.delete(PENDING + id)
    await until(lambda: PENDING + id in store._values)
    await here.decide(id, True, "ann")
    assert answers == [(True, "ann", "")]
    await until(lambda: PENDING + id not in store._values)
    assert DECIDED + id in store._values
    await here.close()


async def test_what_stands_in_the_store_and_is_nonsense_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = EmbeddedStore()
    await store.put(PENDING + "apr_bad", '{"id": 1}')
    await store.put(PENDING + "apr_worse", "[")
    approvals = Approvals(store, 60.0)
    await approvals.start()
    assert approvals.pending() == []
    assert "ignored approval:apr_bad" in caplog.text
    await approvals.close()


async def test_a_call_that_fails_on_its_answer_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    approvals = Approvals(EmbeddedStore(), 60.0)
    await approvals.start()

    def fail(yes: bool, who: str, reason: str) -> None:
        raise RuntimeError("a fault of ours")

    approvals.ask(INFO, REFUND, fail)
    await approvals.decide(await seen(approvals), True, "ann")
    assert "call call_1f2e3d could not take the decision" in caplog.text
    await approvals.close()


# The API


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = make_server()
    await server.fleet.start()
    await server.approvals.start()
    yield server
    await server.approvals.close()
    await server.fleet.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server) as client:
        yield client


async def test_a_key_that_is_typed_into_a_decision_is_not_kept(
    server: Server, client: httpx.AsyncClient
) -> None:
    answers = ask(server.approvals)
    (view,) = (await client.get("/v1/approvals")).json()["approvals"]
    body = {"decision": "reject", "who": "ann", "reason": f"the key is {planted.PROVIDER}"}
    assert (await client.post(f"/v1/approvals/{view['id']}", json=body)).json()[
        "reason"
    ] == f"the key is {REDACTED}"
    assert answers == [(False, "ann", f"the key is {REDACTED}")]


async def test_the_api_lists_and_decides(server: Server, client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/approvals")).json() == {"approvals": []}
    answers = ask(server.approvals)
    (view,) = (await client.get("/v1/approvals")).json()["approvals"]
    assert view["arguments"] == {"order_id": "A-1042", "amount": 20, "pin": REDACTED}
    assert (view["call_id"], view["tool"], view["decision"], view["who"]) == (
        INFO.call_id,
        "refund",
        None,
        None,
    )
    assert (await client.get("/v1/status")).json()["approvals"] == 1
    body = {"decision": "reject", "who": "ann", "reason": "too much"}
    decided = (await client.post(f"/v1/approvals/{view['id']}", json=body)).json()
    assert decided == {
        **view,
        "decision": "rejected",
        "who": "ann",
        "reason": "too much",
        "decided_at": decided["decided_at"],
        "by": "local",
    }
    assert answers == [(False, "ann", "too much")]
    assert (await client.get("/v1/approvals")).json() == {"approvals": []}
    again = await client.post(f"/v1/approvals/{view['id']}", json={"decision": "approve", "who": "bob"})
    error = error_of(again, 409)
    assert error["code"] == "already_decided"
    assert f"{view['id']} was rejected by ann already (too much)" in error["message"]


async def test_the_api_teaches(server: Server, client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"decision": "approve", "who": "ann"}
    error = error_of(await client.post("/v1/approvals/apr_no", json=body), 404)
    assert error["message"] == "there is no approval 'apr_no'; there are: none"
    ask(server.approvals)
    id = await seen(server.approvals)
    assert id in error_of(await client.post("/v1/approvals/apr_no", json=body), 404)["message"]
    for wrong, says in (
        ({"decision": "yes", "who": "ann"}, "decision: expected 'approve' or 'reject'"),
        ({"decision": "approve"}, "who: Field required"),
        ({"decision": "approve", "who": ""}, "who: String should have at least 1 character"),
    ):
        assert says in error_of(await client.post(f"/v1/approvals/{id}", json=wrong), 422)["message"]
    assert len(server.approvals.pending()) == 1


async def test_the_api_says_when_the_store_is_away(client: httpx.AsyncClient, server: Server) -> None:
    store = Shaky()
    server.approvals = Approvals(store, 60.0)
    ask(server.approvals)
    id = await seen(server.approvals)
    store.away = True
    body = {"decision": "approve", "who": "ann"}
    error = error_of(await client.post(f"/v1/approvals/{id}", json=body), 503)
    assert error["code"] == "store_away"
    store.away = False
    assert json.loads((await client.post(f"/v1/approvals/{id}", json=body)).content)["decision"] == "approved"


async def test_strangers_decide_nothing(server: Server) -> None:
    async with client_of(server, peer="192.0.2.1") as stranger:
        body = {"decision": "approve", "who": "ann"}
        assert (await stranger.post("/v1/approvals/apr_x", json=body)).status_code == 403
        assert (await stranger.get("/v1/approvals")).status_code == 403

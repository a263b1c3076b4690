"""The fleet: what one replica learns, all of them know; and nothing stops when the store does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Settings
from orchestrator.core.budget import CallBudget
from orchestrator.core.health import BreakerState, Cause
from orchestrator.core.overrides import OverrideError, Tier
from orchestrator.core.routing import Reason, RouteRequest
from orchestrator.server.fleet import Change, ChangeKind, Fleet
from orchestrator.server.ledger import BucketView
from orchestrator.server.rungs import configured_rungs
from orchestrator.server.store import EmbeddedStore, RedisStore
from tests import planted
from tests.server.fleets import ACME, NOON, Wall, changes_of, make_fleet, until
from tests.server.test_store import RedisServer


async def test_an_override_reaches_every_replica_and_leaves_it(pair: tuple[Fleet, Fleet]) -> None:
    one, two = pair
    changes = changes_of(two)
    made = one.force(tier="C", scope="bucket:acme", duration="15m", reason="drill", who="ann")
    # Here it holds at once.
    assert one.decide(ACME).reason is Reason.OVERRIDE
    await until(lambda: two.decide(ACME).override_id == made.id)
    assert two.overrides == [made]
    assert two.clear(made.id)
    assert two.decide(ACME).tier == "A"
    await until(lambda: one.decide(ACME).tier == "A")
    assert not one.clear(made.id)
    assert [change.kind for change in changes] == [ChangeKind.OVERRIDE] * 2


async def test_with_redis_an_order_is_everywhere_within_a_second(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    stores = [RedisStore(server.url, 0.5) for _ in range(2)]
    one, two = (make_fleet(store, wall=time.time) for store in stores)
    async with AsyncExitStack() as ending:
        ending.callback(server.stop)
        for fleet, store in ((one, stores[0]), (two, stores[1])):
            ending.push_async_callback(store.close)
            await fleet.start()
            ending.push_async_callback(fleet.close)
        took = []
        for _ in range(20):
            began = time.monotonic()
            made = one.force(tier="C", scope="bucket:acme", duration="15m", reason="r", who="k", when="now")
            await until(lambda made=made: two.decide(ACME).override_id == made.id)  # type: ignore[misc]
            took.append(time.monotonic() - began)
            extended = one.extend(made.id, "1h")
            assert extended is not None
            assert extended.until > made.until + 2000
            await until(lambda extended=extended: two.overrides == [extended])  # type: ignore[misc]
            two.clear(made.id)
            await until(lambda: not one.overrides)
        print(f"longest {max(took) * 1e3:.1f} ms")
        assert max(took) < 1.0


async def test_what_is_not_there_cannot_be_forced_or_extended(pair: tuple[Fleet, Fleet]) -> None:
    one, _ = pair
    with pytest.raises(OverrideError, match="tier A has no rung 'x'; there are: A/realtime") as caught:
        one.force(tier="A/x", scope="all", duration="15m", reason="r", who="k")
    assert caught.value.param == "tier"
    assert one.extend("ovr_none", "15m") is None
    made = one.force(tier="A/realtime", scope="all", duration="15m", reason="r", who="k", limit="floor")
    with pytest.raises(OverrideError, match="a duration like"):
        one.extend(made.id, "soon")
    assert one.overrides == [made]


async def test_a_bucket_is_one_balance(pair: tuple[Fleet, Fleet]) -> None:
    one, two = pair
    changes = changes_of(two)
    one.ledgers.spend("acme", 60)
    assert one.ledgers.spent("acme") == 60
    await until(lambda: two.ledgers.spent("acme") == 60)
    assert two.decide(ACME).tier == "A"
    two.ledgers.spend("acme", 40)
    assert two.decide(ACME).reason is Reason.BUDGET_SPENT
    await until(lambda: one.decide(ACME).reason is Reason.BUDGET_SPENT)
    assert one.ledgers.overview() == {"acme": BucketView(100, 0, 100)}
    assert changes == [Change(ChangeKind.BUCKET, "acme")]


async def test_money_of_many_responses_is_counted_exactly(pair: tuple[Fleet, Fleet]) -> None:
    for _ in range(200):
        for fleet in pair:
            fleet.ledgers.spend("free", 3)
            await asyncio.sleep(0)
    for fleet in pair:
        await until(lambda fleet=fleet: fleet.ledgers.spent("free") == 1200 and not fleet.status().unsent)


async def test_a_new_replica_knows_what_the_others_know() -> None:
    store = EmbeddedStore()
    one = make_fleet(store)
    await one.start()
    override = one.force(tier="B", scope="user:u1", duration="1h", reason="drill", who="ann")
    one.failed("realtime", Cause.REFUSED)
    one.ledgers.spend("acme", 30)
    await until(lambda: not one.status().unsent)
    two = make_fleet(store)
    await two.start()
    assert two.overrides == [override]
    assert two.breakers["realtime"].state is BreakerState.OPEN
    assert two.ledgers.spent("acme") == 30
    await one.close()
    await two.close()


async def test_an_override_ends_by_itself_and_says_so() -> None:
    wall = Wall()
    fleet = make_fleet(EmbeddedStore(), wall)
    await fleet.start()
    changes = changes_of(fleet)
    override = fleet.force(tier="C", scope="all", duration="1s", reason="drill", who="ann")
    began = asyncio.get_running_loop().time()
    wall.now = override.until - 0.01
    await until(lambda: changes)
    assert fleet.decide(ACME).tier == "C"
    fleet._set_alarm()
    wall.now = override.until
    await until(lambda: len(changes) == 2)
    assert fleet.decide(ACME).tier == "A"
    assert fleet.overrides == []
    assert asyncio.get_running_loop().time() - began < 1
    await fleet.close()


async def test_at_midnight_a_bucket_is_full_again() -> None:
    wall = Wall(NOON + 43_200 - 0.01)
    fleet = make_fleet(EmbeddedStore(), wall)
    await fleet.start()
    changes = changes_of(fleet)
    fleet.ledgers.spend("acme", 100)
    assert fleet.decide(ACME).reason is Reason.BUDGET_SPENT
    await until(lambda: len(changes) == 1)
    wall.now = NOON + 43_200
    await until(lambda: len(changes) == 2)
    assert fleet.decide(ACME).tier == "A"
    assert fleet.ledgers.overview() == {"acme": BucketView(0, 0, 100)}
    await fleet.close()


async def test_the_calls_own_budget_counts_too() -> None:
    fleet = make_fleet(EmbeddedStore())
    assert fleet.decide(ACME, CallBudget(cap=10, spent=9)).tier == "A"
    assert fleet.decide(ACME, CallBudget(cap=10, spent=10)).reason is Reason.BUDGET_SPENT


async def test_a_tier_that_failed_the_call_is_left_out() -> None:
    fleet = make_fleet(EmbeddedStore())
    decision = fleet.decide(ACME, excluded=frozenset({"A"}))
    assert (decision.tier, decision.reason) == ("B", Reason.FAILED_IN_CALL)


async def test_readiness_changes_decisions() -> None:
    fleet = make_fleet(EmbeddedStore())
    changes = changes_of(fleet)
    fleet.set_missing(Tier.A)
    fleet.set_missing(Tier.A)
    assert fleet.decide(ACME).reason is Reason.NOT_READY
    fleet.set_ready(Tier.A)
    fleet.set_ready(Tier.A)
    assert fleet.decide(ACME).tier == "A"
    await until(lambda: changes == [Change(ChangeKind.RUNG, "A")] * 2)


async def test_listeners_are_told_later_and_fail_alone() -> None:
    fleet = make_fleet(EmbeddedStore())

    def fail(change: Change) -> None:
        raise RuntimeError("a broken listener")

    fleet.on_change(fail)
    changes: list[Change] = []
    stop = fleet.on_change(changes.append)
    fleet.failed("realtime", Cause.REFUSED)
    assert changes == []
    await until(lambda: changes == [Change(ChangeKind.BREAKER, "realtime")])
    stop()
    stop()
    fleet.failed("kokoro", Cause.RESPONSE_FAILED)
    fleet.failed("kokoro", Cause.RESPONSE_FAILED)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(changes) == 1


async def test_a_wrong_order_is_refused_and_changes_nothing() -> None:
    fleet = make_fleet(EmbeddedStore())
    with pytest.raises(OverrideError, match="expected tier A, B or C"):
        fleet.force(tier="X", scope="all", duration="15m", reason="drill", who="ann")
    assert fleet.overrides == []


# The store's absence


@pytest.fixture
async def fragile(tmp_path: Path) -> AsyncIterator[tuple[RedisServer, Fleet, Fleet]]:
    server = RedisServer(tmp_path)
    stores = [RedisStore(server.url, 0.5) for _ in range(2)]
    fleets = [make_fleet(store) for store in stores]
    for fleet in fleets:
        await fleet.start()
    yield server, fleets[0], fleets[1]
    for fleet, store in zip(fleets, stores, strict=True):
        await fleet.close()
        await store.close()
    server.stop()


async def test_without_redis_a_replica_carries_on_and_says_so(
    fragile: tuple[RedisServer, Fleet, Fleet],
) -> None:
    server, one, two = fragile
    one.force(tier="C", scope="user:u1", duration="1h", reason="before", who="ann")
    one.ledgers.spend("acme", 30)
    await until(lambda: two.overrides and two.ledgers.spent("acme") == 30)
    server.stop()
    await until(lambda: not one.status().connected and not two.status().connected)
    assert two.status().away_since == NOON
    # The last view stands, and what happens here counts here.
    assert two.decide(RouteRequest(user="u1")).reason is Reason.OVERRIDE
    two.failed("realtime", Cause.REFUSED)
    assert two.decide(ACME).tier == "B"
    two.ledgers.spend("acme", 50)
    assert two.ledgers.spent("acme") == 80
    assert two.status().unsent == 2

    # It comes back empty, and is given back what the replicas know.
    server.start()
    await until(lambda: one.status().connected and two.status().connected)
    await until(lambda: one.decide(ACME).tier == "B" and one.ledgers.spent("acme") == 80)
    assert [o.reason for o in one.overrides] == ["before"]
    await until(lambda: not one.status().unsent and not two.status().unsent)
    late = RedisStore(server.url, 0.5)
    three = make_fleet(late)
    await three.start()
    assert [o.reason for o in three.overrides] == ["before"]
    assert three.ledgers.spent("acme") == 80
    await three.close()
    await late.close()


async def test_an_override_cleared_while_redis_was_away_stays_cleared(
    fragile: tuple[RedisServer, Fleet, Fleet],
) -> None:
    server, one, two = fragile
    override = one.force(tier="C", scope="all", duration="1h", reason="drill", who="ann")
    await until(lambda: two.overrides)
    server.freeze()
    one.clear(override.id)
    await until(lambda: not one.status().connected)
    assert one.decide(ACME).tier == "A"
    server.thaw()
    await until(lambda: not two.overrides and two.status().connected)
    assert one.overrides == []


async def test_an_override_cleared_while_redis_was_dead_is_not_put_back_by_others(
    fragile: tuple[RedisServer, Fleet, Fleet],
) -> None:
    """It comes back empty, and whoever had not heard puts back what it knows."""
    server, one, two = fragile
    kept = one.force(tier="C", scope="user:u1", duration="1h", reason="kept", who="ann")
    cleared = one.force(tier="C", scope="all", duration="1h", reason="drill", who="ann")
    await until(lambda: len(two.overrides) == 2)
    server.stop()
    await until(lambda: not one.status().connected and not two.status().connected)
    two.clear(cleared.id)
    assert len(one.overrides) == 2, "it cannot know"
    server.start()
    await until(lambda: one.overrides == two.overrides == [kept])
    await until(lambda: not one.status().unsent and not two.status().unsent)
    late = RedisStore(server.url, 0.5)
    three = make_fleet(late)
    await three.start()
    assert three.overrides == [kept]
    await three.close()
    await late.close()


async def test_money_spent_while_redis_hung_counts_once(fragile: tuple[RedisServer, Fleet, Fleet]) -> None:
    """A hung Redis has every attempt waiting in its socket, and carries all of them out when it wakes up."""
    server, one, two = fragile
    one.ledgers.spend("acme", 10)
    await until(lambda: two.ledgers.spent("acme") == 10)
    server.freeze()
    one.ledgers.spend("acme", 7)
    await until(lambda: not one.status().connected)
    server.thaw()
    await until(lambda: not one.status().unsent and one.status().connected)
    await until(lambda: two.ledgers.spent("acme") >= 17)
    assert [fleet.ledgers.spent("acme") for fleet in (one, two)] == [17, 17]


async def test_starting_without_redis_works(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.stop()
    store = RedisStore(server.url, 0.5)
    fleet = make_fleet(store)
    await fleet.start()
    assert not fleet.status().connected
    assert fleet.decide(ACME).tier == "A"
    server.start()
    await until(lambda: fleet.status().connected)
    await fleet.close()
    await store.close()
    server.stop()


async def test_a_refresh_finds_what_was_missed() -> None:
    """Messages are only sent to those who listen; the store itself is the truth."""
    store = EmbeddedStore()
    one, two = make_fleet(store), make_fleet(store)
    await one.start()
    await two.start()
    kept = two.force(tier="B", scope="user:u1", duration="1h", reason="kept", who="ann")
    await until(lambda: one.overrides and not two.status().unsent)
    gone = kept.to_dict() | {"id": "ovr_silent", "reason": "silent"}
    await store.put("override:ovr_silent", json.dumps(gone))
    await store.delete(f"override:{kept.id}")
    await one._refresh()
    assert [o.reason for o in one.overrides] == ["silent"]
    await one.close()
    await two.close()


async def test_rubbish_in_the_store_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    store = EmbeddedStore()
    fleet = make_fleet(store)
    await fleet.start()
    await until(lambda: store._subscribers["fleet"])
    for rubbish in ("not json", "[]", '{"id": "x"}'):
        await store.put("override:rubbish", rubbish)
        await store.put("breaker:rubbish", rubbish)
        await fleet._refresh()
        await store.publish("fleet", rubbish)
        await store.publish("fleet", json.dumps({"from": "x", "kind": "override", "id": rubbish}))
    override = fleet.force(tier="C", scope="all", duration="1h", reason="still works", who="ann")
    other = make_fleet(store)
    await other.start()
    await until(lambda: other.overrides == [override])
    assert "ignored override:rubbish" in caplog.text
    await fleet.close()
    await other.close()


async def test_what_a_store_forgot_of_a_balance_is_given_back_once() -> None:
    store = EmbeddedStore()
    fleets = [make_fleet(store) for _ in range(2)]
    for fleet in fleets:
        await fleet.start()
    fleets[0].ledgers.spend("acme", 80)
    await until(lambda: fleets[1].ledgers.spent("acme") == 80 and not fleets[0].status().unsent)
    store._ledgers.clear()
    fleets[1].ledgers.spend("acme", 5)
    await until(lambda: not fleets[1].status().unsent)
    await asyncio.gather(*(fleet._refresh() for fleet in fleets))
    assert (await store.standing(f"bucket:{fleets[0].ledgers.today()}:acme")).settled == 85
    assert [fleet.ledgers.spent("acme") for fleet in fleets] == [85, 85]
    for fleet in fleets:
        await fleet.close()


# From the settings


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("clean")
async def test_a_fleet_as_configured() -> None:
    settings = Settings(
        openai={"api_key": planted.PROVIDER},
        budget={"buckets": {"acme": {"usd_per_day": 1.5}}},
        promotion={"mode": "never"},
        tier_c={"one_way_purposes": ("reminder",)},
        breaker={"failures": 1},
    )
    fleet = Fleet.from_settings(EmbeddedStore(), settings)
    assert fleet.ledgers.caps == {"acme": 1_500_000_000}
    assert [fleet.missing(tier) for tier in Tier] == [None, Reason.NOT_READY, Reason.NOT_READY]
    fleet.set_ready(Tier.B)
    fleet.set_ready(Tier.C)
    assert fleet.decide(RouteRequest(purpose="reminder")).tier == "C"
    assert fleet.decide(RouteRequest(purpose="notification")).tier == "A"
    assert fleet.decide(RouteRequest(current=Tier.B)).reason is Reason.NO_PROMOTION
    fleet.failed("gpt-realtime-2.1", Cause.CLOSED)
    assert fleet.decide(ACME).tier == "B"


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("sections", "missing"),
    [
        ({}, Reason.NO_PROVIDER_KEY),
        ({"openai": {"base_url": "http://127.0.0.1:9/v1"}}, None),
        ({"openai": {"api_key": planted.PROVIDER}, "tier_a": {"enabled": False}}, Reason.TIER_DISABLED),
    ],
)
async def test_when_tier_a_is_there(sections: dict[str, Any], missing: Reason | None) -> None:
    fleet = Fleet.from_settings(EmbeddedStore(), Settings(**sections))
    assert fleet.missing(Tier.A) is missing


@pytest.mark.usefixtures("clean")
def test_rungs_know_what_they_cost() -> None:
    rungs = configured_rungs(Settings())
    assert [(r.tier, r.name, r.paid) for r in rungs] == [
        ("A", "gpt-realtime-2.1", True),
        ("B", "kokoro", False),
        ("C", "prompts", False),
    ]
    paid = configured_rungs(
        Settings(cartesia={"api_key": planted.CARTESIA}, tier_b={"agent_model": "openai/gpt-4.1-mini"})
    )
    # 450 characters at $50 per million, and 6000 tokens in, 240 out at $0.40 and $1.60 per million.
    assert (paid[1].name, paid[1].paid) == ("cartesia", True)
    assert paid[1].usd_per_minute == pytest.approx(0.0225 + 0.0024 + 0.000384)


@pytest.mark.usefixtures("clean")
async def test_every_rung_of_tier_a_is_one_of_its_own() -> None:
    settings = Settings(
        tier_a={
            "rungs": ("gpt-realtime-2.1", "spare", "own"),
            "rung": {
                "spare": {
                    "model": "gpt-realtime-2.1-mini",
                    "base_url": "https://h/v1",
                    "api_key": planted.SPARE,
                },
                "own": {"model": "gpt-realtime", "base_url": "http://127.0.0.1:9/v1"},
            },
            "transcription_model": None,
        }
    )
    first, spare, own = configured_rungs(settings)[:3]
    assert (first.missing, spare.missing, own.missing) == (Reason.NO_PROVIDER_KEY, None, None)
    # A minute's 300 tokens in and 600 out, at $10 and $20, at $32 and $64 per million.
    assert (spare.usd_per_minute, own.usd_per_minute) == pytest.approx((0.015, 0.048))
    fleet = Fleet.from_settings(EmbeddedStore(), settings)
    assert fleet.missing(Tier.A) is None
    decision = fleet.decide(ACME)
    assert (decision.rung, decision.reason) == ("spare", Reason.NO_PROVIDER_KEY)
    fleet.failed("spare", Cause.REFUSED)
    assert fleet.decide(ACME).rung == "own"
    assert fleet.breakers["own"].state is BreakerState.CLOSED
    fleet.set_ready(Tier.B)
    assert fleet.decide(ACME, excluded=frozenset({"own"})).tier == "B"

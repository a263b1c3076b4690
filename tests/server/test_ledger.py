"""Accounts of calls: what they are granted, and what holds at midnight, without the store and after its loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.core.budget import CallBudget
from orchestrator.core.ledger import Claim, Grant
from orchestrator.core.routing import Reason, RouteRequest
from orchestrator.core.steps import StepAction
from orchestrator.server.fleet import Change, ChangeKind, Fleet
from orchestrator.server.ledger import Account, BucketView
from orchestrator.server.link import end_tasks
from orchestrator.server.store import EmbeddedStore, RedisStore
from tests.server.fleets import ACME, NOON, Wall, changes_of, make_fleet, until
from tests.server.test_store import RedisServer

DAY_S = 86_400.0


class Call:
    """Tells its account how things are, and keeps what it is granted."""

    def __init__(self, fleet: Fleet, bucket: str = "acme") -> None:
        self.account: Account = fleet.ledgers.open("call_1", bucket)
        self.grants: list[Grant | None] = []

    def tell(self, spent: int, running: int, ahead: int) -> None:
        self.account.tell(Claim(spent, running, ahead), self.grants.append)

    @property
    def ahead(self) -> list[int | None]:
        return [grant and grant.ahead for grant in self.grants]


async def stored(fleet: Fleet, bucket: str = "acme") -> tuple[int, int]:
    stands = await fleet._store.standing(f"bucket:{fleet.ledgers.today()}:{bucket}")
    return stands.settled, stands.reserved


def told(fleet: Fleet) -> bool:
    return not fleet.status().unsent and not fleet.ledgers._tasks


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = make_fleet(EmbeddedStore(), Wall())
    await fleet.start()
    yield fleet
    await fleet.close()


# Granting


async def test_in_one_process_the_answer_is_there_at_once(fleet: Fleet) -> None:
    call = Call(fleet)
    call.tell(0, 0, 60)
    call.tell(0, 50, 60)
    call.tell(20, 0, 10)
    assert call.ahead == [60, 10, 10]
    assert fleet.ledgers.view("acme") == BucketView(20, 10, 100)
    call.account.close(Claim(20))
    assert fleet.ledgers.view("acme") == BucketView(20, 0, 100)
    assert await stored(fleet) == (20, 0)


async def test_calls_of_two_replicas_share_what_there_is(pair: tuple[Fleet, Fleet]) -> None:
    one, two = (Call(fleet) for fleet in pair)
    one.tell(0, 0, 60)
    await until(lambda: one.ahead == [60])
    two.tell(0, 0, 50)
    await until(lambda: two.ahead == [0])
    one.tell(10, 0, 20)
    await until(lambda: one.ahead == [60, 20])
    two.tell(0, 0, 51)
    await until(lambda: two.ahead == [0, 51])
    for fleet in pair:
        await until(lambda fleet=fleet: fleet.ledgers.view("acme") == BucketView(10, 71, 100))


async def test_without_a_cap_the_answer_is_there_at_once_and_the_store_is_told(
    pair: tuple[Fleet, Fleet],
) -> None:
    call = Call(pair[0], "free")
    call.tell(7, 10**9, 10**9)
    assert call.ahead == [10**9]
    await until(lambda: told(pair[0]))
    assert await stored(pair[0], "free") == (7, 2 * 10**9)
    assert call.ahead == [10**9]


async def test_only_the_newest_claim_is_answered(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 2.0, "newest:")
    fleet = make_fleet(store)
    call = Call(fleet)
    for running in range(30):
        call.tell(0, running, 60)
    await until(lambda: call.grants)
    await until(lambda: not fleet.ledgers._tasks)
    assert call.ahead == [60]
    # Thirty claims made two: what was newest when the first was sent, and what was newest then.
    assert (await store.standing(f"bucket:{fleet.ledgers.today()}:acme")).version <= 2
    assert await stored(fleet) == (0, 89)
    await store.close()


async def test_a_crowd_of_calls_is_answered_within_the_timeout_of_each(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 0.1, "crowd:")
    fleet = make_fleet(store)
    calls = [Call(fleet) for _ in range(500)]
    for call in calls:
        call.tell(0, 0, 1)
    await until(lambda: all(call.grants for call in calls))
    assert sum(call.ahead == [1] for call in calls) == 100
    assert sum(call.ahead == [0] for call in calls) == 400
    await store.close()


async def test_what_a_call_started_counts_before_the_store_has_heard_of_it(redis: RedisServer) -> None:
    store = RedisStore(redis.url, 2.0, "before:")
    fleet = make_fleet(store)
    call = Call(fleet)
    call.tell(0, 0, 60)
    await until(lambda: call.ahead == [60])
    call.tell(25, 10, 60)
    # 35 of the 60 are used, and what is left is still held.
    assert fleet.ledgers.view("acme") == BucketView(25, 35, 100)
    await until(lambda: len(call.grants) == 2)
    assert fleet.ledgers.view("acme") == BucketView(25, 70, 100)
    await store.close()


async def test_money_that_comes_after_the_end_of_a_call_is_counted(fleet: Fleet) -> None:
    call = Call(fleet)
    call.tell(10, 20, 0)
    call.account.close(Claim(10))
    call.account.close(Claim(14))
    call.tell(15, 5, 50)
    assert fleet.ledgers.view("acme") == BucketView(15, 0, 100)
    assert call.ahead == [0]


async def test_a_replica_that_ends_settles_what_its_calls_had_running(pair: tuple[Fleet, Fleet]) -> None:
    one, two = pair
    call = Call(one)
    call.tell(10, 20, 30)
    await until(lambda: call.ahead == [30])
    await one.ledgers.close()
    await one._link._drain()
    await until(lambda: two.ledgers.view("acme") == BucketView(30, 0, 100))


async def test_listeners_hear_when_a_bucket_is_dry_and_when_it_is_not(pair: tuple[Fleet, Fleet]) -> None:
    changes = changes_of(pair[1])
    call = Call(pair[0])
    call.tell(40, 0, 60)
    await until(lambda: changes == [Change(ChangeKind.BUCKET, "acme")])
    assert pair[1].decide(ACME).reason is Reason.BUDGET_SPENT
    call.tell(40, 0, 10)
    await until(lambda: changes == [Change(ChangeKind.BUCKET, "acme")] * 2)
    assert pair[1].decide(ACME).tier == "A"


async def test_the_router_sees_what_is_set_aside(fleet: Fleet) -> None:
    call = Call(fleet)
    call.tell(20, 10, 50)
    budget = CallBudget(50, spent=20, reserved=10, ahead=50, level=StepAction.CONCISE, least={"realtime": 20})
    seen = fleet.view(ACME, budget).budget
    assert (seen.call_spent, seen.call_cap, seen.call_reserved) == (20, 50, 10)
    assert (seen.bucket_spent, seen.bucket_cap, seen.bucket_reserved) == (20, 100, 60)
    assert (seen.held, seen.level) == (50, StepAction.CONCISE)
    assert [rung.least for rung in fleet.view(ACME, budget).rungs] == [20, 0, 0]
    # The call may use what it holds; another has 20 left, which is one too few.
    assert fleet.decide(ACME, budget).tier == "A"
    assert fleet.decide(ACME, CallBudget(50, least={"realtime": 21})).reason is Reason.BUDGET_SPENT
    assert fleet.decide(RouteRequest(bucket="other"), CallBudget(50, least={"realtime": 21})).tier == "A"


async def test_a_cap_that_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="a bucket's cap is 0 to 9007199 USD a day; acme has 10000000000"):
        make_fleet(EmbeddedStore(), bucket_caps={"acme": 10**19})


# Midnight


async def test_at_midnight_a_call_goes_on_with_the_new_day() -> None:
    wall = Wall()
    fleet = make_fleet(EmbeddedStore(), wall)
    call = Call(fleet)
    call.tell(20, 30, 40)
    yesterday = fleet.ledgers.today()
    wall.now = NOON + DAY_S
    call.tell(45, 10, 60)
    assert call.ahead == [40, 60]
    # What was told before midnight stays there, and what ended since is the new day's.
    assert fleet.ledgers.view("acme") == BucketView(25, 70, 100)
    assert (await fleet._store.standing(f"bucket:{yesterday}:acme")).settled == 20
    assert (await fleet._store.standing(f"bucket:{yesterday}:acme")).reserved == 0
    call.account.close(Claim(50))
    assert fleet.ledgers.view("acme") == BucketView(30, 0, 100)
    await fleet.close()


async def test_at_midnight_a_quiet_call_holds_on_the_new_day_what_it_held() -> None:
    wall = Wall(NOON + DAY_S / 2 - 0.01)
    fleet = make_fleet(EmbeddedStore(), wall)
    await fleet.start()
    call = Call(fleet)
    call.tell(20, 0, 40)
    fleet.ledgers.spend("acme", 1)
    wall.now = NOON + DAY_S / 2
    await until(lambda: len(call.grants) == 2)
    assert call.ahead == [40, 40]
    assert fleet.ledgers.view("acme") == BucketView(0, 40, 100)
    assert {day for day, _ in fleet.ledgers._days} == {fleet.ledgers.today()}
    await fleet.close()


# The lease


async def test_a_replica_says_that_it_is_alive_as_long_as_it_is(pair: tuple[Fleet, Fleet]) -> None:
    """One is heard of in time; the other dies without a word, and what it had running counts as spent."""
    one, two = pair
    for fleet in pair:
        assert fleet.ledgers._beating is not None
        await end_tasks([fleet.ledgers._beating])
        fleet.ledgers._lease_s = 0.6
        fleet.ledgers.start()
    alive, dead = Call(one), Call(two)
    alive.tell(0, 10, 20)
    dead.tell(5, 10, 30)
    await until(lambda: alive.ahead == [20] and dead.ahead == [30])
    await end_tasks([two.ledgers._beating, *two._link._tasks])
    async with asyncio.timeout(5):
        while one.ledgers.view("acme") != BucketView(15, 30, 100):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert alive.ahead == [20]
    # It was only cut off: its news put the estimate right.
    dead.tell(7, 0, 0)
    await until(lambda: len(dead.grants) == 2)
    assert await stored(one) == (7, 30)


async def test_a_process_that_stood_still_past_its_lease_holds_nothing_any_more() -> None:
    now = [1_000.0]
    store = EmbeddedStore(lambda: now[0])
    slow, other = (make_fleet(store, Wall(), clock=lambda: now[0]) for _ in range(2))
    held, next_call = Call(slow), Call(slow)
    held.tell(0, 0, 60)
    assert held.ahead == [60]
    now[0] += 1_000.0
    taken = Call(other)
    taken.tell(0, 0, 100)
    assert taken.ahead == [100]
    next_call.tell(0, 0, 0)
    assert held.ahead[1:] == [0]
    for fleet in (slow, other):
        await fleet.close()


async def test_holders_are_forgotten_some_time_after_their_end(pair: tuple[Fleet, Fleet]) -> None:
    fleet = pair[0]
    call = Call(fleet)
    call.tell(0, 0, 20)
    await until(lambda: call.ahead == [20])
    call.account.close(Claim(3))
    await until(lambda: told(fleet))
    day = fleet.ledgers.day_of("acme")
    assert (day.entries, len(day.closed)) == ({}, 1)
    await fleet.ledgers._renew(day)
    assert (len(day.closed), len(day.forgettable)) == (0, 1)
    await fleet.ledgers._renew(day)
    assert day.forgettable == []
    assert await stored(fleet) == (3, 0)


async def test_a_replica_that_was_taken_for_dead_tells_everything_again() -> None:
    store = EmbeddedStore()
    fleet = make_fleet(store)
    call = Call(fleet)
    call.tell(5, 10, 30)
    (ledger,) = store._ledgers.values()
    ledger.expire(float("inf"))
    assert await stored(fleet) == (15, 0)
    await fleet.ledgers._renew(fleet.ledgers.day_of("acme"))
    assert await stored(fleet) == (5, 40)
    assert call.ahead == [30]
    await fleet.close()


# The store's absence


@pytest.fixture
async def away(
    tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[RedisServer, Fleet, Call]]:
    """A call that holds 30 of 100, with an allowance if one is asked for, and the store gone since."""
    server = RedisServer(tmp_path)
    store = RedisStore(server.url, 0.5)
    fleet = make_fleet(store, allowance=getattr(request, "param", 0))
    await fleet.start()
    call = Call(fleet)
    call.tell(5, 0, 30)
    await until(lambda: call.ahead == [30])
    server.stop()
    await until(lambda: not fleet.status().connected)
    yield server, fleet, call
    await fleet.close()
    await store.close()
    server.stop()


async def test_without_the_store_a_call_uses_what_it_was_granted(
    away: tuple[RedisServer, Fleet, Call],
) -> None:
    server, fleet, call = away
    call.tell(5, 20, 10)
    assert call.ahead == [30, 10]
    # More than that nobody can grant; what is held stays held.
    call.tell(5, 20, 11)
    assert call.ahead == [30, 10, None]
    other = Call(fleet)
    other.tell(0, 0, 1)
    assert other.ahead == [None]
    free = Call(fleet, "free")
    free.tell(0, 0, 1)
    assert free.ahead == [1]
    server.start()
    await until(lambda: told(fleet) and fleet.status().connected)
    assert (call.ahead, other.ahead) == ([30, 10, None, 11], [None, 1])
    assert await stored(fleet) == (5, 32)


async def test_what_was_granted_is_given_up_before_others_get_it(
    away: tuple[RedisServer, Fleet, Call],
) -> None:
    _, fleet, call = away
    day = fleet.ledgers.day_of("acme")
    fleet.ledgers._give_up_what_may_lapse()
    assert call.ahead == [30]
    day.leased_until -= fleet.ledgers._lease_s / 2
    fleet.ledgers._give_up_what_may_lapse()
    assert call.ahead == [30, 0]
    call.tell(5, 0, 30)
    assert call.ahead == [30, 0, None]


@pytest.mark.parametrize("away", [50], indirect=True)
async def test_an_allowance_is_for_the_whole_outage_and_all_calls(
    away: tuple[RedisServer, Fleet, Call],
) -> None:
    server, fleet, call = away
    call.tell(5, 30, 20)
    other = Call(fleet)
    other.tell(0, 0, 31)
    other.tell(0, 0, 30)
    assert (call.ahead, other.ahead) == ([30, 20], [None, 30])
    # Spent money does not come back, and neither does that of a call that is over.
    other.tell(25, 0, 0)
    other.account.close(Claim(25))
    call.tell(35, 20, 6)
    call.tell(35, 20, 5)
    assert call.ahead == [30, 20, None, 5]
    server.start()
    await until(lambda: told(fleet) and fleet.status().connected)
    assert await stored(fleet) == (60, 25)
    assert call.ahead == [30, 20, None, 5]


async def test_a_call_that_ends_while_the_store_is_away_is_counted_once_it_is_back(
    away: tuple[RedisServer, Fleet, Call],
) -> None:
    server, fleet, call = away
    call.tell(5, 20, 0)
    call.account.close(Claim(17))
    assert fleet.ledgers.view("acme") == BucketView(17, 0, 100)
    assert fleet.status().unsent
    server.start()
    await until(lambda: told(fleet) and fleet.status().connected)
    assert await stored(fleet) == (17, 0)


async def test_the_first_claim_that_goes_unanswered_says_so_and_the_next_do_not_wait(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    store = RedisStore(server.url, 0.1)
    fleet = make_fleet(store)
    call = Call(fleet)
    server.freeze()
    call.tell(0, 0, 10)
    assert call.grants == []
    await until(lambda: call.ahead == [None])
    call.tell(0, 0, 11)
    assert call.ahead == [None, None]
    server.thaw()
    await fleet.start()
    await until(lambda: call.ahead == [None, None, 11])
    # The hung Redis carried the first ones out too, when it woke up.
    assert await stored(fleet) == (0, 11)
    await fleet.close()
    await store.close()
    server.stop()


async def test_a_store_that_lost_its_memory_is_told_all_of_it(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    stores = [RedisStore(server.url, 0.5) for _ in range(3)]
    fleets = [make_fleet(store) for store in stores]
    for fleet in fleets:
        await fleet.start()
    gone, held, running = (Call(fleet) for fleet in fleets)
    gone.tell(20, 0, 0)
    gone.account.close(Claim(20))
    held.tell(5, 0, 10)
    running.tell(3, 15, 0)
    for fleet in fleets:
        await until(lambda fleet=fleet: fleet.ledgers.view("acme") == BucketView(28, 25, 100))
    server.stop()
    await until(lambda: not any(fleet.status().connected for fleet in fleets))
    server.start()
    await until(lambda: all(fleet.status().connected and told(fleet) for fleet in fleets))
    running.tell(13, 0, 0)
    for fleet in fleets:
        await until(lambda fleet=fleet: fleet.ledgers.view("acme") == BucketView(38, 10, 100))
    assert await stored(fleets[0]) == (38, 10)
    for fleet, store in zip(fleets, stores, strict=True):
        await fleet.close()
        await store.close()
    server.stop()

"""Money for what no call spends, on one ledger and on two that share a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.server.fleet import Fleet
from orchestrator.server.ledger import BucketView
from orchestrator.server.purse import BudgetSpent, Purse
from orchestrator.server.store import EmbeddedStore, RedisStore
from tests.server.fleets import Wall, make_fleet, until
from tests.server.test_store import RedisServer

CAP = 1000
"""Nano-dollars a day."""


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = make_fleet(EmbeddedStore(), Wall(), bucket_caps={"acme": CAP})
    await fleet.start()
    yield fleet
    await fleet.close()


def stands(fleet: Fleet) -> tuple[int, int]:
    view = fleet.ledgers.view("acme")
    return view.spent, view.reserved


async def test_the_worst_is_set_aside_and_the_cost_is_settled(fleet: Fleet) -> None:
    async with Purse(fleet.ledgers).take("acme", 900) as tab:
        assert stands(fleet) == (0, 900)
        tab.cost = 300
    assert stands(fleet) == (300, 0)


async def test_an_error_has_cost_nothing_a_hang_up_the_worst_and_what_was_told_holds(fleet: Fleet) -> None:
    purse = Purse(fleet.ledgers)
    with pytest.raises(RuntimeError):
        async with purse.take("acme", 900):
            raise RuntimeError
    assert stands(fleet) == (0, 0)
    with pytest.raises(asyncio.CancelledError):
        async with purse.take("acme", 900):
            raise asyncio.CancelledError
    assert stands(fleet) == (900, 0)

    async def fail_after(cost: int) -> None:
        async with purse.take("acme", 100) as tab:
            tab.cost = cost
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after(50)
    assert stands(fleet) == (950, 0)


async def test_what_is_not_there_is_not_begun(fleet: Fleet) -> None:
    purse = Purse(fleet.ledgers)
    async with purse.take("acme", CAP - 10) as tab:
        with pytest.raises(BudgetSpent, match="acme"):
            async with purse.take("acme", 11):
                raise AssertionError("begun")
        async with purse.take("acme", 10) as other:
            other.cost = 0
        tab.cost = 0
    assert fleet.ledgers.view("acme") == BucketView(0, 0, CAP)


async def test_nothing_is_asked_for_what_costs_nothing(fleet: Fleet) -> None:
    async with Purse(fleet.ledgers).take("acme", CAP) as most:
        async with Purse(fleet.ledgers).take("acme", 0) as tab:
            tab.cost = 0
        most.cost = CAP
    # What came to something after all is counted all the same.
    async with Purse(fleet.ledgers).take("acme", 0) as tab:
        tab.cost = 5
    assert stands(fleet) == (CAP + 5, 0)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


async def test_two_replicas_never_spend_more_than_there_is(redis_server: RedisServer) -> None:
    fleets = [make_fleet(RedisStore(redis_server.url, 0.5), bucket_caps={"acme": CAP}) for _ in range(2)]
    for fleet in fleets:
        await fleet.start()
    each = CAP // 10

    async def spend(number: int) -> bool:
        try:
            async with Purse(fleets[number % 2].ledgers).take("acme", each) as tab:
                tab.cost = each
        except BudgetSpent:
            return False
        return True

    spent = await asyncio.gather(*(spend(number) for number in range(40)))
    assert sum(spent) == 10
    await until(lambda: all(stands(fleet) == (10 * each, 0) for fleet in fleets))
    for fleet in fleets:
        await fleet.close()

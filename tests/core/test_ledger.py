"""One bucket's day: its rules one by one, and calls of several replicas in any order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings

from orchestrator.core.ledger import MOST, Claim, Grant, Known, Ledger, Message
from tests.ledgers import CAP, LEASE_MS, Table, acts


def tell(
    ledger: Ledger, holder: str, spent: int, running: int, ahead: int, now: float = 0.0, number: int = 0
) -> int:
    grant = ledger.put(Message(holder, "r1", Claim(spent, running, ahead), number), now)
    assert (grant.settled, grant.reserved) == (ledger.settled, ledger.reserved)
    return grant.ahead


def test_a_call_sets_aside_starts_and_settles() -> None:
    ledger = Ledger(100)
    assert tell(ledger, "a", 0, 0, 60) == 60
    assert (ledger.settled, ledger.reserved, ledger.balance) == (0, 60, 40)
    assert tell(ledger, "a", 0, 50, 10) == 10
    assert (ledger.settled, ledger.reserved, ledger.balance) == (0, 60, 40)
    assert tell(ledger, "a", 20, 0, 10) == 10
    assert (ledger.settled, ledger.reserved, ledger.balance) == (20, 10, 70)
    assert tell(ledger, "a", 20, 0, 0) == 0
    assert (ledger.settled, ledger.reserved, ledger.balance) == (20, 0, 80)


def test_what_is_not_there_is_refused_whole_and_what_was_held_is_kept() -> None:
    ledger = Ledger(100)
    assert tell(ledger, "a", 0, 0, 70) == 70
    assert tell(ledger, "b", 0, 0, 31) == 0
    assert tell(ledger, "b", 0, 0, 30) == 30
    # It started 20 of its 30 and wants 30 again.
    assert tell(ledger, "b", 0, 20, 30) == 10
    assert tell(ledger, "a", 5, 0, 0) == 0
    assert tell(ledger, "b", 0, 20, 30) == 30


def test_the_same_claim_again_changes_nothing() -> None:
    ledger = Ledger(100)
    for _ in range(3):
        assert tell(ledger, "a", 10, 30, 40) == 40
        assert (ledger.settled, ledger.reserved) == (10, 70)


def test_a_claim_that_was_overtaken_is_answered_and_not_taken() -> None:
    ledger = Ledger(100)
    tell(ledger, "a", 10, 30, 40, number=2)
    assert tell(ledger, "a", 0, 0, 100, number=1) == 40
    assert (ledger.settled, ledger.reserved) == (10, 70)


def test_a_bill_above_what_was_set_aside_counts_all_the_same() -> None:
    ledger = Ledger(100)
    tell(ledger, "a", 0, 90, 10)
    assert tell(ledger, "a", 120, 0, 10) == 0
    assert ledger.balance == -20
    assert tell(ledger, "b", 0, 0, 1) == 0


def test_without_a_cap_everything_is_granted() -> None:
    ledger = Ledger(None)
    assert tell(ledger, "a", 10**12, 10**12, 10**12) == 10**12
    assert ledger.balance is None
    assert ledger.settled == 10**12


def test_a_replica_that_is_not_heard_of_has_spent_what_was_running() -> None:
    ledger = Ledger(100)
    ledger.heard("r1", until=10.0)
    tell(ledger, "a", 5, 30, 20, now=9.0)
    ledger.expire(10.0)
    assert ledger.reserved == 50
    ledger.expire(10.1)
    assert (ledger.settled, ledger.reserved) == (35, 0)
    assert ledger.heard("r1", until=20.0) is False
    assert ledger.heard("r1", until=21.0) is True


def test_late_news_put_an_estimate_right() -> None:
    ledger = Ledger(100)
    ledger.heard("r1", until=10.0)
    tell(ledger, "a", 5, 30, 20, now=0.0)
    ledger.expire(11.0)
    # One that was only cut off, and whose answer is still running; it is no longer what it holds ahead.
    assert tell(ledger, "a", 5, 30, 0, now=11.0) == 0
    assert (ledger.settled, ledger.reserved) == (5, 30)
    tell(ledger, "a", 12, 0, 0, now=12.0)
    assert (ledger.settled, ledger.reserved) == (12, 0)


def test_only_holders_with_nothing_set_aside_are_forgotten() -> None:
    ledger = Ledger(100)
    tell(ledger, "a", 5, 0, 0)
    tell(ledger, "b", 5, 1, 0)
    ledger.forget(["a", "b", "nobody"])
    tell(ledger, "b", 7, 0, 0)
    assert (ledger.settled, ledger.reserved) == (12, 0)


def test_a_day_that_was_lost_goes_on_from_the_most_that_is_known() -> None:
    """Two replicas knew 80 and 95; a third call spent 10 more since. Each restores what the others did not know."""
    ledger = Ledger(100, epoch="new")
    ledger.put(Message("a", "r1", Claim(35, 5, 0), known=Known("old", settled=80, counted=30)), 0.0)
    assert (ledger.settled, ledger.reserved) == (85, 5)
    ledger.put(Message("b", "r2", Claim(10, 0, 0), known=Known("new", settled=85)), 0.0)
    assert ledger.settled == 95
    ledger.put(Message("c", "r3", Claim(40, 0, 0), known=Known("old", settled=95, counted=40)), 0.0)
    assert ledger.settled == 110
    # Once is enough, whoever else remembers.
    ledger.put(Message("d", "r3", Claim(0, 0, 0), known=Known("old", settled=95)), 0.0)
    ledger.put(Message("a", "r1", Claim(36, 0, 0), known=Known("new", settled=95, counted=35)), 0.0)
    assert ledger.settled == 111


def test_news_that_overtook_each_other_can_be_told_apart() -> None:
    ledger = Ledger(100, epoch="e")
    grants = [ledger.put(Message("a", "r1", Claim(n)), 0.0) for n in range(3)]
    assert [grant.version for grant in grants] == [1, 2, 3]
    assert grants[-1] == Grant(0, 2, 0, "e", 3)


@pytest.mark.parametrize("amounts", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (MOST + 1, 0, 0)])
def test_amounts_that_cannot_be_counted_are_refused(amounts: tuple[int, int, int]) -> None:
    with pytest.raises(
        ValueError, match="the amounts of a claim are 0 to 9007199254740991 nano-dollars, not"
    ):
        Claim(*amounts)


@settings(max_examples=300)
@given(acts)
def test_calls_in_any_order_spend_what_is_there_and_nothing_is_lost(acts: list[tuple[str, int, int]]) -> None:
    ledger = Ledger(CAP)

    async def put(told: Message) -> Grant:
        ledger.expire(table.now)
        ledger.heard(told.replica, table.now + LEASE_MS)
        return ledger.put(told, table.now)

    async def stand() -> Grant:
        ledger.expire(table.now)
        assert ledger.balance == CAP - ledger.settled - ledger.reserved
        return ledger.standing()

    async def beat(replica: str, forget: list[str]) -> bool:
        ledger.expire(table.now)
        return ledger.heard(replica, table.now + LEASE_MS)

    table = Table(put, stand, beat)
    asyncio.run(table.play(acts))

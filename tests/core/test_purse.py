"""What a call holds, whatever the bucket answers and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.budget import CallBudget
from orchestrator.core.ledger import Claim, Ledger, Message
from orchestrator.core.purse import Purse


def grant(purse: Purse, ahead: int | None) -> bool:
    claim = purse.claim()
    assert claim is not None
    return purse.granted(claim.sequence, ahead)


def test_nothing_starts_that_is_not_set_aside() -> None:
    purse = Purse(CallBudget(None))
    purse.want(100)
    assert not purse.start("a", 1)
    grant(purse, 100)
    assert purse.start("a", 60)
    assert not purse.start("b", 60)
    assert (dict(purse.running), purse.budget.ahead, purse.budget.reserved) == ({"a": 60}, 40, 60)


def test_what_is_free_starts_with_nothing() -> None:
    assert Purse(CallBudget(0)).start("a", 0)


def test_no_more_is_wanted_than_the_calls_own_cap_leaves() -> None:
    purse = Purse(CallBudget(100))
    purse.want(500)
    claim = purse.claim()
    assert claim is not None
    assert claim.ahead == 100


def test_charging_and_ending_give_back_what_was_not_needed() -> None:
    purse = Purse(CallBudget(None))
    purse.want(100)
    grant(purse, 100)
    purse.start("a", 100)
    purse.budget.spend(30)
    purse.charge("a", 30)
    assert (purse.worst("a"), purse.budget.reserved) == (70, 70)
    purse.end("a")
    assert (purse.budget.spent, purse.budget.reserved) == (30, 0)


def test_an_answer_to_an_older_claim_is_not_the_answer() -> None:
    purse = Purse(CallBudget(None))
    purse.want(100)
    first = purse.claim()
    assert first is not None
    purse.want(200)
    second = purse.claim()
    assert second is not None
    assert not purse.granted(first.sequence, 100)
    assert purse.pending
    assert purse.granted(second.sequence, 0)
    assert not purse.pending


def test_what_was_started_meanwhile_is_not_granted_again() -> None:
    purse = Purse(CallBudget(None))
    purse.want(100)
    grant(purse, 100)
    purse.want(150)
    claim = purse.claim()
    assert claim is not None
    purse.start("a", 80)
    purse.granted(claim.sequence, 150)
    assert purse.budget.ahead == 70


def test_the_same_is_not_claimed_twice_unless_it_is_to_be_asked_again() -> None:
    purse = Purse(CallBudget(None))
    purse.want(100)
    grant(purse, 0)
    assert purse.claim() is None
    purse.ask_again()
    assert purse.claim() is not None


def test_where_the_bucket_cannot_tell_what_was_set_aside_stands() -> None:
    purse = Purse(CallBudget(None))
    purse.want(100)
    grant(purse, 100)
    purse.want(200)
    grant(purse, None)
    assert (purse.budget.ahead, purse.pending) == (100, False)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["want", "start", "charge", "end", "claim", "answer"]),
        st.integers(0, 1),
        st.integers(0, 120),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(steps=STEPS, cap=st.integers(0, 400))
def test_two_calls_on_one_bucket_never_overdraw_it(steps: list[tuple[str, int, int, int]], cap: int) -> None:
    """Purses against the real ledger: answers come late, or not for the newest claim."""
    ledger = Ledger(cap)
    purses = [Purse(CallBudget(None)), Purse(CallBudget(None))]
    waiting: list[list[tuple[int, int]]] = [[], []]
    numbers = [0, 0]
    for what, who, amount, key in steps:
        purse = purses[who]
        name = f"key {key}"
        if what == "want":
            purse.want(amount)
        elif what == "start" and purse.worst(name) == 0:
            purse.start(name, amount)
        elif what == "charge":
            cost = min(amount, purse.worst(name))
            purse.charge(name, cost)
            purse.budget.spend(cost)
        elif what == "end":
            purse.end(name)
        elif what == "claim" and (claim := purse.claim()) is not None:
            numbers[who] += 1
            told = Claim(claim.spent, claim.running, claim.ahead)
            message = Message(f"call {who}", "replica", told, numbers[who])
            answer = ledger.put(message, 0.0)
            waiting[who].append((claim.sequence, answer.ahead))
        elif what == "answer" and waiting[who]:
            purse.granted(*waiting[who].pop(0))
        spent = sum(p.budget.spent + sum(p.running.values()) + p.budget.ahead for p in purses)
        assert spent <= cap
        assert all(p.budget.reserved == sum(p.running.values()) for p in purses)

"""Rate limits: who is counted together, and what those are told that are too many."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.access_sections import Access
from orchestrator.server import rate_limits
from orchestrator.server.auth import Refusal
from orchestrator.server.identity import Identity, Scope
from orchestrator.server.rate_limits import RateLimits

SHOP = Identity("key_1", "shop", frozenset({Scope.SERVICE}))
TILL = Identity("key_2", "till", frozenset({Scope.SERVICE}))
PERSON = Identity("jwt:i|42", "42", frozenset({Scope.SERVICE}), user="42")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits(clock: Clock, **access: Any) -> RateLimits:
    return RateLimits(Access(**access), clock)


def test_without_limits_nobody_is_counted(clock: Clock) -> None:
    free = limits(clock)
    assert all(free.request(SHOP) is None and free.call(SHOP, "42") is None for _ in range(1000))


def test_each_key_has_requests_of_its_own(clock: Clock) -> None:
    each = limits(clock, key_requests_per_minute=30)
    assert [each.request(SHOP) for _ in range(5)] == [None] * 5
    refusal = each.request(SHOP)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (429, "rate_limited", 2)
    assert refusal.headers() == {"Retry-After": "2"}
    assert refusal.body()["error"]["type"] == "rate_limit_error"
    assert "30 requests a minute with one key" in refusal.message
    assert each.request(TILL) is None
    assert each.call(SHOP, "") is None
    clock.now += 2
    assert each.request(SHOP) is None
    assert each.request(SHOP) is not None


def test_a_user_is_counted_over_all_keys_and_nobody_is_not_a_user(clock: Clock) -> None:
    each = limits(clock, user_calls_per_minute=6)
    assert each.call(SHOP, "42") is None
    assert each.call(TILL, "42") is not None
    assert each.call(PERSON, "") is not None
    assert each.call(TILL, "43") is None
    assert all(each.call(SHOP, "") is None for _ in range(50))


def test_a_call_that_one_limit_refuses_is_not_counted_by_the_other(clock: Clock) -> None:
    each = limits(clock, key_calls_per_minute=12, user_calls_per_minute=6)
    assert each.call(SHOP, "42") is None
    assert all(each.call(SHOP, "42") is not None for _ in range(20))
    assert each.call(SHOP, "43") is None
    refusal = each.call(SHOP, "44")
    assert refusal is not None
    assert "12 calls a minute with one key" in refusal.message


def test_a_person_with_a_token_is_one_user(clock: Clock) -> None:
    each = limits(clock, user_requests_per_minute=6)
    assert each.request(PERSON) is None
    assert each.request(PERSON) is not None
    assert all(each.request(SHOP) is None for _ in range(50))


def test_memory_is_bounded_and_the_ones_in_use_are_kept(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "REMEMBERED", 10)
    each = limits(clock, user_calls_per_minute=6, burst_s=20)
    for n in range(200):
        clock.now += 10
        assert each.call(SHOP, "regular") is None
        assert each.call(SHOP, f"user-{n}") is None
    limiter = each._user_calls
    assert limiter is not None
    assert len(limiter._full_at) == 10
    assert "regular" in limiter._full_at

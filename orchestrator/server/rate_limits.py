"""How often one key and one user may ask, and begin calls. Each replica counts for itself."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from orchestrator.access_sections import Access
from orchestrator.core.rates import FULL, Rate, taken, wait_s
from orchestrator.server.auth import Refusal
from orchestrator.server.identity import Identity

REMEMBERED = 50_000
"""Buckets of one kind that are kept; the ones used longest ago go first, and nearly all of those are full again."""


class Limiter:
    """One rate for each of many names. Not thread-safe; `clock` is monotonic seconds."""

    def __init__(self, rate: Rate, what: str, clock: Callable[[], float]) -> None:
        self.what = what
        self._rate = rate
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """Seconds until `name` may once more; 0 is now."""
        return wait_s(self._full_at.get(name, FULL), self._rate, self._clock())

    def take(self, name: str) -> None:
        self._full_at[name] = taken(self._full_at.get(name, FULL), self._rate, self._clock())
        self._full_at.move_to_end(name)
        if len(self._full_at) > REMEMBERED:
            self._full_at.popitem(last=False)

    def refusal(self, wait: float) -> Refusal:
        seconds = math.ceil(wait)
        per_minute = self._rate.per_s * 60
        return Refusal(
            429,
            "rate_limited",
            f"more than {per_minute:g} {self.what}; wait {seconds} s (see Retry-After), or have the limit raised "
            "in [access]",
            retry_after_s=seconds,
        )


class RateLimits:
    """What `access` says about it; what it leaves out has no limit."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        def limiter(times: float | None, what: str) -> Limiter | None:
            if times is None:
                return None
            return Limiter(Rate.per_minute(times, access.burst_s), what, clock)

        self._key_requests = limiter(access.key_requests_per_minute, "requests a minute with one key")
        self._user_requests = limiter(access.user_requests_per_minute, "requests a minute of one user")
        self._key_calls = limiter(access.key_calls_per_minute, "calls a minute with one key")
        self._user_calls = limiter(access.user_calls_per_minute, "calls a minute of one user")

    def request(self, who: Identity) -> Refusal | None:
        """Counts a request over HTTP, if it may be made."""
        return _count((self._key_requests, who.id), (self._user_requests, who.user))

    def call(self, who: Identity, user: str) -> Refusal | None:
        """Counts a call that begins, if it may."""
        return _count((self._key_calls, who.id), (self._user_calls, user or who.user))


def _count(*wanted: tuple[Limiter | None, str]) -> Refusal | None:
    """Takes one of each limit, or of none. Nobody named is not limited: that is not one user."""
    asked = [(limiter, name) for limiter, name in wanted if limiter is not None and name]
    for limiter, name in asked:
        wait = limiter.wait_s(name)
        if wait:
            return limiter.refusal(wait)
    for limiter, name in asked:
        limiter.take(name)
    return None

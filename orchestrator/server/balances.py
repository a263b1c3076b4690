"""What every bucket has spent today (UTC), counted by all replicas together, in integer nano-dollars."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from orchestrator.server.link import Link
from orchestrator.server.store import Store

_TTL_S = 2 * 86_400.0


@dataclass(slots=True)
class _Balance:
    """One bucket's day: what the store counted, what is being sent, and what is still to be sent.

    `once` names what is being sent, and `expected` is the least that the store can count after it.
    """

    total: int = 0
    sending: int = 0
    unsent: int = 0
    once: str = ""
    expected: int = 0

    @property
    def spent(self) -> int:
        return self.total + self.sending + self.unsent


class Balances:
    """`caps` are per day; a bucket without one is only counted. `on_spent_up` is called when one runs out."""

    def __init__(
        self,
        store: Store,
        link: Link,
        caps: Mapping[str, int],
        *,
        on_spent_up: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.caps = dict(caps)
        self._store = store
        self._link = link
        self._on_spent_up = on_spent_up
        self._wall = wall
        self._balances: dict[tuple[str, str], _Balance] = {}

    def today(self) -> str:
        return datetime.fromtimestamp(self._wall(), UTC).date().isoformat()

    def spent(self, bucket: str) -> int:
        balance = self._balances.get((self.today(), bucket))
        return balance.spent if balance else 0

    def overview(self) -> dict[str, tuple[int, int | None]]:
        """Every bucket with a cap or with money spent today: (spent, cap)."""
        today = self.today()
        used = {bucket for day, bucket in self._balances if day == today}
        return {name: (self.spent(name), self.caps.get(name)) for name in sorted({*self.caps, *used})}

    def spend(self, bucket: str, amount: int) -> None:
        """Counts here at once and in the store soon."""
        day = self.today()
        before = self.spent(bucket)
        self._balance(day, bucket).unsent += amount
        self._tell_if_spent_up(bucket, before)
        self._link.send(_key(day, bucket), partial(self._write, day, bucket))

    def learn(self, news: Mapping[str, Any]) -> None:
        """Another replica counted."""
        self._learn_total(str(news["day"]), str(news["bucket"]), int(news["total"]))

    async def refresh(self) -> None:
        day = self.today()
        for bucket in self.overview():
            known = self._balance(day, bucket).total
            stored = int(await self._store.get(_key(day, bucket)) or 0)
            self._learn_total(day, bucket, await self._give_back(_key(day, bucket), stored, known))

    def forget_other_days(self) -> None:
        today = self.today()
        self._balances = {
            (day, bucket): balance
            for (day, bucket), balance in self._balances.items()
            if day == today or self._link.is_pending(_key(day, bucket))
        }

    def _balance(self, day: str, bucket: str) -> _Balance:
        return self._balances.setdefault((day, bucket), _Balance())

    def _learn_total(self, day: str, bucket: str, total: int) -> None:
        """News may overtake each other, and a bucket's day only ever grows."""
        before = self.spent(bucket)
        balance = self._balance(day, bucket)
        balance.total = max(balance.total, total)
        self._tell_if_spent_up(bucket, before)

    async def _give_back(self, key: str, stored: int, expected: int) -> int:
        """The store's count, with what is missing from it: a count that shrank was lost with the store's memory.

        Every replica notices; what the first one gives back is taken.
        """
        if stored >= expected:
            return stored
        return await self._store.add(key, expected - stored, _TTL_S, once="restore")

    def _tell_if_spent_up(self, bucket: str, before: int) -> None:
        cap = self.caps.get(bucket)
        if cap is not None and before < cap <= self.spent(bucket):
            self._on_spent_up(bucket)

    async def _write(self, day: str, bucket: str) -> None:
        balance = self._balance(day, bucket)
        if not balance.sending:
            balance.sending, balance.unsent, balance.once = balance.unsent, 0, uuid.uuid4().hex
            balance.expected = balance.total + balance.sending
        # The same name for the same amount until it is known to have arrived, so that it counts once.
        key = _key(day, bucket)
        stored = await self._store.add(key, balance.sending, _TTL_S, once=balance.once)
        stored = await self._give_back(key, stored, balance.expected)
        before = self.spent(bucket)
        balance.total, balance.sending = max(balance.total, stored), 0
        self._tell_if_spent_up(bucket, before)
        if balance.unsent:
            self._link.send(key, partial(self._write, day, bucket))
        await self._link.publish("bucket", {"day": day, "bucket": bucket, "total": stored})


def _key(day: str, bucket: str) -> str:
    return f"bucket:{day}:{bucket}"

"""What every bucket has spent and set aside today (UTC), by all replicas together, in integer nano-dollars.

The count is kept by the store (`core/ledger.py`). Each call has an `Account` through which it tells the store how
things are with it, and hears what is set aside for it. A replica says now and then that it is alive; what it has
set aside holds until it has not been heard of for `lease_s`.

While the store is away, calls use what it granted them before, as long as the lease lasts, and then `allowance` on
each capped bucket. Everything is told when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

from orchestrator.core.ledger import MOST, Claim, Grant, Message
from orchestrator.server.bucket_day import BucketDay, Entry, OnGrant
from orchestrator.server.link import Link, end_tasks
from orchestrator.server.store import Store, StoreUnavailable

log = logging.getLogger(__name__)

_TTL_S = 2 * 86_400.0
_AT_ONCE = 8
"""Claims on their way to the store. More would not be any faster, and would run into its timeout in a crowd."""


@dataclass(frozen=True, slots=True)
class BucketView:
    """One bucket's day. `cap` None: it has none."""

    spent: int
    reserved: int
    cap: int | None


class Account:
    """One call's, on its bucket. Amounts are the call's own, however many days it lasts."""

    def __init__(self, ledgers: Ledgers, call_id: str, bucket: str) -> None:
        self.call_id = call_id
        self.bucket = bucket
        self._ledgers = ledgers
        self._claim = Claim()
        self._on_grant: OnGrant | None = None
        self._before = 0
        """Spent on earlier days."""
        self._closed = False
        self._day = ledgers.day_of(bucket)
        self._entry = ledgers.enter(self._day, call_id)

    def tell(self, claim: Claim, on_grant: OnGrant) -> None:
        """How things are with the call now. Who starts something tells in the same turn of the event loop.

        `on_grant` is called on the event loop for the newest claim, often before this returns: with what may be
        started; with None where the store is away and cannot say (what was set aside before stands). It may be
        called again later: with less when that no longer holds, with more when the store is back.
        """
        if self._closed:
            self.close(claim)
            return
        self._follow_the_day()
        self._claim, self._on_grant = claim, on_grant
        self._entry.take(Claim(claim.spent - self._before, claim.running, claim.ahead), on_grant)
        self._ledgers.send(self._day, self._entry)

    def close(self, claim: Claim) -> None:
        """The call is over, having spent `claim.spent`. What comes later is counted, and set aside nowhere."""
        if self._closed:
            self._ledgers.spend(self.bucket, max(0, claim.spent - self._claim.spent))
        else:
            self._follow_the_day()
            self._closed = True
            self._ledgers.leave(self._day, self._entry, claim.spent - self._before)
            self._ledgers.accounts.discard(self)
        self._claim = claim

    def settle(self) -> None:
        """Closes the account of a call that cannot say any more what became of what was running."""
        self.close(Claim(self._claim.spent + self._claim.running))

    def turn(self) -> None:
        """At midnight: what is running, and what is to be set aside, is the new day's."""
        if self._on_grant is not None:
            self.tell(self._claim, self._on_grant)

    def _follow_the_day(self) -> None:
        day = self._ledgers.day_of(self.bucket)
        if day is not self._day:
            self._ledgers.leave(self._day, self._entry, self._entry.claim.spent)
            self._before = self._claim.spent
            self._day, self._entry = day, self._ledgers.enter(day, self.call_id)


class Ledgers:
    """`caps` are per day; a bucket without one is only counted. Runs on the event loop. `clock` is monotonic.

    `on_turn` is called when a bucket runs dry, and when it has money again.
    """

    def __init__(
        self,
        store: Store,
        link: Link,
        caps: Mapping[str, int],
        *,
        on_turn: Callable[[str], None],
        lease_s: float = 30.0,
        allowance: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        for bucket, cap in caps.items():
            if not 0 <= cap <= MOST:
                raise ValueError(
                    f"a bucket's cap is 0 to {MOST / 1e9:.0f} USD a day; {bucket} has {cap / 1e9}"
                )
        self.caps = dict(caps)
        self.accounts: set[Account] = set()
        self._store = store
        self._link = link
        self._on_turn = on_turn
        self._lease_s = lease_s
        self._allowance = allowance
        self._clock, self._wall = clock, wall
        self._days: dict[tuple[str, str], BucketDay] = {}
        self._holders = count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._beating: asyncio.Task[None] | None = None

    # --- life ---

    def start(self) -> None:
        self._beating = asyncio.create_task(self._beat(), name="ledgers")

    async def close(self) -> None:
        """Closes all accounts; the link tells the store."""
        if self._beating is not None:
            await end_tasks([self._beating])
        for account in list(self.accounts):
            account.settle()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what is known ---

    def today(self) -> str:
        return datetime.fromtimestamp(self._wall(), UTC).date().isoformat()

    def view(self, bucket: str) -> BucketView:
        day = self._days.get((self.today(), bucket))
        return (
            BucketView(day.spent, day.reserved, day.cap) if day else BucketView(0, 0, self.caps.get(bucket))
        )

    def spent(self, bucket: str) -> int:
        return self.view(bucket).spent

    def reserved(self, bucket: str) -> int:
        """By all calls of all replicas."""
        return self.view(bucket).reserved

    def overview(self) -> dict[str, BucketView]:
        """Every bucket with a cap or with money spent today."""
        today = self.today()
        used = {bucket for day, bucket in self._days if day == today}
        return {name: self.view(name) for name in sorted({*self.caps, *used})}

    def learn(self, news: Mapping[str, Any]) -> None:
        """Another replica's claim was counted."""
        settled, reserved, version = (int(news[name]) for name in ("settled", "reserved", "version"))
        grant = Grant(0, settled, reserved, str(news["epoch"]), version)
        self._learn(self._day(str(news["day"]), str(news["bucket"])), grant)

    async def refresh(self) -> None:
        today = self.today()
        for bucket in self.overview():
            day = self._day(today, bucket)
            stored = await self._store.standing(day.key)
            if not stored.epoch and day.standing.epoch:
                self._tell_again(day, day.standing.epoch)
            self._learn(day, stored)

    def turn_day(self) -> None:
        """At midnight."""
        for account in list(self.accounts):
            account.turn()
        today = self.today()
        for day in [day for day in self._days.values() if day.day != today]:
            if own := day.entries.get(self._link.replica):
                self.leave(day, own, own.claim.spent)
        self._days = {key: day for key, day in self._days.items() if day.day == today or day.entries}

    # --- spending ---

    def open(self, call_id: str, bucket: str) -> Account:
        account = Account(self, call_id, bucket)
        self.accounts.add(account)
        return account

    def spend(self, bucket: str, amount: int) -> None:
        """Money that no call has spent."""
        day = self.day_of(bucket)
        own = self._own(day)
        own.take(Claim(own.claim.spent + amount), None)
        self.send(day, own)

    # --- for accounts ---

    def day_of(self, bucket: str) -> BucketDay:
        return self._day(self.today(), bucket)

    def enter(self, day: BucketDay, call_id: str) -> Entry:
        return self._enter(day, f"{call_id}@{self._link.replica}.{next(self._holders)}")

    def send(self, day: BucketDay, entry: Entry) -> None:
        """Tells the store the newest claim of `entry`: at once, soon, or when it is back."""
        day.unsent[entry.holder] = entry
        now, told = self._clock(), self._message(day, entry)
        if grant := self._store.claim_now(day.key, told, cap=day.cap, lease_s=self._lease_s, ttl=_TTL_S):
            self._counted(day, entry, told, grant, now)
        elif day.cap is None or entry.on_grant is None or self._link.away_since is not None:
            self._send_later(day, entry)
        elif not entry.sending:
            entry.sending = True
            task = asyncio.create_task(self._send_now(day, entry), name="claim")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._note(day)

    def leave(self, day: BucketDay, entry: Entry, spent: int) -> None:
        """The last claim of an entry; the link brings it to the store however long that takes."""
        entry.closing = True
        entry.take(Claim(max(0, spent)), None)
        self.send(day, entry)

    # --- telling the store ---

    def _day(self, day: str, bucket: str) -> BucketDay:
        found = self._days.get((day, bucket))
        if found is None:
            found = self._days[day, bucket] = BucketDay(day, bucket, self.caps.get(bucket))
        return found

    def _enter(self, day: BucketDay, holder: str) -> Entry:
        return day.entries.setdefault(holder, Entry(holder))

    def _own(self, day: BucketDay) -> Entry:
        return self._enter(day, self._link.replica)

    def _message(self, day: BucketDay, entry: Entry) -> Message:
        return Message(entry.holder, self._link.replica, entry.claim, entry.number, day.known(entry))

    async def _send_now(self, day: BucketDay, entry: Entry) -> None:
        try:
            async with self._at_once:
                if self._link.away_since is None:
                    await self._write(day, entry)
        except StoreUnavailable as error:
            self._link.lost(error)
        finally:
            entry.sending = False
        if entry.holder in day.unsent:
            self._send_later(day, entry)

    def _send_later(self, day: BucketDay, entry: Entry) -> None:
        self._link.send(f"{day.key}:{entry.holder}", partial(self._write, day, entry), money=True)
        self._answer_without_store(day, entry)

    async def _write(self, day: BucketDay, entry: Entry) -> None:
        """One claim after the other, the newest each time, until nothing is new."""
        async with entry.lock:
            while entry.holder in day.unsent:
                now, told = self._clock(), self._message(day, entry)
                grant = await self._store.claim(day.key, told, cap=day.cap, lease_s=self._lease_s, ttl=_TTL_S)
                self._counted(day, entry, told, grant, now)

    def _counted(self, day: BucketDay, entry: Entry, told: Message, grant: Grant, now: float) -> None:
        """The store has answered what it was told at `now`."""
        entry.counted = Claim(told.claim.spent, told.claim.running, grant.ahead)
        entry.epoch = grant.epoch
        lapsed = day.leased_until < now and bool(day.leased_until)
        day.leased_until = max(day.leased_until, now + self._lease_s)
        if lapsed:
            self._give_up(day, entry)
        newest = told.number == entry.number
        if newest:
            day.unsent.pop(entry.holder, None)
            if entry.closing:
                day.entries.pop(entry.holder, None)
                day.closed.append(entry.holder)
        if not self._learn(day, grant):
            day.floor = 0
        self._link.send(f"news:{day.key}", partial(self._publish, day), money=True)
        if newest:
            entry.answer(grant)

    async def _publish(self, day: BucketDay) -> None:
        stands = day.standing
        news = {"settled": stands.settled, "reserved": stands.reserved}
        mark = {"epoch": stands.epoch, "version": stands.version}
        await self._link.publish("bucket", {"day": day.day, "bucket": day.bucket, **news, **mark})

    def _learn(self, day: BucketDay, news: Grant) -> bool:
        before = day.standing.epoch
        lost = day.learn(news)
        if lost:
            self._tell_again(day, before)
        self._note(day)
        return lost

    def _tell_again(self, day: BucketDay, epoch: str) -> None:
        """The store lost its count, or took this replica for dead: every holder tells how things are.

        The replica itself tells what it knows of `epoch`, whether it has calls or not.
        """
        own = self._own(day)
        own.epoch = own.epoch or epoch
        for entry in list(day.entries.values()):
            self.send(day, entry)

    def _note(self, day: BucketDay) -> None:
        if day.turned() and day.day == self.today():
            self._on_turn(day.bucket)

    # --- the lease ---

    async def _beat(self) -> None:
        """Whatever becomes of renewing the lease, what is not renewed in time is given up in time."""
        renewing: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(self._lease_s / 3)
                if renewing is not None:
                    renewing.cancel()
                renewing = asyncio.create_task(self._renew_all(), name="renew leases")
                self._give_up_what_may_lapse()
        finally:
            if renewing is not None:
                renewing.cancel()

    async def _renew_all(self) -> None:
        try:
            for day in list(self._days.values()):
                if day.entries or day.closed or day.forgettable:
                    await self._renew(day)
        except StoreUnavailable as error:
            self._link.lost(error)
            self._give_up_what_may_lapse()
        except Exception:
            log.exception("renewing the lease failed; trying again")

    async def _renew(self, day: BucketDay) -> None:
        now, closed = self._clock(), len(day.closed)
        forget, lease = tuple(day.forgettable), self._lease_s
        stands, alive = await self._store.renew(
            day.key, self._link.replica, lease_s=lease, forget=forget, ttl=_TTL_S
        )
        # Not those that have just closed: a repetition of their last claim may still be on its way.
        day.forgettable, day.closed = day.closed[:closed], day.closed[closed:]
        if alive:
            day.leased_until = max(day.leased_until, now + lease)
            self._learn(day, stands)
        elif not self._learn(day, stands):
            self._tell_again(day, day.standing.epoch)

    def _give_up(self, day: BucketDay, told: Entry) -> None:
        """The lease ran out unnoticed, as when this process stood still: what was set aside is others' by now."""
        for entry in list(day.entries.values()):
            if entry is not told and entry.ahead and day.cap is not None:
                entry.answer(Grant(0, day.spent, day.reserved))
                self.send(day, entry)

    def _give_up_what_may_lapse(self) -> None:
        """What the store has set aside for us it gives to others once the lease is over."""
        for day in self._days.values():
            if day.cap is None or day.leased_until > self._clock() + self._lease_s / 2:
                continue
            for entry in list(day.entries.values()):
                if (room := self._room(day, entry)) < entry.ahead:
                    entry.answer(Grant(room, day.spent, day.reserved))

    # --- without the store ---

    def _answer_without_store(self, day: BucketDay, entry: Entry) -> None:
        if entry.on_grant is None:
            return
        wanted = entry.claim.ahead
        room = wanted if day.cap is None else self._room(day, entry)
        if room >= wanted or room < entry.ahead:
            entry.answer(Grant(min(wanted, room), day.spent, day.reserved))
        else:
            entry.answer(None)

    def _room(self, day: BucketDay, entry: Entry) -> int:
        """What `entry` may hold ahead: the unused rest of what was granted, and what is left of the allowance."""
        # A third of the lease is between two beats: what would not last until the next one is not counted on.
        leased = day.leased_until > self._clock() + self._lease_s / 2
        own = entry.unbacked(0, leased=leased)
        used = max(0, own) + sum(
            max(0, other.unbacked(other.ahead, leased=leased))
            for other in day.entries.values()
            if other is not entry
        )
        return max(0, -own) + max(0, self._allowance - used)

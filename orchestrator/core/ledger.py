"""One bucket's day, counted for all calls of all replicas: what is settled, and what is set aside.

     cap ───────────────────────────────────────────────────────────────┐
     │ settled              │ running          │ ahead        │ balance  │
     │ paid for             │ started, at its  │ may start    │ free     │
     │                      │ worst case       │ next         │          │
     └──────────────────────┴──────── reserved ───────────────┴──────────┘

     settled + reserved + balance = cap, and balance >= 0 as long as every holder starts only what it holds ahead.

A holder (a call) tells how things are with it, not what changed: a `Claim` may be lost, late or told twice, and the
next one puts everything right. All money is in integer nano-dollars.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST = 2**53 - 1
"""The largest amount, 9 million dollars: up to here a store that counts in floating point is exact."""


@dataclass(frozen=True, slots=True)
class Claim:
    """How things are with one holder on one bucket's day."""

    spent: int = 0
    """Settled so far, of all that this holder ever started."""
    running: int = 0
    """The worst cases of what has started and is not settled."""
    ahead: int = 0
    """What it wants set aside for what may start next."""

    def __post_init__(self) -> None:
        if not (0 <= self.spent <= MOST and 0 <= self.running <= MOST and 0 <= self.ahead <= MOST):
            raise ValueError(f"the amounts of a claim are 0 to {MOST} nano-dollars, not {self}")


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a claim, and how the bucket's day stands after it."""

    ahead: int
    """What is set aside now for what may start next."""
    settled: int
    reserved: int
    epoch: str = ""
    """Another one: the ledger was lost and began anew."""
    version: int = 0
    """Grows with every change within an epoch, so that news which overtook each other can be told apart."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a holder learned from its last grant, for a ledger that may have lost its memory since."""

    epoch: str = ""
    """Empty: nothing yet."""
    settled: int = 0
    """Of the whole day."""
    counted: int = 0
    """What this holder was counted with."""


NOTHING_KNOWN = Known()


@dataclass(frozen=True, slots=True)
class Message:
    """A claim on its way to the ledger."""

    holder: str
    replica: str
    claim: Claim
    number: int = 0
    """Counts a holder's claims: one that comes after a later one is answered and not taken."""
    known: Known = NOTHING_KNOWN


@dataclass(slots=True)
class _Holder:
    replica: str
    number: int = 0
    counted: int = 0
    running: int = 0
    ahead: int = 0


class Ledger:
    """`cap` None: everything is granted. Times are numbers of any one unit."""

    def __init__(self, cap: int | None, epoch: str = "") -> None:
        self.cap = cap
        self.epoch = epoch
        self.version = 0
        self.settled = 0
        self.reserved = 0
        self._restored = 0
        self._holders: dict[str, _Holder] = {}
        self._leases: dict[str, float] = {}

    @property
    def balance(self) -> int | None:
        """What is neither settled nor reserved. Negative only where more was spent than had been set aside."""
        return None if self.cap is None else self.cap - self.settled - self.reserved

    def put(self, told: Message, now: float) -> Grant:
        """Takes a claim and answers it. The same one again changes nothing."""
        self.expire(now)
        self._restore(told.known)
        self.version += 1
        held = self._holders.get(told.holder)
        if held is None:
            counted = told.known.counted if self._is_from_before(told.known) else 0
            held = self._holders[told.holder] = _Holder(told.replica, counted=counted)
        if told.number >= held.number:
            held.replica, held.number = told.replica, told.number
            self._take(held, told.claim)
        return self.standing(held.ahead)

    def heard(self, replica: str, until: float) -> bool:
        """`replica` is alive, and counts as alive until then. False if it did not count as alive before."""
        known = replica in self._leases
        self._leases[replica] = until
        return known

    def expire(self, now: float) -> None:
        """Ends what the replicas that were not heard of in time have reserved.

        What was running counts as paid for at its worst case, until the holder tells what it was. It stays
        known for that.
        """
        gone = {replica for replica, until in self._leases.items() if until < now}
        for replica in gone:
            del self._leases[replica]
        for held in self._holders.values() if gone else ():
            if held.replica in gone and (held.running or held.ahead):
                self.version += 1
                self.settled += held.running
                self.reserved -= held.running + held.ahead
                held.counted += held.running
                held.running = held.ahead = 0

    def forget(self, holders: Iterable[str]) -> None:
        """Holders whose last claim (nothing running, nothing ahead) was answered: they will not be back."""
        for holder in holders:
            held = self._holders.get(holder)
            if held is not None and not held.running and not held.ahead:
                del self._holders[holder]

    def standing(self, ahead: int = 0) -> Grant:
        return Grant(ahead, self.settled, self.reserved, self.epoch, self.version)

    def _take(self, held: _Holder, claim: Claim) -> None:
        moved = max(0, claim.spent + claim.running - held.counted - held.running)
        kept = max(0, held.ahead - moved)
        self.settled += claim.spent - held.counted
        self.reserved += claim.running - held.running - held.ahead
        held.counted, held.running = claim.spent, claim.running
        room = claim.ahead if self.balance is None else self.balance
        # All that is asked for, or else what it had and did not use: never a part of what is new.
        held.ahead = claim.ahead if room >= claim.ahead else max(0, min(kept, claim.ahead, room))
        self.reserved += held.ahead

    def _is_from_before(self, known: Known) -> bool:
        return known.epoch not in ("", self.epoch)

    def _restore(self, known: Known) -> None:
        """After a loss the day goes on from the most that anybody knows of it, plus what is told from then on.

        What may be missing for good is what only replicas that are gone were told. What may be counted twice is
        what had arrived, but whose answer was lost together with the ledger. A ledger that went back a little (a
        failover to a copy) lost no holder that is still there, since their next claims are whole again; it
        lacks what ended in between.
        """
        if self._is_from_before(known) and known.settled > self._restored:
            self.settled += known.settled - self._restored
            self._restored = known.settled

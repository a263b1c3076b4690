"""One bucket's day as this replica sees it: what the store counted last, and what it has not been told yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.core.ledger import Claim, Grant, Known

OnGrant = Callable[[Grant | None], None]

_NOTHING = Claim()


@dataclass(slots=True, eq=False)
class Entry:
    """One holder: a call on this replica, or the replica itself."""

    holder: str
    epoch: str = ""
    """Of the ledger that counted it last."""
    claim: Claim = _NOTHING
    number: int = 0
    """Of the newest claim."""
    ahead: int = 0
    """What it may start with at this moment."""
    counted: Claim = _NOTHING
    """What the store has it down with; `ahead`: what was granted."""
    closing: bool = False
    on_grant: OnGrant | None = None
    answered: tuple[int, int | None] = (0, None)
    """The claim that was answered last, by its number, and what was granted."""
    sending: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def take(self, claim: Claim, on_grant: OnGrant | None) -> None:
        """The newest claim. What it started comes out of what was set aside, whatever the store will say."""
        started = max(0, claim.spent + claim.running - self.claim.spent - self.claim.running)
        self.ahead = min(max(0, self.ahead - started), claim.ahead)
        self.claim, self.on_grant = claim, on_grant
        self.number += 1

    def answer(self, grant: Grant | None) -> None:
        """Passes a grant on, if it is news; None: nothing can be said, and what it has it keeps."""
        answer = (self.number, None if grant is None else grant.ahead)
        news, self.answered = answer != self.answered, answer
        if grant is not None:
            self.ahead = grant.ahead
        if news and self.on_grant is not None:
            self.on_grant(grant)

    def unbacked(self, ahead: int, *, leased: bool) -> int:
        """How much more it has spent, started and holds (`ahead`) than the store has set aside for it.

        Negative: that much is set aside and not used. `leased`: the store stands by what it granted.
        """
        backed = self.counted.spent + self.counted.running + (self.counted.ahead if leased else 0)
        return self.claim.spent + self.claim.running + ahead - backed


@dataclass(slots=True, eq=False)
class BucketDay:
    """`cap` None: it is only counted."""

    day: str
    bucket: str
    cap: int | None
    standing: Grant = field(default_factory=lambda: Grant(0, 0, 0))
    """The latest that is known of the store's count."""
    floor: int = 0
    """What was settled before the store lost its count, until it has been told."""
    entries: dict[str, Entry] = field(default_factory=dict)
    unsent: dict[str, Entry] = field(default_factory=dict)
    """Those whose newest claim the store has not answered."""
    closed: list[str] = field(default_factory=list)
    """Holders whose last claim was answered since the last renewal; the store may forget them at the next but one."""
    forgettable: list[str] = field(default_factory=list)
    leased_until: float = 0.0
    """By the monotonic clock: until then the store keeps what it granted."""
    dry: bool = False
    _settled: dict[str, int] = field(default_factory=dict)
    """By epoch, what was settled as far as this replica heard."""

    @property
    def key(self) -> str:
        return f"bucket:{self.day}:{self.bucket}"

    @property
    def spent(self) -> int:
        untold = sum(entry.claim.spent - entry.counted.spent for entry in self.unsent.values())
        return max(self.standing.settled, self.floor) + untold

    @property
    def reserved(self) -> int:
        untold = sum(
            entry.claim.running + entry.ahead - entry.counted.running - entry.counted.ahead
            for entry in self.unsent.values()
        )
        return max(0, self.standing.reserved + untold)

    def known(self, entry: Entry) -> Known:
        epoch = entry.epoch or self.standing.epoch
        return Known(epoch, self._settled.get(epoch, 0), entry.counted.spent)

    def learn(self, news: Grant) -> bool:
        """How the day stands. News may overtake each other. True: the store has lost what it had counted."""
        old = self.standing
        if not news.epoch or (news.epoch == old.epoch and news.version <= old.version):
            return False
        lost = old.epoch not in ("", news.epoch)
        if lost:
            self.floor = max(self.floor, old.settled)
        self.standing = news
        self._settled[news.epoch] = news.settled
        return lost

    def turned(self) -> bool:
        """Whether it has run dry since this was last asked, or has money again."""
        dry = self.cap is not None and self.spent + self.reserved >= self.cap
        turned, self.dry = dry is not self.dry, dry
        return turned

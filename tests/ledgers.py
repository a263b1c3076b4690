"""A bucket's day in the plainest words, and calls that live by it: what every ledger is held against."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from orchestrator.core.ledger import Claim, Grant, Message

CAP = 100
LEASE_MS = 1_000
REPLICAS = ("r0", "r1")
HOLDERS = 4

ACTS = (
    *("want", "start", "want", "start", "start unheard", "settle", "settle"),
    *("repeat", "stale", "close", "beat", "cut", "join", "wait", "wait"),
)
acts = st.lists(
    st.tuples(st.sampled_from(ACTS), st.integers(0, HOLDERS - 1), st.integers(0, 60)),
    min_size=30,
    max_size=60,
)


@dataclass
class Seen:
    """What a ledger has a holder down with."""

    replica: str
    number: int = 0
    counted: int = 0
    running: int = 0
    ahead: int = 0


@dataclass
class Model:
    """Nothing is kept that could be worked out: every figure is summed up from the holders."""

    cap: int
    holders: dict[str, Seen] = field(default_factory=dict)
    alive_until: dict[str, int] = field(default_factory=dict)

    @property
    def settled(self) -> int:
        return sum(seen.counted for seen in self.holders.values())

    @property
    def reserved(self) -> int:
        return sum(seen.running + seen.ahead for seen in self.holders.values())

    def expire(self, now: int) -> list[str]:
        """The holders that were given up."""
        gone = {replica for replica, until in self.alive_until.items() if until < now}
        self.alive_until = {r: until for r, until in self.alive_until.items() if r not in gone}
        lost = [name for name, seen in self.holders.items() if seen.replica in gone]
        for name in lost:
            seen = self.holders[name]
            seen.counted, seen.running, seen.ahead = seen.counted + seen.running, 0, 0
        return lost

    def tell(self, told: Message) -> int:
        seen = self.holders.setdefault(told.holder, Seen(told.replica))
        if told.number < seen.number:
            return seen.ahead
        claim, before = told.claim, seen.counted + seen.running
        others = sum(
            s.counted + s.running + s.ahead for name, s in self.holders.items() if name != told.holder
        )
        free = self.cap - others - claim.spent - claim.running
        rest = seen.ahead - max(0, claim.spent + claim.running - before)
        ahead = claim.ahead if claim.ahead <= free else max(0, min(rest, claim.ahead, free))
        self.holders[told.holder] = Seen(told.replica, told.number, claim.spent, claim.running, ahead)
        return ahead


@dataclass
class Player:
    """A call: what it really spent, what it has running, and what it believes to hold."""

    name: str
    replica: str
    spent: int = 0
    running: list[int] = field(default_factory=list)
    ahead: int = 0
    wanted: int = 0
    sent: list[Message] = field(default_factory=list)

    @property
    def claim(self) -> Claim:
        return Claim(self.spent, sum(self.running), self.wanted)

    @property
    def unheard(self) -> int:
        """What it spent and started without the ledger hearing of it."""
        heard = self.sent[-1].claim if self.sent else Claim()
        return max(0, self.spent + sum(self.running) - heard.spent - heard.running)


class Table:
    """`tell` and `stand` are the ledger's under test; they see the time in `now`.

    `exposed` sums up what calls had started unheard when their replica was given up: the only money that can take
    the balance below zero.
    """

    def __init__(
        self,
        tell: Callable[[Message], Awaitable[Grant]],
        stand: Callable[[], Awaitable[Grant]],
        beat: Callable[[str, list[str]], Awaitable[bool]],
    ) -> None:
        self._tell, self._stand, self._beat = tell, stand, beat
        self.now = 1_700_000_000_000
        self.model = Model(CAP)
        self.exposed = 0
        self._cut: set[str] = set()
        self._trusted_until = dict.fromkeys(REPLICAS, 0)
        self._played = 0
        self._gone: list[Player] = []
        self.players = [self._new(i) for i in range(HOLDERS)]

    def _new(self, index: int) -> Player:
        self._played += 1
        return Player(f"call {self._played}", REPLICAS[index % len(REPLICAS)])

    async def play(self, acts: list[tuple[str, int, int]]) -> None:
        for act, index, amount in acts:
            await self._act(act, index, amount)
            await self._check()
        await self._finish()

    async def _act(self, act: str, index: int, amount: int) -> None:
        player = self.players[index]
        cut = player.replica in self._cut
        match act:
            case "want":
                player.wanted = amount
                player.ahead = min(player.ahead, amount)
                await self._say(player)
            case "start" | "start unheard":
                self._start(player, amount)
                if act == "start":
                    await self._say(player)
            case "settle" if player.running:
                player.spent += min(player.running.pop(0), amount)
                await self._say(player)
            case "repeat" if player.sent and not cut:
                player.ahead = min(player.ahead, (await self._deliver(player.sent[-1])).ahead)
            case "stale" if player.sent and not cut:
                await self._deliver(player.sent[amount % len(player.sent)])
            case "close" if not player.running and not cut:
                player.wanted = 0
                await self._say(player)
                self._gone.append(player)
                self.players[index] = self._new(index)
            case "beat":
                await self._renew(player.replica)
            case "cut":
                self._cut.add(player.replica)
            case "join":
                await self._join(player.replica)
            case "wait":
                self.now += amount * 20

    def _start(self, player: Player, amount: int) -> None:
        if self.now > self._trusted_until[player.replica]:
            player.ahead = 0
        worst = min(amount, player.ahead)
        if worst:
            player.running.append(worst)
            player.ahead -= worst

    async def _say(self, player: Player) -> None:
        if player.replica in self._cut:
            return
        told = Message(player.name, player.replica, player.claim, len(player.sent) + 1)
        self._expire()
        player.sent.append(told)
        player.ahead = (await self._deliver(told)).ahead

    async def _deliver(self, told: Message) -> Grant:
        self._expire()
        if self.now > self._trusted_until[told.replica]:
            # By its own clock the replica knows that the lease was over: what it held is others' by now.
            for player in self.players:
                player.ahead = 0 if player.replica == told.replica else player.ahead
        self.model.alive_until[told.replica] = self._trusted_until[told.replica] = self.now + LEASE_MS
        ahead = self.model.tell(told)
        grant = await self._tell(told)
        assert (grant.ahead, grant.settled, grant.reserved) == (
            ahead,
            self.model.settled,
            self.model.reserved,
        )
        return grant

    async def _renew(self, replica: str) -> None:
        if replica in self._cut:
            return
        self._expire()
        known = replica in self.model.alive_until
        if self.model.alive_until:
            self.model.alive_until[replica] = self.now + LEASE_MS
        forget = [player.name for player in self._gone if player.replica == replica]
        alive = await self._beat(replica, forget)
        if not alive:
            await self._join(replica)
        elif known:
            self._trusted_until[replica] = self.now + LEASE_MS

    async def _join(self, replica: str) -> None:
        self._cut.discard(replica)
        for player in self.players:
            if player.replica == replica:
                await self._say(player)

    def _expire(self) -> None:
        lost = self.model.expire(self.now)
        self.exposed += sum(player.unheard for player in self.players if player.name in lost)

    async def _check(self) -> None:
        self._expire()
        stands = await self._stand()
        assert (stands.settled, stands.reserved) == (self.model.settled, self.model.reserved)
        assert stands.reserved >= 0
        assert CAP - stands.settled - stands.reserved >= -self.exposed

    async def _finish(self) -> None:
        """Everybody is back, and nothing runs any more: all that was spent is counted, and nothing else."""
        self._cut.clear()
        for player in self.players:
            player.spent += sum(worst // 2 for worst in player.running)
            player.running, player.wanted = [], 0
            await self._say(player)
        stands = await self._stand()
        assert stands.reserved == 0
        assert stands.settled == sum(player.spent for player in (*self.players, *self._gone))

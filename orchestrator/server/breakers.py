"""One breaker per rung, shared by all replicas: what one finds out moves the new calls of every other.

Each replica has its own breakers and decides from them. What opens one, sets it on trial or closes it is written to
the store and told to the others, and so is every response that counts towards closing it. Findings are in order by
the time they carry: one that is older than what is known is no news.

The rungs of Tier B's parts have breakers as well (`stt:faster-whisper`, `tts:cartesia`). The router does not look at
those; what fails on one of them is answered by the next one. Nothing probes them: when the wait of one that failed is
over, one real answer at a time tries it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from orchestrator.core.health import Breaker, BreakerPolicy, BreakerState, Cause, ProbeKind
from orchestrator.core.overrides import Tier
from orchestrator.server.link import Link
from orchestrator.server.rungs import RungSpec
from orchestrator.server.store import Store, StoreUnavailable

log = logging.getLogger(__name__)

PREFIX = "breaker:"
PARTS = ("stt", "agent", "tts")
"""Parts of Tier B, as they stand before the names of their rungs."""
_TRIAL = "trial"
_TTL_S = 300.0
"""How long a finding is news to a replica that starts: one that still holds is written again."""
_TICK_S = 1e-3
"""A later finding carries a later time, even where its replica's clock is behind."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the store keeps of a breaker. `state`: closed, open or canary; `cause` is "" where nothing was wrong;
    `at` is Unix seconds."""

    rung: str
    state: str
    cause: str
    at: float

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """Raises KeyError or ValueError where it is none."""
        state, cause = BreakerState(data["state"]), str(data["cause"])
        if state is not BreakerState.CLOSED:
            Cause.parse(cause)
        return cls(str(data["rung"]), state.value, cause, float(data["at"]))


class Breakers:
    """`on_change` is called with a rung when the calls it takes have changed."""

    def __init__(
        self,
        store: Store,
        link: Link,
        rungs: Iterable[RungSpec],
        policy: BreakerPolicy,
        *,
        on_change: Callable[[str], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: Callable[[], float],
    ) -> None:
        self._store = store
        self._link = link
        self._policy = policy
        # Engines of our own have no probes: calls prove them, so all may try one that is on trial.
        self._own_policy = replace(policy, canary_share=1.0, canary_successes=1)
        # Another rung is there at once, so one failure is enough; and one answer is enough to come back.
        self._part_policy = replace(policy, failures=1, canary_share=0.0, canary_successes=1)
        self._on_change = on_change
        self.watchers: list[Callable[[str, str, str], None]] = []
        """Called with rung, state and cause at each change, of parts too; they neither wait nor raise."""
        self._clock, self._wall, self._rng = clock, wall, rng
        self._probed = {spec.name for spec in rungs if spec.tier is Tier.A}
        self.by_rung = {spec.name: self._new(spec.name) for spec in rungs}
        self._local: set[str] = set()
        """Rungs that are this machine's own: how they do is no news to others."""
        self._known_at: dict[str, float] = {}
        """The time of the latest finding by rung."""
        self._to_probe = asyncio.Event()

    def of(self, rung: str) -> Breaker:
        """A part of a tier (its speech engine, say) may have a breaker without being a rung of the router."""
        breaker = self.by_rung.get(rung)
        if breaker is None:
            breaker = self.by_rung[rung] = self._new(rung)
        return breaker

    def _new(self, rung: str) -> Breaker:
        policy = self._policy if rung in self._probed else self._own_policy
        return Breaker(self._part_policy if self._is_part(rung) else policy, self._rng, rung)

    def _is_part(self, rung: str) -> bool:
        part, colon, _ = rung.partition(":")
        return bool(colon) and part in PARTS and rung not in self._probed

    # Parts of Tier B

    def add_part(self, rung: str, *, local: bool) -> None:
        """A rung of a part, by its whole name; `local` is one that runs on this machine."""
        self.of(rung)
        if local:
            self._local.add(rung)

    def admits_part(self, rung: str) -> bool:
        """Whether an answer may be made by this rung of a part. Where that is on trial, who asks is the trial."""
        breaker, now = self.of(rung), self._clock()
        admitted = breaker.admits("", now)
        if admitted:
            breaker.on_start(_TRIAL, now)
        return admitted

    def part_worked(self, rung: str) -> None:
        """A part's rung did its work for an answer. Where it is on trial that is the proof.

        Before its trial it is none: answers that had begun earlier come to their end while others fail.
        """
        breaker, now = self.of(rung), self._clock()
        breaker.last_success_at = now
        if breaker.state is BreakerState.CANARY:
            breaker.clear(now)
            self._tell_if_changed(breaker, BreakerState.CANARY)

    def _let_try(self, breaker: Breaker) -> None:
        """The wait of a part's rung is over."""
        before = _shared(breaker)
        if before is BreakerState.OPEN:
            breaker.prove(self._clock())
            self._tell_if_changed(breaker, before)
        else:
            breaker.postpone(self._clock())

    # What calls and probes find

    def failed(self, rung: str, cause: Cause) -> None:
        breaker = self.of(rung)
        before = _shared(breaker)
        breaker.on_failure(cause, self._clock())
        self._to_probe.set()
        self._tell_if_changed(breaker, before)

    def succeeded(self, rung: str, kind: ProbeKind) -> None:
        breaker = self.of(rung)
        before, counted = _shared(breaker), breaker.canary_successes
        breaker.on_success(kind, self._clock())
        self._to_probe.set()
        if _shared(breaker) is before is BreakerState.CANARY and breaker.canary_successes > counted:
            news = {"rung": rung, "at": self._known_at.get(rung, 0.0)}
            key = f"canary:{rung}:{breaker.canary_successes}"
            self._link.send(key, partial(self._link.publish, "canary", news))
        self._tell_if_changed(breaker, before)

    def _tell_if_changed(self, breaker: Breaker, before: BreakerState) -> None:
        rung, state = breaker.rung, _shared(breaker)
        if state is before:
            return
        cause = breaker.cause.id if breaker.cause else "recovered"
        log.warning("the breaker of %s is %s: %s", rung, state.value, cause)
        self._known_at[rung] = max(self._wall(), self._known_at.get(rung, 0.0) + _TICK_S)
        self._changed(rung)
        if rung not in self._local:
            self._link.send(f"{PREFIX}{rung}", partial(self._write, rung))

    def _changed(self, rung: str) -> None:
        breaker = self.of(rung)
        for watcher in self.watchers:
            watcher(rung, _shared(breaker).value, breaker.cause.id if breaker.cause else "")
        if not self._is_part(rung):
            self._on_change(rung)

    async def _write(self, rung: str) -> None:
        """As it is now, which may be later than what was to be told."""
        breaker = self.of(rung)
        cause = breaker.cause.id if breaker.cause else ""
        finding = asdict(Finding(rung, _shared(breaker).value, cause, self._known_at[rung]))
        await self._store.put(f"{PREFIX}{rung}", json.dumps(finding), _TTL_S)
        await self._link.publish("breaker", finding)

    # What other replicas find

    def learn(self, finding: Finding) -> None:
        breaker, now = self.of(finding.rung), self._clock()
        if finding.at <= self._known_at.get(finding.rung, 0.0):
            return
        self._known_at[finding.rung] = finding.at
        before = _shared(breaker)
        match BreakerState(finding.state):
            case BreakerState.CLOSED:
                breaker.clear(now)
            case BreakerState.CANARY:
                # One that missed the opening: nothing but a few calls may start here either.
                if before is BreakerState.CLOSED:
                    breaker.trip(Cause.parse(finding.cause), now)
                breaker.prove(now, elsewhere=True)
            case _:
                if before is not BreakerState.OPEN:
                    breaker.trip(Cause.parse(finding.cause), now)
        self._to_probe.set()
        if _shared(breaker) is not before:
            log.warning("the breaker of %s is %s on another replica", finding.rung, finding.state)
            self._changed(finding.rung)

    def learn_canary(self, rung: str, at: float) -> None:
        """Another replica had a response in the trial that began at `at`; together they are counted."""
        breaker = self.of(rung)
        if breaker.state is BreakerState.CANARY and at == self._known_at.get(rung):
            breaker.on_success(ProbeKind.RESPONSE, self._clock())
            self._tell_if_changed(breaker, BreakerState.CANARY)

    def refresh(self, stored: Mapping[str, Finding]) -> None:
        """All that the store knows. What is still in doubt here when its finding expired is written again."""
        for finding in stored.values():
            self.learn(finding)
        for rung, breaker in self.by_rung.items():
            if rung in self._local:
                continue
            if _shared(breaker) is not BreakerState.CLOSED and f"{PREFIX}{rung}" not in stored:
                self._link.send(f"{PREFIX}{rung}", partial(self._write, rung))

    # Probes

    async def probes(self) -> AsyncIterator[tuple[str, ProbeKind]]:
        """For ever: the probes to make, when they are due. Of several replicas one gets each."""
        while True:
            for rung, breaker in list(self.by_rung.items()):
                kind = breaker.probe_due(self._clock())
                if kind is None:
                    continue
                if rung not in self._local and not await self._claim(breaker):
                    breaker.postpone(self._clock())
                elif self._is_part(rung):
                    self._let_try(breaker)
                elif (kind := breaker.probe_due(self._clock())) is not None:
                    breaker.on_probe(self._clock())
                    yield rung, kind
            await self._until_one_is_due()

    async def _claim(self, breaker: Breaker) -> bool:
        key, wait = f"probe:{breaker.rung}:{_shared(breaker).value}", breaker.wait_s
        try:
            # Shorter than any wait of whoever made this one, for their own next.
            return await self._store.add(key, 1, wait * (1.0 - self._policy.jitter)) == 1
        except StoreUnavailable:
            return True

    async def _until_one_is_due(self) -> None:
        self._to_probe.clear()
        due = [b.next_probe_at for b in self.by_rung.values() if b.next_probe_at is not None]
        wait = max(0.0, min(due) - self._clock()) if due else None
        try:
            async with asyncio.timeout(wait):
                await self._to_probe.wait()
        except TimeoutError:
            pass


def _shared(breaker: Breaker) -> BreakerState:
    """The state as others are told of it: a probe under way is this replica's own business."""
    return BreakerState.OPEN if breaker.is_open else breaker.state

"""What this replica knows of the fleet: breakers, overrides and bucket balances, kept in memory.

Decisions are made from memory alone. What is found out or ordered here applies here at once and reaches the other
replicas through the store (see `link.py`). Without the store a replica carries on with its last view, and
`Fleet.status` says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from orchestrator.config import Settings
from orchestrator.core.budget import BudgetState, CallBudget
from orchestrator.core.explaining import Explanation, explain
from orchestrator.core.health import Breaker, BreakerPolicy, Cause, ProbeKind
from orchestrator.core.overrides import (
    ALL_CALLS,
    Limit,
    Override,
    OverrideError,
    Tier,
    When,
    extended,
    make_override,
)
from orchestrator.core.prices import nanodollars
from orchestrator.core.route_sentences import BreakerFacts
from orchestrator.core.routing import ONE_WAY_PURPOSES, Decision, Reason, RouteRequest, Rung, View, decide
from orchestrator.server.breakers import PREFIX, Breakers, Finding
from orchestrator.server.ledger import Ledgers
from orchestrator.server.link import Link
from orchestrator.server.rungs import RungSpec, configured_rungs
from orchestrator.server.store import Store

T = TypeVar("T")

log = logging.getLogger(__name__)

CHANNEL = "fleet"
_DAY_S = 86_400.0
_NO_BUDGET = CallBudget(None)


class ChangeKind(Enum):
    OVERRIDE = "override"
    BREAKER = "breaker"
    BUCKET = "bucket"
    """A bucket ran out of money, or has some again."""
    RUNG = "rung"
    """A tier became ready, or ceased to be."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that may change decisions. `key`: an override's id, a rung, a bucket or a tier."""

    kind: ChangeKind
    key: str


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """How things stand with the store. `away_since` is Unix seconds; None while it answers."""

    replica: str
    store: str
    connected: bool
    away_since: float | None
    unsent: int
    """Writes that wait for the store."""


class Fleet:
    """Not thread-safe: everything runs on the event loop. `clock` is monotonic, `wall` is Unix seconds."""

    def __init__(
        self,
        store: Store,
        rungs: Sequence[RungSpec],
        *,
        breaker_policy: BreakerPolicy | None = None,
        bucket_caps: Mapping[str, int] | None = None,
        one_way_purposes: frozenset[str] = ONE_WAY_PURPOSES,
        promote: bool = True,
        refresh_s: float = 15.0,
        lease_s: float = 30.0,
        allowance: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.rungs = tuple(rungs)
        self._store = store
        self._one_way_purposes = one_way_purposes
        self._promote = promote
        self._clock, self._wall = clock, wall

        self._missing: dict[Tier, Reason] = {}
        self._overrides: dict[str, Override] = {}
        self._cleared: dict[str, float] = {}
        """Overrides that were cleared, and when they would have ended: who had not heard may tell of them again."""
        self._listeners: list[Callable[[Change], None]] = []

        self._link = Link(
            store,
            CHANNEL,
            on_news=self._apply,
            refresh=self._refresh,
            refresh_s=refresh_s,
            wall=wall,
            rng=rng,
        )
        self.ledgers = Ledgers(
            store,
            self._link,
            bucket_caps or {},
            on_turn=partial(self._notify, ChangeKind.BUCKET),
            lease_s=lease_s,
            allowance=allowance,
            clock=clock,
            wall=wall,
        )
        self._breakers = Breakers(
            store,
            self._link,
            self.rungs,
            breaker_policy or BreakerPolicy(),
            on_change=partial(self._notify, ChangeKind.BREAKER),
            clock=clock,
            wall=wall,
            rng=rng,
        )
        self._placed: dict[str, str] = {}
        """The call that was last told to use a rung, by rung."""
        self._touched: set[str] = set()
        """What changed while a refresh was reading: newer than what it read."""
        self._epoch = ""
        self._alarm: asyncio.TimerHandle | None = None
        self._day = self.ledgers.today()

    @classmethod
    def from_settings(cls, store: Store, settings: Settings, **options: Any) -> Fleet:
        """A fleet as configured. Tiers B and C count as missing until `set_ready` is called for them."""
        budget = settings.budget
        caps = {name: cap for name in budget.buckets if (cap := budget.bucket_nanodollars(name)) is not None}
        fleet = cls(
            store,
            configured_rungs(settings),
            breaker_policy=settings.breaker.policy(),
            bucket_caps=caps,
            one_way_purposes=frozenset(settings.tier_c.one_way_purposes),
            promote=settings.promotion.mode != "never",
            lease_s=budget.lease_s,
            allowance=nanodollars(budget.allowance_usd) if budget.store_away == "allowance" else 0,
            **options,
        )
        fleet._missing[Tier.B] = fleet._missing[Tier.C] = Reason.NOT_READY
        return fleet

    # Life

    async def start(self) -> None:
        """Reads the store once, if it answers, and keeps up with it from then on."""
        await self._link.start()
        self.ledgers.start()
        self._set_alarm()

    async def close(self) -> None:
        """Stops. What is still unsent is tried once more; the store stays open."""
        if self._alarm is not None:
            self._alarm.cancel()
        await self.ledgers.close()
        await self._link.close()

    def status(self) -> FleetStatus:
        link = self._link
        return FleetStatus(
            link.replica, self._store.kind, link.away_since is None, link.away_since, link.unsent
        )

    def on_change(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Calls `callback` for every change; what is returned ends that.

        It is called soon, not at once: a call that reports a fault is done reporting before it is asked
        to think again.
        """
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    # Decisions

    def decide(
        self,
        request: RouteRequest,
        budget: CallBudget | None = None,
        excluded: frozenset[str] = frozenset(),
    ) -> Decision:
        """The rung for a call, from what is known at this moment; `budget` is the call's own.

        `excluded` are tiers and rungs not to be chosen, because they have just failed this call.
        """
        return decide(request, self.view(request, budget, excluded), self._wall())

    def explain(
        self,
        request: RouteRequest,
        budget: CallBudget | None = None,
        excluded: frozenset[str] = frozenset(),
    ) -> Explanation:
        """The decision of `decide`, with why and what would change it; for people, as it takes longer."""
        return explain(request, self.view(request, budget, excluded), self._wall(), self._breaker_facts())

    def _breaker_facts(self) -> dict[str, BreakerFacts]:
        # Breakers live on the monotonic clock; people do not.
        offset = self._wall() - self._clock()
        return {
            name: BreakerFacts(
                breaker.state,
                breaker.cause.id if breaker.cause else "",
                None if breaker.opened_at is None else breaker.opened_at + offset,
                None if breaker.next_probe_at is None else breaker.next_probe_at + offset,
                breaker.canary_successes,
                breaker.policy.canary_successes,
            )
            for name, breaker in self._breakers.by_rung.items()
        }

    def place(
        self,
        request: RouteRequest,
        budget: CallBudget | None = None,
        excluded: frozenset[str] = frozenset(),
    ) -> Decision:
        """As `decide`, for a call that may go by it: if it does, `started` is called next."""
        decision = self.decide(request, budget, excluded)
        self._placed[decision.rung] = request.call_id
        return decision

    def started(self, rung: str) -> None:
        """The call that was last placed on `rung` opens a session there, in the same turn of the event loop.

        A call that was let in to a rung on trial stays let in from here on; asking alone takes nobody's turn.
        """
        self._breakers.of(rung).on_start(self._placed.get(rung, ""), self._clock())

    def view(
        self,
        request: RouteRequest,
        budget: CallBudget | None = None,
        excluded: frozenset[str] = frozenset(),
    ) -> View:
        now, bucket = self._clock(), self.ledgers.view(request.bucket)
        budget = budget or _NO_BUDGET
        return View(
            rungs=[self._rung(spec, request.call_id, budget, now) for spec in self.rungs],
            overrides=list(self._overrides.values()),
            budget=BudgetState(
                call_spent=budget.spent,
                call_cap=budget.cap,
                call_reserved=budget.reserved,
                bucket_spent=bucket.spent,
                bucket_cap=bucket.cap,
                bucket_reserved=bucket.reserved,
                held=budget.ahead,
                level=budget.level,
            ),
            one_way_purposes=self._one_way_purposes,
            promote=self._promote,
            excluded=excluded,
        )

    def _rung(self, spec: RungSpec, call_id: str, budget: CallBudget, now: float) -> Rung:
        breaker = self._breakers.of(spec.name)
        missing = self.missing_rung(spec)
        barred = not breaker.admits(call_id, now)
        cause = breaker.cause.id if barred and breaker.cause else ""
        least = budget.least.get(spec.name, spec.least)
        return Rung(spec.tier, spec.name, spec.paid, spec.usd_per_minute, least, missing, barred, cause)

    # Readiness

    def set_ready(self, tier: Tier) -> None:
        if self._missing.pop(tier, None) is not None:
            self._notify(ChangeKind.RUNG, tier)

    def set_missing(self, tier: Tier, reason: Reason = Reason.NOT_READY) -> None:
        if self._missing.get(tier) is not reason:
            self._missing[tier] = reason
            self._notify(ChangeKind.RUNG, tier)

    def missing(self, tier: Tier) -> Reason | None:
        """Why a tier cannot be used at all; None where one of its rungs can."""
        reasons = [self.missing_rung(spec) for spec in self.rungs if spec.tier is tier]
        return None if None in reasons or not reasons else reasons[0]

    def missing_rung(self, spec: RungSpec) -> Reason | None:
        """Why a rung cannot be used at all; None where it can."""
        return spec.missing or self._missing.get(spec.tier)

    # Health

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """To be read only; tell `failed` and `succeeded` what happened."""
        return self._breakers.by_rung

    def watch_breakers(self, callback: Callable[[str, str, str], None]) -> None:
        """Calls `callback` at once with rung, state and cause of each change, of parts of tiers too."""
        self._breakers.watchers.append(callback)

    def failed(self, rung: str, cause: Cause) -> None:
        """A fault of `rung`, in a call or a probe."""
        self._breakers.failed(rung, cause)

    def succeeded(self, rung: str, kind: ProbeKind) -> None:
        """A session opened or a response completed on `rung`, in a call or a probe."""
        self._breakers.succeeded(rung, kind)

    def add_part(self, rung: str, *, local: bool) -> None:
        """A rung of a part of Tier B (`stt:faster-whisper`) gets a breaker; `local` ones are nobody else's news."""
        self._breakers.add_part(rung, local=local)

    def admits_part(self, rung: str) -> bool:
        """Whether an answer may be made by a part's rung. Who asks for one on trial is its trial."""
        return self._breakers.admits_part(rung)

    def part_worked(self, rung: str) -> None:
        """A part's rung did its work for an answer."""
        self._breakers.part_worked(rung)

    def probes(self) -> AsyncIterator[tuple[str, ProbeKind]]:
        """For ever: the probes to make, when they are due. Of several replicas one gets each.

        The outcome is told with `failed` or `succeeded`.
        """
        return self._breakers.probes()

    # Overrides

    @property
    def overrides(self) -> list[Override]:
        """Those in force, the newest first."""
        now = self._wall()
        return sorted(
            (o for o in self._overrides.values() if not o.expired(now)), key=lambda o: o.created, reverse=True
        )

    def force(
        self,
        *,
        tier: str,
        scope: str,
        duration: str,
        reason: str,
        who: str,
        limit: str = Limit.FORCE,
        share: float = ALL_CALLS,
        when: str = When.NEXT_TURN,
        name: str = "",
        typed: str = "",
    ) -> Override:
        """Makes an override out of an operator's words; OverrideError says what is wrong with them."""
        override = make_override(
            id=f"ovr_{uuid.uuid4().hex[:8]}",
            tier=tier,
            scope=scope,
            duration=duration,
            reason=reason,
            who=who,
            now=self._wall(),
            limit=limit,
            share=share,
            when=when,
            name=name,
            typed=typed,
        )
        known = [spec.name for spec in self.rungs if spec.tier is override.tier]
        if override.rung and override.rung not in known:
            there = ", ".join(f"{override.tier}/{name}" for name in known) or "none"
            raise OverrideError(
                "tier", f"tier {override.tier} has no rung {override.rung!r}; there are: {there}"
            )
        self._order(override)
        return override

    def extend(self, override_id: str, duration: str) -> Override | None:
        """Gives an override in force a new time to live, from now on; None where there is none of that id."""
        override = self._overrides.get(override_id)
        if override is None or override.expired(self._wall()):
            return None
        override = extended(override, duration, self._wall())
        self._order(override)
        return override

    def _order(self, override: Override) -> None:
        self._put_override(override)
        self._link.send(f"override:{override.id}", partial(self._write_override, override))

    def clear(self, override_id: str) -> bool:
        """Ends an override; False where there is none of that id."""
        if not self._clear_here(override_id):
            return False
        self._link.send(f"override:{override_id}", partial(self._write_cleared, override_id))
        return True

    def _clear_here(self, override_id: str) -> bool:
        override = self._overrides.get(override_id)
        if override is not None:
            self._cleared[override_id] = override.until
        return self._drop_override(override_id)

    def _learn_override(self, override: Override) -> None:
        """From the store or another replica. What was cleared while the store was away stays so."""
        if override.id in self._cleared:
            self._link.send(f"override:{override.id}", partial(self._write_cleared, override.id))
        else:
            self._put_override(override)

    def _put_override(self, override: Override) -> None:
        self._touched.add(f"override:{override.id}")
        if self._overrides.get(override.id) != override and not override.expired(self._wall()):
            self._overrides[override.id] = override
            self._set_alarm()
            self._notify(ChangeKind.OVERRIDE, override.id)

    def _drop_override(self, override_id: str) -> bool:
        self._touched.add(f"override:{override_id}")
        if self._overrides.pop(override_id, None) is None:
            return False
        self._notify(ChangeKind.OVERRIDE, override_id)
        return True

    async def _write_override(self, override: Override) -> None:
        left = override.until - self._wall()
        if left > 0:
            await self._store.put(f"override:{override.id}", json.dumps(override.to_dict()), left)
            await self._link.publish("override", override.to_dict())

    async def _write_cleared(self, override_id: str) -> None:
        await self._store.delete(f"override:{override_id}")
        await self._link.publish("override_gone", {"id": override_id})

    # What passes with time

    def _set_alarm(self) -> None:
        """For the next override to expire, and for midnight, when buckets are full again."""
        if self._alarm is not None:
            self._alarm.cancel()
        now = self._wall()
        next_midnight = (now // _DAY_S + 1) * _DAY_S
        due = min([next_midnight, *(o.until for o in self._overrides.values())])
        self._alarm = asyncio.get_running_loop().call_later(max(0.0, due - now), self._on_alarm)

    def _on_alarm(self) -> None:
        now = self._wall()
        for override in list(self._overrides.values()):
            if override.expired(now):
                self._drop_override(override.id)
        self._cleared = {id: until for id, until in self._cleared.items() if until > now}
        if self.ledgers.today() != self._day:
            self._day = self.ledgers.today()
            self.ledgers.turn_day()
            for bucket in self.ledgers.caps:
                self._notify(ChangeKind.BUCKET, bucket)
        self._set_alarm()

    def _notify(self, kind: ChangeKind, key: str) -> None:
        if self._listeners:
            asyncio.get_running_loop().call_soon(self._tell, Change(kind, key))

    def _tell(self, change: Change) -> None:
        for callback in list(self._listeners):
            try:
                callback(change)
            except Exception:
                log.exception("a listener failed on a change of %s %s", change.kind.value, change.key)

    # From the store

    def _apply(self, news: dict[str, Any]) -> None:
        match news["kind"]:
            case "override":
                self._learn_override(Override.from_dict(news))
            case "override_gone":
                self._clear_here(news["id"])
            case "breaker":
                self._breakers.learn(Finding.from_dict(news))
            case "canary":
                self._breakers.learn_canary(str(news["rung"]), float(news["at"]))
            case "bucket":
                self.ledgers.learn(news)

    async def _refresh(self) -> None:
        """Reads everything. What changed meanwhile, or still waits to be written, is newer and stays."""
        self._touched.clear()
        if await self._was_wiped():
            log.warning("the store lost its memory; putting back the overrides")
            for override in self._overrides.values():
                self._link.send(f"override:{override.id}", partial(self._write_override, override))
        overrides = await self._read_all("override:", Override.from_dict)
        findings = await self._read_all(PREFIX, Finding.from_dict)
        await self.ledgers.refresh()

        for override_id in [id for id in self._overrides if f"override:{id}" not in overrides]:
            if self._may_learn(f"override:{override_id}"):
                self._drop_override(override_id)
        for key, override in overrides.items():
            if self._may_learn(key):
                self._learn_override(override)
        self._breakers.refresh(findings)

    def _may_learn(self, key: str) -> bool:
        return key not in self._touched and not self._link.is_pending(key)

    async def _was_wiped(self) -> bool:
        """Whether the store lost its memory since it was last read: it then has no mark, or another one."""
        epoch = await self._store.get("epoch")
        known = self._epoch
        if epoch is None:
            epoch = uuid.uuid4().hex
            await self._store.put("epoch", epoch)
        self._epoch = epoch
        return known not in ("", epoch)

    async def _read_all(self, prefix: str, parse: Callable[[dict[str, Any]], T]) -> dict[str, T]:
        found = {}
        for key in await self._store.keys(prefix):
            value = await self._store.get(key)
            if value is None:
                continue
            try:
                found[key] = parse(json.loads(value))
            except (ValueError, KeyError, TypeError) as error:
                log.warning("ignored %s in the store, which is not what it should be: %r", key, error)
        return found

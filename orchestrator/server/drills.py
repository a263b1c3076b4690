"""Drills of the fleet: mirrored to all replicas as overrides are, and what came of each call kept in the store.

No call waits for a drill. Whether a call is one of those that a drill may have, the store decides while it begins;
where the store is away, it is not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol

from orchestrator.core.drills import Drill, Plan, Result, make_drill, noted, plan_for
from orchestrator.server.link import Link
from orchestrator.server.store import Store, StoreUnavailable

log = logging.getLogger(__name__)

CHANNEL = "drills"
KEPT_S = 7 * 86_400.0
"""How long a drill's report can be asked for."""
ENDED_ROWS = frozenset({"turn_ended", "turn_closed", "gap", "bridge", "charge", "handover", "call_ended"})


Practise = Callable[[Plan | None], None]
"""What a call has still to practise; None: nothing any more."""


class CallNamed(Protocol):
    """Whom a call is for."""

    call_id: str
    user: str
    purpose: str
    bucket: str
    started_at: float


@dataclass(slots=True)
class _Call:
    plan: Plan
    practise: Practise
    result: Result
    struck_at: float = 0.0


class Drills:
    """Not thread-safe: everything runs on the event loop. `wall` is Unix seconds, `clock` monotonic."""

    def __init__(
        self,
        store: Store,
        *,
        on_end: Callable[[Drill], None] = lambda drill: None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._wall, self._clock, self._on_end = store, wall, clock, on_end
        self._drills: dict[str, Drill] = {}
        self._calls: dict[str, _Call] = {}
        """Calls of this replica that practise."""
        self._link = Link(store, CHANNEL, on_news=self._apply, refresh=self._refresh, wall=wall, rng=rng)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._link.start()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.close()

    # --- by an operator's hand ---

    @property
    def drills(self) -> list[Drill]:
        """Those known, the newest first; most are over."""
        return sorted(self._drills.values(), key=lambda drill: drill.created, reverse=True)

    def find(self, drill_id: str) -> Drill | None:
        return self._drills.get(drill_id)

    def begin(self, **words: Any) -> Drill:
        """A drill out of an operator's words (see `make_drill`); OverrideError says what is wrong with them."""
        drill = make_drill(id=f"drl_{uuid.uuid4().hex[:8]}", now=self._wall(), **words)
        self._put(drill)
        return drill

    def end(self, drill_id: str, why: str) -> Drill | None:
        """No call is struck from now on; None where none of that id goes on."""
        drill = self._drills.get(drill_id)
        if drill is None or drill.over(self._wall()):
            return None
        drill = replace(drill, ended=why)
        self._put(drill)
        return drill

    async def results(self, drill_id: str) -> list[Result]:
        """Of all replicas; StoreUnavailable where the store cannot be asked."""
        found = []
        for key in await self._store.keys(f"drill_call:{drill_id}:"):
            if (value := await self._store.get(key)) is not None:
                found.append(Result(**json.loads(value)))
        return found

    # --- calls ---

    def call_began(self, info: CallNamed, practise: Practise) -> None:
        """A call is there; if a drill may have it, `practise` is called soon."""
        if not self._drills:
            return
        plan = plan_for(
            list(self._drills.values()),
            call_id=info.call_id,
            user=info.user,
            purpose=info.purpose,
            bucket=info.bucket,
            started=info.started_at,
        )
        if plan is not None:
            self._run(self._take(info.call_id, plan, practise))

    async def _take(self, call_id: str, plan: Plan, practise: Practise) -> None:
        drill = self._drills[plan.drill_id]
        try:
            taken = await self._store.add(f"drill_calls:{drill.id}", 1, KEPT_S, once=call_id)
        except StoreUnavailable:
            return
        if taken <= drill.most and not self._drills[drill.id].over(self._wall()):
            self._calls[call_id] = _Call(plan, practise, Result(call_id))
            practise(plan)

    def note(self, call_id: str, type: str, fields: dict[str, Any]) -> None:
        """A row of a call's timeline."""
        call = self._calls.get(call_id)
        if call is None:
            return
        if type == "drill":
            call.result = replace(call.result, struck=not fields["skipped"], skipped=fields["skipped"])
            call.struck_at = self._clock()
        elif call.result.struck and type in ENDED_ROWS:
            lost = call.result.lost
            call.result = noted(call.result, type, fields, self._clock() - call.struck_at)
            if call.result.lost > lost == 0:
                self._run(self._went_wrong(call_id, call.plan.drill_id))
        elif type != "call_ended":
            return
        if type == "call_ended":
            call.result = replace(call.result, ended=True)
            del self._calls[call_id]
        key = f"drill_call:{call.plan.drill_id}:{call_id}"
        self._link.send(key, partial(self._write, key, call.result))

    async def _write(self, key: str, result: Result) -> None:
        await self._store.put(key, json.dumps(asdict(result)), KEPT_S)

    async def _went_wrong(self, call_id: str, drill_id: str) -> None:
        try:
            wrong = await self._store.add(f"drill_wrong:{drill_id}", 1, KEPT_S, once=call_id)
        except StoreUnavailable:
            wrong = self._drills[drill_id].wrong  # it cannot be told how many: rather stop
        if wrong >= self._drills[drill_id].wrong:
            ended = self.end(drill_id, f"{wrong} calls lost a turn")
            if ended is not None:
                log.warning("drill %s has ended by itself: %s", drill_id, ended.ended)
                self._on_end(ended)

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the store ---

    def _put(self, drill: Drill) -> None:
        self._know(drill)
        self._link.send(f"drill:{drill.id}", partial(self._write_drill, drill))

    async def _write_drill(self, drill: Drill) -> None:
        await self._store.put(f"drill:{drill.id}", json.dumps(drill.to_dict()), KEPT_S)
        await self._link.publish("drill", drill.to_dict())

    def _apply(self, news: dict[str, Any]) -> None:
        drill = Drill.from_dict(news)
        known = self._drills.get(drill.id)
        if known is None or not known.ended:  # what has ended does not begin again
            self._know(drill)

    def _know(self, drill: Drill) -> None:
        self._drills[drill.id] = drill
        for call in self._calls.values():
            if drill.ended and call.plan.drill_id == drill.id:
                call.practise(None)

    async def _refresh(self) -> None:
        for key in await self._store.keys("drill:"):
            value = await self._store.get(key)
            try:
                if value is not None and not self._link.is_pending(key):
                    self._apply(json.loads(value))
            except (ValueError, KeyError, TypeError) as error:
                log.warning("ignored %s in the store, which is not what it should be: %r", key, error)

"""Tool calls that a person has to approve: known to all replicas, decided once, by whoever is asked first.

The replica of the call asks, and holds what is to be done with the answer. The others know of it through the store
(see `link.py`), so that a reviewer can decide at any of them. Which decision counts the store decides: the first one.
Nobody's answer in time is a no; a call that ends takes back what it asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeVar

from orchestrator.core.actions import AskApproval
from orchestrator.core.redaction import Redactor
from orchestrator.server.business_events import CallOf
from orchestrator.server.link import Link, end_tasks
from orchestrator.server.store import Store, StoreUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

CHANNEL = "approvals"
PENDING = "approval:"
DECIDED = "approval_decision:"
KEEP_S = 3600.0
"""How long a decision is known after it was made, so that a second one is told of it."""
SPARE_S = 30.0
"""How long what is pending stays in the store beyond its time."""
TIMEOUT, WITHDRAWN, UNAVAILABLE = "timeout", "withdrawn", "unavailable"
"""Who decided where nobody did."""
CANNOT_ASK = "cannot be asked now"

Decide = Callable[[bool, str, str], None]
"""``decide(approved, who, reason)``"""


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody is asked to decide about; times are Unix seconds. It holds no secrets."""

    id: str
    call_id: str
    tool_call_id: str
    tool: str
    arguments: Mapping[str, Any]
    summary: str
    user: str
    bucket: str
    purpose: str
    asked_at: float
    expires_at: float

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Approval:
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it was decided, and by whose key. `token` makes it another one than any other with the same words."""

    approved: bool
    who: str
    reason: str
    at: float
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    by: str = ""

    @property
    def word(self) -> str:
        return "approved" if self.approved else "rejected"

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Verdict:
        return cls(
            **{name: fields[name] for name in cls.__dataclass_fields__ if name != "by"},
            by=fields.get("by", ""),
        )


class UnknownApproval(LookupError):
    """There is none of that id."""


class AlreadyDecided(Exception):
    """Somebody was quicker, or it is too late."""

    def __init__(self, approval_id: str, verdict: Verdict) -> None:
        self.verdict = verdict
        why = f" ({verdict.reason})" if verdict.reason else ""
        super().__init__(f"{approval_id} was {verdict.word} by {verdict.who} already{why}")


@dataclass(slots=True)
class _Asked:
    """What this replica asked for one of its calls."""

    approval: Approval
    decide: Decide
    timer: asyncio.TimerHandle


class Approvals:
    """Not thread-safe: everything runs on the event loop. `wall` is Unix seconds."""

    def __init__(
        self,
        store: Store,
        timeout_s: float,
        redactor: Redactor | None = None,
        *,
        refresh_s: float = 15.0,
        wall: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._redactor = redactor or Redactor()
        self._wall = wall
        self._link = Link(
            store,
            CHANNEL,
            on_news=self._apply,
            refresh=self._refresh,
            refresh_s=refresh_s,
            wall=wall,
            rng=rng,
        )
        self._pending: dict[str, Approval] = {}
        """Of all replicas."""
        self._asked: dict[str, _Asked] = {}
        self._touched: set[str] = set()
        """What changed while a refresh was reading: newer than what it read."""
        self._tasks: set[asyncio.Task[None]] = set()

    # Life

    async def start(self) -> None:
        """Reads what is pending, if the store answers, and keeps up with it from then on."""
        await self._link.start()

    async def close(self) -> None:
        """Takes back what its calls asked: they end with this process. The store stays open."""
        for asked in list(self._asked.values()):
            self.withdraw(asked.approval.call_id)
        await end_tasks(self._tasks)
        await self._link.close()

    # For calls

    def ask(self, info: CallOf, action: AskApproval, decide: Decide) -> None:
        """Asks all reviewers. `decide` is called once, soon, or after a while, unless the call withdraws.

        Where they cannot be asked, because the store is away, the answer is no at once.
        """
        approval = self._approval(info, action)
        loop = asyncio.get_running_loop()
        if self._link.away_since is not None:
            loop.call_soon(decide, False, UNAVAILABLE, CANNOT_ASK)
            return
        timer = loop.call_later(self._timeout_s, lambda: self._spawn(self._time_out(approval)))
        self._asked[approval.id] = _Asked(approval, decide, timer)
        self._put(approval)
        self._spawn(self._announce(approval))

    def withdraw(self, call_id: str) -> None:
        """The call is over: nobody has to decide about what it asked any more, and nobody can."""
        for approval_id, asked in list(self._asked.items()):
            if asked.approval.call_id == call_id:
                asked.timer.cancel()
                del self._asked[approval_id]
                self._take_back(approval_id)

    # For reviewers

    def pending(self) -> list[Approval]:
        """What waits for a decision, of all replicas' calls, the oldest first."""
        now = self._wall()
        waiting = (approval for approval in self._pending.values() if approval.expires_at > now)
        return sorted(waiting, key=lambda approval: (approval.asked_at, approval.id))

    async def decide(
        self, approval_id: str, approve: bool, who: str, reason: str = "", *, by: str = ""
    ) -> tuple[Approval, Verdict]:
        """Somebody decides. Raises UnknownApproval, AlreadyDecided or StoreUnavailable.

        After StoreUnavailable it may count nevertheless: who tries again is told so by AlreadyDecided.
        """
        said = self._redactor.text
        verdict = Verdict(approve, said(who), said(reason), self._wall(), by=by)
        try:
            return await self._decide(approval_id, verdict)
        except StoreUnavailable as error:
            self._link.lost(error)
            raise

    async def _decide(self, approval_id: str, verdict: Verdict) -> tuple[Approval, Verdict]:
        approval = self._pending.get(approval_id) or await self._read(PENDING + approval_id, Approval.parse)
        if approval is None:
            standing = await self._read(DECIDED + approval_id, Verdict.parse)
            if standing is None:
                raise UnknownApproval(approval_id)
            raise AlreadyDecided(approval_id, standing)
        late = approval.expires_at <= self._wall()
        standing = await self._settle(approval_id, self._nobodys(TIMEOUT) if late else verdict)
        self._end(approval_id, standing)
        self._link.send(PENDING + approval_id, partial(self._tell, approval_id, standing))
        if standing != verdict:
            raise AlreadyDecided(approval_id, standing)
        why = verdict.reason or "no reason given"
        log.warning(
            "%s (%s) %s tool %s in call %s: %s",
            verdict.who,
            verdict.by,
            verdict.word,
            approval.tool,
            approval.call_id,
            why,
        )
        return approval, verdict

    # The course of one

    def _approval(self, info: CallOf, action: AskApproval) -> Approval:
        shown = self._redactor.redact({"arguments": action.arguments, "summary": action.summary})
        now = self._wall()
        return Approval(
            id=f"apr_{uuid.uuid4().hex[:12]}",
            call_id=info.call_id,
            tool_call_id=action.tool_call_id,
            tool=action.tool,
            arguments=shown["arguments"],
            summary=shown["summary"],
            user=info.user,
            bucket=info.bucket,
            purpose=info.purpose,
            asked_at=now,
            expires_at=now + self._timeout_s,
        )

    async def _announce(self, approval: Approval) -> None:
        try:
            await self._write(approval)
            await self._link.publish("asked", asdict(approval))
        except StoreUnavailable as error:
            self._link.lost(error)
            if approval.id in self._asked:
                self._end(approval.id, Verdict(False, UNAVAILABLE, CANNOT_ASK, self._wall()))
                self._take_back(approval.id)

    async def _write(self, approval: Approval) -> None:
        left = max(0.0, approval.expires_at - self._wall())
        await self._store.put(PENDING + approval.id, json.dumps(asdict(approval)), left + SPARE_S)

    async def _time_out(self, approval: Approval) -> None:
        if approval.id not in self._asked:
            return
        verdict = self._nobodys(TIMEOUT)
        try:
            verdict = await self._settle(approval.id, verdict)
        except StoreUnavailable as error:
            # Whatever was decided elsewhere: it is not known here, and the caller has waited long enough.
            self._link.lost(error)
        self._end(approval.id, verdict)
        self._link.send(PENDING + approval.id, partial(self._tell, approval.id, verdict))

    def _nobodys(self, who: str) -> Verdict:
        reason = f"nobody decided within {self._timeout_s:g} s" if who == TIMEOUT else "the call is over"
        return Verdict(False, who, reason, self._wall())

    async def _settle(self, approval_id: str, verdict: Verdict) -> Verdict:
        """The decision that counts: this one, if it is the first."""
        held = await self._store.put_if(
            DECIDED + approval_id, None, json.dumps(asdict(verdict)), KEEP_S + self._timeout_s
        )
        return verdict if held is None else Verdict.parse(json.loads(held))

    def _end(self, approval_id: str, verdict: Verdict) -> None:
        """It is decided; the call hears of it, if it is one of this replica's."""
        self._forget(approval_id)
        asked = self._asked.pop(approval_id, None)
        if asked is None:
            return
        asked.timer.cancel()
        try:
            asked.decide(verdict.approved, verdict.who, verdict.reason)
        except Exception:
            log.exception("call %s could not take the decision on %s", asked.approval.call_id, approval_id)

    async def _tell(self, approval_id: str, verdict: Verdict) -> None:
        await self._store.delete(PENDING + approval_id)
        await self._link.publish("decided", {"id": approval_id, "verdict": asdict(verdict)})

    def _take_back(self, approval_id: str) -> None:
        self._forget(approval_id)
        self._link.send(PENDING + approval_id, partial(self._write_withdrawn, approval_id))

    async def _write_withdrawn(self, approval_id: str) -> None:
        await self._tell(approval_id, await self._settle(approval_id, self._nobodys(WITHDRAWN)))

    def _put(self, approval: Approval) -> None:
        self._touched.add(approval.id)
        self._pending[approval.id] = approval

    def _forget(self, approval_id: str) -> None:
        self._touched.add(approval_id)
        self._pending.pop(approval_id, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # From the store

    def _apply(self, news: dict[str, Any]) -> None:
        match news["kind"]:
            case "asked":
                self._put(Approval.parse(news))
            case "decided":
                self._end(str(news["id"]), Verdict.parse(news["verdict"]))

    async def _refresh(self) -> None:
        """Reads everything. What changed meanwhile, or still waits to be written, is newer and stays."""
        self._touched.clear()
        keys = await self._store.keys(PENDING)
        found = {key.removeprefix(PENDING): await self._read(key, Approval.parse) for key in keys}
        for approval_id in [id for id in self._pending if id not in found and id not in self._asked]:
            if approval_id not in self._touched:
                del self._pending[approval_id]
        for approval_id, approval in found.items():
            if approval is not None and self._may_learn(approval_id):
                self._pending[approval_id] = approval
        await self._look_after_ours(found)

    async def _look_after_ours(self, found: Mapping[str, Approval | None]) -> None:
        """What was decided while news did not reach this replica, and what the store has lost."""
        for approval_id, asked in list(self._asked.items()):
            verdict = await self._read(DECIDED + approval_id, Verdict.parse)
            if verdict is not None:
                self._end(approval_id, verdict)
            elif approval_id not in found and approval_id in self._asked:
                await self._write(asked.approval)

    def _may_learn(self, approval_id: str) -> bool:
        return approval_id not in self._touched and not self._link.is_pending(PENDING + approval_id)

    async def _read(self, key: str, parse: Callable[[Mapping[str, Any]], T]) -> T | None:
        value = await self._store.get(key)
        if value is None:
            return None
        try:
            return parse(json.loads(value))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("ignored %s in the store, which is not what it should be: %r", key, error)
            return None

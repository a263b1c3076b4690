"""The tool ledger: what changes something runs at most once, whatever becomes of calls, tiers and replicas.

    state      what is known                             a second run under the same key
    STARTED    the intent, before anything is sent       waits for the result; after its time, as UNKNOWN
    DONE       it ran                                    gets the same outcome
    FAILED     nothing was changed, for certain          may run
    UNKNOWN    it may have run                           never runs, unless the tool honours the idempotency key

Entries are in the store; this process remembers its own as well, so that it knows them when the store has lost them.
Results that the store does not take are offered again until it does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, retry_if_result, stop_after_delay
from tenacity.wait import wait_exponential_jitter, wait_fixed

from orchestrator.core.tools import Result, Tool, ToolOutcome
from orchestrator.server.link import end_tasks
from orchestrator.server.store import Store, StoreUnavailable

log = logging.getLogger(__name__)

PREFIX = "tool:"
LOOK_AGAIN_S = 0.05
"""How often the result of somebody else's run is looked for."""
SPARE_S = 1.0
"""Seconds that a run may take beyond its tool's timeout, to write its result down."""
REMEMBERED = 10_000
"""Entries of its own that a process remembers."""
OTHERS_FIRST = 5
"""How often somebody else may be a little quicker before this run is given up."""


class State(StrEnum):
    STARTED = "started"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """`until`: when the run is over at the latest, in Unix seconds. `run` counts those under the same key."""

    state: State
    by: str
    token: str
    at: float
    until: float
    run: int = 1
    output: Any = None
    message: str = ""
    nanodollars: int = 0

    def text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Entry:
        """What cannot be read counts as UNKNOWN: something was started there."""
        try:
            told = json.loads(text)
            known = {field.name: told[field.name] for field in fields(cls) if field.name in told}
            return cls(**{**known, "state": State(told["state"])})
        except (ValueError, TypeError, KeyError):
            return cls(State.UNKNOWN, "", "", 0.0, 0.0, message="the tool ledger's entry cannot be read")

    def outcome(self) -> ToolOutcome:
        """What a later run under the same key is told."""
        if self.state is State.DONE:
            return ToolOutcome(Result.DONE, self.output, self.message, known=True, nanodollars=0)
        return ToolOutcome(Result.UNKNOWN, message=self.message or "it may have run before", known=True)


def store_key(key: str) -> str:
    """An idempotency key as other services may see it: it holds arguments, so it is hashed."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]


def speakable_part(tool: Tool, output: Any) -> Any:
    """A result without what may not be spoken: nothing else is kept."""
    if isinstance(output, Mapping):
        kept: dict[str, Any] = {}
        for path in tool.speakable:
            _copy(output, kept, path.split("."))
        return kept
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [speakable_part(tool, entry) for entry in output[:10]]
    return tool.speak(output)


def _copy(source: Mapping[str, Any], target: dict[str, Any], path: Sequence[str]) -> None:
    name, *rest = path
    value = source.get(name)
    if rest:
        if isinstance(value, Mapping):
            _copy(value, target.setdefault(name, {}), rest)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        target[name] = [entry for entry in value[:10] if not isinstance(entry, Mapping)]
    elif value is not None and not isinstance(value, Mapping):
        target[name] = value


class ToolLedger:
    """`ttl_s`: how long an entry is kept. `wall` is the clock of all replicas, in Unix seconds."""

    def __init__(
        self,
        store: Store,
        ttl_s: float = 86_400.0,
        *,
        wall: Callable[[], float] = time.time,
        replica: str = "",
    ) -> None:
        self.replica = replica or uuid.uuid4().hex[:12]
        self._store = store
        self._ttl_s = ttl_s
        self._wall = wall
        self._mine: OrderedDict[str, Entry] = OrderedDict()
        self._unwritten: dict[str, tuple[Entry, Entry]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def unwritten(self) -> int:
        """Results that the store has not taken yet."""
        return len(self._unwritten)

    async def close(self) -> None:
        """Results that are still unwritten are tried once more; the store stays open."""
        await end_tasks(self._tasks)
        for name, (started, final) in list(self._unwritten.items()):
            try:
                await self._write(name, started, final)
            except StoreUnavailable:
                log.warning("the store is away: %d tool results end with this process", self.unwritten)
                return

    async def begin(self, tool: Tool, key: str) -> Entry | ToolOutcome:
        """The intent of a run, which the store has acknowledged; or the outcome, where nothing is to run.

        Raises `StoreUnavailable` if the store does not answer: then nothing may run.
        """
        name = PREFIX + store_key(key)
        held = await self._store.get(name)
        for _ in range(OTHERS_FIRST):
            found = self._known(name, held)
            if found is not None and not self._may_run(found, tool):
                if not self._goes_on(found):
                    return found.outcome()
                held = await self._wait(name, held, tool)
                # What was seen to run, and is gone from the store now, may have run all the same.
                found = self._known(name, held) or found
                if not self._may_run(found, tool):
                    return found.outcome()
            started = self._intent(tool, found)
            held_then = await self._intend(name, held, started)
            if held_then == started.text():
                return started
            held = held_then
        return ToolOutcome(Result.UNKNOWN, message="others were running it at the same time", known=True)

    async def finish(self, key: str, started: Entry, outcome: ToolOutcome, kept: Any = None) -> None:
        """Writes down what became of a run. `kept`: what a later run under the key is told as its output."""
        state = {Result.DONE: State.DONE, Result.UNKNOWN: State.UNKNOWN}.get(outcome.result, State.FAILED)
        final = replace(
            started, state=state, output=kept, message=outcome.message, nanodollars=outcome.nanodollars
        )
        await self._settle(PREFIX + store_key(key), started, final)

    # --- what is known ---

    def _known(self, name: str, held: str | None) -> Entry | None:
        """Our own memory where the store has lost the entry, or not heard of its result yet."""
        mine = self._mine.get(name)
        if mine is not None and mine.at + self._ttl_s < self._wall():
            mine = None
        if held is None:
            return mine
        stored = Entry.parse(held)
        return mine if mine is not None and mine.token == stored.token else stored

    def _may_run(self, entry: Entry, tool: Tool) -> bool:
        match entry.state:
            case State.FAILED:
                return True
            case State.UNKNOWN:
                return tool.honours_key
            case State.STARTED:
                return tool.honours_key and not self._goes_on(entry)
            case State.DONE:
                return False

    def _goes_on(self, entry: Entry) -> bool:
        return entry.state is State.STARTED and self._wall() < entry.until

    def _intent(self, tool: Tool, before: Entry | None) -> Entry:
        now = self._wall()
        run = 1 if before is None else before.run + 1
        until = now + tool.timeout_s + SPARE_S
        return Entry(State.STARTED, self.replica, uuid.uuid4().hex[:16], now, until, run)

    async def _wait(self, name: str, held: str | None, tool: Tool) -> str | None:
        """What the store holds once the run that goes on there is over, or has had its time."""

        async def look() -> Entry | None:
            nonlocal held
            held = await self._store.get(name)
            return self._known(name, held)

        waiting = AsyncRetrying(
            retry=retry_if_result(lambda found: found is not None and self._goes_on(found))
            | retry_if_exception_type(StoreUnavailable),
            wait=wait_fixed(LOOK_AGAIN_S),
            stop=stop_after_delay(tool.timeout_s + SPARE_S),
        )
        with suppress(RetryError):
            await waiting(look)
        return held

    # --- telling the store ---

    async def _intend(self, name: str, held: str | None, started: Entry) -> str | None:
        try:
            held = await self._store.put_if(name, held, started.text(), self._ttl_s)
        except (StoreUnavailable, asyncio.CancelledError):
            # The store may yet carry out what it was asked: it is told that nothing ran.
            self._later(name, started, replace(started, state=State.FAILED, message="it was not started"))
            raise
        if held == started.text():
            self._remember(name, started)
        return held

    async def _settle(self, name: str, started: Entry, final: Entry) -> None:
        self._remember(name, final)
        try:
            await self._write(name, started, final)
        except StoreUnavailable as error:
            log.warning("the result of a tool is written down later: %s", error)
            self._later(name, started, final)

    async def _write(self, name: str, started: Entry, final: Entry) -> None:
        """Over the run's own intent, or over nothing where the store has lost that."""
        held = await self._store.put_if(name, started.text(), final.text(), self._ttl_s)
        if held is None:
            held = await self._store.put_if(name, None, final.text(), self._ttl_s)
        if held is not None and Entry.parse(held).by != self.replica:
            log.warning("another replica has run a tool under the same key meanwhile (%s)", name)
        if self._unwritten.get(name) == (started, final):
            del self._unwritten[name]

    def _later(self, name: str, started: Entry, final: Entry) -> None:
        self._remember(name, final)
        self._unwritten[name] = (started, final)
        task = asyncio.create_task(self._write_at_last(name, started, final), name="tool ledger")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write_at_last(self, name: str, started: Entry, final: Entry) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential_jitter(multiplier=0.1, max=5.0, jitter=0.1),
        ):
            with attempt:
                if self._unwritten.get(name) == (started, final):
                    await self._write(name, started, final)

    def _remember(self, name: str, entry: Entry) -> None:
        self._mine.pop(name, None)
        self._mine[name] = entry
        while len(self._mine) > REMEMBERED:
            self._mine.popitem(last=False)

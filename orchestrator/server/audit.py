"""The audit trail of this process: what is noted is queued at once, and put into the trail in the order it came.

While the trail is away (Redis, usually) what is noted waits in memory and, within moments, in a file beside
`audit.path`, so that it outlives this process; whoever starts next here goes on with it. It keeps the times at which
things happened.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from orchestrator.config import Settings
from orchestrator.core.audit import Act, Head, canonical, parse
from orchestrator.core.redaction import REDACTED, Redactor
from orchestrator.server.audit_trails import Trail, TrailAway, trail_of
from orchestrator.server.identity import Identity
from orchestrator.server.known_secrets import redactor_of
from orchestrator.server.link import end_tasks
from orchestrator.server.store import RedisStore, Store, StoreUnavailable

log = logging.getLogger(__name__)

ONCE = "audit_once:"
ONCE_S = 30 * 86_400.0
LONGEST = 500
"""Characters of a text in an entry."""
BATCH = 100
RETRY_S = 1.0
GRACE_S = 3.0
"""How long the trail may take, when the service ends, for what still waits."""
BUDGETS = "budgets.changed"
REFUSED_S = 60.0
MOST_REFUSED = 100
"""Identities whose refusals are looked at at once."""
PAGE = 500
_DEPTH = 5
_MOST = 50


class Audit:
    """Not thread-safe: everything runs on the event loop. `start` it, and `close` it before the store.

    `waiting_path` names files of entries that the trail has not taken; "<it>.<source>" is this process's own.
    """

    def __init__(
        self,
        trail: Trail,
        *,
        waiting_path: Path | None = None,
        store: Store | None = None,
        redactor: Redactor | None = None,
        wall: Callable[[], float] = time.time,
        retry_s: float = RETRY_S,
    ) -> None:
        self.trail = trail
        self.problem = ""
        """Why the trail cannot be written; "" while it can."""
        self.source = secrets.token_hex(4)
        """New with every process: with it and a number an entry's id is given once."""
        self._store = store if isinstance(store, RedisStore) else None
        self._redactor = redactor or Redactor()
        self._wall, self._retry_s = wall, retry_s
        self._numbers = count(1)
        self._queue: deque[tuple[Act, str]] = deque()
        """What waits, each with what it is noted once for; a batch stays in it until it was taken."""
        self._once: set[str] = set()
        self._refusals: dict[str, tuple[float, int]] = {}
        """When an attempt of somebody was noted, and how many came since."""
        self._unsure = False
        """Whether what waits may have been taken already, by a request whose answer was lost."""
        self._waiting = _WaitingFile(waiting_path, self.source) if waiting_path is not None else None
        self._filled, self._empty = asyncio.Event(), asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def from_settings(cls, settings: Settings, store: Store | None) -> Audit:
        path = settings.audit.file
        waiting = path.with_name(f"{path.name}.waiting")
        redactor = redactor_of(settings)
        return cls(trail_of(settings, store), waiting_path=waiting, store=store, redactor=redactor)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def note(
        self,
        who: Identity | str,
        action: str,
        subject: str,
        reason: str = "",
        *,
        once: str = "",
        at: float | None = None,
        **details: Any,
    ) -> None:
        """Notes what somebody did. Returns at once and never raises.

        `who` is the identity, or the name of the part of us that did it ("orchestrator"). `action` is a word like
        "override.made", `subject` an id. `details` are figures and names, never secrets nor what callers said. What
        several replicas see, and one of them is to note, has the same `once` at all of them. `at` is Unix seconds, now
        by default.
        """
        try:
            act = self._act(who, action, subject, reason, self._wall() if at is None else at, details)
        except Exception:
            log.exception("an entry of the audit trail is lost (%s)", action)
            return
        if once:
            if once in self._once:
                return
            self._once.add(once)
        self._queue.append((act, once))
        self._empty.clear()
        self._filled.set()

    def refused(self, who: Identity, attempt: str, code: str) -> None:
        """Notes that somebody known tried what they may not do; of each, once a minute, and how often in between."""
        now = self._wall()
        if len(self._refusals) > MOST_REFUSED:
            self._refusals = {key: seen for key, seen in self._refusals.items() if now - seen[0] < REFUSED_S}
        last, more = self._refusals.get(who.id, (-math.inf, 0))
        if now - last < REFUSED_S or len(self._refusals) > MOST_REFUSED:
            self._refusals[who.id] = last, more + 1
            return
        self._refusals[who.id] = now, 0
        self.note(who, "refused", attempt, code, unnoted_before=more)

    async def note_budgets(self, settings: Settings) -> None:
        """Notes what the settings allow to be spent if it is not what was noted last. Waits until that is known."""
        while True:
            try:
                before, seq = await self._noted_budgets()
            except TrailAway as error:
                log.warning("whether budgets have changed cannot be seen yet: %s", error)
                await asyncio.sleep(self._retry_s * 5)
                continue
            caps = self._redactor.redact(_plain(configured_caps(settings), 0))
            if caps != before:
                changes = changes_of(before, caps) if before is not None else {}
                why = "not those of the start before" if before is not None else "the first ones noted"
                once = f"budgets:{seq}:{hashlib.sha256(canonical(caps).encode()).hexdigest()[:16]}"
                self.note("orchestrator", BUDGETS, "settings", why, once=once, changes=changes, caps=caps)
            return

    async def _noted_budgets(self) -> tuple[Mapping[str, Any] | None, int]:
        end = (await self.trail.head()).seq
        while end > 0:
            begin = max(0, end - PAGE)
            for at, line in reversed(list(enumerate(await self.trail.read(begin, end - begin), begin + 1))):
                if f'"{BUDGETS}"' not in line:
                    continue
                with suppress(ValueError, KeyError):
                    entry = parse(line)
                    if entry["action"] == BUDGETS:
                        return entry["details"]["caps"], at
            end = begin
        return None, 0

    def _act(
        self,
        who: Identity | str,
        action: str,
        subject: str,
        reason: str,
        at: float,
        details: Mapping[str, Any],
    ) -> Act:
        id, name = (who.id, who.name) if isinstance(who, Identity) else (who, who)
        shown = self._redactor.redact(_plain(details, 0))
        text, number = self._text, next(self._numbers)
        return Act(
            id=f"{self.source}-{number}",
            time=round(at, 3),
            who=text(id),
            name=text(name),
            action=text(action),
            subject=text(subject),
            reason=text(reason),
            details=shown,
        )

    def _text(self, text: str) -> str:
        return self._redactor.text(_without_keys(str(text)))[:LONGEST]

    async def start(self) -> None:
        """Takes up what another process of this machine left, and begins to write."""
        if self._waiting is not None:
            left = await asyncio.to_thread(self._waiting.take_up)
            if left:
                log.info("%d entries of the audit trail waited here for it", len(left))
                self._queue.extendleft(reversed(left))
                self._unsure = True
                self._empty.clear()
                self._filled.set()
        self._task = asyncio.create_task(self._write(), name="audit")

    async def close(self) -> None:
        """Writes what waits, for some seconds; what could not be is in a file then."""
        if self._task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(0 if self.problem else GRACE_S):
                    await self._empty.wait()
            await end_tasks([self._task])
        await self._keep()
        if self._waiting is not None:
            self._waiting.close()

    async def head(self) -> Head:
        """Raises `TrailAway`."""
        return await self.trail.head()

    async def _write(self) -> None:
        while True:
            await self._filled.wait()
            try:
                await self._write_some()
            except TrailAway as error:
                await self._failed(str(error))
            except Exception:
                log.exception("writing the audit trail failed")
                await self._failed("a fault of ours; the log says more")

    async def _write_some(self) -> None:
        batch = [self._queue[at] for at in range(min(BATCH, len(self._queue)))]
        acts = [act for act, once in batch if not once or await self._is_ours(act, once)]
        again, self._unsure = self._unsure, True
        if acts:
            await self.trail.append(acts, again)
        for _ in batch:
            self._queue.popleft()
        if self.problem:
            log.warning("the audit trail is written again")
            self.problem = ""
        if not self._queue:
            self._unsure = False
            await self._keep()
            self._filled.clear()
            self._empty.set()
            if self._queue:
                self._filled.set()
                self._empty.clear()

    async def _is_ours(self, act: Act, once: str) -> bool:
        """Whether no other replica notes it. Without a shared store there is none."""
        if self._store is None:
            return True
        try:
            return await self._store.put_if(ONCE + once, None, act.id, ONCE_S) == act.id
        except StoreUnavailable as error:
            raise TrailAway(str(error)) from None

    async def _failed(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("the audit trail cannot be written, %d entries wait: %s", len(self._queue), problem)
        self.problem = problem
        await self._keep()
        await asyncio.sleep(self._retry_s)

    async def _keep(self) -> None:
        """What waits stands in the file, and nothing else does."""
        if self._waiting is None:
            return
        try:
            await asyncio.to_thread(self._waiting.keep, list(self._queue))
        except OSError as error:
            log.error("entries of the audit trail wait in memory only: %s", error.strerror)


def configured_caps(settings: Settings) -> dict[str, Any]:
    """What the settings allow to be spent, in US dollars, and how calls get cheaper before.

    An entry has room for so many buckets; a change to one of the others shows in what is told of them together.
    """
    budget = settings.budget.model_dump(mode="json")
    buckets = sorted(budget["buckets"].items())
    budget["buckets"], more = dict(buckets[:_MOST]), dict(buckets[_MOST:])
    if more:
        digest = hashlib.sha256(canonical(more).encode()).hexdigest()[:16]
        budget["more_buckets"] = {"count": len(more), "sha256": digest}
    return budget


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What differs, by its place, as [before, after]; None is that there is none."""
    found = {}
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            inner = changes_of(
                old if isinstance(old, Mapping) else {}, new if isinstance(new, Mapping) else {}
            )
            found.update({f"{name}.{key}": pair for key, pair in inner.items()})
            if not inner and old != new:
                found[name] = [old is not None, new is not None]
        elif old != new:
            found[name] = [old, new]
    return found


class _WaitingFile:
    """Entries that wait, as JSON lines, beside the trail: a file of each process, locked while it lives."""

    def __init__(self, path: Path, source: str) -> None:
        self._all, self._path = path, path.with_name(f"{path.name}.{source}")
        self._handle: int | None = None
        self._kept = 0
        self._taken_up: list[tuple[Path, int]] = []

    def take_up(self) -> list[tuple[Act, str]]:
        """What processes have left that are no more, in the order of time. Their files go when all of it is kept."""
        found: list[tuple[Act, str]] = []
        for path in sorted(self._all.parent.glob(f"{self._all.name}.*")):
            try:
                handle = os.open(path, os.O_RDWR)
            except OSError:
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its process lives
                os.close(handle)
                continue
            self._taken_up.append((path, handle))
            found += _acts_of(path)
        return sorted(found, key=lambda entry: entry[0].time)

    def keep(self, entries: list[tuple[Act, str]]) -> None:
        if self._handle is None and entries:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        if self._handle is not None and len(entries) != self._kept:
            lines = b"".join(_line(act, once) for act, once in entries)
            # Longer or shorter, what is at its beginning stays readable: a line that is cut off is left out.
            os.pwrite(self._handle, lines, 0)
            os.ftruncate(self._handle, len(lines))
            os.fsync(self._handle)
            self._kept = len(entries)
        while self._taken_up:
            path, handle = self._taken_up.pop()
            path.unlink(missing_ok=True)
            os.close(handle)

    def close(self) -> None:
        if self._handle is not None:
            if not self._kept:
                self._path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None


def _line(act: Act, once: str) -> bytes:
    return json.dumps({**asdict(act), "once": once}).encode() + b"\n"


def _acts_of(path: Path) -> list[tuple[Act, str]]:
    found = []
    for line in path.read_bytes().splitlines():
        try:
            fields = json.loads(line)
            once = str(fields.pop("once"))
            found.append((Act(**fields), once))
        except (ValueError, TypeError, KeyError):
            log.error("a line of %s is no entry of the audit trail and is left out", path)
    return found


def _without_keys(text: str) -> str:
    """Keys of ours are told by their beginning."""
    return " ".join(REDACTED if _is_key(word) else word for word in text.split(" "))


def _is_key(word: str) -> bool:
    word = word.strip("\"'`,.;:()[]{}<>")
    return (word.startswith("vo_") and word.count("_") >= 2 and len(word) > 20) or (
        word.startswith("ek_") and len(word) > 10
    )


def _plain(value: Any, depth: int) -> Any:
    """Data of limited size that JSON can hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping) and depth < _DEPTH:
        return {str(key)[:LONGEST]: _plain(item, depth + 1) for key, item in list(value.items())[:_MOST]}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEPTH:
        return [_plain(item, depth + 1) for item in list(value)[:_MOST]]
    return _without_keys(str(value))[:LONGEST]

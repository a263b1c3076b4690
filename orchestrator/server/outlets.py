"""Ways out for events: a queue of limited length for each, retries, and a count of what could not be delivered.

An event is delivered at least once, in the order it came; its id tells a repetition. Nobody waits for a delivery:
what comes when a queue is full is dropped, counted and logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter
from tenacity.wait import wait_base

from orchestrator.server.link import end_tasks
from orchestrator.server.store import Store, StoreUnavailable
from orchestrator.signing import key_of, signed_headers

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/cloudevents+json"
GRACE_S = 5.0
"""How long a way out may take, when the service ends, for what still waits."""
ENDED = "the service ends"
BATCH = 500
PAUSES = wait_exponential_jitter(multiplier=0.5, max=30.0, jitter=0.5)
_NOT_TAKEN = frozenset({400, 410, 413, 415, 422})
"""Answers to an event that will not be taken another time either."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event, as JSON in UTF-8."""

    id: str
    body: bytes


class TryAgain(Exception):
    """Not taken for now. The text says why, without any of the event."""


class Refused(Exception):
    """Not taken, and not to be tried again."""


class Sink(Protocol):
    name: str
    """What it is called in the log and the status."""
    batch: int
    """How many events it takes at once."""

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Raises `TryAgain` or `Refused`; some of the events may have been taken then."""
        ...

    async def close(self) -> None: ...


class Outlet:
    """The queue before a sink. Not thread-safe: everything runs on the event loop."""

    def __init__(self, sink: Sink, *, limit: int, retry_s: float, pauses: wait_base = PAUSES) -> None:
        self.name = sink.name
        self.sent = 0
        self.dropped = 0
        self.failing = ""
        """Why the last attempt failed; empty while things go well."""
        self._sink = sink
        self._limit, self._retry_s, self._pauses = limit, retry_s, pauses
        self._queue: deque[Outgoing] = deque()
        """What waits; a batch stays in it until it was taken or given up."""
        self._filled, self._empty = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._told_at = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def put(self, event: Outgoing) -> None:
        """Takes an event, or drops it where too many wait. Never waits."""
        if self._closed or len(self._queue) >= self._limit:
            self._drop(1, ENDED if self._closed else f"{self._limit} events wait already")
            return
        self._queue.append(event)
        self._filled.set()
        self._empty.clear()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"business events to {self.name}")

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Delivers what waits for so long, and drops the rest."""
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace_s)
            await end_tasks([self._task])
        self._closed = True
        self._drop(len(self._queue), ENDED)
        self._queue.clear()
        await self._sink.close()

    async def _run(self) -> None:
        while True:
            while not self._queue:
                self._filled.clear()
                self._empty.set()
                await self._filled.wait()
            batch = [self._queue[place] for place in range(min(self._sink.batch, len(self._queue)))]
            await self._deliver(batch)
            for _ in batch:
                self._queue.popleft()

    async def _deliver(self, batch: Sequence[Outgoing]) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TryAgain),
            wait=self._pauses,
            stop=stop_after_delay(self._retry_s),
            reraise=True,
        )
        try:
            await retrying(self._attempt, batch)
        except (TryAgain, Refused) as error:
            self._drop(len(batch), str(error))
        except Exception as error:
            log.exception("business events to %s failed", self.name)
            self._drop(len(batch), type(error).__name__)
        else:
            self.sent += len(batch)

    async def _attempt(self, batch: Sequence[Outgoing]) -> None:
        try:
            await self._sink.send(batch)
        except (TryAgain, Refused) as error:
            if not self.failing:
                log.warning("business events to %s are not taken: %s", self.name, error)
            self.failing = str(error)
            raise
        if self.failing:
            log.warning("business events to %s are taken again", self.name)
            self.failing = ""

    def _drop(self, count: int, why: str) -> None:
        """Counted always, logged the first time and whenever the count has doubled."""
        self.dropped += count
        if count and self.dropped >= 2 * self._told_at:
            self._told_at = self.dropped
            log.error("business events to %s are dropped, %d so far: %s", self.name, self.dropped, why)


class FileSink:
    """One line for each event at the end of a file, which may be moved away at any time."""

    name, batch = "file", BATCH

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cut = False
        """Whether the last line may be half a one."""

    async def send(self, events: Sequence[Outgoing]) -> None:
        data = b"".join(event.body + b"\n" for event in events)
        try:
            await asyncio.to_thread(self._append, data)
        except OSError as error:
            raise TryAgain(
                f"{self._path} cannot be written ({error.strerror}); business_events.path names another file"
            ) from None

    def _append(self, data: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            left = memoryview(b"\n" + data if self._cut else data)
            self._cut = True
            while left:
                left = left[os.write(descriptor, left) :]
            self._cut = False
        finally:
            os.close(descriptor)

    async def close(self) -> None:
        pass


class StreamSink:
    """Entries of a stream in the store: ``id`` and ``event``."""

    name, batch = "redis", 1

    def __init__(self, store: Store, stream: str, limit: int) -> None:
        self._store, self._stream, self._limit = store, stream, limit

    async def send(self, events: Sequence[Outgoing]) -> None:
        for event in events:
            fields = {"id": event.id, "event": event.body.decode()}
            try:
                await self._store.append(self._stream, fields, limit=self._limit, once=event.id)
            except StoreUnavailable as error:
                raise TryAgain(str(error)) from None

    async def close(self) -> None:
        pass


class WebhookSink:
    """A signed POST for each event, in CloudEvents' structured mode. Redirections are not followed."""

    batch = 1

    def __init__(self, url: str, secret: str, timeout_s: float, name: str = "webhook") -> None:
        self.name = name
        self._url, self._key = url, key_of(secret)
        self._client = httpx.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False)

    async def send(self, events: Sequence[Outgoing]) -> None:
        for event in events:
            signed = signed_headers(self._key, event.body, message_id=event.id)
            try:
                response = await self._client.post(
                    self._url, content=event.body, headers={"content-type": MEDIA_TYPE, **signed}
                )
            except httpx.HTTPError as error:
                raise TryAgain(f"no answer ({type(error).__name__})") from None
            if response.status_code in _NOT_TAKEN:
                raise Refused(f"it answered {response.status_code}")
            if not response.is_success:
                raise TryAgain(f"it answered {response.status_code}")

    async def close(self) -> None:
        await self._client.aclose()

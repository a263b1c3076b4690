"""A replica's link to the store: writes that wait their turn, news of other replicas, and a refresh now and then.

The store may go away at any time. Then writes wait, one for each key, what is known stays known, and the link
comes back by itself. Writes of money have a lane of their own: hundreds of calls may tell what they spend while an
order or a breaker's finding has to reach the other replicas at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any

from orchestrator.server.store import Store, StoreUnavailable

log = logging.getLogger(__name__)

Write = Callable[[], Awaitable[None]]

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
"""Before jitter, which may double it. What other replicas are told meanwhile is known here only after it."""
_STEADY_S = 5.0
"""What went well for so long begins again with short pauses."""
_CANCEL_AGAIN_S = 0.1


async def end_tasks(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancels until all have ended.

    Once is not enough: `asyncio.wait_for` of Python 3.11, which the Redis client sends with, loses a cancellation
    that comes just as what it waits for is done.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)


class _Lane:
    """Writes in their order, one for each key."""

    def __init__(self) -> None:
        self.writes: dict[str, Write] = {}
        self.to_write = asyncio.Event()

    def put(self, key: str, write: Write) -> None:
        self.writes.pop(key, None)
        self.writes[key] = write
        self.to_write.set()

    async def drain(self) -> None:
        while self.writes:
            key, write = next(iter(self.writes.items()))
            await write()
            if self.writes.get(key) is write:
                del self.writes[key]


class Link:
    """`on_news` gets what other replicas published, `refresh` reads everything anew."""

    def __init__(
        self,
        store: Store,
        channel: str,
        *,
        on_news: Callable[[dict[str, Any]], None],
        refresh: Callable[[], Awaitable[None]],
        refresh_s: float = 15.0,
        wall: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.replica = uuid.uuid4().hex[:12]
        self.away_since: float | None = None
        """Unix seconds; None while the store answers."""
        self._store = store
        self._channel = channel
        self._on_news = on_news
        self._refresh = refresh
        self._refresh_s = refresh_s
        self._wall, self._rng = wall, rng
        self._orders, self._money = _Lane(), _Lane()
        self._reading = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def unsent(self) -> int:
        return len(self._orders.writes) + len(self._money.writes)

    def is_pending(self, key: str) -> bool:
        """Whether a write of `key` has not reached the store yet."""
        return key in self._orders.writes or key in self._money.writes

    async def start(self) -> None:
        """Reads the store once, if it answers, and keeps up with it from then on."""
        try:
            await self._read()
        except StoreUnavailable as error:
            self.lost(error)
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "listen": self._listen,
            "write_orders": partial(self._write, self._orders),
            "write_money": partial(self._write, self._money),
            "read": self._read_now_and_then,
        }
        for name, step in steps.items():
            self._tasks.append(asyncio.create_task(self._forever(step), name=f"link_{name}"))

    async def close(self) -> None:
        """Stops. What is still unsent is tried once more; the store stays open."""
        await end_tasks(self._tasks)
        self._tasks.clear()
        try:
            await self._drain()
        except StoreUnavailable:
            log.warning("the store is away; %d writes end with this process", self.unsent)

    def send(self, key: str, write: Write, *, money: bool = False) -> None:
        """Writes soon. The latest write of a key is the one that counts, so a long absence piles nothing up.

        `money`: it may take the slow lane. A key always has the same one.
        """
        (self._money if money else self._orders).put(key, write)

    async def publish(self, kind: str, news: Mapping[str, Any]) -> None:
        await self._store.publish(self._channel, json.dumps({"from": self.replica, "kind": kind, **news}))

    async def _write(self, lane: _Lane) -> None:
        await lane.to_write.wait()
        lane.to_write.clear()
        try:
            await lane.drain()
        except StoreUnavailable:
            lane.to_write.set()
            raise
        self._found()

    async def _drain(self) -> None:
        for lane in (self._orders, self._money):
            await lane.drain()

    async def _listen(self) -> None:
        async with self._store.subscribe(self._channel) as messages:
            # Only now, since what was published before the subscription is missed.
            await self._read()
            async for message in messages:
                try:
                    news = json.loads(message)
                    if news["from"] != self.replica:
                        self._on_news(news)
                except (ValueError, KeyError, TypeError) as error:
                    log.warning("ignored a message of another replica: %r", error)

    async def _read_now_and_then(self) -> None:
        await asyncio.sleep(self._refresh_s)
        await self._read()

    async def _read(self) -> None:
        async with self._reading:
            await self._refresh()
        self._found()

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_S
        while True:
            began = loop.time()
            try:
                await step()
                pause = _FIRST_PAUSE_S
                continue
            except StoreUnavailable as error:
                self.lost(error)
            except Exception:
                log.exception("keeping up with the store failed; trying again")
            if loop.time() - began > _STEADY_S:
                pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause * (1 + self._rng()))
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def lost(self, error: StoreUnavailable) -> None:
        """The store did not answer. The link finds out by itself when it is back."""
        if self.away_since is None:
            self.away_since = self._wall()
            log.warning("the store is away, carrying on with the last view: %s", error)

    def _found(self) -> None:
        if self.away_since is not None:
            self.away_since = None
            log.warning("the store is back")

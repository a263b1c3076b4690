"""The timeline of calls as rows: the file they are written to, off the event loop, and those who follow it."""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

Row = dict[str, Any]
Numbered = tuple[int, Row]


class EventLog:
    """Rows of all calls: ``time`` (Unix seconds), ``type``, ``tier``, ``call_id`` and what belongs to the type.

    Rows are numbered from 1 for as long as the process lives; `epoch` tells its numbers from another process's.
    """

    def __init__(self, path: Path | None, keep: int = 1000) -> None:
        self.recent: deque[Row] = deque(maxlen=keep)
        self.last = 0
        """The number of the latest row."""
        self.epoch = secrets.token_hex(4)
        self.followers: list[Follower] = []
        self.listeners: list[Callable[[Row], None]] = []
        """Called with each row as it is added; they neither wait nor raise."""
        self._ending = False
        self._queue: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._thread = threading.Thread(target=self._write, args=(path,), name="event-log", daemon=True)
            self._thread.start()

    def add(self, type: str, *, tier: str, call_id: str, **fields: Any) -> None:
        row = {"time": time.time(), "type": type, "tier": tier, "call_id": call_id, **fields}
        self.recent.append(row)
        self.last += 1
        if self._thread is not None:
            self._queue.put(row)
        for listener in self.listeners:
            listener(row)
        for follower in self.followers:
            follower.take(self.last, row)

    def since(self, number: int) -> tuple[int, list[Numbered]]:
        """How many rows after that one are forgotten, and those that are not."""
        first = self.last - len(self.recent) + 1
        kept = enumerate(self.recent, start=first)
        return max(0, first - number - 1), [(n, row) for n, row in kept if n > number]

    def follow(self, wants: Callable[[Row], bool], most: int) -> Follower:
        """From now on, rows that `wants` says yes to; whoever asks calls `unfollow` in the end."""
        follower = Follower(wants, most)
        self.followers.append(follower)
        if self._ending:
            follower.end()
        return follower

    def unfollow(self, follower: Follower) -> None:
        if follower in self.followers:
            self.followers.remove(follower)

    def end_followers(self) -> None:
        """The process is about to stop: nobody waits for another row, from now on."""
        self._ending = True
        for follower in self.followers:
            follower.end()

    def _write(self, path: Path) -> None:
        with path.open("ab") as file:
            while (row := self._queue.get()) is not None:
                file.write(orjson.dumps(row) + b"\n")
                if self._queue.empty():
                    file.flush()

    def close(self) -> None:
        """Write what is left; waits for it."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=5)


class Follower:
    """Rows on their way to somebody. One who lets more than `most` wait gets no more: they are thrown away."""

    def __init__(self, wants: Callable[[Row], bool], most: int) -> None:
        self.wants, self._most = wants, most
        self.too_slow = self.ended = False
        self._waiting: deque[Numbered] = deque()
        self._news = asyncio.Event()

    def take(self, number: int, row: Row) -> None:
        if self.too_slow or not self.wants(row):
            return
        if len(self._waiting) >= self._most:
            self.too_slow = True
            self._waiting.clear()
        else:
            self._waiting.append((number, row))
        self._news.set()

    def end(self) -> None:
        self.ended = True
        self._news.set()

    async def next(self, within_s: float) -> list[Numbered]:
        """What waits; where nothing does, what comes first, or nothing at all within that time."""
        if not self._waiting and not self.too_slow and not self.ended:
            self._news.clear()
            try:
                async with asyncio.timeout(within_s):
                    await self._news.wait()
            except TimeoutError:
                pass
        found = list(self._waiting)
        self._waiting.clear()
        return found

"""Where clips outlive the process: what a store does, whichever it is.

A store never costs a caller an error. What cannot be read is a miss, what cannot be written is not kept, a right to
render that cannot be asked for is taken as given; and all of it is logged.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from cache.clip import Clip, CorruptClip, Part

log = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T", Clip, Part)


class Lease(Protocol):
    """The right to render a key, which lapses by itself should its holder die."""

    async def release(self) -> None: ...


class Store(Protocol):
    async def get(self, key: str) -> Clip | None: ...

    async def put(self, clip: Clip) -> None: ...

    async def get_part(self, name: str) -> Part | None: ...

    async def put_part(self, part: Part) -> None: ...

    async def reserve(self, key: str) -> Lease | None:
        """The right to render `key`, or None while another cache on this store has it.

        A store that cannot tell gives it: a clip that is rendered twice is better than none.
        """
        ...

    async def aclose(self) -> None: ...


class NoLease:
    """Stands for a right that nobody keeps account of."""

    async def release(self) -> None:
        return None


class Blobs(ABC):
    """A store over named bytes: digests are made and checked here, off the event loop.

    What was begun is carried to its end when the caller leaves. Threads cannot be stopped anyway; and a Redis command
    that is may swallow the cancellation (`asyncio.wait_for` does, up to Python 3.11), so that the caller went on.
    """

    def __init__(self) -> None:
        self._begun: set[asyncio.Task[Any]] = set()

    async def get(self, key: str) -> Clip | None:
        return await self._get(f"{key}.clip", lambda data: Clip.from_bytes(data, key))

    async def put(self, clip: Clip) -> None:
        await self._put(f"{clip.key}.clip", clip)

    async def get_part(self, name: str) -> Part | None:
        return await self._get(name, lambda data: Part.from_bytes(data, name))

    async def put_part(self, part: Part) -> None:
        await self._put(part.name, part)

    async def reserve(self, key: str) -> Lease | None:
        asked = asyncio.create_task(self._reserve(key))
        try:
            return await self._whole(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._give_back)
            raise

    async def aclose(self) -> None:
        while self._begun:
            await asyncio.gather(*self._begun, return_exceptions=True)

    def _give_back(self, asked: asyncio.Task[Lease | None]) -> None:
        lease = None if asked.cancelled() or asked.exception() else asked.result()
        if lease is not None:
            self._begin(asyncio.create_task(lease.release()))

    def _begin(self, task: asyncio.Task[R]) -> asyncio.Task[R]:
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return task

    async def _whole(self, task: asyncio.Task[R]) -> R:
        return await asyncio.shield(self._begin(task))

    async def _get(self, name: str, opened: Callable[[bytes], T]) -> T | None:
        data = await self._whole(asyncio.create_task(self._read(name)))
        if data is None:
            return None
        try:
            entry = await asyncio.to_thread(opened, data)
        except CorruptClip as error:
            log.warning("dropped a corrupt clip, it will be rendered again: %s", error)
            await self._whole(asyncio.create_task(self._drop(name)))
            return None
        if entry.is_over:
            await self._whole(asyncio.create_task(self._drop(name)))
            return None
        return entry

    async def _put(self, name: str, entry: Clip | Part) -> None:
        if not entry.is_over:
            data = await asyncio.to_thread(entry.to_bytes)
            await self._whole(asyncio.create_task(self._write(name, data, entry.until)))

    @abstractmethod
    async def _reserve(self, key: str) -> Lease | None: ...

    @abstractmethod
    async def _read(self, name: str) -> bytes | None: ...

    @abstractmethod
    async def _write(self, name: str, data: bytes, until: float | None) -> None: ...

    @abstractmethod
    async def _drop(self, name: str) -> None: ...

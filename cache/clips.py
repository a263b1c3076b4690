"""Clips by content key: memory in front of a store, and one render per key however many ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, NamedTuple

from cache.clip import Clip
from cache.forms import Form, transcode
from cache.memory import Lru
from cache.single_flight import SingleFlight
from cache.stores import Store

MEMORY_BYTES = 256 << 20

Render = Callable[[], Coroutine[Any, Any, Clip]]


class Source(Enum):
    """Where a clip came from."""

    MEMORY = "memory"
    STORE = "store"
    RENDER = "render"


class Found(NamedTuple):
    clip: Clip
    source: Source


class ClipCache:
    """Holds clips and their transcoded forms in `memory_bytes` of memory, clips also in `store`.

    Belongs to one event loop. Files, Redis, digests and transcoding stay off it.
    """

    def __init__(self, store: Store | None = None, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._store = store
        self._memory: Lru[tuple[str, Form | None], Clip | bytes] = Lru(memory_bytes)
        self._flights: SingleFlight[Found] = SingleFlight()
        self._writes: set[asyncio.Task[None]] = set()

    def peek(self, key: str) -> Clip | None:
        """The clip if it is in memory."""
        clip = self._memory.get((key, None))
        return clip if isinstance(clip, Clip) else None

    def peek_form(self, key: str, form: Form) -> bytes | None:
        """The clip's bytes in `form` if they are in memory."""
        data = self._memory.get((key, form))
        return data if isinstance(data, bytes) else None

    async def get(self, key: str) -> Clip | None:
        """The clip from memory or the store; None is a miss."""
        clip = self.peek(key)
        if clip is None and self._store is not None:
            clip = await self._store.get(key)
            if clip is not None:
                self._remember(clip)
        return clip

    async def fetch(self, key: str, render: Render) -> Found:
        """The clip, from wherever it is soonest had; what `render` raises reaches everyone who waits."""
        clip = self.peek(key)
        if clip is not None:
            return Found(clip, Source.MEMORY)
        return await self._flights.run(key, lambda: self._load(key, render))

    async def form(self, clip: Clip, form: Form) -> bytes:
        """The clip's bytes in `form`, transcoded once and kept in memory."""
        data = self.peek_form(clip.key, form)
        if data is None:
            data = await asyncio.to_thread(transcode, clip.pcm, form)
            self._memory.put((clip.key, form), data, len(data))
        return data

    async def flush(self) -> None:
        """Waits until everything rendered so far has been offered to the store."""
        await asyncio.gather(*self._writes)

    async def aclose(self) -> None:
        await self.flush()
        if self._store is not None:
            await self._store.aclose()

    async def _load(self, key: str, render: Render) -> Found:
        clip = await self.get(key)
        if clip is not None:
            return Found(clip, Source.STORE)
        clip = await render()
        self._remember(clip)
        self._write_behind(clip)
        return Found(clip, Source.RENDER)

    def _remember(self, clip: Clip) -> None:
        self._memory.put((clip.key, None), clip, clip.nbytes)

    def _write_behind(self, clip: Clip) -> None:
        """Nobody who waits for sound waits for a disk."""
        if self._store is not None:
            task = asyncio.create_task(self._store.put(clip))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

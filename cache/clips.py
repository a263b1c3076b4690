"""Clips by content key: memory in front of a store, and one render per key however many ask at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

from cache.clip import Clip, Part
from cache.feed import Feed
from cache.forms import DEAR, NAMES, Form, transcode
from cache.memory import Lru
from cache.single_flight import Flight, SingleFlight
from cache.stores import Lease, NoLease, Store
from orchestrator.protocol.audio import Pcm16

log = logging.getLogger(__name__)

MEMORY_BYTES = 256 << 20
POLL_S = 0.025
"""How often a clip that another process renders is looked for."""
PATIENCE_S = 10.0
"""How long another process's render is waited for. Then it is rendered here as well: twice is better than never."""

Render = Callable[[], Coroutine[Any, Any, Clip]]


class Source(Enum):
    """Where a clip came from."""

    MEMORY = "memory"
    STORE = "store"
    RENDER = "render"
    SHARED = "shared"
    """From a render that another caller of this process is told of (and pays for)."""
    STALE = "stale"
    """An older engine's clip, while the new one is made."""


class Found(NamedTuple):
    clip: Clip
    source: Source


class _Wanted(NamedTuple):
    """What is asked for, and how it is had where it is not there; `again` makes it where nobody waits."""

    key: str
    render: Render
    again: Render
    stale_key: str | None
    keep_s: float | None
    fresh: bool = False

    @property
    def stored(self) -> bool:
        return self.keep_s is None or self.keep_s > 0


class ClipCache:
    """Holds clips and their transcoded forms in `memory_bytes` of memory, and in `store`.

    Belongs to one event loop. Files, Redis, digests and transcoding stay off it. What nobody waits for is rendered
    within `aside`, which may tell engines so.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
        patience_s: float = PATIENCE_S,
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._store = store
        self._aside = aside
        self._patience_s = patience_s
        self._memory: Lru[tuple[str, Form | None], Clip | Part] = Lru(memory_bytes)
        self._newest: Lru[str, str] = Lru(1 << 20)
        """By `stale_key`: the key of the clip that was made last."""
        self._flights: SingleFlight[Found] = SingleFlight()
        self._reads: SingleFlight[Clip | None] = SingleFlight()
        self._renewals: SingleFlight[None] = SingleFlight()
        self._transcodings: SingleFlight[bytes] = SingleFlight()
        self._told: set[Flight[Found]] = set()
        self._behind: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()
        """Clips that somebody asked for, by where they came from."""

    def peek(self, key: str) -> Clip | None:
        """The clip if it is in memory."""
        clip = self._memory.get((key, None))
        return clip if isinstance(clip, Clip) and not clip.is_over else None

    def peek_form(self, key: str, form: Form) -> bytes | None:
        """The clip's bytes in `form` if they are in memory."""
        part = self._memory.get((key, form))
        return part.data if isinstance(part, Part) and not part.is_over else None

    async def get(self, key: str) -> Clip | None:
        """The clip from memory or the store; None is a miss."""
        clip = self.peek(key)
        if clip is None and self._store is not None:
            store = self._store
            clip = await self._reads.run(key, lambda: self._read(store, key))
        return clip

    async def fetch(
        self,
        key: str,
        render: Render,
        *,
        stale_key: str | None = None,
        fresh: bool = False,
        keep_s: float | None = None,
    ) -> Found:
        """The clip, from wherever it is soonest had; what `render` raises reaches everyone who waits.

        One render is made for all who ask, in all processes that share the store. `stale_key` stands for the same
        words whichever version of an engine says them (or it is an older clip's own key): where an older clip is
        there, that is returned at once and the new one made behind it, unless it has to be `fresh`. `keep_s` bounds how
        long the clip is kept, in seconds; 0 keeps it nowhere.
        """
        clip = self.peek(key)
        if clip is not None:
            self.counts[Source.MEMORY.value] += 1
            return Found(clip, Source.MEMORY)
        wanted = _Wanted(key, render, render, stale_key, keep_s, fresh)
        flight = self._flights.enter(key, lambda: self._load(wanted))
        try:
            return self._tell(flight, await asyncio.shield(flight.task))
        finally:
            self._leave(flight)

    async def stream(
        self,
        key: str,
        text: str,
        speak: Callable[[], AsyncIterator[Pcm16]],
        *,
        stale_key: str | None = None,
        keep_s: float | None = None,
        told: Callable[[Source], None] = lambda source: None,
    ) -> AsyncIterator[Pcm16]:
        """As `fetch`, but the sound as it is made: all who listen hear the one render of `speak`, from its start.

        `speak` gives 24 kHz samples of `text` as an engine makes them; together they become the clip. `told` is
        called at the end with where it came from. Closing the iterator gives the render up unless others wait.
        """
        clip = self.peek(key)
        if clip is not None:
            self.counts[Source.MEMORY.value] += 1
            told(Source.MEMORY)
            yield clip.pcm
            return
        own = Feed()
        render = partial(_gather, key, text, speak, own)
        again = partial(_gather, key, text, speak, Feed())
        flight = self._flights.enter(
            key, lambda: self._load(_Wanted(key, render, again, stale_key, keep_s)), own
        )
        try:
            heard = 0
            if isinstance(flight.feed, Feed):
                async for piece in flight.feed.follow(flight.task):
                    heard += len(piece)
                    yield piece
            found = self._tell(flight, await asyncio.shield(flight.task))
            told(found.source)
            if heard < len(found.clip.pcm):
                yield found.clip.pcm[heard:]
        finally:
            self._leave(flight)

    async def form(self, clip: Clip, form: Form) -> bytes:
        """The clip's bytes in `form`, transcoded once and kept; those that take long to make in the store as well."""
        data = self.peek_form(clip.key, form)
        if data is None:
            name = f"{clip.key}.{NAMES[form]}"
            data = await self._transcodings.run(name, lambda: self._transcode(clip, form, name))
        return data

    async def flush(self) -> None:
        """Waits until everything rendered so far has been offered to the store."""
        while self._behind:
            await asyncio.gather(*self._behind, return_exceptions=True)

    async def aclose(self) -> None:
        await self.flush()
        if self._store is not None:
            await self._store.aclose()

    async def _read(self, store: Store, key: str) -> Clip | None:
        clip = await store.get(key)
        if clip is not None:
            self._remember(clip)
        return clip

    # --- having a clip made ---

    def _tell(self, flight: Flight[Found], found: Found) -> Found:
        """Of those who shared a render one is told that it was rendered, so that it is paid for once."""
        if found.source is Source.RENDER:
            if flight in self._told:
                found = Found(found.clip, Source.SHARED)
            self._told.add(flight)
        self.counts[found.source.value] += 1
        return found

    def _leave(self, flight: Flight[Found]) -> None:
        self._flights.leave(flight)
        if not flight.waiting:
            self._told.discard(flight)

    async def _load(self, wanted: _Wanted) -> Found:
        if not wanted.stored:
            return Found(replace(await wanted.render(), until=0.0), Source.RENDER)
        clip = await self.get(wanted.key)
        if clip is not None:
            return Found(clip, Source.STORE)
        older = await self._older(wanted)
        if older is not None:
            self._later(self._renew(wanted))
            return Found(older, Source.STALE)
        return await self._make(wanted)

    async def _make(self, wanted: _Wanted) -> Found:
        turn = await self._turn(wanted.key)
        if isinstance(turn, Clip):
            return Found(turn, Source.STORE)
        return Found(await self._rendered(wanted, wanted.render, turn), Source.RENDER)

    async def _rendered(self, wanted: _Wanted, render: Render, lease: Lease) -> Clip:
        """Nobody who waits for sound waits for a store. The lease is held until the clip is there for the others."""
        try:
            clip = await render()
        except BaseException:
            self._later(lease.release())
            raise
        if wanted.keep_s is not None:
            clip = replace(clip, until=time.time() + wanted.keep_s)
        self._remember(clip)
        self._later(self._keep(clip, wanted.stale_key, lease))
        return clip

    async def _turn(self, key: str) -> Clip | Lease:
        """The right to render, or the clip that another process had rendered meanwhile."""
        if self._store is None:
            return NoLease()
        loop = asyncio.get_running_loop()
        patience_ends = loop.time() + self._patience_s
        while (lease := await self._store.reserve(key)) is None:
            if loop.time() >= patience_ends:
                log.warning("another process has rendered a clip for %.0f s; not waiting", self._patience_s)
                return NoLease()
            await asyncio.sleep(POLL_S)
            clip = await self._now(self._store, key)
            if clip is not None:
                return clip
        # Whoever had the lease before may have finished between our look and our turn.
        try:
            clip = await self._now(self._store, key)
        except BaseException:
            self._later(lease.release())
            raise
        if clip is None:
            return lease
        self._later(lease.release())
        return clip

    async def _now(self, store: Store, key: str) -> Clip | None:
        """As `get`, but not by a look that somebody else began earlier."""
        return self.peek(key) or await self._read(store, key)

    async def _keep(self, clip: Clip, stale_key: str | None, lease: Lease) -> None:
        try:
            if stale_key is not None:
                self._newest.put(stale_key, clip.key, len(clip.key) * 2)
            if self._store is not None:
                await self._store.put(clip)
                if stale_key is not None:
                    await self._store.put_part(Part(f"{stale_key}.newest", clip.key.encode(), clip.until))
        finally:
            await lease.release()

    # --- older versions ---

    async def _older(self, wanted: _Wanted) -> Clip | None:
        """What an older version of the engine said, where that is known and still there."""
        if wanted.stale_key is None or wanted.fresh:
            return None
        known = self._newest.get(wanted.stale_key)
        if known is None and self._store is not None:
            part = await self._store.get_part(f"{wanted.stale_key}.newest")
            known = part.data.decode() if part is not None else None
            if known is not None:
                self._newest.put(wanted.stale_key, known, len(known) * 2)
        known = known or wanted.stale_key
        return None if known == wanted.key else await self.get(known)

    async def _renew(self, wanted: _Wanted) -> None:
        """Makes the new version, unless that is being done already, here or elsewhere."""
        try:
            await self._renewals.run(wanted.key, lambda: self._make_anew(wanted))
        except Exception as error:
            # The class only: an engine's own text may hold an address or a key.
            log.warning("an older clip is still used, the new one failed: %s", type(error).__name__)

    async def _make_anew(self, wanted: _Wanted) -> None:
        lease = await self._store.reserve(wanted.key) if self._store is not None else NoLease()
        if lease is None:
            return
        clip = await self._now(self._store, wanted.key) if self._store is not None else self.peek(wanted.key)
        if clip is None:
            with self._aside():
                await self._rendered(wanted, wanted.again, lease)
        else:
            await lease.release()

    # --- forms, memory, work behind ---

    async def _transcode(self, clip: Clip, form: Form, name: str) -> bytes:
        shared = self._store if form in DEAR and not clip.is_over else None
        part = await shared.get_part(name) if shared is not None else None
        if part is None:
            part = Part(name, await asyncio.to_thread(transcode, clip.pcm, form), clip.until)
            if shared is not None:
                self._later(shared.put_part(part))
        if not part.is_over:
            self._memory.put((clip.key, form), part, len(part.data))
        return part.data

    def _remember(self, clip: Clip) -> None:
        self._memory.put((clip.key, None), clip, clip.nbytes)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)


async def _gather(key: str, text: str, speak: Callable[[], AsyncIterator[Pcm16]], feed: Feed) -> Clip:
    pieces = speak()
    try:
        async for piece in pieces:
            feed.put(piece)
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
    return Clip(key, text, feed.whole())

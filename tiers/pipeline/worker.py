"""Model work off the event loop: a few threads, first come first served, abandoned work dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def closing(iterator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Closes an async iterator on the way out, at once rather than when it is collected."""
    try:
        yield iterator
    finally:
        if close := getattr(iterator, "aclose", None):
            await close()


class Worker:
    """Threads for one model. Callers queue in order, so short jobs (a clause, an utterance) share it fairly."""

    def __init__(self, name: str, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[], T], abandon: Callable[[], None] | None = None) -> T:
        """The result of `work()` in a thread.

        When the caller is cancelled, work that has not begun never does, and for work in progress `abandon` is
        called, from the event loop; it should make `work` return soon.
        """
        future = self._pool.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel() and abandon is not None:
                abandon()
            raise

    async def stream(self, work: Callable[[Callable[[T], bool]], None]) -> AsyncIterator[T]:
        """What `work(emit)` emits, in order. `emit` answers False once nobody listens: `work` should end then."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[T | Future[None]] = asyncio.Queue()
        listening = True

        def emit(value: T) -> bool:
            if listening:
                loop.call_soon_threadsafe(queue.put_nowait, value)
            return listening

        def finish(future: Future[None]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, future)

        future = self._pool.submit(work, emit)
        future.add_done_callback(finish)
        try:
            while not isinstance(value := await queue.get(), Future):
                yield value
            value.result()
        finally:
            listening = False
            future.cancel()

    def close(self) -> None:
        """Takes no more work; what runs is finished in its thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class SpareTime:
    """Work that is done while nobody is served, and given up for whoever comes."""

    def __init__(self) -> None:
        self._served = 0
        self._free = asyncio.Event()
        self._free.set()
        self._task: asyncio.Task[Any] | None = None

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Somebody is served in here."""
        self._served += 1
        self._free.clear()
        if self._task is not None:
            self._task.cancel()
        try:
            yield
        finally:
            self._served -= 1
            if not self._served:
                self._free.set()

    async def use(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `work()`, begun again from the start when it had to be given up. One user at a time."""
        while True:
            await self._free.wait()
            task = asyncio.create_task(work())
            self._task = task
            try:
                await asyncio.wait((task,))
            finally:
                self._task = None
                task.cancel()
            if not task.cancelled():
                return task.result()

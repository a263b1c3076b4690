"""One piece of work per key at a time, however many ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Flight(Generic[T]):
    """Work in progress. `feed` is what its starter gave it, for those who join."""

    key: str
    task: asyncio.Task[T]
    feed: Any = None
    waiting: int = 0


class SingleFlight(Generic[T]):
    """The first who asks starts the work; all who ask before it ends get its result or its exception.

    The work belongs to all of them: a caller that is cancelled leaves the others theirs, and when the last
    one is gone the work is cancelled too, because a render that nobody waits for takes the processor from
    one that somebody does.
    """

    def __init__(self) -> None:
        self._flights: dict[str, Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        flight = self.enter(key, work)
        try:
            return await asyncio.shield(flight.task)
        finally:
            self.leave(flight)

    def enter(self, key: str, work: Callable[[], Coroutine[Any, Any, T]], feed: Any = None) -> Flight[T]:
        """The work on `key`, begun unless it is under way. Whoever enters leaves, whatever happens between."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight(key, asyncio.create_task(work()), feed)
            flight.task.add_done_callback(lambda _: self._land(flight))
        flight.waiting += 1
        return flight

    def leave(self, flight: Flight[T]) -> None:
        flight.waiting -= 1
        if not flight.waiting and not flight.task.done():
            # Landed at once, so that whoever asks next starts afresh and not on a dying task.
            self._land(flight)
            flight.task.cancel()

    def _land(self, flight: Flight[T]) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        if not flight.task.cancelled() and flight.task.done():
            flight.task.exception()  # those who waited were told; nobody else has to be

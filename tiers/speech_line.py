"""The line before the workers of a speech engine: who is next, who may still join, how long it takes. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tiers.urgency import Priority

TURNS = 8
"""After so many pieces for others a piece of a batch is next, unless a live call waits."""


@dataclass(slots=True, eq=False)
class Place:
    """A piece of work in the line. `cost` is what it is expected to take, in seconds."""

    priority: Priority
    cost: float = 0.0
    admitted: bool = False
    """Its caller has begun to speak, so it is not sent away."""
    attempts: int = 0
    """How many workers have died of it."""
    given_up: int = 0
    """How often it was given up for somebody more urgent."""


@dataclass(slots=True)
class Line:
    """Live calls first; batches last, but not never; each kind in the order it came. `limit` counts all that wait."""

    limit: int
    _waiting: dict[Priority, deque[Place]] = field(
        default_factory=lambda: {priority: deque() for priority in Priority}
    )
    _since_batch: int = 0

    def __len__(self) -> int:
        return sum(len(places) for places in self._waiting.values())

    def __iter__(self) -> Iterator[Place]:
        for places in self._waiting.values():
            yield from places

    def join(self, place: Place) -> Place | None:
        """Puts `place` at the end of its kind. Returns who has to go for it when the line is full, maybe itself."""
        self._waiting[place.priority].append(place)
        if place.admitted or len(self) <= self.limit:
            return None
        for priority in sorted(Priority, reverse=True):
            for last in reversed(self._waiting[priority]):
                if not last.admitted:
                    self._waiting[priority].remove(last)
                    return last
        return None

    def rejoin(self, place: Place) -> None:
        """Back to the front of its kind: it was being worked on already, so the limit does not apply."""
        self._waiting[place.priority].appendleft(place)

    def next(self) -> Place | None:
        """Takes out who is to be served."""
        live, request, batch = (self._waiting[priority] for priority in Priority)
        if live:
            chosen = live
        elif batch and (not request or self._since_batch >= TURNS):
            chosen = batch
        else:
            chosen = request
        if not chosen:
            return None
        self._since_batch = self._since_batch + 1 if batch and chosen is not batch else 0
        return chosen.popleft()

    def leave(self, place: Place) -> bool:
        """Takes `place` out; False if it is not in the line."""
        try:
            self._waiting[place.priority].remove(place)
        except ValueError:
            return False
        return True

    def ahead_of(self, priority: Priority) -> float:
        """Seconds of work that is served before a newcomer of `priority`."""
        return sum(place.cost for place in self if place.priority <= priority)

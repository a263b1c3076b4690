"""How urgent speech is, said once by whoever needs it and known to the engines, however deep they lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import NamedTuple


class Priority(IntEnum):
    """Who goes first."""

    LIVE = 0
    """Somebody is in a call."""
    REQUEST = 1
    """Somebody waits for an answer over HTTP."""
    BATCH = 2
    """Nobody waits."""


class Urgency(NamedTuple):
    """`within_s`: seconds after which the first sound is of no use any more; None has the engine's own limit."""

    priority: Priority = Priority.LIVE
    within_s: float | None = None


_IN_A_CALL = Urgency()
_current: ContextVar[Urgency] = ContextVar("urgency", default=_IN_A_CALL)


def urgency() -> Urgency:
    """That of the work that is being done; a live call's unless somebody said otherwise."""
    return _current.get()


@contextmanager
def asking(priority: Priority, within_s: float | None = None) -> Iterator[None]:
    """All speech that is asked for in here, and in tasks begun in here, has this urgency."""
    token = _current.set(Urgency(priority, within_s))
    try:
        yield
    finally:
        _current.reset(token)

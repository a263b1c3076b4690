"""Live calls think again when something changed that they are routed by: all of them, a few at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

log = logging.getLogger(__name__)

SLICE_S = 0.05
"""So long calls may think without a pause. The audio of others waits for it, and has more ahead than that. In a much
shorter time the first calls begin to answer anew, which takes most of the processor, before the last are told."""


class Reconsiders(Protocol):
    def reconsider(self) -> None: ...


class Reconsidering:
    """`calls`: those that live, by id, looked at anew each time. `clock` is monotonic.

    An order may move hundreds of calls at once, at a millisecond or more each. In one go that would hold up the audio
    of all others, and what waits for the store would take it for dead.
    """

    def __init__(self, calls: Mapping[str, Reconsiders], clock: Callable[[], float] = time.monotonic) -> None:
        self._calls, self._clock = calls, clock
        self._waiting: dict[str, None] = {}
        """Ids, in the order of their turns."""
        self._running = False

    def all(self) -> None:
        """Every call thinks again: the first ones at once, the others soon. Those that wait already keep their turn."""
        for call_id in self._calls:
            self._waiting.setdefault(call_id)
        if not self._running:
            self._some()

    def _some(self) -> None:
        self._running = True
        until = self._clock() + SLICE_S
        while self._waiting:
            call_id = next(iter(self._waiting))
            del self._waiting[call_id]
            call = self._calls.get(call_id)
            if call is not None:
                self._one(call_id, call)
            if self._clock() >= until:
                break
        self._running = bool(self._waiting)
        if self._running:
            asyncio.get_running_loop().call_soon(self._some)

    def _one(self, call_id: str, call: Reconsiders) -> None:
        try:
            call.reconsider()
        except Exception:
            log.exception("call %s could not follow a change", call_id)

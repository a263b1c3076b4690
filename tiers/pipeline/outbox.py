"""What an answer in the making hands to its reader."""

from __future__ import annotations

import asyncio
from collections import deque

from orchestrator.protocol.answers import AnswerEvent, Charge, Charged


class Outbox:
    """Events in order, at most `ahead` of them waiting for the reader; charges go before them and never wait."""

    def __init__(self, ahead: int) -> None:
        self._events: asyncio.Queue[AnswerEvent] = asyncio.Queue(ahead)
        self._charges: deque[Charge] = deque()
        self._news = asyncio.Event()

    async def put(self, event: AnswerEvent) -> None:
        await self._events.put(event)
        self._news.set()

    def charge(self, charge: Charge | None) -> None:
        if charge is not None:
            self._charges.append(charge)
            self._news.set()

    async def get(self) -> AnswerEvent:
        """The next event. There is one reader."""
        while True:
            if self._charges:
                return Charged(self._charges.popleft())
            if not self._events.empty():
                return self._events.get_nowait()
            self._news.clear()
            await self._news.wait()

    def charges(self) -> list[Charge]:
        """Those that nobody has read."""
        found = list(self._charges)
        self._charges.clear()
        return found

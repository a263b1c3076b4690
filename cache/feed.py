"""Sound while it is made, for as many as listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from orchestrator.protocol.audio import Pcm16


class Feed:
    """Keeps the pieces of a render, so that who comes late hears it from the start."""

    def __init__(self) -> None:
        self._pieces: list[Pcm16] = []
        self._more = asyncio.Event()

    def put(self, piece: Pcm16) -> None:
        self._pieces.append(piece)
        self._more.set()
        self._more = asyncio.Event()

    def whole(self) -> Pcm16:
        """All pieces so far, as one array that nobody writes to."""
        pcm = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        pcm.flags.writeable = False
        return pcm

    async def follow(self, end: asyncio.Future[Any]) -> AsyncIterator[Pcm16]:
        """The pieces, from the first one on; until `end` is done."""
        heard = 0
        while True:
            while heard < len(self._pieces):
                yield self._pieces[heard]
                heard += 1
            if end.done():
                return
            more = asyncio.ensure_future(self._more.wait())
            try:
                await asyncio.wait((more, end), return_when=asyncio.FIRST_COMPLETED)
            finally:
                more.cancel()

"""How late the event loop is: whatever holds it up holds up the audio of all calls of this replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

EVERY_S = 0.1


async def feel(
    late: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Calls `late` ten times a second with the seconds that the loop came too late, until cancelled."""
    while True:
        due = clock() + EVERY_S
        await sleep(EVERY_S)
        late(max(0.0, clock() - due))

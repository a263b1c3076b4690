"""A caller's line, whoever serves it: says the words, waits for an answer, says them once more, hangs up."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress

from benchmarks.peers.figures import Stream, answer, since

AGAIN_S = 8.0
"""How long the caller waits after saying it again."""
_SETTLE_S = 5.0
"""An answer that began this long before the end of the watch may still be heard to its end."""
_CLOSE_S = 10.0


class Line(ABC):
    """One call. `stream` grows as it goes on, and `changed` is set whenever it has."""

    def __init__(self) -> None:
        self.stream = Stream(time.monotonic())
        self.changed = asyncio.Event()

    @abstractmethod
    async def run(self, pause: float) -> None:
        """Connect, be silent for `pause` seconds, say the words, and stay on the line until cancelled or closed."""

    @abstractmethod
    def say_again(self) -> None:
        """Say the words once more."""

    @abstractmethod
    def hang_up(self) -> None:
        """End the call; `run` returns soon after."""


async def place(
    line: Line, pause: float, watch_s: float, words_s: float, fault_at: Callable[[], Awaitable[float | None]]
) -> Stream:
    """Place a call and stay until it is answered, closed, or watched for `watch_s` after the caller's last word.

    `fault_at` tells when the call's fault was executed; an answer has to begin after it.
    """
    task = asyncio.create_task(line.run(pause))
    task.add_done_callback(lambda _: line.changed.set())

    async def answered(asked: int, end: float, watch_s: float) -> bool:
        """Wait for an answer to the words said for the `asked` th time; without words until `end`."""
        while not line.stream.closed and not task.done():
            line.changed.clear()
            if await _is_answered(line.stream, asked, fault_at):
                return True
            spoken = line.stream.turn_ends[asked:]
            left = _left(line.stream, spoken[0] + watch_s if spoken else end)
            if left <= 0:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(line.changed.wait(), left)
        return False

    try:
        if not await answered(0, time.monotonic() + pause + words_s + watch_s, watch_s):
            if not line.stream.closed and not task.done():
                line.say_again()
            await answered(1, time.monotonic() + words_s + AGAIN_S, AGAIN_S)
    finally:
        line.hang_up()
        done, _ = await asyncio.wait([task], timeout=_CLOSE_S)
        if not done:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        raise error
    return line.stream


async def _is_answered(stream: Stream, asked: int, fault_at: Callable[[], Awaitable[float | None]]) -> bool:
    if not stream.complete or len(stream.turn_ends) <= asked:
        return False
    start = stream.turn_ends[asked] if asked else since(stream, await fault_at())
    return answer(stream, start) is not None


def _left(stream: Stream, end: float) -> float:
    """Seconds to wait on: until `end`, or a little longer where something is still being said by then."""
    now = time.monotonic()
    if now < end or not stream.pieces:
        return end - now
    return min(end, stream.pieces[-1].at) + _SETTLE_S - now

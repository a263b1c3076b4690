"""A client that takes little time itself: plain HTTP/1.1 on kept connections, in a process of its own.

`python -m benchmarks.prompts_load` reads a `Load` as JSON from standard input and prints a `Measured` as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter

import numpy as np
import uvloop

WARM_UP_S = 0.5
"""Before anything is measured."""
STALLED_S = 60.0
"""What no single answer takes."""


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` are whole HTTP requests. `rate`: so many a second, whether or not the earlier ones were answered.

    Without `seconds` each request is made once; `connections` of them are under way at once.
    """

    host: str
    port: int
    requests: list[str]
    connections: int = 16
    seconds: float | None = None
    rate: float | None = None


@dataclass(slots=True)
class Measured:
    """Latencies in milliseconds: at a `rate` from when a request was due, else from when it was sent.

    Timers are a millisecond fine: a request is due when its timer strikes, whether or not a connection is free then.
    """

    count: int = 0
    seconds: float = 0.0
    failed: int = 0
    """Answers other than 200, and connections that broke."""
    bytes: int = 0
    """Of all bodies."""
    caches: dict[str, int] = field(default_factory=dict)
    """What ``x-cache`` said."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    first_p50_ms: float = 0.0
    """To the first byte of a body."""
    first_p99_ms: float = 0.0

    @property
    def per_second(self) -> float:
        return self.count / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class _Answer:
    due: float
    first: float
    last: float
    status: int
    size: int
    cache: str


class _Connection(asyncio.Protocol):
    """One request at a time. `answered` is called with each answer, or None where the connection broke."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._due = self._first = 0.0
        self._left: int | None = None
        """Of the body; -1: until its last chunk."""
        self._tail = b""
        self._size, self._status, self._cache = 0, 0, ""
        self._busy = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def ask(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due, self._first, self._left, self._size = due, 0.0, None, 0
        self._busy = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._left is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            self._read_head(bytes(self._head[:end]))
            data = bytes(self._head[end + 4 :])
            self._head.clear()
        if data and not self._first:
            self._first = perf_counter()
        self._size += len(data)
        if self._left == -1:
            self._tail = (self._tail + data)[-5:]
            done = self._tail == b"0\r\n\r\n"
        else:
            done = self._size >= (self._left or 0)
        if done:
            now = perf_counter()
            self._busy, self._tail = False, b""
            answer = _Answer(self._due, self._first or now, now, self._status, self._size, self._cache)
            self._client.answered(self, answer)

    def _read_head(self, head: bytes) -> None:
        lines = head.lower().split(b"\r\n")
        self._status = int(lines[0].split()[1])
        told = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
        self._left = int(told.get(b"content-length", b"-1"))
        self._cache = told.get(b"x-cache", b"").decode()

    def connection_lost(self, error: Exception | None) -> None:
        if self._busy:
            self._client.answered(None, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Client:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = [request.encode() for request in load.requests]
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[float] = deque()
        """When requests were due for which no connection was free."""
        self._asked = self._answered = 0
        self._answers: list[_Answer] = []
        self._broken = 0
        self._stopped = False
        self._done = asyncio.Event()

    async def run(self) -> Measured:
        load = self._load
        for _ in range(load.connections):
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self), load.host, load.port
            )
            self._idle.append(connection)
        everyone = list(self._idle)
        if load.rate is not None and load.seconds is not None:
            await self._at_rate(load.rate, load.seconds)
        else:
            await self._flat_out(load.seconds)
        for connection in everyone:
            connection.close()
        return self._measured()

    async def _flat_out(self, seconds: float | None) -> None:
        while self._idle and not self._is_over(seconds):
            self._ask(self._idle.popleft(), perf_counter())
        if seconds is not None:
            await asyncio.sleep(seconds)
            self._stopped = True
        in_a_row = 1 if seconds is not None else -(-len(self._requests) // self._load.connections)
        async with asyncio.timeout(STALLED_S * in_a_row):
            await self._done.wait()

    async def _at_rate(self, rate: float, seconds: float) -> None:
        start, count = self._loop.time() + 0.05, int(rate * seconds)
        for number in range(count):
            self._loop.call_at(start + number / rate, self._due)
        await asyncio.sleep(seconds + 0.05)
        self._stopped = True
        if self._answered < count:
            async with asyncio.timeout(STALLED_S):
                await self._done.wait()

    def _due(self) -> None:
        if self._idle:
            self._ask(self._idle.popleft(), perf_counter())
        else:
            self._waiting.append(perf_counter())

    def _ask(self, connection: _Connection, due: float) -> None:
        connection.ask(self._requests[self._asked % len(self._requests)], due)
        self._asked += 1

    def _is_over(self, seconds: float | None) -> bool:
        return self._stopped or (seconds is None and self._asked >= len(self._requests))

    def answered(self, connection: _Connection | None, answer: _Answer | None) -> None:
        self._answered += 1
        if answer is None or connection is None:
            self._broken += 1
        else:
            self._answers.append(answer)
            if self._waiting:
                self._ask(connection, self._waiting.popleft())
            elif self._load.rate is None and not self._is_over(self._load.seconds):
                self._ask(connection, perf_counter())
            else:
                self._idle.append(connection)
        if self._answered == self._asked and not self._waiting and self._is_over(self._load.seconds):
            self._done.set()

    def _measured(self) -> Measured:
        answers = self._answers
        if self._load.seconds is not None and answers:
            begun = answers[0].due + WARM_UP_S
            answers = [answer for answer in answers if answer.due >= begun]
        good = [answer for answer in answers if answer.status == 200]
        found = Measured(
            count=len(good),
            failed=len(answers) - len(good) + self._broken,
            bytes=sum(answer.size for answer in good),
            caches=dict(Counter(answer.cache for answer in good)),
        )
        if good:
            found.seconds = max(answer.last for answer in good) - min(answer.due for answer in good)
            found.p50_ms, found.p99_ms, found.max_ms = _quantiles([a.last - a.due for a in good])
            found.first_p50_ms, found.first_p99_ms, _ = _quantiles([a.first - a.due for a in good])
        return found


def _quantiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    p50, p99, most = np.percentile(np.array(seconds) * 1000, [50, 99, 100])
    return round(float(p50), 3), round(float(p99), 3), round(float(most), 3)


async def _run(load: Load) -> Measured:
    return await _Client(load).run()


def main() -> None:
    load = Load(**json.load(sys.stdin))
    gc.disable()  # seconds of work, and a collection would count as the server's time
    print(json.dumps(asdict(uvloop.run(_run(load)))))


if __name__ == "__main__":
    main()

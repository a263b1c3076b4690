"""A webhook that does as it is told, byte by byte, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Asked:
    headers: Mapping[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


Act = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What it does once it has taken a request down."""


def answer(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> Act:
    async def act(writer: asyncio.StreamWriter) -> None:
        size = len(body) if length is None else length
        lines = [f"HTTP/1.1 {status} X", f"content-length: {size}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return act


def says(status: int, told: Any) -> Act:
    return answer(status, json.dumps(told).encode())


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """The tool has run, and the answer is lost."""
    writer.transport.abort()


async def say_nothing(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


class Hook:
    """`acts`: what it does with the first request, the second, and so on; the last one for all that follow."""

    def __init__(self) -> None:
        self.acts: list[Act] = [says(200, {"status": "ok"})]
        self.asked: list[Asked] = []
        self.connections = 0
        self.keeps = False
        """Whether a connection is kept for more requests."""
        self.port = 0
        self._busy: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/tools/cancel"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            self.connections += 1
            await self._answer(reader, writer)
            while self.keeps:
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._busy.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        act = self.acts[min(len(self.asked), len(self.acts) - 1)]
        self.asked.append(Asked(headers, body))
        await act(writer)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Hook]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._busy):
                task.cancel()
            await asyncio.gather(*self._busy, return_exceptions=True)

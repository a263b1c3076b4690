"""A webhook on a loopback port, which remembers what it was sent and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    method: str
    headers: dict[str, str]
    """Names are lower case."""
    body: bytes


@dataclass
class Receiver:
    """`statuses`: of the next answers; then 204. `hang`: it never answers."""

    statuses: list[int] = field(default_factory=list)
    hang: bool = False
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self, within_s: float = 30.0) -> Request:
        """The newest request, as soon as one has come since this was last asked."""
        async with asyncio.timeout(within_s):
            await self._arrived.wait()
        self._arrived.clear()
        return self.requests[-1]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Receiver]:
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.create_task(self._serve(reader, writer)))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while first := (await reader.readline()).decode():
                headers: dict[str, str] = {}
                while line := (await reader.readline()).decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append(Request(first.split()[0], headers, body))
                self._arrived.set()
                if self.hang:
                    await asyncio.Event().wait()
                status = self.statuses.pop(0) if self.statuses else 204
                length = "" if status == 204 else "Content-Length: 0\r\n"
                location = "Location: /elsewhere\r\n" if status == 302 else ""
                writer.write(f"HTTP/1.1 {status} Told\r\n{length}{location}\r\n".encode())
                await writer.drain()
        finally:
            writer.close()

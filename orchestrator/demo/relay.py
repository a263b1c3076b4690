"""A place to cut the line to a real provider: `python -m orchestrator.demo.relay PORT https://api.openai.com`.

Plain connections to the port are carried on to the provider over TLS, with the Host header that it expects. Nothing
is read or kept. Ending this process cuts every connection, as if the provider had gone away.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from urllib.parse import urlsplit

CHUNK = 65_536


async def relay(port: int, upstream: str) -> None:
    """Serve until ended. `upstream` is an http:// or https:// origin."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _carry(reader, writer, upstream)
        except (OSError, asyncio.IncompleteReadError) as error:
            print(f"relay: a connection ended with {type(error).__name__}", flush=True)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    print(f"relay: ready on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: str) -> None:
    url = urlsplit(upstream)
    secure = url.scheme == "https"
    head = await reader.readuntil(b"\r\n\r\n")
    context = ssl.create_default_context() if secure else None
    there, back = await asyncio.open_connection(
        url.hostname, url.port or (443 if secure else 80), ssl=context
    )
    back.write(re.sub(rb"(?im)^host:[^\r]*", b"Host: " + url.netloc.encode(), head, count=1))
    await asyncio.gather(_pipe(reader, back), _pipe(there, writer))


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """One direction. Its end is passed on, which ends the other one as well."""
    try:
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), sys.argv[2]))

"""The simulators' sockets: what a WebSocket must do, and what a dead one must not."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from orchestrator.simulate.serving import running
from orchestrator.simulate.sockets import Accept, Socket, Upgrade, Verdict

PATIENCE = 5.0


class Echo:
    """A server that sends back what it gets, and notes how each socket ended."""

    def __init__(self) -> None:
        self.ping_seconds = 20.0
        self.sockets: list[Socket] = []
        self.upgrades: list[Upgrade] = []
        self.ends: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()

    def decide(self, upgrade: Upgrade) -> Verdict:
        socket = Socket(self.ping_seconds)
        self.upgrades.append(upgrade)
        self.sockets.append(socket)
        socket.on_text = socket.send
        socket.on_closed = lambda code, reason, by: self.ends.put_nowait((code, reason, by))
        return Verdict(Accept(socket))

    async def end(self) -> tuple[int, str, str]:
        async with asyncio.timeout(PATIENCE):
            return await self.ends.get()


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def url(echo: Echo) -> AsyncIterator[str]:
    async with running(Starlette(), decide=echo.decide) as origin:
        yield origin.replace("http", "ws", 1) + "/v1/realtime?model=a%20b&empty="


async def test_upgrade_requests_are_parsed(echo: Echo, url: str) -> None:
    async with connect(url, additional_headers={"X-Thing": "1: 2"}, subprotocols=None):
        upgrade = echo.upgrades[0]
    assert (upgrade.path, upgrade.query) == ("/v1/realtime", {"model": "a b", "empty": ""})
    assert upgrade.headers["x-thing"] == "1: 2"


async def test_messages_of_any_size_and_in_fragments(url: str) -> None:
    async with connect(url, max_size=None) as socket:
        for message in ("", "x", "x" * 70_000, "ü" * 2_000_000):
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["one ", "message ", "in parts"])
        assert await socket.recv() == "one message in parts"


async def test_a_client_that_closes(echo: Echo, url: str) -> None:
    async with connect(url) as socket:
        await socket.close(4321, "enough")
    assert socket.close_code == 4321
    assert await echo.end() == (4321, "enough", "client")


async def test_a_client_that_vanishes(echo: Echo, url: str) -> None:
    async with connect(url) as socket:
        await socket.send("x")
        await socket.recv()
        socket.transport.abort()
        assert await echo.end() == (1006, "", "client")


async def test_a_server_that_closes(echo: Echo, url: str) -> None:
    async with connect(url) as socket:
        await socket.send("x")
        await socket.recv()
        echo.sockets[0].close(3000, "type.code")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3000, "type.code")
    assert await echo.end() == (3000, "type.code", "server")


async def test_pings_are_answered_until_the_socket_is_dead(echo: Echo, url: str) -> None:
    async with connect(url, close_timeout=0) as socket:
        async with asyncio.timeout(PATIENCE):
            await (await socket.ping())
        echo.sockets[0].die()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await (await socket.ping())


async def handshake(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection by hand, for a client that does what no library does."""
    host, port = url.removeprefix("ws://").split("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET /v1/realtime HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE):
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_a_client_that_answers_no_pings_is_closed(echo: Echo, url: str) -> None:
    echo.ping_seconds = 0.05
    reader, writer = await handshake(url)
    async with asyncio.timeout(PATIENCE):
        assert await reader.readexactly(2) == b"\x89\x00"
        flags, length = await reader.readexactly(2)
        payload = await reader.readexactly(length)
    assert flags == 0x88
    assert struct.unpack("!H", payload[:2])[0] == 1011
    assert payload[2:] == b"keepalive ping timeout"
    writer.close()
    await echo.end()


async def test_a_reset_is_a_reset(echo: Echo, url: str) -> None:
    reader, writer = await handshake(url)
    echo.sockets[0].reset()
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(PATIENCE):
            await reader.read()
    writer.close()
    assert await echo.end() == (1006, "", "server")


async def test_a_handshake_that_is_none_leaves_nothing_behind(echo: Echo, url: str) -> None:
    host, port = url.removeprefix("ws://").split("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    assert b" 101 " not in answer

"""The server's WebSocket endpoint: by which code each bad frame ends its connection, and when there is no room for one.

The frames go over a plain socket, as no client library would send them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from picows import WSMsgType

from orchestrator.config import Settings
from orchestrator.server.app import Orchestrator
from orchestrator.server.frame_limits import FrameLimits
from orchestrator.server.http import build_api
from orchestrator.server.identity import Scope
from orchestrator.server.key_store import FileKeys, change_keys
from orchestrator.server.keys import new_key
from orchestrator.server.sockets import MAX_BACKLOG_BYTES, ClientSocket, websocket_protocol
from tests import planted
from tests.e2e.frames import BINARY, CLOSE, MORE, PING, PONG, frame
from tests.server.fleets import until

MESSAGE_BYTES = 64 * 1024
LIMITS = {"fragments": 3, "messages_per_s": 20, "bytes_per_s": MESSAGE_BYTES, "burst_s": 1}
EVENT = b'{"type":"input_audio_buffer.clear"}'


class Client:
    """A WebSocket by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, *frames: bytes) -> None:
        for each in frames:
            self._writer.write(each)
        await self._writer.drain()

    async def until(self, wanted: int) -> bytes:
        """The payload of the next frame of this kind; what else comes is passed over."""
        async with asyncio.timeout(10):
            while True:
                head = await self._reader.readexactly(2)
                size = head[1] & 0x7F
                if size >= 126:
                    width = 2 if size == 126 else 8
                    size = int.from_bytes(await self._reader.readexactly(width), "big")
                payload = await self._reader.readexactly(size)
                if head[0] & 0x0F == wanted:
                    return payload

    async def closed(self) -> tuple[int, str]:
        """Code and reason, and the connection is over."""
        payload = await self.until(CLOSE)
        with suppress(ConnectionResetError):  # the rest of what was sent was not read
            async with asyncio.timeout(10):
                assert await self._reader.read() == b""
        return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

    async def lives(self) -> None:
        await self.send(frame(b"there?", PING))
        async with asyncio.timeout(10):
            while await self.until(PONG) != b"there?":
                pass


class Place:
    def __init__(self, service: Orchestrator, port: int) -> None:
        self.service, self._port = service, port

    async def upgrade(self, key: str = "") -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        """The answer's head to an upgrade with this key, and what its connection goes on with."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        nonce = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /v1/realtime?model=gpt-realtime-2.1 HTTP/1.1",
            f"Host: 127.0.0.1:{self._port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {nonce}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Extensions: permessage-deflate",
            *([f"Authorization: Bearer {key}"] if key else []),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        return await reader.readuntil(b"\r\n\r\n"), reader, writer

    @asynccontextmanager
    async def dial(self, key: str = "") -> AsyncIterator[Client]:
        head, reader, writer = await self.upgrade(key)
        assert b" 101 " in head, head
        assert b"extensions" not in head.lower(), "compression was accepted"
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    async def refused(self, key: str = "") -> tuple[int, str, str]:
        """Status, code and message of an upgrade that is refused."""
        head, reader, writer = await self.upgrade(key)
        async with asyncio.timeout(10):
            body = await reader.read()
        writer.close()
        error = json.loads(body)["error"]
        return int(head.split()[1]), error["code"], error["message"]


@asynccontextmanager
async def serving(keys_path: Path | None = None, **limits: Any) -> AsyncIterator[Place]:
    """The product's endpoint; its provider takes connections and says nothing, so calls are there and wait."""
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    where = silent.sockets[0].getsockname()[1]
    settings = Settings.model_validate(
        {
            "openai": {"api_key": planted.PROVIDER, "base_url": f"http://127.0.0.1:{where}/v1"},
            "server": {"max_message_bytes": MESSAGE_BYTES},
            "deadlines": {"session_s": 60, "ceiling_s": 60},
            "access": {"keys_path": keys_path},
            "limits": {**LIMITS, **limits},
        }
    )
    service = Orchestrator(settings)
    await service.door.keys.refresh()
    listener = socket.create_server(("127.0.0.1", 0))
    protocol = websocket_protocol(service.on_upgrade, settings.server.max_message_bytes)
    config = uvicorn.Config(build_api(service), ws=protocol, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield Place(service, listener.getsockname()[1])
    server.should_exit = True
    await task
    silent.close()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with serving() as found:
        yield found


BAD = {
    "compressed": (1002, "no extension was agreed on", [frame(EVENT, rsv=4)]),
    "a reserved bit": (1002, "no extension was agreed on", [frame(EVENT, rsv=1)]),
    "the rest of nothing": (1002, "out of order", [frame(EVENT, MORE)]),
    "a message in a message": (1002, "out of order", [frame(b"{", fin=False), frame(EVENT)]),
    "a ping in pieces": (1002, "fragmented control frame", [frame(b"x", PING, fin=False)]),
    "a long ping": (1002, "125 bytes", [frame(b"x" * 126, PING)]),
    "no mask": (1002, "", [frame(EVENT, masked=False)]),
    "no such kind of frame": (1002, "", [frame(EVENT, 3)]),
    "binary": (1003, "send JSON as text", [frame(EVENT, BINARY)]),
    "binary in pieces": (1003, "send JSON as text", [frame(EVENT, BINARY, fin=False)]),
    "no UTF-8": (1007, "not UTF-8", [frame(b'{"type":"\xff"}')]),
    "no UTF-8 in pieces": (1007, "not UTF-8", [frame(b"\xc3", fin=False), frame(b"(", MORE)]),
    "too many messages": (1008, "more than 20 messages a second", [frame(EVENT)] * 200),
    "too many pings": (1008, "more than 20 messages a second", [frame(b"", PING)] * 200),
    "too many bytes": (1008, "65536 bytes a second", [frame(b" " * 60_000)] * 10),
    "too many pieces": (1008, "in 3 pieces", [frame(b"{", fin=False), *[frame(b" ", MORE, fin=False)] * 3]),
    "too large": (1009, "", [frame(b" " * (MESSAGE_BYTES + 1))]),
    "too large by its head": (1009, "", [bytes([0x81, 0xFF]) + struct.pack("!Q", 2**62) + bytes(4)]),
    "too large in pieces": (
        1009,
        "65536 bytes",
        [frame(b" " * 40_000, fin=False), frame(b" " * 40_000, MORE)],
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_frame_ends_its_connection_by_its_code_and_no_other(place: Place, name: str) -> None:
    code, reason, frames = BAD[name]
    async with place.dial() as neighbour, place.dial() as client:
        await client.lives()
        await client.send(*frames)
        told = await client.closed()
        assert told[0] == code
        assert reason in told[1]
        await neighbour.lives()
        await neighbour.send(frame(EVENT))
        await neighbour.lives()
    await until(lambda: not place.service.calls())


async def test_what_is_within_the_limits_ends_nothing(place: Place) -> None:
    async with place.dial() as client:
        await client.send(frame(b'{"type":', fin=False), frame(b"", PING), frame(b'"\xc3', MORE, fin=False))
        await client.send(frame(b'\xa4"}', MORE))  # a letter may be cut by a piece's end
        await client.send(frame(b" " * (MESSAGE_BYTES - 1)), *[frame(EVENT)] * 10)
        await client.lives()


async def test_a_full_server_says_so_until_a_call_ends() -> None:
    async with serving(calls=2) as small, AsyncExitStack() as calls:
        first = await calls.enter_async_context(small.dial())
        async with small.dial() as second:
            status, code, message = await small.refused()
            assert (status, code) == (503, "server_full")
            assert "limits.calls" in message
            await first.lives()
            await second.lives()
            await second.send(frame(struct.pack("!H", 1000), CLOSE))
            await second.closed()
        await until(lambda: len(small.service.calls()) == 1)
        async with small.dial() as third:
            await third.lives()


async def test_one_key_has_so_many_calls_and_another_its_own(tmp_path: Path) -> None:
    store, now, keys = FileKeys(tmp_path / "keys.json"), time.time(), []
    for name in ("one", "other"):
        _, key = await change_keys(store, lambda ring, name=name: new_key(name, [Scope.SERVICE], now), now)
        keys.append(key)
    async with serving(tmp_path / "keys.json", calls_per_key=1) as small, small.dial(keys[0]) as client:
        status, code, message = await small.refused(keys[0])
        assert (status, code) == (429, "too_many_calls")
        assert "limits.calls_per_key" in message
        async with small.dial(keys[1]) as other:
            await other.lives()
        await client.lives()


class Backlog:
    """A connection whose client reads nothing."""

    is_close_frame_sent = False

    def __init__(self, waiting: int) -> None:
        self.sent: list[object] = []
        self.underlying_transport = SimpleNamespace(get_write_buffer_size=lambda: waiting)

    def send_pong(self, payload: bytes) -> None:
        self.sent.append(payload)

    def send_close(self, code: int, reason: bytes) -> None:
        self.sent.append((int(code), reason.decode()))

    def disconnect(self) -> None:
        self.is_close_frame_sent = True


@pytest.mark.parametrize(
    ("waiting", "sent"),
    [
        (MAX_BACKLOG_BYTES, [b"x", b"x"]),
        (MAX_BACKLOG_BYTES + 1, [(1008, "the client does not read what it is sent")]),
    ],
)
def test_pings_are_answered_while_the_answers_are_read(waiting: int, sent: list[object]) -> None:
    client, transport = ClientSocket(FrameLimits()), Backlog(waiting)
    ping = SimpleNamespace(msg_type=WSMsgType.PING, rsv1=0, rsv2=0, rsv3=0, get_payload_as_bytes=lambda: b"x")
    client.on_ws_connected(transport)  # type: ignore[arg-type]
    for _ in range(2):
        client.on_ws_frame(transport, ping)  # type: ignore[arg-type]
    assert transport.sent == sent

"""The provider socket: every way of losing it is told once, at once, with what is known of it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from orchestrator.simulate import sockets
from tests import planted
from tiers.realtime.link import Link, Loss, LossKind
from tiers.realtime.probe import probe

KEYED = {"Authorization": f"Bearer {planted.PROVIDER}"}
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    peer = writer.transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def unauthorized(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n\r\nno key")
    await writer.drain()
    writer.close()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime?model=m"


async def loss_of(url: str, handshake_s: float = 5.0) -> Loss:
    """How a link to that address ends; it has to end before its own deadline where the peer says so."""
    lost: asyncio.Future[Loss] = asyncio.get_running_loop().create_future()
    link = Link(lambda frame: None, lost.set_result)
    link.open(url, {}, handshake_s=handshake_s, ping_interval_s=30, ping_timeout_s=30)
    async with asyncio.timeout(4.0):
        return await lost


@pytest.mark.parametrize(
    ("handler", "kind", "code"),
    [
        (reset, LossKind.REFUSED, None),
        (hang_up, LossKind.REFUSED, None),
        (unauthorized, LossKind.HTTP, 401),
    ],
)
async def test_a_refusal_is_known_at_once(handler: Handler, kind: LossKind, code: int | None) -> None:
    async with listening(handler) as url:
        loss = await loss_of(url)
    assert (loss.kind, loss.code) == (kind, code)


def repeating(body: bytes, status: bytes = b"401 Unauthorized") -> Handler:
    """Answers the upgrade with the headers that it came with."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        said = body + asked
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(said), said))
        await writer.drain()
        writer.close()

    return answer


@pytest.mark.parametrize("before", [b"no: ", b"x" * 200], ids=["at its beginning", "where it is cut"])
async def test_a_key_that_is_repeated_in_a_refusal_is_taken_out(before: bytes) -> None:
    lost: asyncio.Future[Loss] = asyncio.get_running_loop().create_future()
    async with listening(repeating(before)) as url:
        link = Link(lambda frame: None, lost.set_result)
        link.open(url, KEYED, handshake_s=5, ping_interval_s=30, ping_timeout_s=30)
        async with asyncio.timeout(4):
            loss = await lost
    assert (loss.kind, loss.code, len(loss.reason) <= 300) == (LossKind.HTTP, 401, True)
    assert loss.reason.startswith(before.decode())
    assert planted.PROVIDER[:24] not in loss.reason


async def test_a_key_that_is_repeated_in_a_session_is_taken_out() -> None:
    async def repeats(connection: ServerConnection) -> None:
        told = connection.request.headers["Authorization"] if connection.request else ""
        await connection.send(f'{{"type":"error","error":{{"message":"{told}"}}}}')
        await connection.send([f'{{"type":"error","error":{{"message":"{told[:20]}', f'{told[20:]}"}}}}'])
        await connection.close(4001, told)

    frames: list[bytes] = []
    lost: asyncio.Future[Loss] = asyncio.get_running_loop().create_future()
    async with serve(repeats, "127.0.0.1", 0) as server:
        link = Link(frames.append, lost.set_result)
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        link.open(url, KEYED, handshake_s=5, ping_interval_s=30, ping_timeout_s=30)
        async with asyncio.timeout(4):
            loss = await lost
    assert frames == [b'{"type":"error","error":{"message":"Bearer [redacted]"}}'] * 2
    assert (loss.code, loss.reason) == (4001, "Bearer [redacted]")


async def test_a_word_that_stands_in_for_a_key_is_left_where_it_is() -> None:
    said = '{"type":"response.output_text.delta","delta":"none of the boxes"}'

    async def speaks(connection: ServerConnection) -> None:
        await connection.send(said)

    frames: list[bytes] = []
    lost: asyncio.Future[Loss] = asyncio.get_running_loop().create_future()
    async with serve(speaks, "127.0.0.1", 0) as server:
        link = Link(frames.append, lost.set_result)
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        headers = {"Authorization": "Bearer none"}
        link.open(url, headers, handshake_s=5, ping_interval_s=30, ping_timeout_s=30)
        async with asyncio.timeout(4):
            await lost
    assert frames == [said.encode()]


async def test_nobody_listening_is_a_refusal() -> None:
    assert (await loss_of("ws://127.0.0.1:1/v1/realtime")).kind is LossKind.REFUSED


async def test_a_handshake_that_hangs_ends_at_its_deadline() -> None:
    async with listening(silent) as url:
        assert (await loss_of(url, handshake_s=0.05)).kind is LossKind.TIMEOUT


async def test_a_close_tells_its_code_and_reason_and_what_came_before_is_not_lost() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("one")
        await connection.send(["tw", "o"])
        await connection.close(3000, "invalid_request_error.invalid_api_key")

    frames: list[bytes] = []
    lost: asyncio.Future[Loss] = asyncio.get_running_loop().create_future()
    async with serve(handler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link = Link(frames.append, lost.set_result)
        link.open(f"ws://127.0.0.1:{port}/", {}, handshake_s=5, ping_interval_s=30, ping_timeout_s=30)
        async with asyncio.timeout(4.0):
            loss = await lost
    assert frames == [b"one", b"two"]
    assert (loss.kind, loss.code) == (LossKind.CLOSED, 3000)
    assert "invalid_api_key" in loss.reason


async def test_a_reset_that_the_loop_does_not_tell_of_is_noticed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As under uvloop, where one that comes together with the last audio ends the reading and says nothing."""
    monkeypatch.setattr("tiers.realtime.link.FIRST_PINGS_S", ())  # they would find it

    async def handler(connection: ServerConnection) -> None:
        await connection.send("audio")
        await connection.recv()
        sockets.reset(connection.transport)

    def on_frame(frame: bytes) -> None:
        assert link._transport is not None
        link._transport.underlying_transport.pause_reading()
        link.send(b"reset me")

    lost: asyncio.Future[Loss] = asyncio.get_running_loop().create_future()
    link = Link(on_frame, lost.set_result)
    async with serve(handler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link.open(f"ws://127.0.0.1:{port}/", {}, handshake_s=5, ping_interval_s=30, ping_timeout_s=30)
        async with asyncio.timeout(5.0):
            assert (await lost).kind is LossKind.CLOSED


async def test_what_is_sent_while_connecting_follows_the_handshake_in_order() -> None:
    received: asyncio.Queue[object] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            received.put_nowait((message, connection.request.headers["Authorization"]))  # type: ignore[union-attr]

    async with serve(handler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link = Link(lambda frame: None, lambda loss: None)
        headers = {"Authorization": "Bearer k"}
        link.open(f"ws://127.0.0.1:{port}/", headers, handshake_s=5, ping_interval_s=30, ping_timeout_s=30)
        link.send(b"one")
        link.send(b"two")
        async with asyncio.timeout(4.0):
            assert [await received.get(), await received.get()] == [("one", "Bearer k"), ("two", "Bearer k")]
        link.close()


async def test_a_closed_link_tells_nothing_more() -> None:
    told: list[object] = []
    async with listening(hang_up) as url:
        link = Link(told.append, told.append)
        link.open(url, {}, handshake_s=5, ping_interval_s=30, ping_timeout_s=30)
        link.close()
        link.send(b"late")
        await asyncio.gather(
            *(t for t in asyncio.all_tasks() if t.get_name() == "realtime-link"), return_exceptions=True
        )
    assert told == []


@pytest.mark.parametrize(
    ("says", "ok", "code"),
    [
        (
            ['{"type":"session.created"}', '{"type":"response.done","response":{"status":"completed"}}'],
            True,
            "",
        ),
        (
            ['{"type":"session.created"}', '{"type":"response.done","response":{"status":"failed"}}'],
            False,
            "",
        ),
        (['{"type":"error","error":{"code":"invalid_api_key"}}'], False, "invalid_api_key"),
        (["nonsense", '{"type":"session.created"}'], False, "timeout"),
    ],
)
async def test_a_response_probe_believes_only_a_response(says: list[str], ok: bool, code: str) -> None:
    async def handler(connection: ServerConnection) -> None:
        for message in says:
            await connection.send(message)
        await connection.wait_closed()

    async with serve(handler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await probe(f"ws://127.0.0.1:{port}/", {}, response=True, timeout_s=0.5)
    assert (found.ok, found.code) == (ok, code)

"""Requests that are too large, too slow, too deep or no HTTP at all, written by hand to a socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.server.http import build_api
from orchestrator.server.request_limits import LINGER_BYTES, MANY_BRACKETS, http_protocol, is_deeper
from tests.server.test_http import Server, make_server

BODY, HEADERS, URL, DEPTH = 4096, 2048, 1024, 16
ROUTE = b"POST /v1/route HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"


@dataclass
class Served:
    port: int
    service: Server

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        yield reader, writer
        writer.close()

    async def ask(self, *pieces: bytes) -> Answer:
        """Writes the pieces, and reads one answer."""
        async with self.connection() as (reader, writer):
            writer.writelines(pieces)
            return await answer(reader)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def error(self, status: int, code: str, told: str) -> None:
        """An error in the API's shape whose message tells what was allowed."""
        assert self.status == status, self
        assert self.headers["content-type"] == "application/json"
        error = json.loads(self.body)["error"]
        assert error.keys() == {"type", "message", "code", "param"}
        assert (error["type"], error["code"]) == ("invalid_request_error", code)
        assert told in error["message"]


async def answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return Answer(int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Served]:
    small = {"body_bytes": BODY, "header_bytes": HEADERS, "url_bytes": URL, "json_depth": DEPTH}
    service = make_server(limits=small | limits)
    await service.fleet.start()
    listener = socket.create_server(("127.0.0.1", 0))
    protocol = http_protocol(service.settings.limits)
    config = uvicorn.Config(build_api(service), http=protocol, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield Served(listener.getsockname()[1], service)
    server.should_exit = True
    await task
    await service.fleet.close()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as each:
        yield each


def sized(body: bytes) -> bytes:
    return ROUTE + b"content-length: %d\r\n\r\n" % len(body) + body


def chunked(*pieces: bytes) -> bytes:
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    return ROUTE + b"transfer-encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"


def of_length(length: int) -> bytes:
    """A body of so many bytes that is as it should be."""
    empty = json.dumps({"user": ""}).encode()
    return json.dumps({"user": "x" * (length - len(empty))}).encode()


@pytest.mark.parametrize("send", [sized, chunked])
async def test_the_largest_body_is_taken_and_one_byte_more_is_not(served: Served, send: Any) -> None:
    assert (await served.ask(send(of_length(BODY)))).status == 200
    refused = await served.ask(send(of_length(BODY + 1)))
    refused.error(413, "request_too_large", "4,096 bytes (limits.body_bytes)")
    assert refused.headers["connection"] == "close"


async def test_a_body_that_is_said_to_be_too_large_is_refused_before_it_comes(served: Served) -> None:
    refused = await served.ask(ROUTE + b"content-length: 999999999999\r\n\r\n")
    refused.error(413, "request_too_large", "4,096")


async def test_a_client_that_waits_to_be_asked_for_its_body_is_refused_without_it(served: Served) -> None:
    waits = ROUTE + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    (await served.ask(waits % (BODY + 1))).error(413, "request_too_large", "4,096")
    body = of_length(BODY)
    async with served.connection() as (reader, writer):
        writer.write(waits % len(body))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert (await answer(reader)).status == 200


async def test_a_client_that_goes_on_sending_still_sees_why_it_was_refused(served: Served) -> None:
    """Blind to the answer until all is sent, as most clients are: a connection closed at once would be reset."""
    async with served.connection() as (reader, writer):
        writer.write(ROUTE + b"content-length: %d\r\n\r\n" % (LINGER_BYTES // 2))
        for _ in range(LINGER_BYTES // 2 // 65_536):
            writer.write(bytes(65_536))
            await writer.drain()
        (await answer(reader)).error(413, "request_too_large", "4,096")
        assert await reader.read() == b""


async def test_chunks_without_an_end_are_refused_when_they_are_too_many(served: Served) -> None:
    async with served.connection() as (reader, writer):
        writer.write(ROUTE + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(BODY // 256 + 1):
            writer.write(b"100\r\n" + bytes(256) + b"\r\n")
        (await answer(reader)).error(413, "request_too_large", "4,096")


async def test_an_address_has_a_longest_length(served: Served) -> None:
    def get(length: int) -> bytes:
        path = b"/healthz?x="
        return b"GET %s%s HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % (path, b"x" * (length - len(path)))

    assert (await served.ask(get(URL))).status == 200
    refused = await served.ask(get(URL + 1))
    refused.error(414, "url_too_long", "1,024 bytes (limits.url_bytes)")
    assert refused.headers["connection"] == "close"
    # Also one that comes in pieces, and does not end.
    async with served.connection() as (reader, writer):
        writer.write(b"GET /healthz?")
        for _ in range(20):
            await asyncio.sleep(0)
            writer.write(b"x" * 100)
            await writer.drain()
        assert (await answer(reader)).status in (414, 431)


@pytest.mark.parametrize(
    "headers",
    [
        b"x-one: " + b"x" * HEADERS + b"\r\n",
        b"x" * HEADERS + b": one\r\n",
        b"".join(b"x-%d: y\r\n" % number for number in range(HEADERS // 4)),
    ],
    ids=["value", "name", "many"],
)
async def test_headers_have_a_largest_size(served: Served, headers: bytes) -> None:
    refused = await served.ask(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n" + headers + b"\r\n")
    refused.error(431, "headers_too_large", "2,048 bytes (limits.header_bytes)")
    fits = b"x-one: " + b"x" * (HEADERS - 100) + b"\r\n"
    assert (await served.ask(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n" + fits + b"\r\n")).status == 200


async def test_a_header_that_does_not_end_is_not_kept_for_ever(served: Served) -> None:
    async with served.connection() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx-one: ")
        for _ in range(1000):
            if writer.is_closing() or reader.at_eof():
                break
            writer.write(b"x" * 64)
            await writer.drain()
            await asyncio.sleep(0)
        (await answer(reader)).error(431, "headers_too_large", "2,048")


async def test_a_large_body_before_a_request_does_not_count_as_its_headers(served: Served) -> None:
    """Both on one connection, the second request coming apart."""
    async with served.connection() as (reader, writer):
        writer.write(sized(of_length(BODY)) + b"GET /healthz HTTP/1.1\r\nhost: 127.")
        assert (await answer(reader)).status == 200
        writer.write(b"0.0.1\r\n\r\n")
        assert json.loads((await answer(reader)).body) == {"status": "ok"}


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with serving(request_s=0.3) as served:
        refused = await served.ask(ROUTE + b'content-length: 100\r\n\r\n{"user": ')
        refused.error(408, "request_timeout", "0.3 s (limits.request_s)")
        assert refused.headers["connection"] == "close"


async def test_a_request_that_does_not_end_is_not_waited_for() -> None:
    async with serving(request_s=0.3) as served:
        refused = await served.ask(b"GET /healthz HTTP/1.1\r\nhost: 127")
        refused.error(408, "request_timeout", "0.3 s (limits.request_s)")
        async with served.connection() as (reader, writer):
            # Trickling makes it no longer: the whole has to be there.
            writer.write(b"GET /healthz HTTP/1.1\r\nx: ")
            trickle = asyncio.create_task(trickled(writer))
            (await answer(reader)).error(408, "request_timeout", "0.3 s")
            trickle.cancel()


async def trickled(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.05)


async def test_a_connection_that_asks_nothing_is_closed() -> None:
    async with serving(request_s=0.2) as served, served.connection() as (reader, _):
        assert await reader.read() == b""


async def test_what_is_no_http_gets_the_apis_error(served: Served) -> None:
    (await served.ask(b"\x16\x03\x01 hello\r\n\r\n")).error(400, "bad_http", "RFC 9112")
    both = ROUTE + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    (await served.ask(both)).error(400, "bad_http", "RFC 9112")
    (await served.ask(ROUTE + b"content-length: -1\r\n\r\n")).error(400, "bad_http", "RFC 9112")


@pytest.mark.parametrize(("path", "status"), [("/v1/route", 422), ("/v1/audio/speech", 400)])
async def test_json_is_not_nested_without_end(served: Served, path: str, status: int) -> None:
    def nested(depth: int) -> bytes:
        body = b'{"user": "[[[[[[[[[[[[[[[[[[[[[[[[", "call_id": %s}' % (
            b"[" * (depth - 1) + b"]" * (depth - 1)
        )
        return sized(body).replace(b"/v1/route", path.encode())

    (await served.ask(nested(DEPTH + 1))).error(status, "too_nested", "16 deep (limits.json_depth)")
    (await served.ask(nested(DEPTH))).error(status, "invalid_request", "correct that")
    (await served.ask(sized(b"[" * BODY))).error(422, "too_nested", "16 deep")


async def test_many_brackets_are_counted_beside_the_loop() -> None:
    async with serving(body_bytes=1 << 20) as served:
        flat = b'{"allowed_tools": [' + b"[]," * MANY_BRACKETS + b"[]]}"
        (await served.ask(sized(flat))).error(422, "invalid_request", "allowed_tools")
        (await served.ask(sized(flat[:-2] + b"," + b"[" * DEPTH))).error(422, "too_nested", "16 deep")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\ax', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(value=JSON, most=st.integers(0, 6))
def test_depth_is_counted_as_json_has_it(value: Any, most: int) -> None:
    assert is_deeper(json.dumps(value).encode(), most) == (depth_of(value) > most)


@pytest.mark.parametrize("piece", [b'\\"', b'"', b"\\", b'"\\', b'"[', b'\\"['])
def test_depth_takes_a_time_that_grows_with_the_length_alone(piece: bytes) -> None:
    """A million bytes: looked through again from each quotation mark, they would take minutes."""
    assert is_deeper(b'"' + piece * (1_000_000 // len(piece)), 32) in (True, False)


async def test_a_wrong_method_is_told_the_right_ones(served: Served) -> None:
    refused = await served.ask(b"PATCH /v1/prompts/goodbye HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    refused.error(405, "method_not_allowed", "use DELETE, GET, HEAD, POST, PUT")
    assert refused.headers["allow"].upper() == "DELETE, GET, HEAD, POST, PUT"


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"user": "\xc3\x28"}', b"{", b"nonsense"])
async def test_what_is_no_json_is_one_error(served: Served, body: bytes) -> None:
    (await served.ask(sized(body))).error(422, "invalid_request", "not valid JSON")

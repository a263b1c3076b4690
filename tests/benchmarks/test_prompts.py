"""The client that prompts are measured with, against a server whose answers are known; and the table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.prompts_load import Load, Measured, _run
from benchmarks.prompts_picture import draw
from benchmarks.prompts_report import Row, markdown
from benchmarks.prompts_servers import request

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-Cache: hit\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"


class Server:
    """Answers each request with what comes next in `answers`, byte by byte, or whole; the last one over and over."""

    def __init__(self, *answers: bytes, piecewise: bool = False) -> None:
        self.answers, self.piecewise = list(answers), piecewise
        self.asked: list[bytes] = []
        self.at_once = self.most_at_once = 0
        self.everybody = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
            body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
            self.asked.append(head + body)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            for place in range(len(answer)) if self.piecewise else ():
                writer.write(answer[place : place + 1])
                await writer.drain()
            if not self.piecewise:
                writer.write(answer)


async def load(server: Server, requests: list[str], **how: object) -> Measured:
    async with server.listening() as port:
        return await _run(Load("127.0.0.1", port, requests, **how))  # type: ignore[arg-type]


@pytest.mark.parametrize("piecewise", [False, True])
@pytest.mark.parametrize("answer", [WHOLE, CHUNKED])
async def test_each_request_is_made_once(answer: bytes, piecewise: bool) -> None:
    server = Server(answer, piecewise=piecewise)
    asked = [request("GET", f"/{number}") for number in range(20)]
    found = await load(server, asked, connections=3)
    assert sorted(server.asked) == sorted(each.encode() for each in asked)
    assert (found.count, found.failed) == (20, 0)
    assert found.caches == ({"hit": 20} if answer is WHOLE else {"": 20})
    assert 0 < found.first_p50_ms <= found.p50_ms <= found.p99_ms <= found.max_ms
    assert found.per_second > 0


async def test_a_body_is_sent_with_its_length() -> None:
    server = Server(WHOLE)
    await load(server, [request("POST", "/", {"a": "ü"})], connections=1)
    head, _, body = server.asked[0].partition(b"\r\n\r\n")
    assert body == b'{"a": "\\u00fc"}'
    assert b"Content-Length: 15" in head


async def test_what_is_no_success_is_counted_apart() -> None:
    found = await load(Server(WHOLE, BUSY, WHOLE), [request("GET", "/")] * 5, connections=1)
    assert (found.count, found.failed) == (4, 1)


async def test_at_a_rate_every_request_is_made_however_slow_the_server() -> None:
    server = Server(WHOLE)
    found = await load(server, [request("GET", "/")], connections=2, seconds=1.0, rate=100.0)
    assert len(server.asked) == 100
    # The first half second is for warming up.
    assert 40 <= found.count <= 60


def test_the_table_and_the_picture(tmp_path: Path) -> None:
    found = Measured(count=10, seconds=2.0, p50_ms=0.5, p99_ms=1.25, max_ms=1200.0, first_p50_ms=0.4)
    rows = [
        Row("in memory", "flat out", found, True, "note"),
        Row("two sentences, us", "once more", found, False),
    ]
    first, second = markdown(rows).splitlines()[2:]
    assert first == "| in memory | flat out | 10 | 5 | 0.50 | 1.25 | 1,200 |  | kept | note |"
    assert second == "| two sentences, us | once more | 10 |  | 0.50 | 1.25 | 1,200 | 0.4 | missed |  |"
    draw(tmp_path / "prompts.png", rows)
    assert (tmp_path / "prompts.png").read_bytes().startswith(b"\x89PNG")

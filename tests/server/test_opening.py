"""What a client sends while the fleet is asked about its credential."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orchestrator.server.credentials import Use
from orchestrator.server.frame_limits import FrameLimits
from orchestrator.server.opening import Opening
from orchestrator.server.sockets import ClientSocket


class Socket(ClientSocket):
    """A client's connection, on which nothing travels."""

    def __init__(self) -> None:
        super().__init__(FrameLimits(1000))
        self.sent: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None

    def send(self, frame: bytes) -> None:
        self.sent.append(json.loads(frame))

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)


class Bench:
    def __init__(self) -> None:
        self.socket = Socket()
        self.answer: asyncio.Future[Use] = asyncio.get_running_loop().create_future()
        self.begun: list[Use] = []
        self.seen: list[bytes | str] = []
        self.broken = False
        Opening(self.socket, self.ask, self.begin, keep_bytes=10)

    async def ask(self) -> Use:
        return await self.answer

    def begin(self, use: Use) -> None:
        if self.broken:
            raise RuntimeError("no")
        self.begun.append(use)
        self.socket.on_open = lambda: self.seen.append("open")
        self.socket.on_frame = self.seen.append
        self.socket.on_closed = lambda: self.seen.append("closed")

    async def say(self, use: Use | Exception) -> None:
        if isinstance(use, Use):
            self.answer.set_result(use)
        else:
            self.answer.set_exception(use)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("use", [Use.FIRST, Use.FIRST_HERE])
async def test_frames_are_kept_in_order_until_the_call_begins(bench: Bench, use: Use) -> None:
    bench.socket.on_open()
    for frame in (b"one", b"two"):
        bench.socket.on_frame(frame)
    assert bench.begun == []
    await bench.say(use)
    bench.socket.on_frame(b"three")
    assert bench.begun == [use]
    assert bench.seen == ["open", b"one", b"two", b"three"]
    bench.socket.on_closed()
    assert bench.seen[-1] == "closed"
    assert bench.socket.closed is None


async def test_a_used_credential_is_told_in_the_protocol(bench: Bench) -> None:
    bench.socket.on_open()
    bench.socket.on_frame(b"one")
    await bench.say(Use.USED)
    (event,) = bench.socket.sent
    assert (event["type"], event["error"]["code"]) == ("error", "credential_used")
    assert event["event_id"]
    assert bench.socket.closed == (3000, "invalid_request_error.credential_used")
    assert bench.begun == []


async def test_more_than_can_be_kept_ends_the_connection(bench: Bench) -> None:
    bench.socket.on_open()
    for _ in range(4):
        bench.socket.on_frame(b"four")
    assert bench.socket.closed is not None
    assert bench.socket.closed[0] == 1009


async def test_a_client_that_has_gone_gets_no_call(bench: Bench) -> None:
    bench.socket.on_open()
    await asyncio.sleep(0)
    bench.socket.on_closed()
    await asyncio.sleep(0)
    assert bench.answer.cancelled()
    assert (bench.begun, bench.socket.sent, bench.socket.closed) == ([], [], None)


@pytest.mark.parametrize("broken", [True, False])
async def test_a_fault_of_ours_is_told_as_one(bench: Bench, broken: bool) -> None:
    bench.broken = broken
    bench.socket.on_open()
    await bench.say(Use.FIRST if broken else ValueError("no"))
    assert bench.socket.sent[0]["error"]["code"] == "server_error"
    assert bench.socket.closed is not None
    assert bench.socket.closed[0] == 1011

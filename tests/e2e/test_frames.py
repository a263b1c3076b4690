"""Whatever clients send, the server goes on, and a neighbour's call is answered as if they were not there."""

from __future__ import annotations

import asyncio
import os
import time
from itertools import count
from urllib.parse import urlsplit

import pytest
import websockets

from tests.e2e.frames import Frames, misbehave
from tests.e2e.stack import Stack

SEED = int(os.environ.get("FRAMES_SEED", "20261126"))
TOGETHER = 8
GROWTH = 60 * 1024 * 1024
"""Bytes that the server may have grown by when all of them are gone."""
ANSWER_S = 5.0


class Neighbour:
    """A good client: it asks again and again, and counts whole answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers = 0
        self.slowest = 0.0
        self.going = True

    async def hold(self) -> None:
        item = '{"type":"message","role":"user","content":[{"type":"input_text","text":"Where is my order 4172?"}]}'
        async with websockets.connect(self.url) as socket:
            assert "session.created" in str(await socket.recv())
            while self.going or self.answers < 2:
                began = time.monotonic()
                await socket.send(f'{{"type":"conversation.item.create","item":{item}}}')
                await socket.send('{"type":"response.create"}')
                async with asyncio.timeout(30):
                    while '"type":"response.done"' not in (done := str(await socket.recv())):
                        assert '"type":"error"' not in done, done
                assert '"status":"completed"' in done, done
                self.answers += 1
                self.slowest = max(self.slowest, time.monotonic() - began)


async def fuzz(stack: Stack, total: int) -> Neighbour:
    """`total` frames by several bad clients at a time, while a neighbour's call goes on."""
    where = urlsplit(stack.service.url)
    assert where.hostname is not None
    assert where.port is not None
    neighbour, left, seeds = Neighbour(stack.realtime), total, count(SEED)
    holding = asyncio.create_task(neighbour.hold())

    async def clients() -> None:
        nonlocal left
        while left > 0:
            left -= await misbehave(where.hostname, where.port, Frames(next(seeds)).frames(min(left, 60)))

    await asyncio.gather(*(clients() for _ in range(TOGETHER)))
    neighbour.going = False
    await holding
    return neighbour


async def check(stack: Stack, total: int) -> None:
    print(f"seed {SEED}")
    await fuzz(stack, min(total, 300))  # what is made once and kept

    def at_rest(calls: int) -> dict[str, int]:
        return dict(
            stack.service.until("/v1/status", lambda s: s["process"]["calls"] <= calls, 60.0)["process"]
        )

    before = at_rest(0)
    neighbour = await fuzz(stack, total)
    after = at_rest(0)
    print(
        f"{total} frames, {neighbour.answers} answers, slowest {neighbour.slowest:.2f} s, {before} -> {after}"
    )
    assert neighbour.answers >= 2
    assert neighbour.slowest < ANSWER_S
    assert "Traceback" not in stack.service.log.read_text()
    assert after["rss_bytes"] - before["rss_bytes"] < GROWTH
    assert after["tasks"] <= before["tasks"] + 2
    assert after["open_files"] <= before["open_files"] + 8


async def test_bad_frames_harm_nobody_else(quick: Stack) -> None:
    await check(quick, 1_000)


@pytest.mark.long
async def test_ten_thousand_bad_frames_harm_nobody_else(quick: Stack) -> None:
    await check(quick, 10_000)

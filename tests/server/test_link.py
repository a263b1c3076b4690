"""A replica's link to the store: what may wait waits for itself alone, and a busy process stays in touch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.server.link import Link
from orchestrator.server.store import EmbeddedStore, RedisStore, StoreUnavailable
from tests.server.fleets import until
from tests.server.test_store import RedisServer

BUSY_S = 0.03
"""One turn of a busy event loop. A command to Redis takes one or two of them, a new connection several."""


async def nothing() -> None:
    pass


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    link = Link(EmbeddedStore(), "test", on_news=lambda news: None, refresh=nothing)
    await link.start()
    yield link
    await link.close()


async def test_an_order_does_not_wait_for_money(link: Link) -> None:
    go_on, written = asyncio.Event(), list[str]()

    async def slow() -> None:
        await go_on.wait()
        written.append("money")

    async def quick() -> None:
        written.append("order")

    for call in range(100):
        link.send(f"claim:{call}", slow, money=True)
    link.send("override:1", quick)
    await until(lambda: written == ["order"])
    assert link.unsent == 100
    assert link.is_pending("claim:7")
    assert not link.is_pending("override:1")
    go_on.set()
    await until(lambda: not link.unsent)
    assert written.count("money") == 100


async def test_what_is_unsent_of_both_kinds_is_tried_when_it_ends(link: Link) -> None:
    written, away = list[str](), True

    async def write(what: str) -> None:
        if away:
            raise StoreUnavailable("away")
        written.append(what)

    link.send("override:1", lambda: write("order"))
    link.send("claim:1", lambda: write("money"), money=True)
    await until(lambda: link.away_since is not None)
    away = False
    await link.close()
    assert sorted(written) == ["money", "order"]


async def test_a_busy_process_gets_its_connection_to_redis(tmp_path: Path) -> None:
    """Its event loop is late for everything; Redis is as quick as ever."""
    server, store, busy = RedisServer(tmp_path), None, True

    def hold_up() -> None:
        time.sleep(BUSY_S)
        if busy:
            asyncio.get_running_loop().call_soon(hold_up)

    try:
        store = RedisStore(server.url, timeout_s=0.05)
        hold_up()
        found = None
        # A command may be late on a machine that is busy itself; a connection has to be there.
        for _ in range(5):
            with suppress(StoreUnavailable):
                await store.put("key", "value")
                found = await store.get("key")
                break
        assert found == "value"
    finally:
        busy = False
        server.stop()
        if store is not None:
            await store.close()

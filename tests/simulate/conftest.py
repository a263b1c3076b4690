"""A running realtime simulator for each test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from orchestrator.simulate.realtime import RealtimeSimulator
from tests.simulate.simulated import Bench, fast_options

Start = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a simulator with these options; gives its bench."""
    async with contextlib.AsyncExitStack() as servers, contextlib.AsyncExitStack() as clients:

        async def begin(**changes: object) -> Bench:
            simulator = RealtimeSimulator(fast_options(**changes))
            origin = await servers.enter_async_context(simulator.start())
            bench = Bench(simulator, origin, clients)
            clients.push_async_callback(bench.sdk.close)
            return bench

        yield begin


@pytest.fixture
async def bench(start: Start) -> Bench:
    return await start()

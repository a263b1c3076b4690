"""Replicas, crashes, and a store that loses requests and answers, in any order: nothing is changed twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from orchestrator.core.tools import Kind, Result, Tool, ToolOutcome
from orchestrator.server import tool_ledger
from orchestrator.server.link import end_tasks
from orchestrator.server.store import EmbeddedStore, StoreUnavailable
from orchestrator.server.tool_ledger import Entry, ToolLedger

KEY = "cancel"
REPLICAS = 3
FAULTS = ("well", "well", "well", "request lost", "answer lost", "late")
FATES = ("done", "done", "failed", "answer lost", "never arrived", "crash before", "crash after")

faults = st.lists(st.sampled_from(FAULTS), max_size=6)
runs = st.lists(
    st.tuples(st.integers(0, REPLICAS - 1), st.sampled_from(FATES), faults, st.booleans()),
    min_size=2,
    max_size=10,
)


class Flaky(EmbeddedStore):
    """Loses what `faults` says, one operation after the other; what is late is done before some later operation."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self._late: list[Callable[[], Awaitable[Any]]] = []

    async def get(self, key: str) -> str | None:
        return await self._meet(lambda: EmbeddedStore.get(self, key))

    async def put_if(
        self, key: str, expected: str | None, value: str, ttl: float | None = None
    ) -> str | None:
        return await self._meet(lambda: EmbeddedStore.put_if(self, key, expected, value, ttl))

    async def _meet(self, do: Callable[[], Awaitable[str | None]]) -> str | None:
        await asyncio.sleep(0)
        fault = self.faults.pop(0) if self.faults else "well"
        if fault == "request lost":
            raise StoreUnavailable("lost")
        if fault == "late":
            self._late.append(do)
            raise StoreUnavailable("hung")
        done = await do()
        await self.catch_up()
        await asyncio.sleep(0)
        if fault == "answer lost":
            raise StoreUnavailable("lost")
        return done

    async def catch_up(self) -> None:
        late, self._late = self._late, []
        for do in late:
            await do()


class World:
    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.store = Flaky()
        self.now = 0.0
        self.ledgers = [self._ledger() for _ in range(REPLICAS)]
        self.changes = 0
        """How often the tool really changed something."""
        self.outcomes: list[Result] = []

    def _ledger(self) -> ToolLedger:
        return ToolLedger(self.store, wall=lambda: self.now)

    async def run(self, replica: int, fate: str, faults: list[str]) -> None:
        ledger = self.ledgers[replica]
        self.store.faults = list(faults)
        try:
            begun = await ledger.begin(self.tool, KEY)
        except StoreUnavailable:
            self.outcomes.append(Result.DECLINED)
            return
        if not isinstance(begun, Entry):
            self.outcomes.append(begun.result)
            assert begun.result in (Result.DONE, Result.UNKNOWN)
            assert begun.result is not Result.DONE or self.changes
            return
        # The tool's own side: one that honours the key does for a second request nothing, and says it is done.
        if fate in ("done", "answer lost", "crash after"):
            self.changes += not (self.tool.honours_key and self.changes)
        await asyncio.sleep(0)
        if fate.startswith("crash"):
            await end_tasks(ledger._tasks)
            self.ledgers[replica] = self._ledger()
            return
        result = {"done": Result.DONE, "failed": Result.FAILED}.get(fate, Result.UNKNOWN)
        self.outcomes.append(result)
        await ledger.finish(KEY, begun, ToolOutcome(result))

    async def end(self) -> None:
        for ledger in self.ledgers:
            await ledger.close()


@pytest.mark.parametrize("honours", [False, True])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=runs)
def test_nothing_is_changed_twice(
    honours: bool, runs: list[tuple[int, str, list[str], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_ledger, "LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(tool_ledger, "SPARE_S", 0.0)

    async def play() -> World:
        world = World(Tool(KEY, kind=Kind.MUTATING, timeout_s=0.004, honours_key=honours))
        together: list[Awaitable[None]] = []
        for replica, fate, faults, alone in runs:
            together.append(world.run(replica, fate, faults))
            if alone:
                await asyncio.gather(*together)
                together = []
                world.now += 1
            assert world.changes <= 1
        await asyncio.gather(*together)
        await world.end()
        return world

    world = asyncio.run(play())
    assert world.changes <= 1
    for result in set(world.outcomes):
        event(result.value)


async def test_an_own_result_that_is_not_written_yet_is_known() -> None:
    world = World(Tool(KEY, kind=Kind.MUTATING, timeout_s=60.0))
    begun = await world.ledgers[0].begin(world.tool, KEY)
    assert isinstance(begun, Entry)
    world.store.faults = ["request lost"]
    await world.ledgers[0].finish(KEY, begun, ToolOutcome(Result.DONE))
    assert world.ledgers[0].unwritten == 1
    async with asyncio.timeout(5):
        outcome = await world.ledgers[0].begin(world.tool, KEY)
    assert isinstance(outcome, ToolOutcome)
    assert outcome.result is Result.DONE
    assert world.ledgers[0].unwritten == 1
    await world.end()


def test_without_a_ledger_it_would_be_changed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: with a ledger that forgets, it does."""

    async def play() -> World:
        world = World(Tool(KEY, kind=Kind.MUTATING, timeout_s=0.004))
        await world.run(0, "done", [])
        await world.store.delete(next(iter(await world.store.keys("tool:"))))
        await world.run(1, "done", [])
        return world

    assert asyncio.run(play()).changes == 2

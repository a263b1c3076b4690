"""Drills of the fleet: known everywhere, no more calls than wanted, and ended by themselves when one goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestrator.core.drills import Drill, Plan
from orchestrator.server.calls import CallInfo
from orchestrator.server.drills import Drills
from orchestrator.server.store import EmbeddedStore
from tests.server.fleets import until

WORDS = {"practice": "lose_provider", "scope": "all", "share": 100.0, "duration": "1h", "wrong": 1}
WORDS |= {"reason": "monthly", "who": "k", "name": "desk", "typed": ""}
STRUCK = {"drill_id": "", "skipped": ""}


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Drills, Drills, list[Drill]]]:
    store, ended = EmbeddedStore(), list[Drill]()
    one, two = Drills(store), Drills(store, on_end=ended.append)
    await one.start()
    await two.start()
    yield one, two, ended
    await one.close()
    await two.close()


async def test_no_more_calls_than_wanted_at_all_replicas(pair: tuple[Drills, Drills, list[Drill]]) -> None:
    one, two, _ = pair
    drill = one.begin(most=3, **WORDS)
    await until(lambda: two.find(drill.id))
    given: list[Plan | None] = []
    for n in range(10):
        (one, two)[n % 2].call_began(CallInfo(f"call_{n}", "m"), given.append)
    await until(lambda: not one._tasks and not two._tasks)
    assert len(given) == 3
    assert {plan.drill_id for plan in given if plan is not None} == {drill.id}


async def test_a_lost_turn_ends_it_everywhere(pair: tuple[Drills, Drills, list[Drill]]) -> None:
    one, two, ended = pair
    drill = one.begin(most=10, **WORDS)
    await until(lambda: two.find(drill.id))
    struck: list[Plan | None] = []
    waiting: list[Plan | None] = []
    two.call_began(CallInfo("call_1", "m"), struck.append)
    one.call_began(CallInfo("call_2", "m"), waiting.append)
    await until(lambda: struck and waiting)
    two.note("call_1", "drill", STRUCK)
    two.note("call_1", "turn_closed", {})
    await until(lambda: one.find(drill.id).ended)  # type: ignore[union-attr]
    assert [each.ended for each in ended] == ["1 calls lost a turn"]
    assert waiting[-1] is None, "who waits to be struck is let go"
    late: list[Plan | None] = []
    one.call_began(CallInfo("call_3", "m"), late.append)
    await until(lambda: not one._tasks)
    assert not late
    two.note("call_1", "call_ended", {})
    await until(lambda: not two._link.unsent)
    assert [(r.call_id, r.lost, r.ended) for r in await one.results(drill.id)] == [("call_1", 1, True)]
    assert one.end(drill.id, "stopped") is None

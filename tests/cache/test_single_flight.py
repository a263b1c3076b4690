from __future__ import annotations

import asyncio

import pytest

from cache.single_flight import SingleFlight


class Work:
    """Counts its runs and ends when it is told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.runs += 1
        self.started.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.runs


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_two_hundred_who_ask_at_once_share_one_run():
    flights, work = SingleFlight[int](), Work()
    callers = [asyncio.create_task(flights.run("k", work)) for _ in range(200)]
    await work.started.wait()
    work.go.set()
    assert await asyncio.gather(*callers) == [1] * 200
    assert work.runs == 1
    await settle()
    assert len(flights) == 0


async def test_each_key_has_its_own_run_and_a_later_call_a_new_one():
    flights, work = SingleFlight[int](), Work()
    work.go.set()
    await asyncio.gather(flights.run("a", work), flights.run("b", work))
    assert work.runs == 2
    await flights.run("a", work)
    assert work.runs == 3


async def test_a_cancelled_first_caller_leaves_the_others_their_result():
    flights, work = SingleFlight[int](), Work()
    first = asyncio.create_task(flights.run("k", work))
    await work.started.wait()
    others = [asyncio.create_task(flights.run("k", work)) for _ in range(3)]
    await settle()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.go.set()
    assert await asyncio.gather(*others) == [1, 1, 1]
    assert (work.runs, work.cancelled) == (1, 0)


async def test_work_that_nobody_waits_for_any_more_is_cancelled():
    flights, work = SingleFlight[int](), Work()
    callers = [asyncio.create_task(flights.run("k", work)) for _ in range(2)]
    await work.started.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await settle()
    assert (work.cancelled, len(flights)) == (1, 0)


async def test_who_asks_while_abandoned_work_is_dying_gets_a_run_of_their_own():
    flights, work = SingleFlight[int](), Work()
    first = asyncio.create_task(flights.run("k", work))
    await work.started.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(flights.run("k", work))
    work.go.set()
    assert await second == 2
    assert work.runs == 2


async def test_a_failure_reaches_everyone_and_is_forgotten():
    flights = SingleFlight[int]()
    started, go = asyncio.Event(), asyncio.Event()

    async def fail() -> int:
        started.set()
        await go.wait()
        raise OSError("no sound")

    callers = [asyncio.create_task(flights.run("k", fail)) for _ in range(3)]
    await started.wait()
    go.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(result) for result in results] == ["no sound"] * 3
    work = Work()
    work.go.set()
    assert await flights.run("k", work) == 1

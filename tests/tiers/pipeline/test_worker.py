"""Model work in threads: order, abandonment, streams."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from tiers.pipeline.worker import SpareTime, Worker

SOON = 5.0


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.close()


class Gate:
    """Work that says when it runs and goes on when it may."""

    def __init__(self) -> None:
        self.running, self.open = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.running.set()
        assert self.open.wait(SOON)
        return "done"


async def test_work_runs_elsewhere_and_its_failure_comes_back(worker: Worker) -> None:
    assert await worker.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 / 0)


async def test_abandoned_work_in_the_queue_never_runs(worker: Worker) -> None:
    gate, ran = Gate(), threading.Event()
    first = asyncio.create_task(worker.run(gate))
    await asyncio.to_thread(gate.running.wait, SOON)
    second = asyncio.create_task(worker.run(ran.set))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    gate.open.set()
    assert await first == "done"
    assert await worker.run(lambda: "next") == "next"
    assert not ran.is_set()


async def test_abandoned_work_in_progress_is_told_to_stop(worker: Worker) -> None:
    gate = Gate()
    task = asyncio.create_task(worker.run(gate, gate.open.set))
    await asyncio.to_thread(gate.running.wait, SOON)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await asyncio.wait_for(worker.run(lambda: "next"), SOON) == "next"


async def test_a_stream_comes_in_order_and_fails_at_its_end(worker: Worker) -> None:
    def work(emit: Callable[[int], bool]) -> None:
        assert all(emit(number) for number in range(3))
        raise ValueError("after three")

    stream = worker.stream(work)
    assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="after three"):
        await anext(stream)


async def test_a_stream_that_nobody_reads_any_more_ends(worker: Worker) -> None:
    ended = threading.Event()

    def work(emit: Callable[[int], bool]) -> None:
        while emit(1):
            pass
        ended.set()

    stream = worker.stream(work)
    assert await anext(stream) == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(ended.wait, SOON)


class Spare:
    """Work for spare time that notes when it begins and is given up, and ends when it may."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.log: list[str] = []

    async def __call__(self) -> str:
        self.log.append("begun")
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.log.append("given up")
            raise
        return "done"


async def turn_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_spare_work_waits_until_nobody_is_served() -> None:
    spare, work = SpareTime(), Spare()
    work.open.set()
    with spare.serving():
        with spare.serving():
            using = asyncio.create_task(spare.use(work))
            await turn_of_the_loop()
        await turn_of_the_loop()
        assert work.log == []
    assert await asyncio.wait_for(using, SOON) == "done"


async def test_spare_work_is_given_up_for_whoever_comes_and_begun_again() -> None:
    spare, work = SpareTime(), Spare()
    using = asyncio.create_task(spare.use(work))
    await turn_of_the_loop()
    with spare.serving():
        await turn_of_the_loop()
        assert work.log == ["begun", "given up"]
        work.open.set()
    assert await asyncio.wait_for(using, SOON) == "done"
    assert work.log == ["begun", "given up", "begun"]


async def test_spare_work_that_fails_tells_and_one_that_nobody_waits_for_ends() -> None:
    async def fail() -> None:
        raise ValueError("no")

    spare, work = SpareTime(), Spare()
    with pytest.raises(ValueError, match="no"):
        await spare.use(fail)
    using = asyncio.create_task(spare.use(work))
    await turn_of_the_loop()
    using.cancel()
    await turn_of_the_loop()
    assert using.cancelled()
    assert work.log == ["begun", "given up"]

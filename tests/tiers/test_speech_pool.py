"""Worker processes of a speech engine: order, refusals, and workers that die, hang or fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from orchestrator.models import ModelMissing
from orchestrator.protocol.audio import Pcm16
from tests.tiers.staged_speech import Stage, StagedSpeech
from tiers.pipeline.errors import Cause, EngineFailed
from tiers.speech import RendersAhead, TellsParts, Versioned, Voices, engine_id
from tiers.speech_pool import Overloaded, SpeechPool
from tiers.urgency import Priority, asking

Opens = Callable[..., SpeechPool]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage() as stage:
        yield stage


@pytest.fixture
async def opens(stage: Stage) -> AsyncIterator[Opens]:
    pools: list[SpeechPool] = []

    def open_pool(*arguments: Any, **options: Any) -> SpeechPool:
        pools.append(SpeechPool(partial(StagedSpeech, stage.port), *arguments, **options))
        return pools[-1]

    yield open_pool
    for pool in pools:
        await pool.aclose()
        assert pool.pids == []


async def said(pool: SpeechPool, text: str, **how: Any) -> Pcm16:
    return np.concatenate([pcm async for pcm in pool.speak(text, **how)])


def saying(pool: SpeechPool, text: str, priority: Priority = Priority.LIVE) -> asyncio.Task[Pcm16]:
    with asking(priority):
        return asyncio.create_task(said(pool, text))


def is_of(text: str, pcm: Pcm16) -> bool:
    return len(pcm) == 10 * len(text) and set(pcm.tolist()) == {ord(text[0])}


async def test_what_the_engine_says_comes_out_of_another_process(stage: Stage, opens: Opens) -> None:
    pool = opens()
    task = asyncio.create_task(said(pool, "hello", voice="marin", speed=1.2, language="es"))
    turn = await stage.turn()
    assert turn.asked == "hello|marin|1.2|es"
    assert pool.pids
    assert os.getpid() not in pool.pids
    turn.tell()
    assert is_of("hello", await task)


def test_it_is_all_that_its_engine_is() -> None:
    pool = SpeechPool(partial(StagedSpeech, 0))
    assert engine_id(pool) == "staged 7"
    for protocol in (Versioned, Voices, RendersAhead, TellsParts):
        assert isinstance(pool, protocol)
    assert pool.pids == [], "nothing starts before it is needed"


async def test_voices_are_asked_for_once(stage: Stage, opens: Opens) -> None:
    pool = opens()
    task = asyncio.create_task(pool.voice_for("marin", "es"))
    turn = await stage.turn()
    assert turn.asked == "voice marin es"
    turn.tell("ef_dora")
    assert await task == await pool.voice_for("marin", "es") == "ef_dora"


async def test_an_engine_that_tells_its_parts_does_so_from_its_process(stage: Stage, opens: Opens) -> None:
    pool = opens()
    task = asyncio.create_task(pool.speak_parts(["one", "two"]))
    turn = await stage.turn()
    assert turn.asked == "one+two"
    turn.tell()
    parts = await task
    assert parts is not None
    assert (parts.pcm.tolist(), parts.between) == ([5, 5], ((1, 2),))


async def test_what_a_library_prints_does_not_disturb(stage: Stage, opens: Opens) -> None:
    task = saying(opens(), "hello")
    (await stage.turn()).tell("print")
    assert is_of("hello", await task)


async def test_every_worker_is_warmed(stage: Stage, opens: Opens) -> None:
    pool = opens(2)
    task = asyncio.create_task(pool.warm())
    turns = [await stage.turn(), await stage.turn()]
    assert len(pool.pids) == 2
    for turn in turns:
        turn.tell()
    await task


async def test_callers_share_the_worker_piece_by_piece(stage: Stage, opens: Opens) -> None:
    pool = opens(split=str.split)
    tasks = [saying(pool, "a1 a2 a3")]
    turn = await stage.turn()
    tasks.append(saying(pool, "b1 b2"))
    order = []
    for _ in range(5):
        order.append(turn.text)
        turn.tell()
        if len(order) < 5:
            turn = await stage.turn()
    assert [len(pcm) for pcm in await asyncio.gather(*tasks)] == [60, 40]
    assert order == ["a1", "b1", "a2", "b2", "a3"]


async def test_a_call_goes_before_requests_and_a_batch_gives_way(stage: Stage, opens: Opens) -> None:
    pool = opens()
    batch = asyncio.create_task(pool.render_ahead("batch"))
    given_up = await stage.turn()
    request, call = saying(pool, "request", Priority.REQUEST), saying(pool, "call")
    await given_up.gone()
    order = []
    for _ in range(3):
        turn = await stage.turn()
        order.append(turn.text)
        turn.tell()
    assert order == ["call", "request", "batch"]
    for text, task in (("call", call), ("request", request), ("batch", batch)):
        assert is_of(text, await task)


async def test_a_batch_gives_way_to_requests_once_and_to_calls_always(stage: Stage, opens: Opens) -> None:
    pool = opens()
    batch = asyncio.create_task(pool.render_ahead("batch"))
    first = await stage.turn()
    tasks = [saying(pool, "request", Priority.REQUEST)]
    await first.gone()
    (await stage.turn()).tell()
    again = await stage.turn()
    assert again.text == "batch"
    tasks += [saying(pool, "request", Priority.REQUEST), saying(pool, "call")]
    await again.gone()
    order = []
    for _ in range(3):
        turn = await stage.turn()
        order.append(turn.text)
        if turn.text == "batch":
            tasks.append(saying(pool, "later", Priority.REQUEST))
        turn.tell()
    assert order == ["call", "request", "batch"]
    (await stage.turn()).tell()
    await asyncio.gather(batch, *tasks)


async def test_who_leaves_frees_the_worker(stage: Stage, opens: Opens) -> None:
    pool = opens()
    task, waiting = saying(pool, "gone"), saying(pool, "waited")
    turn = await stage.turn()
    waiting.cancel()
    task.cancel()
    await turn.gone()
    next_one = saying(pool, "next")
    turn = await stage.turn()
    assert turn.text == "next"
    turn.tell()
    assert is_of("next", await next_one)
    assert pool.load().died == 0


@pytest.mark.parametrize("priority", [Priority.LIVE, Priority.BATCH])
async def test_leaving_or_being_more_urgent_at_any_moment_stops_no_worker(
    stage: Stage, opens: Opens, priority: Priority
) -> None:
    """Whatever was under way: the work begun here, the message to the worker, its task there."""
    pool = opens(limit_s=10.0)
    for steps in range(16):
        first = saying(pool, "first", priority)
        for _ in range(steps):
            await asyncio.sleep(0)
        if priority is Priority.LIVE:
            first.cancel()
        second = saying(pool, "second")
        while (turn := await stage.turn()).text != "second":
            if priority is Priority.BATCH:
                await turn.gone()
        turn.tell()
        assert is_of("second", await second)
        if priority is Priority.BATCH:
            (await stage.turn()).tell()
            assert is_of("first", await first)
    assert pool.load().died == 0


async def test_a_worker_killed_in_its_work_is_replaced_and_the_work_done(stage: Stage, opens: Opens) -> None:
    pool = opens(split=str.split)
    task = saying(pool, "first second")
    (await stage.turn()).tell()
    turn = await stage.turn()
    (before,) = pool.pids
    os.kill(before, signal.SIGKILL)
    turn = await stage.turn()
    assert turn.text == "second"
    assert pool.pids != [before]
    turn.tell()
    assert [len(await task), pool.load().died] == [110, 1]


async def test_work_that_kills_two_workers_is_an_error_and_others_go_on(stage: Stage, opens: Opens) -> None:
    pool = opens(split=str.split)
    task, other = saying(pool, "fatal rest"), saying(pool, "other")
    for _ in range(2):
        turn = await stage.turn()
        assert turn.text == "fatal"
        turn.tell("die")
    (await stage.turn()).tell()
    assert is_of("other", await other)
    with pytest.raises(EngineFailed, match="ended without an answer, 2 times") as failed:
        await task
    assert (failed.value.cause, failed.value.rest) == (Cause.UNAVAILABLE, "fatal rest")


async def test_a_worker_that_hangs_is_ended_and_replaced(stage: Stage, opens: Opens) -> None:
    pool = opens(limit_s=2.0)
    task = saying(pool, "hello")
    (await stage.turn()).tell("hang")
    (await stage.turn()).tell()
    assert is_of("hello", await task)
    assert pool.load().died == 1


async def test_an_idle_worker_that_died_is_replaced(stage: Stage, opens: Opens) -> None:
    pool = opens()
    task = saying(pool, "one")
    (await stage.turn()).tell()
    await task
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    task = saying(pool, "two")
    (await stage.turn()).tell()
    assert is_of("two", await task)


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        ("missing", ModelMissing, "the Staged weights are missing: expected /nowhere/model"),
        ("timeout", EngineFailed, "it took too long"),
        ("error", EngineFailed, "staged failed: ValueError"),
    ],
)
async def test_what_goes_wrong_in_a_worker_is_told_as_if_it_were_here(
    stage: Stage, opens: Opens, told: str, kind: type[Exception], words: str
) -> None:
    task = saying(opens(), "hello")
    (await stage.turn()).tell(told)
    with pytest.raises(kind, match=words) as failed:
        await task
    assert "secret" not in str(failed.value)


async def test_an_engine_that_cannot_be_made_is_an_error() -> None:
    pool = SpeechPool(partial(made_only_in, os.getpid()))
    with pytest.raises(EngineFailed, match="2 times"):
        await said(pool, "hello")
    await pool.aclose()


def made_only_in(pid: int) -> StagedSpeech:
    if os.getpid() != pid:
        raise OSError("not here")
    return StagedSpeech(0)


async def test_more_than_may_wait_is_refused_at_once_the_least_urgent_first(
    stage: Stage, opens: Opens
) -> None:
    pool = opens(queue_limit=2)
    working = saying(pool, "working")
    turn = await stage.turn()
    batch, request = saying(pool, "batch", Priority.BATCH), saying(pool, "request", Priority.REQUEST)
    with asking(Priority.REQUEST), pytest.raises(Overloaded) as refused:
        # The batch has gone for this one before it is this one's turn to be counted.
        await asyncio.gather(said(pool, "another"), said(pool, "one more"))
    assert refused.value.retry_after_s >= 1
    assert "try again in" in str(refused.value)
    with pytest.raises(Overloaded):
        await batch
    assert pool.load().refused == 2
    for _ in range(2):
        turn.tell()
        turn = await stage.turn()
    turn.tell()
    await asyncio.gather(working, request)


async def test_a_request_that_would_come_too_late_is_refused_at_once(stage: Stage, opens: Opens) -> None:
    pool = opens()
    working = saying(pool, "x" * 1000)  # half a minute of work, as far as is known
    turn = await stage.turn()
    with asking(Priority.REQUEST, 2.0), pytest.raises(Overloaded) as refused:
        await said(pool, "hello")
    assert 20 <= refused.value.retry_after_s <= 30
    waiting = saying(pool, "call")
    turn.tell()
    (await stage.turn()).tell()
    await asyncio.gather(working, waiting)


async def test_a_request_whose_time_runs_out_in_the_line_is_refused_then(stage: Stage, opens: Opens) -> None:
    pool = opens()
    working = saying(pool, "short")
    turn = await stage.turn()
    with asking(Priority.REQUEST, 0.7), pytest.raises(Overloaded):
        await said(pool, "hello")
    assert pool.load().waiting == 0
    turn.tell()
    await working


async def test_an_idle_pool_takes_any_request(stage: Stage, opens: Opens) -> None:
    pool = opens()
    with asking(Priority.REQUEST, 0.01):
        task = asyncio.create_task(said(pool, "hello"))
        (await stage.turn()).tell()
        assert is_of("hello", await task)


async def test_who_waits_when_it_is_shut_down_gets_an_error(stage: Stage, opens: Opens) -> None:
    pool = opens()
    tasks = [saying(pool, "working"), saying(pool, "waiting")]
    await stage.turn()
    await pool.aclose()
    for task in tasks:
        with pytest.raises(EngineFailed):
            await task
    with pytest.raises(EngineFailed, match="shut down"):
        await said(pool, "later")


async def test_workers_end_with_the_process_that_started_them(stage: Stage) -> None:
    """Its owner is killed, so nobody tells the worker; its input ends."""
    program = (
        "import asyncio, sys; from functools import partial;"
        "from tests.tiers.staged_speech import StagedSpeech; from tiers.speech_pool import SpeechPool;"
        f"pool = SpeechPool(partial(StagedSpeech, {stage.port}));"
        "asyncio.run(anext(pool.speak('hello')))"
    )
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    turn = await stage.turn()
    owner.kill()
    await owner.wait()
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            await turn.gone()

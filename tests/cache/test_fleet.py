"""Several processes, or caches, on one store: one render a key, and what happens when a part of that fails."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from cache import Clip, ClipCache, DiskStore, RedisStore, Source, clip_key

KEY = clip_key("Hello.", voice="marin", engine="test", language="en")
OPEN = {
    "disk": lambda folder, redis: DiskStore(folder),
    "redis": lambda folder, redis: RedisStore.from_url(redis.url, timeout=2.0, lease_s=0.3),
}


class Render:
    """Counts, and ends when it is told to."""

    def __init__(self, key: str = KEY, samples: int = 2400) -> None:
        self.clip = Clip(key, "Hello.", np.arange(samples, dtype=np.int16))
        self.runs = 0
        self.started, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> Clip:
        self.runs += 1
        self.started.set()
        await self.go.wait()
        return self.clip


@pytest.fixture(params=["disk", "redis"])
def opens(request, tmp_path: Path, redis_server) -> Callable[..., ClipCache]:
    """A new cache on a store that all of a test share, as another process would have it."""
    return lambda **options: ClipCache(OPEN[request.param](tmp_path, redis_server), **options)


async def asks(server, callers: int) -> asyncio.subprocess.Process:
    program = str(Path(__file__).parent / "asker.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, program, server.url, KEY, str(callers)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_two_hundred_misses_in_two_processes_are_one_render(redis_server):
    processes = [await asks(redis_server, 100) for _ in range(2)]
    for process in processes:
        process.stdin.write(b"now\n")
    for process in processes:
        assert await process.stdout.readline() == b"asked\n"
    async with Redis.from_url(redis_server.url) as control:
        await control.rpush("go", *["go"] * 200)
        told = [json.loads(await process.stdout.readline()) for process in processes]
        assert int(await control.get("renders")) == 1
    assert [await process.wait() for process in processes] == [0, 0]
    assert all(each["whole"] for each in told)
    # One is told that it was rendered for it. The other process has it from the store.
    assert sorted(told, key=str) == [
        {"whole": True, "sources": {"render": 1, "shared": 99}},
        {"whole": True, "sources": {"store": 100}},
    ]


async def test_a_process_killed_in_its_render_is_stood_in_for(redis_server):
    doomed = await asks(redis_server, 1)
    doomed.stdin.write(b"now\n")
    async with Redis.from_url(redis_server.url) as control:
        await control.blpop(["started"])
    render = Render()
    render.go.set()
    cache = ClipCache(RedisStore.from_url(redis_server.url, timeout=2.0))
    waiting = asyncio.create_task(cache.fetch(KEY, render))
    doomed.kill()
    await doomed.wait()
    assert (await waiting).source is Source.RENDER
    assert render.runs == 1
    await cache.aclose()


async def test_who_waits_for_another_cache_gets_its_clip(opens):
    first, second, render, never = opens(), opens(), Render(), Render()
    one = asyncio.create_task(first.fetch(KEY, render))
    await render.started.wait()
    two = asyncio.create_task(second.fetch(KEY, never))
    render.go.set()
    assert (await one).source is Source.RENDER
    clip, source = await two
    assert (source, never.runs) == (Source.STORE, 0)
    assert np.array_equal(clip.pcm, render.clip.pcm)
    await first.aclose()
    await second.aclose()


async def test_a_render_longer_than_its_lease_stays_the_only_one(opens):
    """The lease in Redis is 0.3 s; its holder renews it."""
    first, second, render, never = opens(), opens(patience_s=60.0), Render(), Render()
    one = asyncio.create_task(first.fetch(KEY, render))
    await render.started.wait()
    two = asyncio.create_task(second.fetch(KEY, never))
    with suppress(TimeoutError):
        await asyncio.wait_for(never.started.wait(), 1.0)
    assert never.runs == 0
    render.go.set()
    await asyncio.gather(one, two)
    await first.aclose()
    await second.aclose()


async def test_a_render_that_fails_gives_the_next_its_turn(opens):
    first, second, render = opens(), opens(), Render()
    render.go.set()

    async def fail() -> Clip:
        raise OSError("no voice")

    with pytest.raises(OSError, match="no voice"):
        await first.fetch(KEY, fail)
    assert (await second.fetch(KEY, render)).source is Source.RENDER
    await first.aclose()
    await second.aclose()


async def test_a_render_that_is_given_up_gives_the_next_its_turn(opens):
    first, second, given_up, render = opens(), opens(), Render(), Render()
    one = asyncio.create_task(first.fetch(KEY, given_up))
    await given_up.started.wait()
    two = asyncio.create_task(second.fetch(KEY, render))
    one.cancel()
    render.go.set()
    assert (await two).source is Source.RENDER
    await first.aclose()
    await second.aclose()


async def test_whoever_leaves_at_whatever_moment_keeps_no_right(opens):
    """A caller is cancelled after so many steps of the loop; another cache has its turn well before patience ends."""
    cache, other = opens(), opens(patience_s=60.0)
    for steps in range(40):
        key, render = clip_key(f"{steps}", voice="v", engine="e", language="en"), Render()
        leaving = asyncio.create_task(cache.fetch(key, Render()))
        for _ in range(steps):
            await asyncio.sleep(0 if steps % 2 else 0.0003)
        leaving.cancel()
        render.go.set()
        async with asyncio.timeout(5.0):
            await other.fetch(key, render)
        assert render.runs == 1
    await cache.aclose()
    await other.aclose()


async def test_patience_ends(opens):
    first, second, endless, render = opens(), opens(patience_s=0.1), Render(), Render()
    one = asyncio.create_task(first.fetch(KEY, endless))
    await endless.started.wait()
    render.go.set()
    assert (await second.fetch(KEY, render)).source is Source.RENDER
    endless.go.set()
    await one
    await first.aclose()
    await second.aclose()


async def test_redis_gone_while_a_clip_is_rendered_and_while_another_cache_waits_for_it(redis_server):
    first, second = (ClipCache(RedisStore.from_url(redis_server.url)) for _ in range(2))
    render, other = Render(), Render()
    one = asyncio.create_task(first.fetch(KEY, render))
    await render.started.wait()
    two = asyncio.create_task(second.fetch(KEY, other))
    redis_server.kill()
    await other.started.wait()  # it cannot know any more, so it makes its own
    for each in (render, other):
        each.go.set()
    assert [(await one).source, (await two).source] == [Source.RENDER, Source.RENDER]
    await first.aclose()
    await second.aclose()


async def test_redis_frozen_costs_a_moment_and_not_the_clip(redis_server):
    cache, render = ClipCache(RedisStore.from_url(redis_server.url)), Render()
    render.go.set()
    redis_server.freeze()
    async with asyncio.timeout(2.0):
        assert (await cache.fetch(KEY, render)).source is Source.RENDER
        await cache.aclose()


async def test_a_corrupt_entry_in_redis_is_rendered_again_and_repaired(redis_server):
    store, render = RedisStore.from_url(redis_server.url), Render()
    render.go.set()
    await store.put(render.clip)
    async with Redis.from_url(redis_server.url) as control:
        data = bytearray(await control.get(f"clip:{KEY}"))
        data[-1] ^= 1
        await control.set(f"clip:{KEY}", bytes(data))
    cache = ClipCache(store)
    clip, source = await cache.fetch(KEY, render)
    assert (clip.pcm.tobytes(), source) == (render.clip.pcm.tobytes(), Source.RENDER)
    await cache.flush()
    assert await store.get(KEY) is not None
    await cache.aclose()

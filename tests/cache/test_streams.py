"""The sound of a render while it is made, for all who listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from cache import Clip, ClipCache, DiskStore, Source, clip_key
from orchestrator.protocol.audio import Pcm16

KEY = clip_key("Hello.", voice="marin", engine="test", language="en")


class Voice:
    """Says pieces as a test hands them over; None is the end."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[Pcm16 | Exception | None] = asyncio.Queue()
        self.runs = 0
        self.closed = asyncio.Event()

    def say(self, *numbers: int) -> None:
        for number in numbers:
            self.pieces.put_nowait(np.full(100, number, np.int16))

    def end(self) -> None:
        self.pieces.put_nowait(None)

    async def __call__(self) -> AsyncIterator[Pcm16]:
        self.runs += 1
        try:
            while (piece := await self.pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed.set()


def numbers(pcm: Pcm16) -> list[int]:
    return [int(number) for number in pcm[::100]]


async def heard(cache: ClipCache, voice: Voice, told: list[Source]) -> list[int]:
    return [n async for pcm in cache.stream(KEY, "Hello.", voice, told=told.append) for n in numbers(pcm)]


async def test_sound_comes_before_the_render_is_done_and_becomes_the_clip():
    cache, voice, told = ClipCache(), Voice(), list[Source]()
    stream = cache.stream(KEY, "Hello.", voice, told=told.append)
    voice.say(1)
    assert numbers(await anext(stream)) == [1]
    assert cache.peek(KEY) is None
    voice.say(2)
    voice.end()
    assert [n async for pcm in stream for n in numbers(pcm)] == [2]
    clip = cache.peek(KEY)
    assert clip is not None
    assert (numbers(clip.pcm), clip.text, told) == ([1, 2], "Hello.", [Source.RENDER])
    assert await heard(cache, voice, told) == [1, 2]
    assert told[-1] is Source.MEMORY


async def test_who_comes_late_hears_the_same_render_from_its_start():
    cache, voice, told = ClipCache(), Voice(), list[Source]()
    early = cache.stream(KEY, "Hello.", voice, told=told.append)
    voice.say(1, 2)
    assert [numbers(await anext(early)), numbers(await anext(early))] == [[1], [2]]
    late = cache.stream(KEY, "Hello.", voice, told=told.append)
    assert [numbers(await anext(late)), numbers(await anext(late))] == [[1], [2]]
    waiting = asyncio.create_task(cache.fetch(KEY, never))
    voice.say(3)
    voice.end()
    assert [numbers(pcm) async for pcm in late] == [numbers(pcm) async for pcm in early] == [[3]]
    assert numbers((await waiting).clip.pcm) == [1, 2, 3]
    sources = [*told, (await waiting).source]
    assert sorted(source.value for source in sources) == ["render", "shared", "shared"]
    assert voice.runs == 1


async def never() -> Clip:
    raise AssertionError("somebody renders already")


async def test_who_comes_to_a_render_that_is_not_streamed_hears_it_at_its_end():
    cache, go, told = ClipCache(), asyncio.Event(), list[Source]()

    async def render() -> Clip:
        await go.wait()
        return Clip(KEY, "Hello.", np.full(100, 7, np.int16))

    whole = asyncio.create_task(cache.fetch(KEY, render))
    await asyncio.sleep(0)
    stream = asyncio.create_task(heard(cache, Voice(), told))
    go.set()
    assert await stream == [7]
    await whole


async def test_a_render_that_breaks_off_is_heard_so_far_and_kept_nowhere():
    cache, voice = ClipCache(), Voice()
    streams = [cache.stream(KEY, "Hello.", voice) for _ in range(2)]
    voice.say(1)
    for stream in streams:
        assert numbers(await anext(stream)) == [1]
    voice.pieces.put_nowait(OSError("no voice"))
    for stream in streams:
        with pytest.raises(OSError, match="no voice"):
            await anext(stream)
    assert cache.peek(KEY) is None
    voice.say(2)
    voice.end()
    assert await heard(cache, voice, []) == [2]


async def test_a_render_goes_on_while_one_listens_and_ends_with_the_last():
    cache, voice = ClipCache(), Voice()
    streams = [cache.stream(KEY, "Hello.", voice) for _ in range(2)]
    voice.say(1)
    for stream in streams:
        await anext(stream)
    await streams[0].aclose()
    voice.say(2)
    assert numbers(await anext(streams[1])) == [2]
    await streams[1].aclose()
    await voice.closed.wait()
    assert cache.peek(KEY) is None


async def test_what_is_in_the_store_is_heard_from_there(tmp_path):
    before, voice, told = ClipCache(DiskStore(tmp_path)), Voice(), list[Source]()
    voice.say(1, 2)
    voice.end()
    assert await heard(before, voice, told) == [1, 2]
    await before.aclose()
    assert await heard(ClipCache(DiskStore(tmp_path)), voice, told) == [1, 2]
    assert (told, voice.runs) == ([Source.RENDER, Source.STORE], 1)

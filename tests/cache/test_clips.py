from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from cache import Clip, ClipCache, Container, DiskStore, RedisStore, Source, clip_key, transcode
from orchestrator.protocol.audio import AudioFormat


class Renderer:
    """Makes a distinct clip a key, and counts."""

    def __init__(self, text: str = "Hello.", samples: int = 24_000) -> None:
        self.key = clip_key(text, voice="marin", engine="test", language="en")
        self.clip = Clip(self.key, text, np.arange(samples, dtype=np.int16))
        self.runs = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self) -> Clip:
        self.runs += 1
        self.started.set()
        await self.go.wait()
        return self.clip


async def test_a_clip_is_rendered_once_and_then_in_memory():
    cache, render = ClipCache(), Renderer()
    assert cache.peek(render.key) is None
    assert await cache.fetch(render.key, render) == (render.clip, Source.RENDER)
    assert await cache.fetch(render.key, render) == (render.clip, Source.MEMORY)
    assert cache.peek(render.key) is render.clip
    assert render.runs == 1


async def test_two_hundred_misses_of_one_key_are_one_render():
    cache, render = ClipCache(), Renderer()
    render.go.clear()
    callers = [asyncio.create_task(cache.fetch(render.key, render)) for _ in range(200)]
    await render.started.wait()
    callers[0].cancel()
    await asyncio.sleep(0)
    render.go.set()
    found = await asyncio.gather(*callers[1:])
    assert {id(each.clip) for each in found} == {id(render.clip)}
    assert render.runs == 1


async def test_a_new_process_finds_the_clip_on_disk(tmp_path: Path):
    render = Renderer()
    first = ClipCache(DiskStore(tmp_path))
    await first.fetch(render.key, render)
    await first.aclose()
    second = ClipCache(DiskStore(tmp_path))
    clip, source = await second.fetch(render.key, render)
    assert source is Source.STORE
    assert np.array_equal(clip.pcm, render.clip.pcm)
    assert render.runs == 1
    assert (await second.fetch(render.key, render)).source is Source.MEMORY


async def test_a_corrupt_entry_is_rendered_again_and_repaired(tmp_path: Path):
    render, store = Renderer(), DiskStore(tmp_path)
    cache = ClipCache(store)
    await cache.fetch(render.key, render)
    await cache.flush()
    store.path(render.key).write_bytes(store.path(render.key).read_bytes()[:-1000])
    cache = ClipCache(store)
    clip, source = await cache.fetch(render.key, render)
    assert (clip, source, render.runs) == (render.clip, Source.RENDER, 2)
    await cache.flush()
    assert await store.get(render.key) is not None


async def test_with_redis_killed_clips_are_rendered_as_if_it_were_empty(redis_server):
    render = Renderer()
    cache = ClipCache(RedisStore.from_url(redis_server.url))
    redis_server.kill()
    assert (await cache.fetch(render.key, render)).source is Source.RENDER
    assert (await cache.fetch(render.key, render)).source is Source.MEMORY
    await cache.aclose()


async def test_a_failed_render_is_not_kept_and_reaches_the_caller():
    cache, render = ClipCache(), Renderer()

    async def fail() -> Clip:
        raise OSError("no voice")

    with pytest.raises(OSError, match="no voice"):
        await cache.fetch(render.key, fail)
    assert (await cache.fetch(render.key, render)).source is Source.RENDER


async def test_memory_is_bound_and_what_left_it_comes_back_from_the_store(tmp_path: Path):
    renders = [Renderer(f"number {i}", samples=1000) for i in range(10)]
    cache = ClipCache(DiskStore(tmp_path), memory_bytes=3 * 2000)
    for render in renders:
        await cache.fetch(render.key, render)
    await cache.flush()
    assert [cache.peek(render.key) is not None for render in renders] == [False] * 7 + [True] * 3
    assert (await cache.fetch(renders[0].key, renders[0])).source is Source.STORE


@pytest.mark.parametrize("form", [*AudioFormat, Container.WAV], ids=lambda form: form.name)
async def test_each_form_is_made_once(form, monkeypatch):
    made = []

    def counted(pcm, form):
        made.append(transcode(pcm, form))
        return made[-1]

    monkeypatch.setattr("cache.clips.transcode", counted)
    cache, render = ClipCache(), Renderer()
    clip, _ = await cache.fetch(render.key, render)
    assert cache.peek_form(clip.key, form) is None
    assert await cache.form(clip, form) is await cache.form(clip, form) is cache.peek_form(clip.key, form)
    assert len(made) == 1
    assert made[0] is cache.peek_form(clip.key, form)


@pytest.mark.parametrize("form", [Container.MP3, Container.OPUS, Container.AAC], ids=lambda form: form.name)
async def test_a_form_that_takes_long_is_made_once_for_all_processes(form, tmp_path: Path, monkeypatch):
    render = Renderer(samples=2400)
    before = ClipCache(DiskStore(tmp_path))
    clip, _ = await before.fetch(render.key, render)
    data, same = await asyncio.gather(before.form(clip, form), before.form(clip, form))
    await before.aclose()
    monkeypatch.setattr("cache.clips.transcode", None)
    after = ClipCache(DiskStore(tmp_path))
    assert await after.form(clip, form) == data
    assert same is data


async def test_many_who_look_for_a_clip_at_once_read_it_once(tmp_path: Path):
    render = Renderer()
    before = ClipCache(DiskStore(tmp_path))
    await before.fetch(render.key, render)
    await before.aclose()
    after = ClipCache(DiskStore(tmp_path))
    found = await asyncio.gather(*(after.get(render.key) for _ in range(50)))
    assert len({id(clip) for clip in found}) == 1
    assert np.array_equal(found[0].pcm, render.clip.pcm)


async def test_a_corrupt_form_is_made_again(tmp_path: Path):
    render = Renderer(samples=2400)
    cache = ClipCache(DiskStore(tmp_path))
    clip, _ = await cache.fetch(render.key, render)
    data = await cache.form(clip, Container.MP3)
    await cache.aclose()
    path = tmp_path / clip.key[:2] / f"{clip.key}.mp3"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    cache = ClipCache(DiskStore(tmp_path))
    assert await cache.form(clip, Container.MP3) == data
    await cache.aclose()
    assert await DiskStore(tmp_path).get_part(path.name) is not None


async def test_forms_count_towards_the_bound():
    render = Renderer(samples=1000)
    cache = ClipCache(memory_bytes=3000)
    clip, _ = await cache.fetch(render.key, render)
    await cache.form(clip, AudioFormat.PCM)
    assert cache.peek(clip.key) is None
    assert cache.peek_form(clip.key, AudioFormat.PCM) is not None


async def test_the_loop_stays_free_while_a_long_clip_is_transcoded_and_stored(tmp_path: Path):
    """Ten minutes of speech take some hundred milliseconds of work; a ticker sees far less of that."""
    render = Renderer(samples=24_000 * 600)
    cache = ClipCache(DiskStore(tmp_path))
    loop = asyncio.get_running_loop()
    gaps: list[float] = []

    async def tick() -> None:
        last = loop.time()
        while True:
            await asyncio.sleep(0)
            now = loop.time()
            gaps.append(now - last)
            last = now

    ticker = asyncio.create_task(tick())
    started = loop.time()
    clip, _ = await cache.fetch(render.key, render)
    await cache.form(clip, AudioFormat.PCMU)
    await cache.aclose()
    took = loop.time() - started
    ticker.cancel()
    assert took > 0.1, "too quick to tell anything"
    assert max(gaps) < took / 2

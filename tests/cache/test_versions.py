"""Older versions of an engine's clips, while the new ones are made; and clips that may be kept for a while only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cache import Clip, ClipCache, Container, DiskStore, RedisStore, Source, clip_key

STALE_KEY = clip_key("Hello.", voice="marin", engine="kokoro", language="en")


class Version:
    """One version of an engine; its samples are its number."""

    def __init__(self, number: int) -> None:
        self.key = clip_key("Hello.", voice="marin", engine=f"kokoro {number}", language="en")
        self.clip = Clip(self.key, "Hello.", np.full(2400, number, dtype=np.int16))
        self.runs = 0
        self.started, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()
        self.broken = False

    async def __call__(self) -> Clip:
        self.runs += 1
        self.started.set()
        await self.go.wait()
        if self.broken:
            raise OSError("no voice")
        return self.clip

    async def heard(self, cache: ClipCache) -> tuple[int, Source]:
        """The number of the version that is heard, and where it came from."""
        clip, source = await cache.fetch(self.key, self, stale_key=STALE_KEY)
        return int(clip.pcm[0]), source


@pytest.fixture(params=["disk", "redis"])
def opens(request, tmp_path: Path, redis_server):
    if request.param == "disk":
        return lambda: ClipCache(DiskStore(tmp_path))
    return lambda: ClipCache(RedisStore.from_url(redis_server.url, timeout=2.0))


async def test_the_older_clip_is_heard_while_the_new_one_is_made(opens):
    old, new = Version(1), Version(2)
    before = opens()
    assert await old.heard(before) == (1, Source.RENDER)
    await before.aclose()
    cache = opens()
    new.go.clear()
    assert [await new.heard(cache) for _ in range(3)] == [(1, Source.STALE)] * 3
    new.go.set()
    await cache.flush()
    assert await new.heard(cache) == (2, Source.MEMORY)
    assert (old.runs, new.runs) == (1, 1)
    await cache.aclose()
    after = opens()
    assert await new.heard(after) == (2, Source.STORE)
    await after.aclose()


async def test_a_new_version_that_cannot_speak_leaves_the_older_clip(opens, caplog):
    old, new = Version(1), Version(2)
    cache = opens()
    await old.heard(cache)
    new.broken = True
    assert await new.heard(cache) == (1, Source.STALE)
    await cache.flush()
    assert "an older clip is still used" in caplog.text
    assert await new.heard(cache) == (1, Source.STALE)
    await cache.flush()
    new.broken = False
    await new.heard(cache)
    await cache.flush()
    assert await new.heard(cache) == (2, Source.MEMORY)
    await cache.aclose()


async def test_two_fleets_of_different_versions_each_keep_their_own(opens):
    """A slow roll-out: both ask in turns. Each version renders once, however often they alternate."""
    versions = {number: Version(number) for number in (1, 2)}
    for turn in range(6):
        number = turn % 2 + 1
        replica = opens()
        heard, source = await versions[number].heard(replica)
        if turn == 0:
            assert (heard, source) == (1, Source.RENDER)
        elif turn == 1:
            assert (heard, source) == (1, Source.STALE)
        else:
            assert (heard, source) == (number, Source.STORE)
        await replica.aclose()
    assert [version.runs for version in versions.values()] == [1, 1]


async def test_two_replicas_renew_a_clip_once_between_them(opens):
    old, new, never = Version(1), Version(2), Version(2)
    first, second = opens(), opens()
    await old.heard(first)
    await first.flush()
    new.go.clear()
    assert await new.heard(first) == (1, Source.STALE)
    await new.started.wait()
    assert await never.heard(second) == (1, Source.STALE)
    await second.flush()
    new.go.set()
    await first.flush()
    assert await never.heard(second) == (2, Source.STORE)
    assert never.runs == 0
    await first.aclose()
    await second.aclose()


async def test_the_key_of_an_older_clip_may_be_named_itself():
    old, new = Version(1), Version(2)
    cache = ClipCache()
    await cache.fetch(old.key, old)
    clip, source = await cache.fetch(new.key, new, stale_key=old.key)
    assert (int(clip.pcm[0]), source) == (1, Source.STALE)
    await cache.flush()
    assert (await cache.fetch(new.key, new, stale_key=old.key)).source is Source.MEMORY


async def test_where_no_older_clip_will_do_the_new_one_is_waited_for(opens):
    old, new = Version(1), Version(2)
    cache = opens()
    await old.heard(cache)
    clip, source = await cache.fetch(new.key, new, stale_key=STALE_KEY, fresh=True)
    assert (int(clip.pcm[0]), source) == (2, Source.RENDER)
    await cache.aclose()


async def test_what_nobody_waits_for_is_made_aside():
    old, new, within = Version(1), Version(2), list[int]()

    @contextmanager
    def aside() -> Iterator[None]:
        within.append(new.runs)
        yield
        within.append(new.runs)

    cache = ClipCache(aside=aside)
    await old.heard(cache)
    assert within == []
    await new.heard(cache)
    await cache.flush()
    assert within == [0, 1]


async def test_a_clip_is_kept_as_long_as_it_may_be(opens, monkeypatch):
    now = 1_800_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    version = Version(1)
    cache = opens()
    clip, _ = await cache.fetch(version.key, version, keep_s=60)
    await cache.form(clip, Container.FLAC)
    await cache.aclose()
    again = opens()
    now += 59
    clip, source = await again.fetch(version.key, version, keep_s=60)
    assert source is Source.STORE
    await again.form(clip, Container.FLAC)
    assert again.peek_form(version.key, Container.FLAC) is not None
    now += 2
    assert again.peek(version.key) is again.peek_form(version.key, Container.FLAC) is None
    assert (await again.fetch(version.key, version, keep_s=60)).source is Source.RENDER
    await again.aclose()


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def test_what_may_not_be_kept_is_nowhere(tmp_path: Path):
    version, cache = Version(1), ClipCache(DiskStore(tmp_path))
    for _ in range(2):
        clip, source = await cache.fetch(version.key, version, keep_s=0)
        assert source is Source.RENDER
        assert await cache.form(clip, Container.MP3)
    await cache.flush()
    assert cache.peek(version.key) is cache.peek_form(version.key, Container.MP3) is None
    assert files(tmp_path) == []

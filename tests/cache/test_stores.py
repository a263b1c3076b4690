from __future__ import annotations

import asyncio
import logging
import os
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from cache import Clip, DiskStore, Part, RedisStore, clip_key


def clip(text: str = "Hello.", samples: int = 2400) -> Clip:
    key = clip_key(text, voice="marin", engine="test", language="en")
    return Clip(key, text, np.arange(1, samples + 1, dtype=np.int16))


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def total(directory: Path) -> int:
    return sum(path.stat().st_size for path in files(directory))


class TestDisk:
    async def test_a_clip_outlives_the_store_object(self, tmp_path: Path):
        await DiskStore(tmp_path / "new" / "deep").put(clip())
        back = await DiskStore(tmp_path / "new" / "deep").get(clip().key)
        assert back is not None
        assert back.text == "Hello."
        assert np.array_equal(back.pcm, clip().pcm)

    async def test_an_empty_directory_is_a_miss(self, tmp_path: Path):
        assert await DiskStore(tmp_path / "absent").get(clip().key) is None

    async def test_a_corrupt_clip_is_dropped_and_never_returned(self, tmp_path: Path):
        store = DiskStore(tmp_path)
        await store.put(clip())
        path = store.path(clip().key)
        data = bytearray(path.read_bytes())
        data[-100] ^= 0xFF
        path.write_bytes(data)
        assert await store.get(clip().key) is None
        assert not path.exists()

    async def test_writers_at_once_leave_one_whole_file_and_nothing_else(self, tmp_path: Path):
        store = DiskStore(tmp_path)
        await asyncio.gather(*(store.put(clip()) for _ in range(20)))
        assert files(tmp_path) == [store.path(clip().key)]
        assert await store.get(clip().key) is not None

    async def test_a_write_that_fails_leaves_no_half_file_and_no_error(self, tmp_path, monkeypatch, caplog):
        def full(source: str, target: str) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        store = DiskStore(tmp_path)
        await store.put(clip())
        assert files(tmp_path) == []
        assert "No space left on device" in caplog.text
        assert await store.get(clip().key) is None

    async def test_a_file_where_the_directory_should_be_is_a_miss(self, tmp_path: Path, caplog):
        (tmp_path / "file").write_text("in the way")
        store = DiskStore(tmp_path / "file")
        await store.put(clip())
        assert await store.get(clip().key) is None
        assert caplog.records

    async def test_the_least_recently_used_clips_make_room(self, tmp_path: Path):
        clips = [clip(f"number {i}") for i in range(10)]
        size = len(clips[0].to_bytes())
        store = DiskStore(tmp_path, limit=10 * size)
        for age, each in enumerate(clips):
            await store.put(each)
            os.utime(store.path(each.key), (age, age))
        assert await store.get(clips[0].key) is not None  # used just now
        await store.put(clip("one more"))
        kept = [each.text for each in clips if store.path(each.key).exists()]
        assert kept == ["number 0", *(f"number {i}" for i in range(3, 10))]
        assert total(tmp_path) <= 10 * size

    async def test_a_directory_that_was_full_before_is_brought_under_the_limit(self, tmp_path: Path):
        for i in range(10):
            await DiskStore(tmp_path).put(clip(f"number {i}"))
        size = len(clip("number 0").to_bytes())
        await DiskStore(tmp_path, limit=4 * size).put(clip("one more"))
        assert total(tmp_path) <= 4 * size

    async def test_a_full_disk_costs_the_entry_and_nothing_else(self, tmp_path: Path, caplog):
        """The kernel itself refuses the bytes: no file of this process may grow past a limit."""
        store = DiskStore(tmp_path)
        await store.put(clip("small", samples=100))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            await store.put(clip("large", samples=24_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert files(tmp_path) == [store.path(clip("small").key)]
        assert "could not keep a clip" in caplog.text
        await store.put(clip("large", samples=24_000))
        assert await store.get(clip("large").key) is not None

    async def test_forms_count_towards_the_limit_and_locks_do_not_stay(self, tmp_path: Path):
        store = DiskStore(tmp_path, limit=20_000)
        for i in range(8):
            await store.put_part(Part(f"{clip(f'number {i}').key}.mp3", bytes(4000)))
        assert total(tmp_path) <= 20_000
        lease = await store.reserve("abcdef")
        assert lease is not None
        assert await store.reserve("abcdef") is None
        await lease.release()
        assert not [path for path in files(tmp_path) if path.suffix == ".lock"]

    async def test_a_directory_that_cannot_be_written_gives_the_right_to_render(self, tmp_path: Path, caplog):
        (tmp_path / "file").write_text("in the way")
        store = DiskStore(tmp_path / "file")
        assert await store.reserve("abcdef") is not None
        assert await store.reserve("abcdef") is not None
        assert "could not lock" in caplog.text


@pytest.fixture
async def redis_store(redis_server) -> AsyncIterator[RedisStore]:
    store = RedisStore.from_url(redis_server.url)
    yield store
    await store.aclose()


async def stored(client: Redis) -> int:
    """Bytes of all entries that are there."""
    return sum([await client.strlen(name) async for name in client.scan_iter("clip:*")])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class TestRedis:
    async def test_replicas_share_clips(self, redis_server, redis_store: RedisStore):
        other = RedisStore.from_url(redis_server.url)
        await redis_store.put(clip())
        back = await other.get(clip().key)
        await other.aclose()
        assert back is not None
        assert back.text == "Hello."
        assert np.array_equal(back.pcm, clip().pcm)

    async def test_a_clip_that_is_not_there_is_a_miss(self, redis_store: RedisStore):
        assert await redis_store.get(clip().key) is None

    async def test_clips_expire(self, redis_server, redis_store: RedisStore):
        await redis_store.put(clip())
        async with Redis.from_url(redis_server.url) as client:
            assert 0 < await client.ttl(f"clip:{clip().key}") <= 30 * 24 * 3600

    async def test_a_corrupt_clip_is_dropped_and_never_returned(self, redis_server, redis_store: RedisStore):
        name = f"clip:{clip().key}"
        async with Redis.from_url(redis_server.url) as client:
            await client.set(name, clip().to_bytes()[:-2])
            assert await redis_store.get(clip().key) is None
            assert await client.exists(name) == 0

    async def test_the_least_recently_used_entries_make_room_in_it(self, redis_server, monkeypatch):
        size = len(clip("number 0").to_bytes())
        small, other = (RedisStore.from_url(redis_server.url, limit=5 * size) for _ in range(2))
        clips = [clip(f"number {i}") for i in range(5)]
        async with Redis.from_url(redis_server.url) as client:
            for age, each in enumerate(clips):
                await small.put(each)
                await client.zadd("clips:used", {each.key: 1000 + age})
            assert await other.get(clips[0].key) is not None  # used just now
            await other.put(clip("one more"))
            kept = [each.text for each in clips if await client.exists(f"clip:{each.key}")]
            assert kept == ["number 0", "number 2", "number 3", "number 4"]
            assert int(await client.hget("clips:sizes", "")) == await stored(client) <= 5 * size
        await small.aclose()
        await other.aclose()

    async def test_an_entry_put_again_counts_once_and_one_that_expired_not_at_all(
        self, redis_server, redis_store: RedisStore
    ):
        async with Redis.from_url(redis_server.url) as client:
            for _ in range(3):
                await redis_store.put(clip())
            await redis_store.put(clip("short"))
            await client.delete(f"clip:{clip('short').key}")
            await client.zadd("clips:ends", {clip("short").key: 1})
            await redis_store.put(clip("another"))
            assert int(await client.hget("clips:sizes", "")) == await stored(client)
            assert await client.zcard("clips:used") == await client.zcard("clips:ends") == 2

    async def test_hundreds_of_entries_at_once_are_no_failure(self, redis_server, caplog):
        store = RedisStore.from_url(redis_server.url, timeout=2.0)
        clips = [clip(f"number {i}") for i in range(300)]
        await asyncio.gather(*(store.put(each) for each in clips))
        found = await asyncio.gather(*(store.get(each.key) for each in clips))
        assert [each.text for each in found] == [each.text for each in clips]
        assert caplog.text == ""
        await store.aclose()

    async def test_a_part_expires_when_it_has_to(self, redis_server, redis_store: RedisStore):
        await redis_store.put_part(Part("k.mp3", b"sound", time.time() + 60))
        assert (await redis_store.get_part("k.mp3")).data == b"sound"
        async with Redis.from_url(redis_server.url) as client:
            assert 50 < await client.ttl("clip:k.mp3") <= 60

    async def test_a_redis_that_is_full_is_not_away(self, redis_server, redis_store: RedisStore, caplog):
        await redis_store.put(clip())
        async with Redis.from_url(redis_server.url) as client:
            await client.config_set("maxmemory", "1mb")
            await redis_store.put(clip("more", samples=48_000))
            assert "Redis is full" in caplog.text
            assert not redis_store.away
            assert await redis_store.get(clip().key) is not None

    async def test_a_lease_lapses_unless_it_is_renewed(self, redis_server):
        store = RedisStore.from_url(redis_server.url, timeout=2.0, lease_s=0.3)
        lease = await store.reserve("k")
        async with Redis.from_url(redis_server.url) as client:
            assert 0 < await client.pttl("clip:k:lease") <= 300
            assert await store.reserve("k") is None
            await client.set("clip:k:lease", "somebody else's")
            await lease.release()
            assert await client.get("clip:k:lease") == b"somebody else's"
        await store.aclose()

    async def test_a_killed_server_is_a_miss_and_one_that_returns_is_used_again(self, redis_server, caplog):
        clock = Clock()
        store = RedisStore(Redis.from_url(redis_server.url, socket_timeout=0.5), clock=clock)
        await store.put(clip())
        redis_server.kill()
        assert await store.get(clip().key) is None
        await store.put(clip())
        redis_server.start()
        assert await store.get(clip().key) is None, "left alone for a pause after its failure"
        clock.now += 1.1
        await store.put(clip())
        assert await store.get(clip().key) is not None
        await store.aclose()
        assert str(redis_server.port) not in caplog.text

    async def test_a_hung_server_costs_a_tenth_of_a_second_once(self, redis_server, redis_store: RedisStore):
        await redis_store.put(clip())
        redis_server.freeze()
        started = time.perf_counter()
        assert await redis_store.get(clip().key) is None
        first = time.perf_counter() - started
        started = time.perf_counter()
        for _ in range(100):
            assert await redis_store.get(clip().key) is None
        rest = time.perf_counter() - started
        assert 0.05 <= first < 0.5
        assert rest < 0.05

    async def test_a_restart_of_an_idle_server_is_not_noticed(self, redis_server, redis_store, caplog):
        caplog.set_level(logging.WARNING)
        await redis_store.put(clip())
        redis_server.kill()
        redis_server.start()
        await redis_store.put(clip())
        assert await redis_store.get(clip().key) is not None
        assert not caplog.records

"""One of several processes that want the same clip at once. Renders nothing before it is told to, through Redis."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import numpy as np
from redis.asyncio import Redis

from cache import Clip, ClipCache, RedisStore


async def main(url: str, key: str, callers: int) -> None:
    control = Redis.from_url(url)
    cache = ClipCache(RedisStore.from_url(url, timeout=2.0))

    async def render() -> Clip:
        await control.incr("renders")
        await control.rpush("started", 1)
        await control.blpop(["go"])
        return Clip(key, "Hello.", np.arange(48_000, dtype=np.int16))

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    tasks = [asyncio.create_task(cache.fetch(key, render)) for _ in range(callers)]
    await asyncio.sleep(0)  # every one of them has begun
    print("asked", flush=True)
    found = await asyncio.gather(*tasks)
    await cache.aclose()
    await control.aclose()
    whole = all(each.clip.pcm.tobytes() == np.arange(48_000, dtype=np.int16).tobytes() for each in found)
    print(json.dumps({"whole": whole, "sources": Counter(each.source.value for each in found)}), flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

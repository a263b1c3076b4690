"""Clips in a Redis that the fleet shares."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError

from cache.stores import Blobs, Lease, NoLease

log = logging.getLogger(__name__)

LARGEST = 8 << 20
"""Bytes of an entry; what is longer (nearly three minutes) would hold up everybody else's commands."""
CONNECTIONS = 32
"""More commands at once than that wait their turn. The client's own pool calls that a failure."""
LEASE_S = 3.0
"""How long the right to render outlives a holder that died. One that lives renews it three times as often."""

_PUT = """
local index, sizes, ends = KEYS[2], KEYS[3], KEYS[4]
local now = redis.call('TIME')[1]
local function forget(member)
    redis.call('DEL', ARGV[1] .. member)
    redis.call('ZREM', index, member)
    redis.call('ZREM', ends, member)
    local size = redis.call('HGET', sizes, member)
    if size then
        redis.call('HDEL', sizes, member)
        redis.call('HINCRBY', sizes, '', -size)
    end
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100)) do
    forget(member)
end
local before = redis.call('HGET', sizes, ARGV[2])
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
redis.call('ZADD', index, now, ARGV[2])
redis.call('ZADD', ends, now + ARGV[4], ARGV[2])
redis.call('HSET', sizes, ARGV[2], #ARGV[3])
local used = redis.call('HINCRBY', sizes, '', #ARGV[3] - (before or 0))
while used > tonumber(ARGV[5]) do
    local oldest = redis.call('ZRANGE', index, 0, 0)[1]
    if not oldest then break end
    forget(oldest)
    used = tonumber(redis.call('HGET', sizes, ''))
end
return used
"""
"""KEYS: the entry, all entries by time of last use, their sizes (under '' the sum), and when they expire.
ARGV: the prefix, the entry's name, its bytes, its seconds to live, and the limit of all of them in bytes."""

_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisStore(Blobs):
    """Past `limit` bytes in all, the entries that were not used for longest go, by whichever replica they came.

    After a failure Redis is left alone for `pause` seconds. `client` returns bytes (`decode_responses` off) and
    fails fast: `from_url` makes such a one.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "clip:",
        limit: int = 256 << 20,
        keep_seconds: int = 30 * 24 * 3600,
        pause: float = 1.0,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._client = client
        self._prefix = prefix
        self.limit = limit
        self._keep_seconds = keep_seconds
        self._pause = pause
        self._lease_ms = int(lease_s * 1000)
        self._clock = clock
        self._away_until = float("-inf")
        plural = prefix.rstrip(":") + "s:"
        self._used, self._sizes, self._ends = f"{plural}used", f"{plural}sizes", f"{plural}ends"
        self._put_script = client.register_script(_PUT)
        self._renew_script = client.register_script(_RENEW)
        self._release_script = client.register_script(_RELEASE)

    @classmethod
    def from_url(
        cls, url: str, *, timeout: float = 0.05, limit: int = 256 << 20, lease_s: float = LEASE_S
    ) -> RedisStore:
        """The client's own defaults wait a minute for a server that hangs; this waits twice `timeout`.

        The one retry is for a connection that died while it was idle.
        """
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=max(1.0, 4 * timeout),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 1),
            decode_responses=False,
        )
        return cls(Redis.from_pool(pool), limit=limit, lease_s=lease_s)

    @property
    def away(self) -> bool:
        """It failed just now, and is not asked."""
        return self._clock() < self._away_until

    async def _reserve(self, key: str) -> Lease | None:
        if self.away:
            return NoLease()
        name, token = f"{self._prefix}{key}:lease", uuid.uuid4().hex
        try:
            granted = await self._client.set(name, token, nx=True, px=self._lease_ms)
        except (RedisError, OSError) as error:
            self._failed(error)
            return NoLease()
        return _RedisLease(self, name, token) if granted else None

    async def renew(self, name: str, token: str) -> None:
        await self._send(self._renew_script(keys=[name], args=[token, self._lease_ms]))

    async def release(self, name: str, token: str) -> None:
        await self._send(self._release_script(keys=[name], args=[token]))

    @property
    def renewal_s(self) -> float:
        return self._lease_ms / 3000

    async def aclose(self) -> None:
        await super().aclose()
        await self._client.aclose()

    async def _read(self, name: str) -> bytes | None:
        if self.away:
            return None
        short = name.removesuffix(".clip")
        try:
            pipe = self._client.pipeline(transaction=False)
            pipe.get(self._prefix + short)
            pipe.zadd(self._used, {short: int(time.time())}, xx=True)
            # A server that is full still reads, though it does not note when.
            data = (await pipe.execute(raise_on_error=False))[0]
            if isinstance(data, Exception):
                raise data
        except (RedisError, OSError) as error:
            self._failed(error)
            return None
        return data if isinstance(data, bytes) else None

    async def _write(self, name: str, data: bytes, until: float | None) -> None:
        if self.away or len(data) > min(LARGEST, self.limit):
            return
        short, keep = name.removesuffix(".clip"), self._keep_seconds
        if until is not None:
            keep = max(1, min(keep, math.ceil(until - time.time())))
        await self._send(
            self._put_script(
                keys=[self._prefix + short, self._used, self._sizes, self._ends],
                args=[self._prefix, short, data, keep, self.limit],
            )
        )

    async def _drop(self, name: str) -> None:
        if not self.away:
            await self._send(self._client.delete(self._prefix + name.removesuffix(".clip")))

    async def _send(self, command: Any) -> None:
        try:
            await cast(Awaitable[Any], command)
        except (RedisError, OSError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, OutOfMemoryError) or "OOM" in str(error)[:200]:
            log.warning("Redis is full, a clip was not kept: raise its maxmemory or lower cache.redis_mb")
            return
        # The class only: the text of a connection error can hold the URL.
        log.warning("Redis is away, clips are rendered without it: %s", type(error).__name__)
        self._away_until = self._clock() + self._pause


class _RedisLease:
    """Renewed until it is released; where Redis goes meanwhile, it lapses and the work goes on."""

    def __init__(self, store: RedisStore, name: str, token: str) -> None:
        self._store, self._name, self._token = store, name, token
        self._renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._store.renewal_s)
            if not self._store.away:
                await self._store.renew(self._name, self._token)

    async def release(self) -> None:
        self._renewal.cancel()
        with suppress(asyncio.CancelledError):
            await self._renewal
        if not self._store.away:
            await self._store.release(self._name, self._token)

"""State that outlives a process and is shared by replicas: a small key-value interface and its two homes.

`EmbeddedStore` lives in this process, which is right for one machine. `RedisStore` is for a fleet. Values are text.
Redis being slow or away raises `StoreUnavailable` after a few timeouts at most: callers carry on with what they
know.
"""

from __future__ import annotations

import asyncio
import heapq
import re
import time
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from orchestrator.core.ledger import Grant, Ledger, Message
from orchestrator.server import ledger_script

T = TypeVar("T")

STREAM_LIMIT = 10_000
"""Entries a stream keeps; older ones go."""
CONNECTIONS = 32
"""Connections to Redis; more commands at once than that wait their turn."""
CONNECT_S = 0.5
"""A connection takes several turns of the event loop. With a command's time a process that is busy for a moment would
lose its connections and never get new ones, as long as it stays busy."""


class StoreUnavailable(Exception):
    """The store did not do what it was asked, for now; what it was asked may or may not have happened."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream. Ids grow, and compare by order of arrival through `read(after=...)` only."""

    id: str
    fields: Mapping[str, str]


class Store(Protocol):
    """`ttl` is in seconds; None keeps for ever. All but `subscribe` may raise `StoreUnavailable`."""

    kind: str
    """"embedded" or "redis"."""

    async def get(self, key: str) -> str | None: ...

    async def put(self, key: str, value: str, ttl: float | None = None) -> None: ...

    async def put_if(
        self, key: str, expected: str | None, value: str, ttl: float | None = None
    ) -> str | None:
        """Puts `value` if the key holds `expected` (None: nothing), and returns what it holds then.

        That is `value` if it was put. So it is for a repetition after a lost answer, as long as nobody puts
        something else: give no two requests the same value.
        """
        ...

    async def delete(self, key: str) -> bool:
        """True if it was there."""
        ...

    async def keys(self, prefix: str) -> list[str]:
        """All keys that begin with `prefix`, sorted. It may look at every key: not for each call."""
        ...

    async def add(self, key: str, amount: int, ttl: float | None = None, *, once: str = "") -> int:
        """Adds to a counter (0 if new, which is when `ttl` starts) and returns the sum.

        A repetition with the same `once` within an hour adds nothing and returns the present sum, so that
        what was cut off can be tried again without counting twice.
        """
        ...

    async def claim(
        self, key: str, told: Message, *, cap: int | None, lease_s: float, ttl: float | None = None
    ) -> Grant:
        """Takes a claim on the ledger `key` as `core.ledger.Ledger` does; its replica is alive."""
        ...

    def claim_now(
        self, key: str, told: Message, *, cap: int | None, lease_s: float, ttl: float | None = None
    ) -> Grant | None:
        """As `claim`, without waiting; None where that is not possible."""
        ...

    async def renew(
        self, key: str, replica: str, *, lease_s: float, forget: Sequence[str] = (), ttl: float | None = None
    ) -> tuple[Grant, bool]:
        """The replica is alive, and its holders `forget` had their last claims answered.

        Returns how the ledger stands, and False if the replica had not counted as alive: then its holders
        tell their claims again.
        """
        ...

    async def standing(self, key: str) -> Grant:
        """How the ledger stands; without an epoch if there is none."""
        ...

    async def publish(self, channel: str, message: str) -> None:
        """To those subscribed at this moment; nobody else ever sees it."""
        ...

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """``async with store.subscribe(channel) as messages``: inside, nothing published is missed.

        `StoreUnavailable` out of the iterator means that messages may have been missed.
        """
        ...

    async def append(
        self,
        stream: str,
        fields: Mapping[str, str],
        ttl: float | None = None,
        *,
        limit: int = STREAM_LIMIT,
        once: str = "",
    ) -> str:
        """Adds an entry and returns its id; `ttl` counts from the latest one.

        The stream keeps `limit` entries, or some more. A repetition with the same `once` within an hour adds nothing.
        """
        ...

    async def read(self, stream: str, after: str = "", limit: int = 1000) -> list[Entry]:
        """Entries in order, from behind the id `after` or from the beginning."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


_ONCE_TTL_S = 3600
_ONCE_TTL_MS = _ONCE_TTL_S * 1000


class EmbeddedStore:
    """Everything in this process's memory; gone when it ends."""

    kind = "embedded"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._values: dict[str, str] = {}
        self._streams: dict[str, deque[Entry]] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._expires: dict[str, float] = {}
        self._expiry_order: list[tuple[float, str]] = []
        self._subscribers: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)
        self._ids = count(1)

    async def get(self, key: str) -> str | None:
        self._forget_expired()
        return self._values.get(key)

    async def put(self, key: str, value: str, ttl: float | None = None) -> None:
        self._forget_expired()
        self._values[key] = value
        self._expire(key, ttl)

    async def put_if(
        self, key: str, expected: str | None, value: str, ttl: float | None = None
    ) -> str | None:
        self._forget_expired()
        if (held := self._values.get(key)) != expected:
            return held
        await self.put(key, value, ttl)
        return value

    async def delete(self, key: str) -> bool:
        self._forget_expired()
        self._expires.pop(key, None)
        in_streams = self._streams.pop(key, None) is not None
        return self._values.pop(key, None) is not None or in_streams

    async def keys(self, prefix: str) -> list[str]:
        self._forget_expired()
        return sorted(key for key in (*self._values, *self._streams) if key.startswith(prefix))

    async def add(self, key: str, amount: int, ttl: float | None = None, *, once: str = "") -> int:
        self._forget_expired()
        if once:
            # NUL keeps these out of every prefix that anybody lists.
            marker = f"\0once:{key}:{once}"
            if marker in self._values:
                return int(self._values.get(key, "0"))
            await self.put(marker, "1", _ONCE_TTL_S)
        if key not in self._values:
            self._expire(key, ttl)
        total = int(self._values.get(key, "0")) + amount
        self._values[key] = str(total)
        return total

    async def claim(
        self, key: str, told: Message, *, cap: int | None, lease_s: float, ttl: float | None = None
    ) -> Grant:
        return self.claim_now(key, told, cap=cap, lease_s=lease_s, ttl=ttl)

    def claim_now(
        self, key: str, told: Message, *, cap: int | None, lease_s: float, ttl: float | None = None
    ) -> Grant:
        self._forget_expired()
        now = self._clock()
        ledger = self._ledgers.get(key)
        if ledger is None:
            ledger = self._ledgers[key] = Ledger(cap, uuid.uuid4().hex[:8])
            self._expire(key, ttl)
        ledger.cap = cap
        ledger.expire(now)
        ledger.heard(told.replica, now + lease_s)
        return ledger.put(told, now)

    async def renew(
        self, key: str, replica: str, *, lease_s: float, forget: Sequence[str] = (), ttl: float | None = None
    ) -> tuple[Grant, bool]:
        self._forget_expired()
        ledger = self._ledgers.get(key)
        if ledger is None:
            return Ledger(None).standing(), False
        now = self._clock()
        ledger.expire(now)
        ledger.forget(forget)
        known = ledger.heard(replica, now + lease_s)
        return ledger.standing(), known

    async def standing(self, key: str) -> Grant:
        self._forget_expired()
        ledger = self._ledgers.get(key) or Ledger(None)
        ledger.expire(self._clock())
        return ledger.standing()

    async def publish(self, channel: str, message: str) -> None:
        for queue in self._subscribers[channel]:
            queue.put_nowait(message)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[str]]:
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def messages() -> AsyncIterator[str]:
            while True:
                yield await queue.get()

        self._subscribers[channel].add(queue)
        try:
            yield messages()
        finally:
            self._subscribers[channel].discard(queue)

    async def append(
        self,
        stream: str,
        fields: Mapping[str, str],
        ttl: float | None = None,
        *,
        limit: int = STREAM_LIMIT,
        once: str = "",
    ) -> str:
        self._forget_expired()
        # NUL keeps these out of every prefix that anybody lists.
        marker = f"\0once:{stream}:{once}"
        if once and marker in self._values:
            return self._values[marker]
        entry = Entry(f"{next(self._ids):020d}", dict(fields))
        entries = self._streams.setdefault(stream, deque())
        entries.append(entry)
        while len(entries) > limit:
            entries.popleft()
        if ttl is not None:
            self._expire(stream, ttl)
        if once:
            await self.put(marker, entry.id, _ONCE_TTL_S)
        return entry.id

    async def read(self, stream: str, after: str = "", limit: int = 1000) -> list[Entry]:
        self._forget_expired()
        return [entry for entry in self._streams.get(stream, ()) if entry.id > after][:limit]

    async def ping(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _expire(self, key: str, ttl: float | None) -> None:
        self._expires.pop(key, None)
        if ttl is not None:
            self._expires[key] = self._clock() + ttl
            heapq.heappush(self._expiry_order, (self._expires[key], key))

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._expiry_order and self._expiry_order[0][0] <= now:
            due, key = heapq.heappop(self._expiry_order)
            if self._expires.get(key) == due:
                del self._expires[key]
                self._values.pop(key, None)
                self._streams.pop(key, None)
                self._ledgers.pop(key, None)


# Both scripts remember under KEYS[2] that this very request was carried out: a request whose answer was lost can be
# sent again. KEYS[2] shares the slot of KEYS[1], so they work on a cluster.
_ADD = """
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[3]) then
  local total = redis.call('INCRBY', KEYS[1], ARGV[1])
  if ARGV[2] ~= '' and redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return total
end
return tonumber(redis.call('GET', KEYS[1]) or '0')
"""
_APPEND = """
local done = redis.call('GET', KEYS[2])
if done then return done end
local fields = {}
for i = 4, #ARGV do fields[#fields + 1] = ARGV[i] end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(fields))
redis.call('SET', KEYS[2], id, 'PX', ARGV[3])
if ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return id
"""
_PUT_IF = """
local expected = ARGV[1] ~= '' and ARGV[2]
local held = redis.call('GET', KEYS[1])
if held ~= expected then return held end
if ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3]) else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return ARGV[3]
"""
_EXTEND_IF = """
local length = redis.call('LLEN', KEYS[1])
if length ~= tonumber(ARGV[1]) then return 0 end
if length > 0 and redis.call('LINDEX', KEYS[1], -1) ~= ARGV[2] then return 0 end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 3))
return 1
"""
_END_OF = "return {redis.call('LLEN', KEYS[1]), redis.call('LINDEX', KEYS[1], -1) or ''}"
_GLOB = re.compile(r"([*?\[\]\\^-])")


class RedisStore:
    """A Redis server (6.2 or later), with every key under `namespace`.

    A command gets `timeout_s`, twice: the first try after a Redis restart always meets a dead connection. A new
    connection gets `CONNECT_S`. A subscription that heard nothing for `quiet_s` is checked with a ping. `now_ms`
    stands in for the server's own clock where leases are concerned.
    """

    kind = "redis"

    def __init__(
        self,
        url: str,
        timeout_s: float = 0.1,
        namespace: str = "orchestrator:",
        quiet_s: float = 1.0,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._namespace = namespace
        self._timeout_s = timeout_s
        self._quiet_s = quiet_s
        self._now_ms = now_ms
        # The client's own defaults (10 retries of 5 s each) hold a caller for a minute. RESP2, because in RESP3 the
        # answer to a ping on a subscription cannot be told from a message.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout_s,
            protocol=2,
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=max(CONNECT_S, timeout_s),
            # A Unix socket cannot die silently, and its connection class takes no such option.
            **({} if url.startswith("unix:") else {"socket_keepalive": True}),
            retry=Retry(NoBackoff(), 0),
        )
        self._client: Redis = Redis.from_pool(pool)
        self._add = self._client.register_script(_ADD)
        self._append = self._client.register_script(_APPEND)
        self._put_if = self._client.register_script(_PUT_IF)
        self._extend_if = self._client.register_script(_EXTEND_IF)
        self._end_of = self._client.register_script(_END_OF)
        self._claim = self._client.register_script(ledger_script.CLAIM)
        self._renew = self._client.register_script(ledger_script.RENEW)
        self._standing = self._client.register_script(ledger_script.STANDING)

    async def get(self, key: str) -> str | None:
        value = await self._try(lambda: self._client.get(self._name(key)))
        return None if value is None else str(value)

    async def put(self, key: str, value: str, ttl: float | None = None) -> None:
        await self._try(lambda: self._client.set(self._name(key), value, px=_milliseconds(ttl)))

    async def put_if(
        self, key: str, expected: str | None, value: str, ttl: float | None = None
    ) -> str | None:
        args: list[str | int] = [
            "" if expected is None else 1,
            expected or "",
            value,
            _milliseconds(ttl) or "",
        ]
        held = await self._try(lambda: self._put_if(keys=[self._name(key)], args=args))
        return None if held is None else str(held)

    async def delete(self, key: str) -> bool:
        # Not repeated: a repetition would say that the key was not there.
        return bool(await self._try(lambda: self._client.delete(self._name(key)), attempts=1))

    async def keys(self, prefix: str) -> list[str]:
        pattern = _GLOB.sub(r"\\\1", self._name(prefix)) + "*"

        async def scan() -> list[str]:
            names = [name async for name in self._client.scan_iter(match=pattern, count=1000)]
            return sorted({str(name).removeprefix(self._namespace) for name in names})

        return await self._try(scan)

    async def add(self, key: str, amount: int, ttl: float | None = None, *, once: str = "") -> int:
        name = self._name(key)
        keys = [name, _beside(name, once or uuid.uuid4().hex)]
        args: list[str | int] = [amount, _milliseconds(ttl) or "", _ONCE_TTL_MS]
        return int(await self._try(lambda: self._add(keys=keys, args=args)))

    async def claim(
        self, key: str, told: Message, *, cap: int | None, lease_s: float, ttl: float | None = None
    ) -> Grant:
        claim, known = told.claim, told.known
        grant, _ = await self._ask(
            self._claim,
            key,
            (_milliseconds(lease_s), _milliseconds(ttl), cap, uuid.uuid4().hex[:8]),
            (told.holder, told.replica, told.number, claim.spent, claim.running, claim.ahead),
            (known.epoch, known.settled, known.counted),
        )
        return grant

    def claim_now(
        self, key: str, told: Message, *, cap: int | None, lease_s: float, ttl: float | None = None
    ) -> Grant | None:
        return None

    async def renew(
        self, key: str, replica: str, *, lease_s: float, forget: Sequence[str] = (), ttl: float | None = None
    ) -> tuple[Grant, bool]:
        return await self._ask(
            self._renew, key, (_milliseconds(lease_s), _milliseconds(ttl), replica), forget
        )

    async def standing(self, key: str) -> Grant:
        grant, _ = await self._ask(self._standing, key)
        return grant

    async def _ask(
        self, script: AsyncScript, key: str, *parts: Sequence[str | int | None]
    ) -> tuple[Grant, bool]:
        keys = [f"{self._namespace}{{{key}}}:{part}" for part in ("day", "leases", "holders")]
        now = None if self._now_ms is None else self._now_ms()
        args = ["" if arg is None else arg for part in ((now,), *parts) for arg in part]
        row: Any = await self._try(lambda: script(keys=keys, args=args))
        ahead, settled, reserved, epoch, version, alive = row
        return Grant(int(ahead), int(settled), int(reserved), str(epoch), int(version)), bool(alive)

    async def publish(self, channel: str, message: str) -> None:
        await self._try(lambda: self._client.publish(self._name(channel), message))

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[str]]:
        pubsub = self._client.pubsub()
        try:
            with _Unavailable():
                await pubsub.subscribe(self._name(channel))
                await self._expect(pubsub, "subscribe")
            yield self._messages(pubsub)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def append(
        self,
        stream: str,
        fields: Mapping[str, str],
        ttl: float | None = None,
        *,
        limit: int = STREAM_LIMIT,
        once: str = "",
    ) -> str:
        name = self._name(stream)
        keys = [name, _beside(name, once or uuid.uuid4().hex)]
        flat = [part for field in fields.items() for part in field]
        args: list[str | int] = [limit, _milliseconds(ttl) or "", _ONCE_TTL_MS, *flat]
        return str(await self._try(lambda: self._append(keys=keys, args=args)))

    async def read(self, stream: str, after: str = "", limit: int = 1000) -> list[Entry]:
        start = f"({after}" if after else "-"
        rows: Any = await self._try(lambda: self._client.xrange(self._name(stream), min=start, count=limit))
        return [Entry(str(id), fields) for id, fields in rows]

    async def end_of(self, key: str) -> tuple[int, str]:
        """How long a list is that only ever grows, and its last item ("" if it has none)."""
        length, last = await self._try(lambda: self._end_of(keys=[self._name(key)]))
        return int(length), str(last)

    async def extend_if(self, key: str, length: int, last: str, items: Sequence[str]) -> bool:
        """Adds items to a list whose end is as given. Not repeated: a repetition would find the end changed."""
        args: list[str | int] = [length, last, *items]
        done = await self._try(lambda: self._extend_if(keys=[self._name(key)], args=args), attempts=1)
        return bool(done)

    async def items(self, key: str, after: int, limit: int) -> list[str]:
        """Up to `limit` items of a list, without its first `after`."""
        if limit <= 0:
            return []
        end = after + limit - 1
        found: Any = await self._try(lambda: self._client.lrange(self._name(key), after, end))
        return [str(item) for item in found]

    async def ping(self) -> None:
        await self._try(lambda: self._client.ping())

    async def close(self) -> None:
        await self._client.aclose()

    def _name(self, key: str) -> str:
        return self._namespace + key

    async def _try(self, operation: Callable[[], Awaitable[T]], attempts: int = 2) -> T:
        """One repetition where the connection failed: every operation here can be repeated without harm."""
        with _Unavailable():
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(attempts),
                retry=retry_if_exception_type((RedisConnectionError, RedisTimeoutError)),
                reraise=True,
            ):
                with attempt:
                    return await operation()
        raise AssertionError("tenacity either returns or raises")

    async def _messages(self, pubsub: PubSub) -> AsyncIterator[str]:
        """A subscription is quiet for hours or dead for hours: a ping in between tells which."""
        while True:
            with _Unavailable():
                message = await pubsub.get_message(timeout=self._quiet_s)
                if message is None:
                    await pubsub.ping()
                    message = await self._expect(pubsub, "pong", "message")
            if message is not None and message["type"] == "message":
                yield str(message["data"])

    async def _expect(self, pubsub: PubSub, *types: str) -> dict[str, Any]:
        message: dict[str, Any] | None = await pubsub.get_message(timeout=max(0.5, self._timeout_s))
        if message is None or message["type"] not in types:
            raise RedisTimeoutError(f"expected {' or '.join(types)} from the subscription")
        return message


class _Unavailable:
    """Turns what the Redis client raises into `StoreUnavailable`; addresses and passwords stay out of it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RedisError | OSError):
            raise StoreUnavailable(f"Redis did not answer ({type(error).__name__})") from error


def _beside(name: str, suffix: str) -> str:
    """A key in the same cluster slot as `name`."""
    tagged = name if "{" in name else f"{{{name}}}"
    return f"{tagged}:once:{suffix}"


def _milliseconds(ttl: float | None) -> int | None:
    return None if ttl is None else max(1, round(ttl * 1000))

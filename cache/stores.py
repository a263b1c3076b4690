"""Where clips outlive the process: a directory, or Redis.

A store never costs a caller an error. What cannot be read is a miss, what cannot be written is not kept,
and both are logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cache.clip import Clip, CorruptClip

log = logging.getLogger(__name__)


class Store(Protocol):
    async def get(self, key: str) -> Clip | None: ...

    async def put(self, clip: Clip) -> None: ...

    async def aclose(self) -> None: ...


class DiskStore:
    """One file a clip, under `directory`; past `limit` bytes the least recently used ones go."""

    def __init__(self, directory: Path, *, limit: int = 1 << 30) -> None:
        self.directory = directory
        self.limit = limit
        self._used: int | None = None
        self._lock = threading.Lock()

    def path(self, key: str) -> Path:
        return self.directory / key[:2] / f"{key}.clip"

    async def get(self, key: str) -> Clip | None:
        return await asyncio.to_thread(self._read, key)

    async def put(self, clip: Clip) -> None:
        await asyncio.to_thread(self._write, clip)

    async def aclose(self) -> None:
        """Nothing is held open between calls."""

    def _read(self, key: str) -> Clip | None:
        path = self.path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("could not read a clip from %s: %s", self.directory, error.strerror)
            return None
        try:
            clip = Clip.from_bytes(data, key)
        except CorruptClip as error:
            log.warning("dropped a corrupt clip, it will be rendered again: %s", error)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # a directory that may only be read serves all the same
            os.utime(path)
        return clip

    def _write(self, clip: Clip) -> None:
        path = self.path(clip.key)
        data = clip.to_bytes()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, data)
            self._make_room(len(data))
        except OSError as error:
            log.warning("could not keep a clip in %s: %s", self.directory, error.strerror)

    def _make_room(self, added: int) -> None:
        """Deletes down to nine tenths of the limit, so that the directory is not walked at every write."""
        with self._lock:
            if self._used is None:
                self._used = sum(size for _, size, _ in self._files())
            else:
                self._used += added
            if self._used <= self.limit:
                return
            files = sorted(self._files())
            self._used = sum(size for _, size, _ in files)
            for _, size, path in files:
                if self._used <= self.limit * 9 // 10:
                    break
                Path(path).unlink(missing_ok=True)
                self._used -= size

    def _files(self) -> list[tuple[float, int, str]]:
        """Time of last use, size and path of every clip; one that vanishes meanwhile is left out."""
        files = []
        for path in self.directory.glob("*/*.clip"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            files.append((stat.st_mtime, stat.st_size, str(path)))
        return files


def _replace(path: Path, data: bytes) -> None:
    """Writes beside `path` and renames: a reader sees the old file or the new one, never half of one.

    No fsync: what a power cut tears, the digest finds, and a clip can be rendered again.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class RedisStore:
    """Clips in a Redis that the fleet shares. After a failure it is left alone for `pause` seconds.

    `client` returns bytes (`decode_responses` off) and fails fast: `from_url` makes such a one.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "clip:",
        keep_seconds: int = 30 * 24 * 3600,
        pause: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._keep_seconds = keep_seconds
        self._pause = pause
        self._clock = clock
        self._away_until = float("-inf")

    @classmethod
    def from_url(cls, url: str, *, timeout: float = 0.05) -> RedisStore:
        """The client's own defaults wait a minute for a server that hangs; this waits twice `timeout`.

        The one retry is for a connection that died while it was idle.
        """
        return cls(
            Redis.from_url(
                url,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 1),
                decode_responses=False,
            )
        )

    async def get(self, key: str) -> Clip | None:
        if self._clock() < self._away_until:
            return None
        try:
            data = await self._client.get(self._prefix + key)
            if not isinstance(data, bytes):
                return None
            return await asyncio.to_thread(Clip.from_bytes, data, key)
        except CorruptClip as error:
            log.warning("dropped a corrupt clip, it will be rendered again: %s", error)
            await self._delete(key)
        except (RedisError, OSError) as error:
            self._gone(error)
        return None

    async def put(self, clip: Clip) -> None:
        if self._clock() < self._away_until:
            return
        data = await asyncio.to_thread(clip.to_bytes)
        try:
            await self._client.set(self._prefix + clip.key, data, ex=self._keep_seconds)
        except (RedisError, OSError) as error:
            self._gone(error)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _delete(self, key: str) -> None:
        try:
            await self._client.delete(self._prefix + key)
        except (RedisError, OSError) as error:
            self._gone(error)

    def _gone(self, error: Exception) -> None:
        # The class only: the text of a connection error can hold the URL.
        log.warning("Redis is away, clips are rendered without it: %s", type(error).__name__)
        self._away_until = self._clock() + self._pause

"""Clips in a directory, for the processes of one machine."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from cache.stores import Blobs, Lease, NoLease

log = logging.getLogger(__name__)


class DiskStore(Blobs):
    """One file an entry, under `directory`; past `limit` bytes the least recently used ones go.

    The right to render is a file lock, which the kernel takes back from a process that dies.
    """

    def __init__(self, directory: Path, *, limit: int = 1 << 30) -> None:
        super().__init__()
        self.directory = directory
        self.limit = limit
        self._used: int | None = None
        self._lock = threading.Lock()

    def path(self, key: str) -> Path:
        """Where the clip `key` is."""
        return self._path(f"{key}.clip")

    async def _reserve(self, key: str) -> Lease | None:
        return await asyncio.to_thread(self._lock_file, key)

    async def _read(self, name: str) -> bytes | None:
        return await asyncio.to_thread(self._read_file, name)

    async def _write(self, name: str, data: bytes, until: float | None) -> None:
        await asyncio.to_thread(self._write_file, name, data)

    async def _drop(self, name: str) -> None:
        with suppress(OSError):
            await asyncio.to_thread(self._path(name).unlink)

    def _path(self, name: str) -> Path:
        return self.directory / name[:2] / name

    def _read_file(self, name: str) -> bytes | None:
        path = self._path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("could not read a clip from %s: %s", self.directory, error.strerror)
            return None
        with suppress(OSError):  # a directory that may only be read serves all the same
            os.utime(path)
        return data

    def _write_file(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, data)
            self._make_room(len(data))
        except OSError as error:
            log.warning("could not keep a clip in %s: %s", self.directory, error.strerror)

    def _lock_file(self, key: str) -> Lease | None:
        path = self.directory / key[:2] / f"{key}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            log.warning("could not lock a clip in %s: %s", self.directory, error.strerror)
            return NoLease()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return _FileLease(path, descriptor)
        except BlockingIOError:
            pass
        except FileNotFoundError:
            pass  # its holder finished and removed it between our opening and our locking
        except OSError as error:
            os.close(descriptor)
            log.warning("could not lock a clip in %s: %s", self.directory, error.strerror)
            return NoLease()
        os.close(descriptor)
        return None

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
        """Time of last use, size and path of every entry; one that vanishes meanwhile is left out."""
        files = []
        for path in self.directory.glob("??/*.*"):
            if path.suffix in (".lock", ".tmp"):
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            files.append((stat.st_mtime, stat.st_size, str(path)))
        return files


class _FileLease:
    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    async def release(self) -> None:
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


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

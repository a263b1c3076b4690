"""Where the audit trail is kept: in Redis, one chain for all replicas, or in a file that only ever grows.

Both take entries at the end of the chain as it is at that moment, whoever wrote there last, and neither takes an entry
twice. Nothing here deletes an entry.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from orchestrator.config import Settings
from orchestrator.core.audit import Act, Head, chained, head_of, parse
from orchestrator.server.store import RedisStore, Store, StoreUnavailable

STORE_KEY = "audit:trail"
_ATTEMPTS = 50
_PAGE = 500
_TAIL = 64 * 1024
"""The last line of a file is looked for in so many bytes; entries are much shorter."""


class TrailAway(Exception):
    """The trail cannot be read or written now; says why and what to do."""


class Trail(Protocol):
    """All may raise `TrailAway`."""

    where: str
    """For people."""

    async def append(self, acts: Sequence[Act], again: bool = False) -> Head:
        """Puts them at the end, in this order, and returns the head then.

        `again`: some of them may be there already, because an answer was lost; those are left out.
        """
        ...

    async def read(self, after: int, limit: int) -> list[str]:
        """The lines of entries behind number `after`."""
        ...

    async def head(self) -> Head: ...


def trail_of(settings: Settings, store: Store | None) -> Trail:
    """Where these settings keep the trail. `store`: the shared one, where there is any."""
    if isinstance(store, RedisStore):
        return StoredTrail(store)
    return FileTrail(settings.audit.file)


class StoredTrail:
    """A list in Redis. A script appends only to the end that the writer has seen: replicas make one chain."""

    where = "Redis"

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._seen = Head()
        """The head when this process last looked: from there on it looks for entries of its own."""

    async def append(self, acts: Sequence[Act], again: bool = False) -> Head:
        with self._reachable():
            left, since = list(acts), self._seen
            for _ in range(_ATTEMPTS):
                seq, last = await self._store.end_of(STORE_KEY)
                head = self._head(seq, last)
                if seq < since.seq:
                    left, since = [*_told_of_loss(since, head, left), *left], Head()
                if again:
                    there = await self._ids(since.seq)
                    left = [act for act in left if act.id not in there]
                if not left:
                    self._seen = head
                    return head
                lines = []
                for act in left:
                    line, head = chained(act, head)
                    lines.append(line)
                if await self._store.extend_if(STORE_KEY, seq, last, lines):
                    self._seen = head
                    return head
        raise TrailAway("others keep writing to the audit trail; it is tried again")

    async def read(self, after: int, limit: int) -> list[str]:
        with self._reachable():
            return await self._store.items(STORE_KEY, after, limit)

    async def head(self) -> Head:
        with self._reachable():
            return self._head(*await self._store.end_of(STORE_KEY))

    async def _ids(self, after: int) -> set[str]:
        found: set[str] = set()
        while lines := await self._store.items(STORE_KEY, after, _PAGE):
            found |= {str(parse(line)["id"]) for line in lines}
            after += len(lines)
        return found

    def _head(self, seq: int, last: str) -> Head:
        if not seq:
            return Head()
        try:
            found = head_of(last)
        except ValueError:
            raise TrailAway(
                f"the last entry of the audit trail in {self.where} is none; somebody has changed it: export it and "
                "look with `orchestrator audit verify`"
            ) from None
        # A list that lost entries would be longer or shorter than its last one says.
        return Head(seq, found.hash)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable as error:
            raise TrailAway(f"{error}; redis.url (REDIS_URL) says where it is") from None


class FileTrail:
    """Lines of a file that only its owner may read. Two writers wait for each other, and each line is on the disk
    before the next one is made.

    A line that was cut off while it was written, by a power cut say, is taken out of its place, and the next entry
    tells what there was of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.where = str(path)
        self._starts = [0]
        """Where each line begins that was seen, and where the next one will."""

    async def append(self, acts: Sequence[Act], again: bool = False) -> Head:
        # What was written is known here: nothing is ever there already without our knowing.
        return await asyncio.to_thread(self.append_now, acts)

    async def read(self, after: int, limit: int) -> list[str]:
        return await asyncio.to_thread(self._read, after, limit)

    async def head(self) -> Head:
        with self._usable():
            return await asyncio.to_thread(self._head)

    def append_now(self, acts: Sequence[Act]) -> Head:
        """As `append`, on the spot."""
        with self._usable():
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._hand_over(handle)
                torn = _cut_torn(handle)
                head = self._head()
                text = ""
                for act in [*_told_of(torn, acts), *acts]:
                    line, head = chained(act, head)
                    text += line + "\n"
                _write(handle, text.encode())
                os.fsync(handle)
            finally:
                os.close(handle)
            return head

    def _hand_over(self, handle: int) -> None:
        """What root makes belongs to whom the folder belongs: to the server, that is."""
        if os.geteuid() == 0:
            owner = self._path.parent.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)

    def _head(self) -> Head:
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL))
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return Head()
        whole = [line for line in lines if line.endswith(b"\n")]
        if not whole:
            return Head()
        try:
            return head_of(whole[-1].rstrip(b"\n"))
        except ValueError:
            raise TrailAway(
                f"the last entry of the audit trail in {self._path} is none; somebody has changed it: look with "
                f"`orchestrator audit verify {self._path}`, and move the file away to begin a new one"
            ) from None

    def _read(self, after: int, limit: int) -> list[str]:
        with self._usable():
            if not self._path.exists():
                return []
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._starts[-1]:
                    self._starts = [0]  # another file
                self._look_on(file, after)
                if after >= len(self._starts):
                    return []
                file.seek(self._starts[after])
                lines = [line for _ in range(limit) if (line := file.readline()).endswith(b"\n")]
        return [line.decode("ascii", "backslashreplace").rstrip("\n") for line in lines]

    def _look_on(self, file: object, after: int) -> None:
        seek, readline = file.seek, file.readline  # type: ignore[attr-defined]
        seek(self._starts[-1])
        while len(self._starts) <= after and (line := readline()).endswith(b"\n"):
            self._starts.append(self._starts[-1] + len(line))

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrailAway(
                f"the audit trail in {self._path} cannot be used ({error.strerror}); audit.path says where it is, "
                "and this user has to own it"
            ) from None


def _told_of_loss(before: Head, now: Head, acts: Sequence[Act]) -> Sequence[Act]:
    """The trail was longer when this process last wrote to it: Redis has lost it, or somebody has cut it off."""
    return [
        Act(
            id=f"{first.id}-shortened",
            time=first.time,
            who="orchestrator",
            name="orchestrator",
            action="audit.shortened",
            subject="",
            reason="entries that were there are gone: the store lost them, or somebody took them out",
            details={"head_before": str(before), "head_found": str(now)},
        )
        for first in acts[:1]
    ]


def _cut_torn(handle: int) -> str:
    """What stands behind the last whole line, which is taken out."""
    size = os.fstat(handle).st_size
    begin = max(0, size - _TAIL)
    tail = os.pread(handle, size - begin, begin)
    torn = tail[tail.rfind(b"\n") + 1 :]
    if torn:
        os.ftruncate(handle, size - len(torn))
    return torn.decode("ascii", "backslashreplace")


def _told_of(torn: str, acts: Sequence[Act]) -> Sequence[Act]:
    if not torn or not acts:
        return []
    first = acts[0]
    return [
        Act(
            id=f"{first.id}-torn",
            time=first.time,
            who="orchestrator",
            name="orchestrator",
            action="audit.torn",
            subject="",
            reason="the line before was cut off while it was written",
            details={"text": torn[:4000]},
        )
    ]


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]

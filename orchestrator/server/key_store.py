"""Where API keys are kept, in Redis or in a file, and how a running server learns of changes.

All keys are one text, so that a change is one comparison and one write whichever way they are kept.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from orchestrator.config import Settings
from orchestrator.server.keys import ApiKey, KeyRing, KeysInvalid
from orchestrator.server.store import Store, StoreUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

STORE_KEY = "access:keys"
LOOK_EVERY_S = 0.5
"""A change is taken over within a second."""
_ATTEMPTS = 20


class KeysAway(Exception):
    """Keys cannot be read or written now; says why and what to do, and shows none of them."""


class KeyStore(Protocol):
    """The one text that holds all keys. Everything may raise `KeysAway`."""

    where: str
    """For people."""

    async def read(self) -> str | None:
        """None where nobody ever made a key."""
        ...

    async def replace(self, expected: str | None, text: str) -> bool:
        """Writes `text` if what is there is `expected`; False where it is something else by now."""
        ...


class StoredKeys:
    """In the store that replicas share."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.where = "Redis"

    async def read(self) -> str | None:
        with self._reachable():
            return await self._store.get(STORE_KEY)

    async def replace(self, expected: str | None, text: str) -> bool:
        with self._reachable():
            return await self._store.put_if(STORE_KEY, expected, text) == text

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable as error:
            raise KeysAway(f"{error}; redis.url (REDIS_URL) says where it is") from None


class FileKeys:
    """In a file that only its owner may read; it is never half written, and two writers wait for each other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[tuple[int, int, int], str] | None = None
        self.where = str(path)

    async def read(self) -> str | None:
        return await asyncio.to_thread(self.read_now)

    async def replace(self, expected: str | None, text: str) -> bool:
        return await asyncio.to_thread(self._replace, expected, text)

    def read_now(self) -> str | None:
        """As `read`, on the spot."""
        with self._usable():
            try:
                stat = self._path.stat()
            except FileNotFoundError:
                return None
            # Each version is a file of its own, so that one that looks the same is the same.
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if self._seen is None or self._seen[0] != stamp:
                self._seen = stamp, self._path.read_text("utf-8")
            return self._seen[1]

    def _replace(self, expected: str | None, text: str) -> bool:
        with self._usable():
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                if self.read_now() != expected:
                    return False
                self._write(text)
        return True

    def _write(self, text: str) -> None:
        # The name is new and the mode 0600 from the first moment: nobody can have opened it before.
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            self._hand_over(handle)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            os.unlink(name)
            raise

    def _hand_over(self, handle: int) -> None:
        """What root writes belongs to whom the file belonged before, else the folder: to the server, that is."""
        if os.geteuid() == 0:
            owned = self._path if self._path.exists() else self._path.parent
            os.fchown(handle, owned.stat().st_uid, owned.stat().st_gid)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._path.with_name(f".{self._path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise KeysAway(
                f"the keys in {self._path} cannot be used ({why}); access.keys_path says where they are, and this "
                "user has to own it"
            ) from None


def key_store(settings: Settings, store: Store | None) -> KeyStore:
    """Where these settings keep keys. `store`: the shared one, where there is any."""
    if settings.redis.url is not None and store is not None:
        return StoredKeys(store)
    return FileKeys(settings.access.keys_file)


async def read_keys(store: KeyStore) -> KeyRing:
    """The keys there are. Raises `KeysAway` and `KeysInvalid`."""
    return _parse(store, await store.read())


def _parse(store: KeyStore, text: str | None) -> KeyRing:
    try:
        return KeyRing.from_json(text)
    except KeysInvalid as error:
        raise KeysInvalid(
            f"what is in {store.where} is of no use: {error}; put it right, or remove it to begin anew"
        ) from None


async def change_keys(
    store: KeyStore, change: Callable[[KeyRing], tuple[ApiKey, T]], now: float
) -> tuple[ApiKey, T]:
    """Puts the key that `change` makes of those there are; it is asked again where somebody else was quicker.

    Raises `KeysAway`, `KeysInvalid`, and whatever `change` raises.
    """
    for _ in range(_ATTEMPTS):
        text = await store.read()
        key, made = change(ring := _parse(store, text))
        if await store.replace(text, ring.with_key(key, now).to_json()):
            return key, made
    raise KeysAway("others keep changing the keys; try again")


class KeyWatch:
    """The keys as this process last saw them. Looking at them is no I/O; a task keeps them up to date.

    `wall` is Unix seconds. Before the first successful `refresh` it is not known whether there are any.
    """

    def __init__(self, store: KeyStore, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._wall = wall
        self._text: str | None = None
        self.ring = KeyRing(used=False)
        self.known = False
        self.problem = ""
        """Why they could not be read the last time; "" is that they could."""
        self.away_since: float | None = None
        if isinstance(store, FileKeys):
            self._note(store.read_now)

    async def refresh(self) -> None:
        """Looks once. Whatever goes wrong leaves the last view as it is and says so in `problem`."""
        try:
            text = await self._store.read()
        except KeysAway as error:
            self._failed(str(error))
        except Exception:
            # A key that was revoked must not go on working because the watch had ended.
            log.exception("looking at the keys failed")
            self._failed("a fault of ours; the log says more")
        else:
            self._note(lambda: text)

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(LOOK_EVERY_S)

    def _note(self, read: Callable[[], str | None]) -> None:
        try:
            text = read()
            if text != self._text or not self.known:
                self._take(text)
        except (KeysAway, KeysInvalid) as error:
            self._failed(str(error))
            return
        if self.problem:
            log.warning("the keys in %s can be read again", self._store.where)
        self.problem, self.away_since = "", None

    def _take(self, text: str | None) -> None:
        ring = KeyRing.from_json(text)
        # Where there were keys once, their list being gone means that they open nothing: not that all may enter.
        self.ring = KeyRing() if self.ring.used and not ring.used else ring
        self._text, self.known = text, True

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("the keys cannot be read, going on with the last view: %s", problem)
        self.problem = problem
        if self.away_since is None:
            self.away_since = self._wall()

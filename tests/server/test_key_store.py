"""Where keys are kept: in a file or in Redis, changed by several at once, seen by a running server."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchestrator.server import key_store
from orchestrator.server.identity import Identity, Scope
from orchestrator.server.key_store import (
    STORE_KEY,
    FileKeys,
    KeysAway,
    KeyStore,
    KeyWatch,
    StoredKeys,
    change_keys,
)
from orchestrator.server.keys import ApiKey, KeyRing, KeysInvalid, new_key, revoked, rotated
from orchestrator.server.store import RedisStore, Store
from tests.server.fleets import until
from tests.server.test_store import RedisServer

NOW = 1_800_000_000.0
_namespaces = iter(range(1000))


@pytest.fixture(params=["file", "redis"])
async def stores(
    request: pytest.FixtureRequest, redis: RedisServer, tmp_path: Path
) -> AsyncIterator[Callable[[], KeyStore]]:
    """Makes stores of the same keys, as several processes have them."""
    opened: list[Store] = []
    namespace = f"keys{next(_namespaces)}:"

    def make() -> KeyStore:
        if request.param == "file":
            return FileKeys(tmp_path / "folder" / "keys.json")
        opened.append(RedisStore(redis.url, 2.0, namespace))
        return StoredKeys(opened[-1])

    yield make
    for store in opened:
        await store.close()


async def create(store: KeyStore, name: str = "shop") -> tuple[ApiKey, str]:
    return await change_keys(store, lambda ring: new_key(name, [Scope.SERVICE], NOW), NOW)


async def test_a_key_is_kept_and_found_by_others(stores: Callable[[], KeyStore]) -> None:
    assert await stores().read() is None
    key, presented = await create(stores())
    ring = KeyRing.from_json(await stores().read())
    assert ring.find(presented, NOW) == Identity(f"key_{key.id}", "shop", frozenset({Scope.SERVICE}))


async def test_nobodys_change_is_lost(stores: Callable[[], KeyStore]) -> None:
    made = await asyncio.gather(*(create(stores(), f"key {n}") for n in range(8)))
    ring = KeyRing.from_json(await stores().read())
    assert sorted(key.name for key in ring) == [f"key {n}" for n in range(8)]
    assert all(isinstance(ring.find(presented, NOW), Identity) for _, presented in made)


async def test_a_watch_sees_keys_come_rotate_and_go(stores: Callable[[], KeyStore]) -> None:
    watch = KeyWatch(stores())
    await watch.refresh()
    assert watch.known
    assert not watch.ring.used
    key, first = await create(stores())
    await watch.refresh()
    assert isinstance(watch.ring.find(first, NOW), Identity)
    _, second = await change_keys(stores(), lambda ring: rotated(ring[key.id], NOW, 60), NOW)
    await watch.refresh()
    assert isinstance(watch.ring.find(second, NOW), Identity)
    await change_keys(stores(), lambda ring: (revoked(ring[key.id], NOW), ""), NOW)
    await watch.refresh()
    assert not isinstance(watch.ring.find(second, NOW), Identity)


async def test_a_running_watch_takes_a_change_over_within_a_second(stores: Callable[[], KeyStore]) -> None:
    watch = KeyWatch(stores())
    task = asyncio.create_task(watch.watch())
    await until(lambda: watch.known)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    _, presented = await create(stores())
    await until(lambda: isinstance(watch.ring.find(presented, NOW), Identity))
    assert loop.time() - begun < 1.0
    task.cancel()


async def test_the_last_view_holds_while_redis_is_away(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    store = RedisStore(server.url, 0.2, "away:")
    _, presented = await create(StoredKeys(store))
    watch = KeyWatch(StoredKeys(store), lambda: NOW)
    await watch.refresh()
    server.stop()
    await watch.refresh()
    assert isinstance(watch.ring.find(presented, NOW), Identity)
    assert "Redis did not answer" in watch.problem
    assert "REDIS_URL" in watch.problem
    assert watch.away_since == NOW
    fresh = KeyWatch(StoredKeys(store))
    await fresh.refresh()
    assert not fresh.known
    with pytest.raises(KeysAway):
        await create(StoredKeys(store))
    await store.close()


async def test_a_list_that_is_gone_opens_nothing_and_does_not_let_everybody_in(
    stores: Callable[[], KeyStore], tmp_path: Path, redis: RedisServer
) -> None:
    watch = KeyWatch(store := stores())
    _, presented = await create(store)
    await watch.refresh()
    if isinstance(store, FileKeys):
        (tmp_path / "folder" / "keys.json").unlink()
    else:
        assert isinstance(store, StoredKeys)
        await store._store.delete(STORE_KEY)
    await watch.refresh()
    assert not isinstance(watch.ring.find(presented, NOW), Identity)
    assert watch.ring.used


async def test_what_is_no_list_leaves_the_last_view_and_says_so(stores: Callable[[], KeyStore]) -> None:
    store = stores()
    _, presented = await create(store)
    watch = KeyWatch(stores())
    await watch.refresh()
    assert await store.replace(await store.read(), "hunter2")
    await watch.refresh()
    assert isinstance(watch.ring.find(presented, NOW), Identity)
    assert "it is not a list of keys" in watch.problem
    assert "hunter2" not in watch.problem
    with pytest.raises(KeysInvalid, match="put it right, or remove it to begin anew"):
        await create(stores())


async def test_a_replacement_of_something_else_is_refused(stores: Callable[[], KeyStore]) -> None:
    store = stores()
    assert await store.replace(None, "a")
    assert not await store.replace(None, "b")
    assert not await store.replace("c", "b")
    assert await store.read() == "a"


async def test_who_is_always_too_late_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Busy(FileKeys):
        async def replace(self, expected: str | None, text: str) -> bool:
            return False

    with pytest.raises(KeysAway, match="try again"):
        await create(Busy(tmp_path / "keys.json"))


async def test_only_its_owner_reads_the_file_and_no_half_written_one_is_left(tmp_path: Path) -> None:
    store = FileKeys(tmp_path / "new" / "keys.json")
    before = os.umask(0)
    try:
        await create(store)
        await create(store)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [".keys.json.lock", "keys.json"]


async def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileKeys(tmp_path / "keys.json")
    await create(store)
    text = await store.read()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_store.os, "fsync", full)
    with pytest.raises(KeysAway, match="No space left on device"):
        await create(store)
    assert (tmp_path / "keys.json").read_text() == text
    assert sorted(os.listdir(tmp_path)) == [".keys.json.lock", "keys.json"]


async def test_a_file_that_cannot_be_read_is_said_so_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "keys.json").mkdir()
    watch = KeyWatch(FileKeys(tmp_path / "keys.json"))
    assert not watch.known
    assert "Is a directory" in watch.problem
    assert "access.keys_path" in watch.problem


async def test_the_watch_goes_on_after_a_fault_of_ours(tmp_path: Path) -> None:
    class Broken(FileKeys):
        async def read(self) -> str | None:
            raise ZeroDivisionError

    watch = KeyWatch(Broken(tmp_path / "keys.json"))
    await watch.refresh()
    assert "a fault of ours" in watch.problem

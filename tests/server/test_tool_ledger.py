"""The tool ledger: one run under a key, whoever asks, and whatever becomes of the store and of replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.core.tools import Kind, Result, Tool, ToolOutcome
from orchestrator.server import tool_ledger
from orchestrator.server.store import EmbeddedStore, RedisStore, Store, StoreUnavailable
from orchestrator.server.tool_ledger import PREFIX, Entry, State, ToolLedger, speakable_part, store_key
from tests.server.fleets import until
from tests.server.test_store import RedisServer

CANCEL = Tool("cancel", kind=Kind.MUTATING, speakable=("status",), timeout_s=5.0)
HONOURED = Tool("cancel", kind=Kind.MUTATING, honours_key=True, timeout_s=5.0)
BRIEF = Tool("cancel", kind=Kind.MUTATING, timeout_s=0.05)
KEY = 'cancel call_1 {"order_id": "42"}'
NAME = PREFIX + store_key(KEY)
DONE = ToolOutcome(Result.DONE, {"status": "cancelled"}, "")


class Wall:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


_namespaces = iter(range(10_000))


@pytest.fixture(params=["embedded", "redis"])
async def stores(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[list[Store]]:
    """As two replicas have them."""
    if request.param == "embedded":
        yield [EmbeddedStore()] * 2
        return
    namespace = f"tools{next(_namespaces)}:"
    stores: list[Store] = [RedisStore(server.url, 2.0, namespace) for _ in range(2)]
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
async def pair(stores: list[Store]) -> AsyncIterator[tuple[ToolLedger, ToolLedger, Wall]]:
    wall = Wall()
    one, two = (ToolLedger(store, wall=wall) for store in stores)
    yield one, two, wall
    await one.close()
    await two.close()


async def started(ledger: ToolLedger, tool: Tool = CANCEL) -> Entry:
    entry = await ledger.begin(tool, KEY)
    assert isinstance(entry, Entry)
    return entry


async def refused(ledger: ToolLedger, tool: Tool = CANCEL) -> ToolOutcome:
    outcome = await ledger.begin(tool, KEY)
    assert isinstance(outcome, ToolOutcome)
    assert outcome.known
    return outcome


Pair = tuple[ToolLedger, ToolLedger, Wall]


async def test_a_second_run_gets_the_outcome_of_the_first(pair: Pair) -> None:
    one, two, _ = pair
    entry = await started(one)
    assert (entry.state, entry.run, entry.by) == (State.STARTED, 1, one.replica)
    await one.finish(KEY, entry, DONE, {"status": "cancelled"})
    for ledger in (two, one):
        assert await refused(ledger) == ToolOutcome(Result.DONE, {"status": "cancelled"}, known=True)


async def test_what_failed_for_certain_may_run_again(pair: Pair) -> None:
    one, two, _ = pair
    await one.finish(KEY, await started(one), ToolOutcome(Result.FAILED, message="no such order"))
    again = await started(two)
    assert (again.run, again.by) == (2, two.replica)
    await two.finish(KEY, again, DONE)
    assert (await refused(one)).result is Result.DONE


async def test_what_may_have_run_never_runs_again_unless_the_tool_honours_the_key(pair: Pair) -> None:
    one, two, _ = pair
    await one.finish(KEY, await started(one), ToolOutcome(Result.UNKNOWN, message="the answer was lost"))
    assert await refused(two) == ToolOutcome(Result.UNKNOWN, message="the answer was lost", known=True)
    assert (await started(two, HONOURED)).run == 2


async def test_a_run_that_goes_on_elsewhere_is_waited_for(pair: Pair) -> None:
    one, two, _ = pair
    entry = await started(one)
    waiting = [asyncio.create_task(ledger.begin(CANCEL, KEY)) for ledger in (one, two)]
    await asyncio.sleep(0)
    await one.finish(KEY, entry, DONE, {"status": "cancelled"})
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert outcomes == [ToolOutcome(Result.DONE, {"status": "cancelled"}, known=True)] * 2


async def test_one_that_waited_for_a_failure_runs(pair: Pair) -> None:
    one, two, _ = pair
    entry = await started(one)
    waiting = asyncio.create_task(two.begin(CANCEL, KEY))
    await asyncio.sleep(0)
    await one.finish(KEY, entry, ToolOutcome(Result.FAILED))
    again = await asyncio.wait_for(waiting, 5)
    assert isinstance(again, Entry)
    assert again.run == 2


async def test_a_run_that_takes_too_long_elsewhere_is_not_waited_for_for_ever(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_ledger, "SPARE_S", 0.05)
    one, two, _ = pair
    await started(one, CANCEL)
    assert (await asyncio.wait_for(refused(two, BRIEF), 5)).result is Result.UNKNOWN


async def test_after_a_crash_nobody_can_tell(pair: Pair) -> None:
    one, two, wall = pair
    entry = await started(one)
    wall.now = entry.until
    assert (await refused(two)).result is Result.UNKNOWN
    # A tool that honours the key is asked again, by one of those who want to.
    async with asyncio.timeout(20):
        taken = await started(two, HONOURED)
        assert (taken.run, taken.by) == (2, two.replica)
        waiting = asyncio.create_task(one.begin(HONOURED, KEY))
        await two.finish(KEY, taken, DONE)
        outcome = await waiting
    assert isinstance(outcome, ToolOutcome)
    assert outcome.result is Result.DONE


async def test_a_result_that_comes_after_another_took_over_changes_nothing(pair: Pair) -> None:
    one, two, wall = pair
    entry = await started(one, HONOURED)
    wall.now = entry.until
    taken = await started(two, HONOURED)
    await two.finish(KEY, taken, DONE, {"status": "cancelled"})
    await one.finish(KEY, entry, ToolOutcome(Result.FAILED))
    third = ToolLedger(two._store, wall=wall)
    assert (await refused(third)).output == {"status": "cancelled"}


async def test_two_replicas_race_and_one_runs(stores: list[Store]) -> None:
    ledgers = [ToolLedger(store) for store in stores]
    for n in range(50):
        key = f"{KEY} {n}"
        ran = 0

        async def run(ledger: ToolLedger, key: str = key) -> ToolOutcome:
            nonlocal ran
            entry = await ledger.begin(CANCEL, key)
            if isinstance(entry, ToolOutcome):
                return entry
            ran += 1
            await ledger.finish(key, entry, DONE, {"n": key})
            return ToolOutcome(Result.DONE, {"n": key})

        outcomes = await asyncio.gather(*(run(ledger) for ledger in ledgers * 2))
        assert ran == 1
        assert [outcome.output for outcome in outcomes] == [{"n": key}] * 4
        assert sorted(outcome.known for outcome in outcomes) == [False, True, True, True]


async def test_two_replicas_race_for_what_a_third_left_and_one_runs(stores: list[Store]) -> None:
    wall = Wall()
    crashed, *ledgers = (ToolLedger(store, wall=wall) for store in (stores[0], *stores))
    for n in range(50):
        key = f"{KEY} {n}"
        left = await crashed.begin(HONOURED, key)
        assert isinstance(left, Entry)
        wall.now = left.until
        ran: list[Entry] = []

        async def run(ledger: ToolLedger, key: str = key, ran: list[Entry] = ran) -> None:
            entry = await ledger.begin(HONOURED, key)
            if isinstance(entry, Entry):
                ran.append(entry)
                await ledger.finish(key, entry, DONE)

        await asyncio.gather(*(run(ledger) for ledger in ledgers))
        assert [entry.run for entry in ran] == [2]


async def test_an_entry_is_forgotten_after_its_time(stores: list[Store]) -> None:
    wall = Wall()
    ledger = ToolLedger(stores[0], 0.02, wall=wall)
    await ledger.finish(KEY, await started(ledger), DONE)
    async with asyncio.timeout(5):
        while await stores[0].get(NAME):  # noqa: ASYNC110
            await asyncio.sleep(0)
    # This process remembers it for as long by the wall's clock.
    assert (await refused(ledger)).result is Result.DONE
    wall.now += 0.03
    assert (await started(ledger)).run == 1


async def test_an_entry_that_cannot_be_read_is_never_run_over(stores: list[Store]) -> None:
    ledger = ToolLedger(stores[0])
    for text in ("", "?", "[]", '{"state": "dreaming"}', '{"state": "done"}'):
        await stores[0].put(NAME, text)
        outcome = await refused(ledger)
        assert outcome.result is Result.UNKNOWN
        assert "cannot be read" in outcome.message


async def test_a_later_versions_entry_can_be_read(stores: list[Store]) -> None:
    entry = Entry(State.DONE, "r1", "t", 1.0, 2.0, output="x")
    await stores[0].put(NAME, entry.text().replace("{", '{"more":1,', 1))
    assert (await refused(ToolLedger(stores[0]))).output == "x"


def test_arguments_stand_in_no_key() -> None:
    assert "42" not in Entry(State.STARTED, "r", "t", 0.0, 1.0).text()
    assert store_key(KEY) == store_key(KEY) != store_key(KEY + " ")
    assert len(store_key(KEY)) == 40
    assert store_key(KEY).isalnum()


def test_only_what_may_be_spoken_is_kept() -> None:
    tool = Tool("order", speakable=("status", "ship.eta", "lines", "ship.to"))
    record = {
        "status": "shipped",
        "card": "4111",
        "lines": [1, {"card": "4111"}, "two"],
        "ship": {"eta": "Tuesday", "to": {"street": "Elm"}, "carrier": "X"},
    }
    kept = speakable_part(tool, record)
    assert kept == {"status": "shipped", "lines": [1, "two"], "ship": {"eta": "Tuesday"}}
    spoken = tool.speak(record)
    assert tool.speak(kept) == {path: value for path, value in spoken.items() if value is not None}
    assert speakable_part(tool, [record]) == [kept]
    assert speakable_part(tool, "text") == "text"
    assert speakable_part(tool, None) is None


# What only Redis can suffer


@pytest.fixture
async def fragile(tmp_path: Path) -> AsyncIterator[tuple[RedisServer, RedisStore]]:
    server = RedisServer(tmp_path)
    store = RedisStore(server.url, timeout_s=0.3)
    yield server, store
    await store.close()
    server.stop()


async def wipe(store: RedisStore) -> None:
    await store._client.flushall()


async def test_without_the_store_nothing_starts(fragile: tuple[RedisServer, RedisStore]) -> None:
    server, store = fragile
    ledger = ToolLedger(store)
    server.stop()
    with pytest.raises(StoreUnavailable):
        await ledger.begin(CANCEL, KEY)
    server.start()
    assert (await started(ledger)).run == 1


async def test_an_intent_whose_answer_was_lost_is_taken_back(
    fragile: tuple[RedisServer, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hung Redis carries out what it was sent once it wakes up; nothing was run, and everybody may know."""
    server, store = fragile
    ledger, other = ToolLedger(store), ToolLedger(store)
    ask = store.put_if

    async def hang(*told: object) -> str | None:
        server.freeze()
        monkeypatch.setattr(store, "put_if", ask)
        return await ask(*told)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "put_if", hang)
    with pytest.raises(StoreUnavailable):
        await ledger.begin(CANCEL, KEY)
    assert ledger.unwritten == 1
    server.thaw()
    await until(lambda: not ledger.unwritten)
    assert (await started(other)).by == other.replica
    await ledger.close()


async def test_a_result_is_written_down_when_the_store_is_back(
    fragile: tuple[RedisServer, RedisStore],
) -> None:
    server, store = fragile
    ledger, other = ToolLedger(store), ToolLedger(store)
    entry = await started(ledger)
    server.stop()
    await ledger.finish(KEY, entry, DONE, {"status": "cancelled"})
    assert ledger.unwritten == 1
    server.start()  # with nothing in it
    await until(lambda: not ledger.unwritten)
    assert await refused(other) == ToolOutcome(Result.DONE, {"status": "cancelled"}, known=True)
    await ledger.close()


async def test_closing_writes_down_what_is_left(fragile: tuple[RedisServer, RedisStore]) -> None:
    server, store = fragile
    ledger, other = ToolLedger(store), ToolLedger(store)
    entry = await started(ledger)
    server.stop()
    await ledger.finish(KEY, entry, DONE)
    server.start()
    await ledger.close()
    assert ledger.unwritten == 0
    assert (await refused(other)).result is Result.DONE


async def test_closing_without_the_store_ends(
    fragile: tuple[RedisServer, RedisStore], caplog: pytest.LogCaptureFixture
) -> None:
    server, store = fragile
    ledger = ToolLedger(store)
    entry = await started(ledger)
    server.stop()
    await ledger.finish(KEY, entry, DONE)
    await asyncio.wait_for(ledger.close(), 5)
    assert "1 tool results end with this process" in caplog.text


async def test_a_wiped_store_gets_the_result_all_the_same(fragile: tuple[RedisServer, RedisStore]) -> None:
    _, store = fragile
    ledger, other = ToolLedger(store), ToolLedger(store)
    entry = await started(ledger)
    await wipe(store)
    await ledger.finish(KEY, entry, DONE)
    assert (await refused(other)).result is Result.DONE


async def test_a_process_knows_its_own_runs_when_the_store_was_wiped(
    fragile: tuple[RedisServer, RedisStore],
) -> None:
    _, store = fragile
    ledger = ToolLedger(store)
    await ledger.finish(KEY, await started(ledger), ToolOutcome(Result.UNKNOWN))
    await wipe(store)
    assert (await refused(ledger)).result is Result.UNKNOWN


async def test_what_was_seen_to_run_and_is_wiped_is_not_run(
    fragile: tuple[RedisServer, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, store = fragile
    ledger, other = ToolLedger(store), ToolLedger(store)
    await started(ledger)
    looks = 0
    look = store.get

    async def wiped_between(name: str) -> str | None:
        nonlocal looks
        looks += 1
        if looks == 2:
            await wipe(store)
        return await look(name)

    monkeypatch.setattr(store, "get", wiped_between)
    assert (await asyncio.wait_for(refused(other), 5)).result is Result.UNKNOWN
    assert looks == 2

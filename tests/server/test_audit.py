"""The audit trail as it is kept: in a file and in Redis, by several writers, and while it cannot be."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Settings
from orchestrator.core.audit import Act, verify
from orchestrator.server.audit import Audit, changes_of
from orchestrator.server.audit_trails import STORE_KEY, FileTrail, StoredTrail, TrailAway
from orchestrator.server.identity import ROOT, Identity, Scope
from orchestrator.server.store import RedisStore, StoreUnavailable
from tests import planted
from tests.e2e.conftest import running_redis


def act(id: str) -> Act:
    return Act(id, 1.0, "root", "root", "test", id, "")


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def settled(check: Callable[[], bool]) -> None:
    for _ in range(2000):
        if check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it has not come to that in 10 s")


class Away(FileTrail):
    """A trail that may be away, and may lose its answer."""

    away = False
    answer_lost = False

    async def append(self, acts: Any, again: bool = False) -> Any:
        if self.away:
            raise TrailAway("it is away")
        return await super().append(acts, again)


def make(path: Path, trail: FileTrail | None = None, **options: Any) -> Audit:
    waiting = path.with_name(f"{path.name}.waiting")
    return Audit(trail or FileTrail(path), waiting_path=waiting, retry_s=0.01, **options)


async def test_what_is_noted_is_in_the_file_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "audit.jsonl"
    audit = make(path, wall=lambda: 1000.0)
    await audit.start()
    for number in range(250):
        audit.note(ROOT, "test.done", f"s{number}", "because", amount=number)
    await audit.close()
    head = verify(lines_of(path), await audit.head())
    assert head.seq == 250
    assert [json.loads(line)["subject"] for line in lines_of(path)] == [f"s{n}" for n in range(250)]
    first = json.loads(lines_of(path)[0])
    assert (first["who"], first["name"], first["time"]) == ("root", "server.api_key", 1000.0)
    assert first["details"] == {"amount": 0}
    assert path.stat().st_mode & 0o777 == 0o600
    assert names_in(path.parent) == ["audit.jsonl"]
    assert await audit.trail.read(248, 10) == lines_of(path)[248:]
    assert await audit.trail.read(250, 10) == []


async def test_no_secret_gets_into_it(tmp_path: Path) -> None:
    audit = make(tmp_path / "audit.jsonl")
    await audit.start()
    secret = "vo_1f2e3d4c_q0w9e8r7t6y5u4i3o2p1a0s9d8f7g6h5"
    audit.note(ROOT, "test", f"({secret})", f"I used {secret}", password=planted.REDIS, note=secret)
    audit.note("x", "test", "y", "Bearer sk-abcdefghijklmnop", many=["ek_abcdefghijklm"], huge="z" * 9000)
    await audit.close()
    text = (tmp_path / "audit.jsonl").read_text()
    for hidden in ("q0w9", planted.REDIS, "abcdefgh"):
        assert hidden not in text
    assert len(text) < 4000


def _write(path: str, name: str) -> None:
    trail = FileTrail(Path(path))
    for number in range(50):
        trail.append_now([act(f"{name}-{number}")])


def test_two_processes_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    spawned = multiprocessing.get_context("spawn")
    writers = [spawned.Process(target=_write, args=(str(path), name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    ids = [json.loads(line)["id"] for line in lines_of(path)]
    assert verify(lines_of(path)).seq == len(set(ids)) == 100
    for name in "ab":
        assert [id for id in ids if id.startswith(name)] == [f"{name}-{n}" for n in range(50)]


def test_a_line_cut_off_by_a_crash_is_told_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = FileTrail(path)
    trail.append_now([act("a"), act("b")])
    whole = path.read_bytes()
    for cut in range(1, len(lines_of(path)[1]) + 1):
        path.write_bytes(whole[:-cut])
        head = trail.append_now([act("c")])
        assert verify(lines_of(path)) == head
        told = [json.loads(line) for line in lines_of(path)]
        kept = lines_of(path)[0].encode() + b"\n"
        torn = whole[:-cut][len(kept) :].decode()
        if torn:
            assert [entry["action"] for entry in told] == ["test", "audit.torn", "test"]
            assert told[1]["details"]["text"] == torn


async def test_what_cannot_be_written_waits_on_disk_and_comes_in_order_with_its_times(tmp_path: Path) -> None:
    path, now = tmp_path / "audit.jsonl", [100.0]
    trail = Away(path)
    audit = make(path, trail, wall=lambda: now[0])
    await audit.start()
    audit.note(ROOT, "test", "one")
    await settled(lambda: not audit.waiting)
    trail.away, now[0] = True, 200.0
    audit.note(ROOT, "test", "two")
    audit.note(ROOT, "test", "three")
    kept = tmp_path / f"audit.jsonl.waiting.{audit.source}"
    await settled(lambda: kept.exists() and len(lines_of(kept)) == 2)
    assert audit.problem == "it is away"
    assert kept.stat().st_mode & 0o777 == 0o600
    trail.away, now[0] = False, 300.0
    await settled(lambda: not audit.waiting and not audit.problem)
    await audit.close()
    assert not kept.exists()
    assert [(json.loads(line)["subject"], json.loads(line)["time"]) for line in lines_of(path)] == [
        ("one", 100.0),
        ("two", 200.0),
        ("three", 200.0),
    ]


async def test_what_waits_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = Away(path)
    trail.away = True
    first = make(path, trail)
    await first.start()
    first.note(ROOT, "test", "left")
    await settled(lambda: bool(first.problem))
    await first._keep()
    other = make(path)
    await other.start()
    await other.close()
    assert not path.exists()  # the one that left it lives: it is its own
    first._task and first._task.cancel()
    assert first._waiting is not None
    first._waiting.close()
    second = make(path)
    await second.start()
    second.note(ROOT, "test", "new")
    await second.close()
    assert [json.loads(line)["subject"] for line in lines_of(path)] == ["left", "new"]
    assert names_in(tmp_path) == ["audit.jsonl"]


async def test_replicas_make_one_chain_in_redis_each_in_its_order(tmp_path: Path) -> None:
    with running_redis(tmp_path) as url:
        stores = [RedisStore(url, 2.0) for _ in range(3)]
        audits = [
            Audit(StoredTrail(store), waiting_path=tmp_path / "w", store=store, retry_s=0.01)
            for store in stores
        ]
        for audit in audits:
            await audit.start()
        for number in range(60):
            for at, audit in enumerate(audits):
                audit.note(f"r{at}", "test", str(number))
                audit.note("orchestrator", "expired", f"o{number}", once=f"o{number}")
            await asyncio.sleep(0)
        await asyncio.gather(*(audit.close() for audit in audits))
        lines = await audits[0].trail.read(0, 1000)
        head = verify(lines, await audits[0].head())
        entries = [json.loads(line) for line in lines]
        assert head.seq == 4 * 60
        for at in range(3):
            mine = [entry["subject"] for entry in entries if entry["who"] == f"r{at}"]
            assert mine == [str(number) for number in range(60)]
        for store in stores:
            await store.close()


async def test_an_answer_that_was_lost_makes_no_second_entry(tmp_path: Path) -> None:
    with running_redis(tmp_path) as url:
        store = RedisStore(url, 2.0)
        trail, real, lost = StoredTrail(store), store.extend_if, [True]

        async def extend_if(*args: Any) -> bool:
            done = await real(*args)
            if lost:
                lost.clear()
                # Somebody else writes before we can ask again.
                await StoredTrail(store).append([act("other")])
                raise StoreUnavailable("Redis did not answer (TimeoutError)")
            return done

        store.extend_if = extend_if  # type: ignore[method-assign]
        audit = Audit(trail, store=store, retry_s=0.01)
        await audit.start()
        audit.note(ROOT, "test", "mine")
        await settled(lambda: not audit.waiting)
        await audit.close()
        subjects = [json.loads(line)["subject"] for line in await store.items(STORE_KEY, 0, 10)]
        assert subjects == ["mine", "other"]
        await store.close()


async def test_a_last_entry_that_is_none_stops_the_trail_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = FileTrail(path)
    trail.append_now([act("a")])
    path.write_text(path.read_text().replace('"a"', '"b"', 1).replace(":1.0", ": 1.0"))
    audit = make(path, trail)
    await audit.start()
    audit.note(ROOT, "test", "x")
    await settled(lambda: bool(audit.problem))
    assert "orchestrator audit verify" in audit.problem
    assert audit.waiting == 1
    await audit.close()


async def test_a_change_of_budgets_between_two_starts_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    async def start(cap: float) -> None:
        audit = make(path)
        await audit.start()
        await audit.note_budgets(Settings(budget={"buckets": {"acme": {"usd_per_day": cap}}}))  # type: ignore[arg-type]
        await audit.close()

    for cap in (5.0, 5.0, 9.0):
        await start(cap)
    entries = [json.loads(line) for line in lines_of(path)]
    assert [entry["action"] for entry in entries] == ["budgets.changed"] * 2
    assert entries[1]["details"]["changes"] == {"buckets.acme.usd_per_day": [5.0, 9.0]}


def test_changes_are_told_by_their_place() -> None:
    before = {"a": 1, "b": {"c": None, "d": {"e": 1}}}
    assert changes_of(before, {"a": 2, "b": {"c": 3}}) == {
        "a": [1, 2],
        "b.c": [None, 3],
        "b.d.e": [1, None],
    }


async def test_refused_attempts_are_noted_once_a_minute(tmp_path: Path) -> None:
    path, now = tmp_path / "audit.jsonl", [0.0]
    audit = make(path, wall=lambda: now[0])
    grafana = Identity("key_1", "grafana", frozenset({Scope.METRICS}))
    for _ in range(50):
        audit.refused(grafana, "POST /v1/overrides", "scope_missing")
    now[0] = 61.0
    audit.refused(grafana, "POST /v1/overrides", "scope_missing")
    for number in range(500):
        audit.refused(Identity(f"jwt:{number}", "x"), "GET /v1/audit", "scope_missing")
    await audit.start()
    await audit.close()
    entries = [json.loads(line) for line in lines_of(path)]
    assert [entry["details"]["unnoted_before"] for entry in entries[:2]] == [0, 49]
    assert len(entries) < 110


@pytest.mark.parametrize("seed", range(3))
async def test_ids_are_given_once(tmp_path: Path, seed: int) -> None:
    audits = [make(tmp_path / "audit.jsonl") for _ in range(3)]
    for audit in audits:
        audit.note("x", "test", "y")
        await audit.start()
    await asyncio.gather(*(audit.close() for audit in audits))
    ids = [json.loads(line)["id"] for line in lines_of(tmp_path / "audit.jsonl")]
    assert len(set(ids)) == 3

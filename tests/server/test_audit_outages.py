"""The audit trail while Redis goes away and comes back, and of those who try what they may not do."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Settings
from orchestrator.core.audit import Head, verify
from orchestrator.core.grants import Grant
from orchestrator.server.audit import Audit
from orchestrator.server.audit_trails import FileTrail, StoredTrail
from orchestrator.server.identity import Scope
from orchestrator.server.key_store import FileKeys
from orchestrator.server.store import RedisStore
from tests.e2e.conftest import running_redis
from tests.server.fleets import until
from tests.server.test_door import create, no_environment, serving

__all__ = ["no_environment"]


def entries_of(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def replica(url: str, folder: Path, name: str) -> Audit:
    store = RedisStore(url, 1.0)
    return Audit(StoredTrail(store), waiting_path=folder / name, store=store, retry_s=0.02)


def waiting(audit: Audit, folder: Path, name: str) -> list[str]:
    """What is on the disk, to outlive the process."""
    path = folder / f"{name}.{audit.source}"
    return path.read_text().splitlines() if path.exists() else []


async def test_two_replicas_wait_for_redis_and_go_on_with_one_chain_in_the_order_of_each(
    tmp_path: Path,
) -> None:
    with running_redis(tmp_path) as url:
        replicas = {name: replica(url, tmp_path, name) for name in "ab"}
        for each in replicas.values():
            await each.start()
        note(replicas, range(3))
        await until(lambda: not any(each.waiting for each in replicas.values()))
        before = await replicas["a"].head()
    note(replicas, range(3, 120))  # more than is written at once
    await until(lambda: all(len(waiting(each, tmp_path, name)) == 117 for name, each in replicas.items()))
    assert [(each.waiting, bool(each.problem)) for each in replicas.values()] == [(117, True)] * 2
    with running_redis(tmp_path):
        note(replicas, range(120, 125))  # while those before are still to be written
        await until(lambda: not any(each.waiting or each.problem for each in replicas.values()))
        lines = await replicas["a"].trail.read(0, 1000)
        head = await replicas["b"].head()
        for name, each in replicas.items():
            await each.close()
            assert not waiting(each, tmp_path, name)
            assert each._store is not None
            await each._store.close()
    assert verify(lines, head) == head
    assert (before.seq, head.seq) == (6, 250)
    entries = entries_of(lines)
    for name in replicas:
        mine = [entry for entry in entries if entry["who"] == name]
        assert [entry["subject"] for entry in mine] == [str(number) for number in range(125)]
        times = [entry["time"] for entry in mine]
        assert times == sorted(times), "they are told with the times at which they happened"


async def test_a_redis_that_comes_back_empty_is_told_of_in_the_trail_that_begins_there(
    tmp_path: Path,
) -> None:
    with running_redis(tmp_path) as url:
        audit = replica(url, tmp_path, "a")
        await audit.start()
        for number in range(3):
            audit.note("r", "test", str(number))
        await until(lambda: not audit.waiting)
        before = await audit.head()
    (tmp_path / "dump.rdb").unlink()
    audit.note("r", "test", "while it was away")
    await until(lambda: bool(audit.problem))
    with running_redis(tmp_path):
        await until(lambda: not audit.waiting and not audit.problem)
        audit.note("r", "test", "after")
        await audit.close()
        lines = await audit.trail.read(0, 10)
        assert audit._store is not None
        await audit._store.close()
    entries = entries_of(lines)
    assert [entry["action"] for entry in entries] == ["audit.shortened", "test", "test"]
    assert entries[0]["details"] == {"head_before": str(before), "head_found": str(Head())}
    assert verify(lines).seq == 3


def note(replicas: dict[str, Audit], numbers: range) -> None:
    for number in numbers:
        for name, audit in replicas.items():
            audit.note(name, "test", str(number))


async def test_who_is_known_and_may_not_is_noted_over_http_and_at_the_websocket(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path / "keys.json")
    operator, metrics = await create(keys, Scope.OPERATOR), await create(keys, Scope.METRICS)
    trail = tmp_path / "audit.jsonl"
    async with serving(access={"keys_path": tmp_path / "keys.json"}, audit={"path": trail}) as served:
        await served.service.audit.start()
        assert await served.ask(authorization=operator[1]) == (403, "scope_missing")
        knocked = [await served.knock(authorization=metrics[1]) for _ in range(3)]
        assert [each[:2] for each in knocked] == [(403, "scope_missing")] * 3
        minted = served.service.credentials.mint(Grant("call_1"), None, int(time.time()) + 600)
        mixed_up = await served.knock("&call_id=call_2", authorization=f"Bearer {minted}")
        assert mixed_up[:2] == (403, "credential_wrong_call")
        # Of nobody known nothing is noted: anybody could fill the trail.
        assert (await served.ask())[0] == (await served.knock())[0] == 401
        await served.service.audit.close()
    entries = entries_of(trail.read_text().splitlines())
    told = [(entry["who"], entry["subject"], entry["reason"]) for entry in entries]
    assert told[:2] == [
        (f"key_{operator[0]}", "POST /v1/route", "scope_missing"),
        (f"key_{metrics[0]}", "WebSocket /v1/realtime", "scope_missing"),
    ]
    assert [each[1:] for each in told[2:]] == [("WebSocket /v1/realtime", "credential_wrong_call")]
    assert {entry["action"] for entry in entries} == {"refused"}
    assert minted not in trail.read_text()


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"buckets": {"b00": {"usd_per_day": 7}}}, "buckets.b00.usd_per_day"),
        ({"buckets": {"b90": {"usd_per_day": 7}}}, "more_buckets.sha256"),
        ({"store_away": "allowance"}, "store_away"),
        ({"allowance_usd": 5}, "allowance_usd"),
        ({"steps": [{"at": 0.5, "action": "tier_b"}]}, "steps"),
    ],
)
async def test_whatever_changes_of_budgets_is_noted_however_many_there_are(
    changed: dict[str, Any], where: str, tmp_path: Path
) -> None:
    budget: dict[str, Any] = {"buckets": {f"b{number:02}": {"usd_per_day": 5} for number in range(99)}}
    after = {**budget, **changed, "buckets": {**budget["buckets"], **changed.get("buckets", {})}}
    for each in (budget, budget, after):
        audit = Audit(FileTrail(tmp_path / "audit.jsonl"))
        await audit.start()
        await audit.note_budgets(Settings.model_validate({"budget": each}))
        await audit.close()
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert max(len(line) for line in lines) < 32_000
    first, second = entries_of(lines)
    assert first["reason"] == "the first ones noted"
    assert list(second["details"]["changes"]) == [where]

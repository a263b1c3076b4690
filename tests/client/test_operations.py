"""What operators do through the client: calls, drills, the audit trail, what has been; against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.client import AsyncOrchestrator, Invalid, NotFound, Orchestrator, asks, operations
from orchestrator.core.audit import canonical, verify
from orchestrator.core.health import Cause
from orchestrator.server.app import Orchestrator as Service
from orchestrator.server.audit import Audit
from orchestrator.server.audit_trails import FileTrail
from orchestrator.server.calls import CallInfo
from orchestrator.server.identity import ROOT
from tests.client.conftest import KEY, Running
from tests.client.test_client import compare

ENTRIES = 25


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with two calls and an audit trail of its own."""
    patch = pytest.MonkeyPatch()
    patch.delenv("REDIS_URL", raising=False)
    running = Running()
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"

    async def keep() -> None:
        running.service.audit = Audit(FileTrail(path))
        await running.service.audit.start()

    asyncio.run_coroutine_threadsafe(keep(), running.loop).result(10)
    running.do(fill)
    while running.do(lambda service: service.audit.waiting):
        pass
    yield running
    running.stop()
    patch.undo()


def fill(service: Service) -> None:
    for number, bucket in enumerate(("acme", "default")):
        id = f"call_{number}"
        service.records.began(CallInfo(id, "gpt-realtime-2.1", bucket=bucket, user=f"user {number}"))
        for type, fields in (
            ("call_started", {"rung": "gpt-realtime-2.1", "reason": "default"}),
            ("charge", {"nanodollars": (2 - number) * 10**9}),
            ("caller_said", {"text": "my name is Ada"}),
            ("handover", {"to_tier": "B", "to_rung": "kokoro", "cause": "closed"}),
        ):
            service.records.row({"time": 1.0, "type": type, "tier": "A", "call_id": id, **fields})
    service.records.closed("call_1", 99.0)
    for number in range(ENTRIES):
        service.audit.note(ROOT, "override.made", f"ovr_{number}", "provider incident", share=0.1 + number)


@pytest.fixture
def orchestrator(alone: Running) -> Iterator[Orchestrator]:
    with Orchestrator(alone.url, KEY) as orchestrator:
        yield orchestrator


def test_calls(orchestrator: Orchestrator) -> None:
    found = orchestrator.calls()
    assert (found.found, [call.call_id for call in found.calls]) == (1, ["call_0"])
    call = found.calls[0]
    assert (call.tiers, call.rung, call.spent_usd, call.handovers) == (["A", "B"], "kokoro", 2.0, 1)
    assert (call.live, call.ended_at) == (True, None)
    assert [each.call_id for each in orchestrator.calls(ended=True, sort="cost").calls] == [
        "call_0",
        "call_1",
    ]
    assert (
        orchestrator.calls(ended=True, limit=1).found,
        len(orchestrator.calls(ended=True, limit=1).calls),
    ) == (2, 1)
    assert orchestrator.calls(user="user 0", tier="B", bucket="acme").found == 1
    assert orchestrator.calls(purpose="other").calls == []
    with pytest.raises(Invalid) as raised:
        orchestrator.calls(sort="length")
    assert raised.value.param == "sort"


def test_a_call_with_its_timeline(orchestrator: Orchestrator) -> None:
    call = orchestrator.call("call_1")
    assert (call.ended_at, call.rows_dropped) == (99.0, 0)
    assert [row["type"] for row in call.rows] == ["call_started", "charge", "caller_said", "handover"]
    assert set(call.latency) == {"transport", "reasoning", "recovery"}
    assert "text" not in call.rows[2]
    assert orchestrator.call("call_1", text=True).rows[2]["text"] == "my name is Ada"


@pytest.mark.parametrize("id", ["call_9", "a/b", "?ended=true", "ü"])
def test_a_call_that_there_is_not(orchestrator: Orchestrator, id: str) -> None:
    with pytest.raises(NotFound):
        orchestrator.call(id)


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_what_is_no_id_makes_no_other_request(orchestrator: Orchestrator, id: str) -> None:
    with pytest.raises(Invalid, match="expected the id or name of one of the drills"):
        orchestrator.end_drill(id)


def test_drills(orchestrator: Orchestrator) -> None:
    made = orchestrator.start_drill(
        "lose_provider", scope="bucket:acme", share=20, for_="1h", calls=7, wrong=2, reason="drill", who="ann"
    )
    assert (made.practice, made.scope, made.share, made.most, made.wrong) == (
        "lose_provider", "bucket:acme", 20.0, 7, 2,
    )  # fmt: skip
    assert (made.typed, made.running, made.until - made.created) == ("ann", True, pytest.approx(3600))
    assert orchestrator.drills() == [made]
    report = orchestrator.drill(made.id).report
    assert (report.calls, report.gap_ms.p95, report.cost_usd) == (0, None, 0.0)
    orchestrator.end_drill(made.id)
    assert (orchestrator.drill(made.id).ended, orchestrator.drill(made.id).running) == ("stopped", False)
    with pytest.raises(NotFound):
        orchestrator.end_drill(made.id)
    with pytest.raises(Invalid) as raised:
        orchestrator.start_drill("lose_provider", reason="drill", share=0)
    assert raised.value.param == "share"


def test_a_page_of_the_audit_trail(orchestrator: Orchestrator) -> None:
    page = orchestrator.audit(after=3, limit=2)
    assert [(entry.seq, entry.subject) for entry in page.entries] == [(4, "ovr_3"), (5, "ovr_4")]
    assert page.entries[0].details == {"share": 3.1}
    assert orchestrator.audit(limit=1).entries[0].seq == page.last
    assert page.head.startswith(f"{page.last}:")


def test_all_of_the_audit_trail_page_by_page(
    alone: Running, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asks, "AUDIT_PAGE", 10)
    entries = list(orchestrator.audit_entries())
    lines = [canonical(entry.model_dump()) for entry in entries]
    assert len(lines) >= ENTRIES
    # Not a digit is another one: the chain holds for what came.
    assert lines == Path(alone.service.audit.trail.where).read_text().splitlines()
    assert str(verify(lines)) == orchestrator.audit(limit=1).head
    assert next(orchestrator.audit_entries(after=20)).seq == 21
    assert list(orchestrator.audit_entries(after=10_000)) == []


def test_history(alone: Running, orchestrator: Orchestrator) -> None:
    alone.do(lambda service: service.fleet.failed("kokoro", Cause.REFUSED))
    found = orchestrator.history()
    assert found.began <= found.now
    changes = {each.rung: [change.state for change in each.changes] for each in found.breakers}
    assert changes["kokoro"][0] == "open"
    assert (found.gaps, found.gap_ms.p50) == ([], None)


async def test_the_asynchronous_one(alone: Running) -> None:
    async with AsyncOrchestrator(alone.url, KEY) as orchestrator:
        assert (await orchestrator.calls(user="user 0")).found == 1
        assert (await orchestrator.call("call_0", text=True)).rows[2]["text"] == "my name is Ada"
        made = await orchestrator.start_drill("degrade", reason="drill")
        assert made.id in [drill.id for drill in await orchestrator.drills()]
        await orchestrator.end_drill(made.id)
        assert (await orchestrator.drill(made.id)).ended == "stopped"
        assert (await anext(orchestrator.audit_entries(after=20))).seq == 21
        assert (await orchestrator.audit(limit=1)).last >= ENTRIES
        assert (await orchestrator.history()).gaps_seen == 0


SCHEMAS = {
    operations.Calls: "Calls",
    operations.CallTimeline: "CallTimeline",
    operations.Drill: "DrillView",
    operations.DrillWithReport: "DrillWithReport",
    operations.AuditPage: "AuditPage",
    operations.History: "HistoryView",
}


def test_the_clients_classes_are_what_the_document_says(alone: Running) -> None:
    schemas = httpx.get(f"{alone.url}/openapi.json", trust_env=False).json()["components"]["schemas"]
    for kind, name in SCHEMAS.items():
        compare(kind, schemas[name], schemas)

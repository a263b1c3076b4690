"""What the business is told of a call that is moved by an operator, and ends."""

from __future__ import annotations

from tests.clients.recorder import Recorder
from tests.e2e.stack import Stack


async def test_a_call_leaves_its_business_events(quick: Stack) -> None:
    quick.heal()
    async with Recorder(f"{quick.realtime}&user=42&bucket=acme&purpose=support", orchestrator=True) as caller:
        await caller.update()
        call_id = caller.session["orchestrator"]["call_id"]
        quick.force("B", scope=f"call:{call_id}")
        await caller.wait_for(
            "session.updated", lambda e: e["session"]["orchestrator"]["tier"] == "B", timeout=20
        )
    quick.service.until(
        "/v1/status",
        lambda s: (
            all(call["call_id"] != call_id for call in s["calls"])
            and all(sink["waiting"] == 0 for sink in s["business_events"])
        ),
    )
    handover, ended = quick.business(call_id)
    assert (handover["type"], ended["type"]) == ("orchestrator.handover", "orchestrator.call.ended")
    assert handover["source"] == ended["source"]
    assert handover["id"] != ended["id"]
    for event in (handover, ended):
        whose = {"call_id": call_id, "user": "42", "bucket": "acme", "purpose": "support"}
        assert event["data"].items() >= whose.items()
    moved = {"from_tier": "A", "to_tier": "B", "trigger": "operator"}
    assert handover["data"].items() >= moved.items()
    assert ended["data"]["cost_usd"] == quick.rows(call_id, "call_ended")[0]["spent_usd"]
    assert quick.business(call_id, "handover") == [handover]
    assert [sink["dropped"] for sink in quick.service.get("/v1/status")["business_events"]] == [0]

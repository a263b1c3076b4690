"""Tools on the running service, in Tiers A and B alike: a person's approval, other agents, a person on the line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import planted
from tests.clients.recorder import Event, Recorder
from tests.e2e.stack import Engines, Running, Stack, stack, start

SECRET = planted.WEBHOOK
PATIENCE_S = 30.0
AGENTS = """
[agents.front]
instructions = "You are the front desk."
handoffs = ["billing"]

[agents.billing]
description = "Knows about invoices and refunds."
instructions = "You are the billing desk."
handoffs = ["front"]
"""

pytestmark = pytest.mark.parametrize("tier", ["A", "B"])


@pytest.fixture(scope="module")
def business(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with start(
        "simulate", "tools", "--secret", SECRET, log=tmp_path_factory.mktemp("tools") / "log"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def service(business: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("service")
    speaks = ("simulate", "speech", "--stt-ms", "20", "--tts-ms", "20", "--rtf", "0.05", "--tempo", "10")
    with (
        start("simulate", "llm", "--first-token-ms", "20", log=folder / "llm.log") as model,
        start(*speaks, log=folder / "speech.log") as voice,
    ):
        config = folder / "tools.toml"
        config.write_text(
            _with_approval(httpx.get(f"{business.url}/control/settings", timeout=10).text) + AGENTS
        )
        settings = {
            **Engines(model, voice).settings,
            "config": str(config),
            "tool_policy__webhook_secret": SECRET,
            "promotion__mode": "never",
        }
        provider = ("--speech", "tone", "--answer-seconds", "1", "--first-audio-ms", "50", "--pace", "8")
        with stack(folder / "stack", *provider, **settings) as running:
            yield running


def _with_approval(settings: str) -> str:
    """Money takes a person's approval, and the billing desk."""
    assert 'topic = "money"' in settings
    return settings.replace('topic = "money"', 'topic = "money"\napproval = true\nagents = ["billing"]')


class Caller(Recorder):
    """Writes turns and waits for what is said to them."""

    async def turn(self, words: str) -> str:
        before = len(self.events("response.done"))
        await self.write(words)
        await self.send({"type": "response.create"})
        return await self.next_answer(before)

    async def next_answer(self, before: int) -> str:
        """What the next response that is complete and says anything says."""
        done = await self.wait_for(
            "response.done",
            lambda event: self.events("response.done").index(event) >= before and _said(event) != "",
            timeout=PATIENCE_S,
        )
        return _said(done)


def _said(event: Event) -> str:
    if event["response"]["status"] != "completed":
        return ""
    parts = [p for i in event["response"]["output"] if i["type"] == "message" for p in i["content"]]
    return " ".join(part.get("transcript") or "" for part in parts)


async def approval(service: Stack) -> dict[str, Any]:
    """The approval that is asked for."""
    pending = "/v1/approvals"
    await asyncio.to_thread(
        service.service.until, pending, lambda found: bool(found["approvals"]), PATIENCE_S
    )
    (only,) = service.service.get(pending)["approvals"]
    return dict(only)


async def decide(service: Stack, approval_id: str, decision: str) -> None:
    body = {"decision": decision, "who": "ann", "reason": "as agreed"}
    async with httpx.AsyncClient(base_url=service.service.url) as api:
        answer = await api.post(f"/v1/approvals/{approval_id}", json=body)
    assert answer.status_code == 200, answer.text


def refunds(business: Running, call_id: str) -> list[dict[str, Any]]:
    runs = business.get("/control/runs")["runs"]
    return [run for run in runs if run["tool"] == "refund_order" and run["call"]["call_id"] == call_id]


async def start_call(service: Stack, tier: str) -> Caller:
    await asyncio.to_thread(service.heal)
    if tier == "B":
        await asyncio.to_thread(service.force, "B")
    return Caller(service.realtime, orchestrator=True)


async def ask_for_money(caller: Caller, amount: int) -> str:
    """The caller is put through to billing, and agrees to a refund that was read back; what is said then."""
    assert caller.session["orchestrator"]["tier"] in ("A", "B")
    await caller.turn("I have a billing question.")
    read_back = await caller.turn(f"Please refund {amount} euros of order 4172.")
    assert "4 1 7 2" in read_back
    return await caller.turn("Yes, please.")


@pytest.mark.parametrize(("decision", "runs"), [("approve", 1), ("reject", 0)])
async def test_a_person_decides_and_the_caller_hears_of_it(
    service: Stack, business: Running, tier: str, decision: str, runs: int
) -> None:
    async with await start_call(service, tier) as caller:
        await caller.update(audio={"input": {"turn_detection": None}})
        call_id = caller.session["orchestrator"]["call_id"]
        assert "colleague" in await ask_for_money(caller, 20 + runs)
        asked = await approval(service)
        assert (asked["tool"], asked["arguments"]["order_id"]) == ("refund_order", "4172")
        assert refunds(business, call_id) == []
        before = len(caller.events("response.done"))
        await decide(service, asked["id"], decision)
        assert await caller.next_answer(before)
    assert len(refunds(business, call_id)) == runs
    told = [event["data"]["outcome"] for event in service.business(call_id, "tool.approval")]
    assert told == [{"approve": "approved", "reject": "rejected"}[decision]]


async def test_another_agent_has_its_own_tools(service: Stack, business: Running, tier: str) -> None:
    async with await start_call(service, tier) as caller:
        await caller.update(audio={"input": {"turn_detection": None}}, instructions="Be kind.")
        call_id = caller.session["orchestrator"]["call_id"]
        await caller.turn("Please refund 5 euros of order 4173.")
        await caller.turn("Yes.")
        assert refunds(business, call_id) == [], "the front desk has no such tool"
        await caller.turn("I have a billing question.")
        assert "4 1 7 3" in await caller.turn("Please refund 5 euros of order 4173.")
        assert caller.session["instructions"] == "Be kind."
        assert not caller.events("response.function_call_arguments.done")
    handoffs = [event["data"] for event in service.business(call_id, "agent.handoff")]
    assert [(event["from_agent"], event["to_agent"]) for event in handoffs] == [("front", "billing")]


async def test_a_caller_who_wants_a_person_gets_one(service: Stack, tier: str) -> None:
    async with await start_call(service, tier) as caller:
        await caller.update(audio={"input": {"turn_detection": None}})
        call_id = caller.session["orchestrator"]["call_id"]
        assert "colleague" in await caller.turn("I want to talk to a person.")
        assert caller.session["orchestrator"]["transfer"]
    (event,) = service.business(call_id, "transfer")
    assert "person" in event["data"]["summary"]

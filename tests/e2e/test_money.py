"""A hundred callers on one small budget, a call that gets cheaper step by step, and one that is ended in words."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

import pytest

from tests.clients.recorder import Recorder
from tests.e2e.conftest import running_redis
from tests.e2e.stack import Engines, Stack, speech, stack

CALLERS = 100
TURNS = 5
SHARED_USD = 0.50
STEPPED_USD = 0.30
TIGHT_USD = 0.40
"""Enough for one answer of 4,096 tokens on gpt-realtime-2.1, and not for two."""
STEPS = [
    {"at": 0.1, "action": "concise"},
    {"at": 0.2, "action": "tier_b"},
    {"at": 0.22, "action": "goodbye"},
]
# US dollars per million tokens of gpt-realtime-2.1: text in, cached, out; audio in, cached, out.
TEXT, AUDIO = (4, Fraction("0.4"), 24), (32, Fraction("0.4"), 64)


@pytest.fixture(scope="module", params=["embedded", pytest.param("redis", marks=pytest.mark.long)])
def paid(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tier_b: Engines,
) -> Iterator[Stack]:
    provider = ("--speech", "tone", "--answer-seconds", "1", "--first-audio-ms", "20", "--pace", "8")
    buckets = {
        f"shared-{request.param}": {"usd_per_day": SHARED_USD},
        f"stepped-{request.param}": {"call_usd": STEPPED_USD, "steps": STEPS},
        f"tight-{request.param}": {"usd_per_day": TIGHT_USD},
    }
    settings = {"budget__buckets": json.dumps(buckets), "promotion__mode": "never"}
    # What is measured here is money: on a busy machine no answer is to count as late.
    settings |= {
        f"deadlines__{name}": "30" for name in ("response_s", "first_audio_s", "session_s", "next_audio_s")
    }
    settings |= {"deadlines__floor_s": "30", "deadlines__ceiling_s": "60", "deadlines__answer_s": "60"}
    settings |= {"hedging__max_share": "0"}
    folder = tmp_path_factory.mktemp("money")
    with ExitStack() as running:
        if request.param == "redis":
            # Its own: what the calls of other tests have found out of the provider is not to count here.
            settings["redis__url"] = running.enter_context(running_redis(folder))
        yield running.enter_context(stack(folder / "stack", *provider, **tier_b.settings, **settings))


def bucket(stack: Stack, name: str) -> dict[str, Any]:
    (found,) = [b for b in stack.service.get("/v1/status")["buckets"] if b["bucket"].startswith(name)]
    return dict(found)


async def ask(caller: Recorder, text: str) -> str:
    """One question in writing; the tier that answered it."""
    content = [{"type": "input_text", "text": text}]
    await caller.send(
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}
    )
    await caller.send({"type": "response.create"})
    done = await caller.wait_for("response.done", timeout=120)
    return str((done["response"].get("metadata") or {}).get("tier"))


async def hold(stack: Stack, name: str, number: int) -> list[str]:
    async with Recorder(f"{stack.realtime}&bucket={name}&user=caller-{number}", orchestrator=True) as caller:
        await caller.update(audio={"input": {"turn_detection": None}})
        return [await ask(caller, f"Question {turn} of caller {number}.") for turn in range(TURNS)]


def billed(stack: Stack) -> list[dict[str, Any]]:
    """The usage of every response that the provider has made, as the provider tells it."""
    connections = stack.provider.get("/control/state")["connections"]
    sessions = [connection["session"] for connection in connections if connection["session"]]
    return [response["usage"] for s in sessions for response in s["responses"] if response["usage"]]


def price(usage: dict[str, Any]) -> int:
    """Nano-dollars by the published rates, rounded up once."""
    into, out = usage["input_token_details"], usage["output_token_details"]
    cached = into["cached_tokens_details"]
    total = Fraction(0)
    for kind, (fresh, old, made) in (("text_tokens", TEXT), ("audio_tokens", AUDIO)):
        total += (into[kind] - cached[kind]) * Fraction(fresh) + cached[kind] * old + out[kind] * made
    return -int(-total * 1000 // 1)


async def test_a_hundred_calls_on_one_bucket_overspend_nothing(paid: Stack) -> None:
    name = f"shared-{_store(paid)}"
    before = sum(price(usage) for usage in billed(paid))
    tiers = await asyncio.gather(*(hold(paid, name, number) for number in range(CALLERS)))
    counted = Counter(tier for call in tiers for tier in call)
    assert sum(counted.values()) == CALLERS * TURNS, "every question was answered"
    assert counted["A"], "some by the provider"
    assert counted["A"] < CALLERS * TURNS, "and some elsewhere, for want of money"
    paid.service.until("/v1/status", lambda status: not status["calls"])
    left = bucket(paid, "shared")
    provider = sum(price(usage) for usage in billed(paid)) - before
    assert provider <= SHARED_USD * 1e9, "overspend is 0 by the provider's own count"
    rows = [json.loads(line) for line in paid.events_path.read_text().splitlines()]
    charges = [row for row in rows if row["type"] == "charge" and row["bucket"] == name]
    assert sum(row["nanodollars"] for row in charges if row["what"] == "response") == provider
    assert sum(row["nanodollars"] for row in charges) == round(left["spent_usd"] * 1e9)
    assert (left["reserved_usd"], left["spent_usd"] <= SHARED_USD) == (0, True)
    assert not [row for row in rows if row["type"] == "unpaid_response"]


async def test_a_call_gets_cheaper_step_by_step_and_is_ended_with_a_goodbye(paid: Stack) -> None:
    name = f"stepped-{_store(paid)}"
    async with Recorder(f"{paid.realtime}&bucket={name}", orchestrator=True, check=False) as caller:
        await caller.update(audio={"input": {"turn_detection": None}})
        call_id = caller.session["orchestrator"]["call_id"]
        tiers = []
        while not caller.ended and len(tiers) < 60:
            try:
                tiers.append(await ask(caller, "Tell me more, please. " * 40))
            except AssertionError:
                break
    steps = [row["action"] for row in paid.rows(call_id, "budget_step")]
    assert steps == ["concise", "tier_b", "goodbye"]
    assert tiers[0] == "A"
    assert caller.close_code == 1000
    assert paid.rows(call_id, "goodbye")
    (ended,) = paid.rows(call_id, "call_ended")
    assert ended["spent_usd"] <= STEPPED_USD


async def test_near_the_cap_each_spoken_turn_is_answered_on_our_own_request(paid: Stack) -> None:
    name = f"tight-{_store(paid)}"
    async with Recorder(f"{paid.realtime}&bucket={name}", orchestrator=True) as caller:
        await caller.update()
        call_id = caller.session["orchestrator"]["call_id"]
        async with caller.microphone():
            for _ in range(2):
                await caller.say(speech())
                done = await caller.wait_for("response.done", timeout=60)
                assert done["response"]["status"] == "completed"
                assert done["response"]["metadata"]["tier"] == "A"
        assert caller.session["audio"]["input"]["turn_detection"]["create_response"] is True
    latest = paid.provider.get("/control/state")["connections"][-1]["session"]
    assert latest["config"]["audio"]["input"]["turn_detection"]["create_response"] is False
    answers = [row for row in paid.rows(call_id, "charge") if row["what"] == "response"]
    assert len(answers) == 2
    assert not paid.rows(call_id, "unpaid_response")


def _store(stack: Stack) -> str:
    return str(stack.service.get("/v1/status")["store"]["kind"])

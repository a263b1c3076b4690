"""A provider fails in the middle of a real call, and the caller is answered on the same connection."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re

import numpy as np
import pytest

from orchestrator import listening, models
from orchestrator.protocol.audio import AudioFormat, Encoder, hear
from tests import planted
from tests.clients.recorder import Recorder
from tests.e2e.stack import SERVER_KEY, Stack
from tiers.pipeline.stt import WhisperTranscriber

TOOL = {
    "type": "function",
    "name": "get_order_status",
    "description": "Look up the status of an order.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}},
        "required": ["order_id"],
    },
}


async def run_tool(caller: Recorder) -> dict[str, str]:
    """Do what an application does with a function call; its arguments."""
    call = await caller.wait_for("response.function_call_arguments.done", timeout=30)
    await caller.wait_for("response.done", lambda e: _has_call(e, call["call_id"]), timeout=30)
    output = json.dumps({"status": "out_for_delivery"})
    item = {"type": "function_call_output", "call_id": call["call_id"], "output": output}
    await caller.send({"type": "conversation.item.create", "item": item})
    await caller.send({"type": "response.create"})
    return dict(json.loads(call["arguments"]))


def _has_call(event: dict[str, object], call_id: str) -> bool:
    response = event["response"]
    assert isinstance(response, dict)
    return any(item.get("call_id") == call_id for item in response["output"])


async def answered(caller: Recorder, tier: str = "") -> dict[str, object]:
    """The next completed spoken answer."""

    def fits(event: dict[str, object]) -> bool:
        response = event["response"]
        assert isinstance(response, dict)
        spoken = any(item["type"] == "message" for item in response["output"])
        metadata = response["metadata"] or {}
        return response["status"] == "completed" and spoken and metadata.get("tier", "") >= tier

    return (await caller.wait_for("response.done", fits, timeout=60))["response"]  # type: ignore[no-any-return]


async def transcribe(data: bytes, fmt: AudioFormat) -> str:
    heard = await WhisperTranscriber(models.whisper()).transcribe(hear(data, fmt))
    return heard.text


def digits(text: str) -> str:
    return re.sub(r"\D", "", text)


async def test_killed_in_mid_answer_the_interrupted_question_is_answered(
    live: Stack, question: bytes
) -> None:
    async with Recorder(live.realtime, orchestrator=True) as caller:
        await caller.update(tools=[TOOL])
        assert caller.session["orchestrator"]["tier"] == "A"
        live.arm("abort", "mid_answer", after_ms=400)
        live.arm("refused", "connecting")
        async with caller.microphone():
            await caller.say(question)
            cut = await caller.wait_for("response.done", timeout=20)
            assert cut["response"]["status"] == "incomplete"
            # The tool has no result before the caller's audio has run out: however quick Tier B is, that is bridged.
            await caller.wait_for("response.output_item.done", _is_bridge, timeout=20)
            arguments = await run_tool(caller)
            assert arguments == {"order_id": "7391"}
            done = await answered(caller, "B")
        call_id = caller.session["orchestrator"]["call_id"]
        last = done["output"][-1]["id"]  # type: ignore[index]
        audio = caller.audio()[str(done["id"]), last]
        assert "7391" in digits(await transcribe(audio, AudioFormat.PCM))
        assert "7391" in caller.said()[-1]
    handover = live.rows(call_id, "handover")[0]
    assert (handover["from_tier"], handover["to_tier"], handover["trigger"]) == ("A", "B", "fault")
    assert [row["kind"] for row in live.rows(call_id, "bridge")] == ["interrupted"]


@pytest.mark.parametrize(
    ("fmt", "moment"),
    [("audio/pcmu", "mid_answer"), ("audio/pcma", "mid_answer"), ("audio/pcmu", "caller_speaking")],
)
async def test_a_phone_line_survives_too(live: Stack, fmt: str, moment: str, question: bytes) -> None:
    wire = AudioFormat.parse({"type": fmt})
    async with Recorder(live.realtime, orchestrator=True) as caller:
        audio = {"input": {"format": {"type": fmt}}, "output": {"format": {"type": fmt}}}
        await caller.update(tools=[TOOL], audio=audio)
        live.arm("close_1011", moment, after_ms=200)
        live.arm("refused", "connecting")  # and it is not to be had again at once
        async with caller.microphone(wire):
            await caller.say(Encoder(wire).encode(np.frombuffer(question, np.int16), last=True), wire)
            await run_tool(caller)
            done = await answered(caller, "B")
        audio = caller.audio()[str(done["id"]), done["output"][-1]["id"]]  # type: ignore[index]
        assert "7391" in digits(await transcribe(audio, wire))


FAULTS = [
    ("abort", "answer_owed"),
    ("close_1000", "mid_answer"),
    ("silent_turn", "answer_owed"),
    ("silent_response", "answer_owed"),
    ("stall", "mid_answer"),
    ("failed", "answer_owed"),
    ("rate_limited", "answer_owed"),
    ("no_credit", "answer_owed"),
    ("empty", "answer_owed"),
    ("expired", "mid_answer"),
    ("abort", "caller_speaking"),
    ("half_open", "answer_owed"),
]


@pytest.mark.parametrize(("fault", "moment"), FAULTS)
async def test_whatever_goes_wrong_the_turn_is_answered(
    live: Stack, fault: str, moment: str, question: bytes
) -> None:
    async with Recorder(live.realtime, orchestrator=True) as caller:
        await caller.update(tools=[TOOL])
        live.arm(fault, moment, after_ms=200)
        live.arm("refused", "connecting")  # and it is not to be had again at once
        async with caller.microphone():
            await caller.say(question)
            await run_tool(caller)
            await answered(caller, "B")


@pytest.mark.parametrize(
    "fault", ["refused", "http_401", "http_503", "hang", "mute", "late_refusal_3000", "late_refusal_1013"]
)
async def test_a_provider_that_cannot_be_reached_leads_to_tier_b(
    live: Stack, fault: str, question: bytes
) -> None:
    live.arm("http_5xx" if fault == "http_503" else fault, "connecting")
    async with Recorder(live.realtime, orchestrator=True) as caller:
        session = await caller.wait_session()
        assert session["orchestrator"]["tier"] == "B"
        response = await caller.ask("Where is my order 77?", tools=[TOOL], timeout=20)
        assert response["output"][0]["name"] == "get_order_status"


@pytest.mark.parametrize("fault", ["garbage", "unknown", "orphan", "duplicate"])
async def test_nonsense_from_the_provider_never_reaches_the_client(
    live: Stack, fault: str, question: bytes
) -> None:
    async with Recorder(live.realtime, orchestrator=True) as caller:
        await caller.wait_session()
        live.arm(fault, "mid_answer", after_ms=200)
        async with caller.microphone():
            await caller.say(question)
            await caller.wait_for("response.done", timeout=20)


@pytest.mark.long
async def test_a_call_comes_back_to_tier_a_between_turns(live: Stack, question: bytes) -> None:
    async with Recorder(live.realtime, orchestrator=True) as caller:
        await caller.update(tools=[TOOL])
        async with caller.microphone():
            live.arm("abort", "mid_answer", after_ms=200)
            live.arm("refused", "connecting")
            await caller.say(question)
            await run_tool(caller)
            await answered(caller, "B")
            await caller.wait_for(
                "session.updated", lambda e: e["session"]["orchestrator"]["tier"] == "A", timeout=30
            )
            await caller.say(question)
            done = await answered(caller)
            assert done["metadata"] == {"tier": "A", "rung": "gpt-realtime-2.1"}
        call_id = caller.session["orchestrator"]["call_id"]
    assert [r["to_tier"] for r in live.rows(call_id, "handover")] == ["B", "A"]
    state = live.provider.get("/control/state")
    latest = next(c for c in reversed(state["connections"]) if "out for delivery" in json.dumps(c))
    assert "7391" in json.dumps(latest), "the new provider session was told the conversation"


async def test_the_gap_a_caller_hears_is_filled_by_the_bridge(live: Stack, question: bytes) -> None:
    async with Recorder(live.realtime, orchestrator=True) as caller:
        await caller.update(tools=[TOOL])
        live.arm("abort", "mid_answer", after_ms=400)
        live.arm("refused", "connecting")
        async with caller.microphone():
            await caller.say(question)
            await caller.wait_for("response.done", timeout=20)
            bridge = await caller.wait_for("response.output_item.done", _is_bridge, timeout=5)
            await run_tool(caller)
            await answered(caller, "B")
        played = caller.played()
        assert np.abs(played.samples).max() > 1000
        assert listening.heard_ms(played) > 500
        words = bridge["item"]["content"][0]["transcript"]
        assert words


def _is_bridge(event: dict[str, object]) -> bool:
    item = event["item"]
    assert isinstance(item, dict)
    return item["type"] == "message" and item["status"] == "completed"


async def test_the_servers_key_goes_to_the_provider_and_the_clients_does_not(
    live: Stack, question: bytes
) -> None:
    async with Recorder(live.realtime, api_key=planted.STRANGER, orchestrator=True) as caller:
        await caller.wait_session()
    seen = json.dumps(live.provider.get("/control/state"))
    assert hashlib.sha256(SERVER_KEY.encode()).hexdigest() in seen
    assert hashlib.sha256(planted.STRANGER.encode()).hexdigest() not in seen
    everything = live.service.log.read_text() + live.events_path.read_text()
    everything += "".join(str(frame.data) for frame in caller.frames)
    assert SERVER_KEY not in everything
    assert planted.STRANGER not in everything


async def test_an_operator_moves_a_live_call_at_its_next_turn(live: Stack, question: bytes) -> None:
    async with Recorder(live.realtime, orchestrator=True) as caller:
        await caller.wait_session()
        live.force("B")
        moved = await caller.wait_for(
            "session.updated", lambda e: e["session"]["orchestrator"]["tier"] == "B", timeout=10
        )
        assert moved["session"]["orchestrator"]["reason"] == "override"
        response = await caller.ask("What are your opening hours?", timeout=30)
        assert response["metadata"]["tier"] in ("B", "C")
        live.force("C")
        await caller.wait_for(
            "session.updated", lambda e: e["session"]["orchestrator"]["tier"] == "C", timeout=10
        )
        response = await caller.ask("Tell me a joke.", timeout=30)
        assert response["metadata"] == {"tier": "C", "rung": "prompts"}


async def test_calls_do_not_disturb_each_other(live: Stack, question: bytes) -> None:
    async def one(number: int) -> str:
        async with Recorder(live.realtime, orchestrator=True) as caller:
            await caller.wait_session()
            response = await caller.ask(f"Where is my order {number}?", tools=[TOOL], timeout=60)
            return str(response["output"][0]["arguments"])

    live.force("B")
    arguments = await asyncio.gather(*(one(1000 + n) for n in range(8)))
    assert [json.loads(a)["order_id"] for a in arguments] == [str(1000 + n) for n in range(8)]

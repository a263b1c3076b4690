"""A recorded and traced call over sockets: its client, the file, the timeline and the spans tell the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.clients.recorder import Recorder
from tests.e2e.stack import Engines, Stack, speech, stack
from tests.server.collectors import Collector, attributes, collecting
from tests.server.fleets import until
from tests.server.test_recording import decoded

pytestmark = pytest.mark.long
WINDOW_S = 0.1
"""`decoded` gives a level for each of these."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, tier_b: Engines, collector: Collector
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("recorded")
    provider = ("--speech", "tone", "--answer-seconds", "2", "--first-audio-ms", "100")
    settings = {
        "recording__enabled": "true",
        "recording__dir": str(folder / "recordings"),
        "recording__min_free_mb": "0",
        "audit__path": str(folder / "audit.jsonl"),
        "telemetry__otlp_endpoint": collector.url,
        "promotion__mode": "never",
        "hedging__max_share": "0",
    }
    with stack(folder, *provider, **tier_b.settings, **settings) as running:
        yield running


SILENCE = bytes(round(2.5 * 24_000) * 2)


def onset(levels: Any) -> float:
    """When it becomes loud, in seconds."""
    return float(np.argmax(levels > 0.02)) * WINDOW_S


async def spoken_to(service: Stack, query: str, *, lose: bool = False) -> tuple[str, float]:
    """A call with one answer, or two with the provider lost in between; how long after the caller the answer came."""
    async with Recorder(service.realtime + query, orchestrator=True) as caller:
        await caller.wait_session()
        async with caller.microphone():
            began = asyncio.get_running_loop().time()
            await caller.say(speech())
            await caller.wait_for("response.done", timeout=20)
            answered = caller.heard[0].at - began
            await caller.say(SILENCE)  # for as long as the answer plays
            if lose:
                service.arm("close_1011", "answer_owed")
                await caller.say(speech())
                await caller.wait_for(
                    "response.done", lambda e: e["response"]["metadata"]["tier"] == "B", timeout=30
                )
        return caller.session["orchestrator"]["call_id"], answered


async def kept(service: Stack, call_id: str) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(
        service.service.until,
        f"/v1/calls/{call_id}",
        lambda call: call["recording"] in ("kept", "failed", "off"),
    )
    return found


async def test_a_call_is_recorded_as_it_was_heard_and_traced(
    service: Stack, collector: Collector, tmp_path: Path
) -> None:
    call_id, answered = await spoken_to(service, "&recording_consent=true", lose=True)
    call = await kept(service, call_id)
    assert call["recording"] == "kept"
    async with httpx.AsyncClient(base_url=service.service.url, timeout=20) as client:
        sound = await client.get(f"/v1/calls/{call_id}/recording")
        timeline = (await client.get(f"/v1/calls/{call_id}/recording/timeline")).json()
        audit = (await client.get("/v1/audit")).text
    path = tmp_path / "call.ogg"
    path.write_bytes(sound.content)
    left, right = decoded(path)
    assert abs(len(left) * WINDOW_S - timeline["seconds"]) < 0.3
    said_at, told_at = onset(left), onset(right)
    # The fixture's own first sound is some way into it.
    samples = np.frombuffer(speech(), "<i2") / 32768
    into = onset(np.abs(samples[: len(samples) // 2400 * 2400]).reshape(-1, 2400).mean(axis=1))
    assert told_at - (said_at - into) == pytest.approx(answered, abs=0.3)
    # The tone of two seconds is there as a whole, and the answer of Tier B after the handover.
    assert (right[round(told_at / WINDOW_S) + 1 : round(told_at / WINDOW_S) + 18] > 0.01).all()
    rows = {row["type"]: row for row in timeline["rows"]}
    assert {"call_started", "answer", "handover", "call_ended"} <= rows.keys()
    handover_at = rows["handover"]["at_ms"] / 1000
    assert (right[round(handover_at / WINDOW_S) :] > 0.01).any()
    assert "recording.listened" in audit
    assert call_id in audit

    await until(lambda: "call" in names_of(collector, call_id))
    assert {"call", "turn", "agent", "handover", "stt", "tts"} <= names_of(collector, call_id)


def names_of(collector: Collector, call_id: str) -> set[str]:
    """The first words of the names of a call's spans."""
    spans = collector.spans()
    calls = (span for span in spans if attributes(span).get("gen_ai.conversation.id") == call_id)
    trace = next((span.trace_id for span in calls), None)
    return {span.name.split()[0] for span in spans if span.trace_id == trace}


async def test_a_call_without_consent_is_not(service: Stack) -> None:
    call_id, _ = await spoken_to(service, "")
    call = await kept(service, call_id)
    assert call["recording"] == "off"
    (row,) = (row for row in call["rows"] if row["type"] == "recording")
    assert (row["state"], row["reason"]) == ("off", "no_consent")
    async with httpx.AsyncClient(base_url=service.service.url, timeout=20) as client:
        assert (await client.get(f"/v1/calls/{call_id}/recording")).status_code == 404


async def test_a_caller_may_agree_in_the_call_and_change_their_mind(service: Stack) -> None:
    async with (
        Recorder(service.realtime, orchestrator=True) as caller,
        httpx.AsyncClient(base_url=service.service.url, timeout=20) as client,
    ):
        await caller.wait_session()
        call_id = caller.session["orchestrator"]["call_id"]
        path = f"/v1/calls/{call_id}/recording"
        agreed = await client.post(path, json={"consent": True})
        assert agreed.json()["state"] == "recording"
        assert (await client.post(path, json={"consent": False})).json()["state"] == "deleted"
        assert (await client.post(path, json={"consent": True})).json()["state"] == "recording"
        async with caller.microphone():
            await caller.say(speech())
            await caller.wait_for("response.done", timeout=20)
        await caller.close()
        call = await kept(service, call_id)
        assert call["recording"] == "kept"
        states = [row["state"] for row in call["rows"] if row["type"] == "recording"]
        assert states[0] == "off"
        assert states.index("deleted") < len(states) - 1 - states[::-1].index("recording")
        assert (await client.get(path)).content[:4] == b"OggS"
        assert (await client.delete(path + "?reason=asked")).status_code == 204
        assert (await client.get(path)).status_code == 404

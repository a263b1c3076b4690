"""Clients that know nothing of grants set what is locked in their call, and live through the refusal in every tier."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import AUDIO, Stack

CLIENTS = Path(__file__).parents[1] / "clients"
VENV = Path(os.environ.get("CLIENTS_VENV", CLIENTS.parents[1] / ".venv-clients"))
PIPECAT = next(VENV.glob("lib/python*/site-packages/pipecat"), None)
LOOK_UP = {
    "type": "function",
    "name": "look_up",
    "description": "Look something up.",
    "parameters": {"type": "object", "properties": {}},
}
THEIRS = ("You answer for a shop.", "You answer for another shop.", "get_order_status", "cancel_order")
"""What both clients try to set."""


def mint(service: Stack) -> dict[str, Any]:
    """A credential with locked instructions and tools."""
    session = {"instructions": "Speak of ships.", "tools": [LOOK_UP]}
    answer = service.service.post("/realtime/session", {"session": session})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def run(service: Stack, script: str, value: str) -> dict[str, Any]:
    options = ["--url", f"{service.service.ws}/v1/realtime", "--api-key", value, "--timeout", "60"]
    wav = ["--wav", str(AUDIO / "austen-0880.wav"), "refused_update"]
    environment = {name: text for name, text in os.environ.items() if name != "OPENAI_API_KEY"}
    process = await asyncio.create_subprocess_exec(
        str(VENV / "bin" / "python"),
        str(CLIENTS / script),
        *options,
        *wav,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, _ = await process.communicate()
    return dict(json.loads(out)["scenarios"]["refused_update"])


@pytest.mark.long
@pytest.mark.parametrize("tier", ["A", "B"])
@pytest.mark.parametrize(
    "script",
    [
        pytest.param("agents_refused.py", marks=pytest.mark.skipif(not VENV.exists(), reason="make clients")),
        pytest.param("pipecat_realtime.py", marks=pytest.mark.skipif(PIPECAT is None, reason="make clients")),
    ],
)
async def test_a_stock_client_lives_through_a_refused_update(quick: Stack, script: str, tier: str) -> None:
    service = quick
    service.disarm()
    answer = mint(service)
    if tier == "B":
        service.force("B", f"call:{answer['call_id']}")
    report = await run(service, script, answer["value"])
    assert report["ok"], report
    # Both turns were answered in this tier, the second one after the refusal.
    assert [each["status"] for each in report["responses"]] == ["completed"] * 2
    assert {each["metadata"]["tier"] for each in report["responses"]} == {tier}
    assert all(item["audio_ms"] > 100 for each in report["responses"] for item in each["items"])
    # At the beginning and later it was told what was refused, and what holds. Of the tools they name none is left.
    for sessions in (report["sessions"], report["later"]):
        rows = [row for shown in sessions for row in shown["orchestrator"].get("refused", [])]
        assert {row["field"] for row in rows} == {"instructions", "tools"}
        assert any(name in row["reason"] for row in rows if row["field"] == "tools" for name in THEIRS)
        assert {shown["instructions"] for shown in sessions} == {"Speak of ships."}
        assert all(shown["tools"] in ([LOOK_UP], []) for shown in sessions)
    assert not service.rows(answer["call_id"], "handover")
    if tier == "A":
        told = json.dumps(service.provider.get("/control/state")["connections"][-1]["session"])
        assert "Speak of ships." in told
        assert not [words for words in THEIRS if words in told]

"""Clients that know nothing of this product talk to the simulated provider, and complain when they should.

The scripts run as processes, the Agents SDK's one in `.venv-clients` (``make clients``), as it needs another version
of the OpenAI SDK than the product.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulate.brain import Brain
from orchestrator.simulate.ears import ToneEars
from orchestrator.simulate.faults import Fault, FaultId, Moment
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.session import Options
from orchestrator.simulate.voices import ToneVoice
from tests import planted

HERE = Path(__file__).parent
WAV = HERE.parent / "fixtures" / "audio" / "austen-0880.wav"
CLIENTS = Path(os.environ.get("CLIENTS_VENV", HERE.parents[1] / ".venv-clients")) / "bin" / "python"
API_KEY = planted.PROVIDER
NEEDS_CLIENTS = pytest.mark.skipif(not CLIENTS.exists(), reason="make clients")


@pytest.fixture
def simulator() -> RealtimeSimulator:
    return RealtimeSimulator(Options(ToneEars(), ToneVoice(2.5), Brain(), first_audio_ms=50, api_key=API_KEY))


@pytest.fixture
async def url(simulator: RealtimeSimulator) -> AsyncIterator[str]:
    async with simulator.start() as origin:
        yield origin.replace("http", "ws", 1) + "/v1/realtime"


async def run(script: str, url: str, *scenarios: str, api_key: str = API_KEY) -> tuple[int, dict[str, Any]]:
    """Exit status and report of a stock client script."""
    python = str(CLIENTS) if script == "agents_sdk.py" else sys.executable
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    options = ["--url", url, "--api-key", api_key, "--wav", str(WAV), *scenarios]
    process = await asyncio.create_subprocess_exec(
        python, str(HERE / script), *options, stdout=asyncio.subprocess.PIPE, env=environment
    )
    out, _ = await process.communicate()
    return process.returncode or 0, json.loads(out)


OPENAI_SCENARIOS = ("text_turn", "audio_turn", "tool_round_trip", "cancel", "items", "out_of_band")
AGENTS_SCENARIOS = ("audio_turn", "tool", "interruption", "stop_playback")


@pytest.mark.parametrize(
    ("script", "scenarios"),
    [
        ("openai_sdk.py", OPENAI_SCENARIOS),
        pytest.param("agents_sdk.py", AGENTS_SCENARIOS, marks=NEEDS_CLIENTS),
        pytest.param(
            "agents_sdk.py",
            ("stop_answer",),
            marks=NEEDS_CLIENTS,
        ),
    ],
)
async def test_every_scenario_succeeds(url: str, script: str, scenarios: tuple[str, ...]) -> None:
    status, report = await run(script, url, "--at-once", *scenarios)
    failed = {name: facts["reason"] for name, facts in report["scenarios"].items() if not facts["ok"]}
    assert failed == {}
    assert list(report["scenarios"]) == list(scenarios)
    assert (status, report["ok"]) == (0, True)


@pytest.mark.parametrize(
    ("script", "scenario", "fault", "complaint"),
    [
        ("openai_sdk.py", "text_turn", FaultId.UNKNOWN, "does not know"),
        pytest.param(
            "agents_sdk.py", "stop_playback", FaultId.UNKNOWN, "Failed to validate", marks=NEEDS_CLIENTS
        ),
    ],
)
async def test_a_server_that_goes_wrong_is_noticed(
    url: str, simulator: RealtimeSimulator, script: str, scenario: str, fault: FaultId, complaint: str
) -> None:
    simulator.faults.arm(Fault(fault, Moment.MID_ANSWER))
    status, report = await run(script, url, scenario)
    assert status == 1
    assert complaint in report["scenarios"][scenario]["reason"]

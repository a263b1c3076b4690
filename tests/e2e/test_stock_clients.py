"""Clients that know nothing of this product hold calls through it, in every tier."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import AUDIO, Stack, stack

CLIENTS = Path(__file__).parents[1] / "clients"
VENV = Path(os.environ.get("CLIENTS_VENV", CLIENTS.parents[1] / ".venv-clients")) / "bin" / "python"
AGENTS = pytest.param("agents_sdk.py", marks=pytest.mark.skipif(not VENV.exists(), reason="make clients"))
TIERS = ["A", *(pytest.param(tier, marks=pytest.mark.long) for tier in "BC")]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Its provider calls tools itself, as these clients expect of one."""
    options = ("--speech", "tone", "--answer-seconds", "2.5", "--first-audio-ms", "100")
    with stack(tmp_path_factory.mktemp("stock"), *options, deadlines__answer_s="60") as running:
        yield running


async def run(live: Stack, script: str, *scenarios: str) -> dict[str, Any]:
    python = str(VENV) if script == "agents_sdk.py" else sys.executable
    url = f"{live.service.ws}/v1/realtime"
    wav = AUDIO / "austen-0880.wav"
    options = ["--url", url, "--api-key", "any", "--wav", str(wav), "--timeout", "60", *scenarios]
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    process = await asyncio.create_subprocess_exec(
        python, str(CLIENTS / script), *options, stdout=asyncio.subprocess.PIPE, env=environment
    )
    out, _ = await process.communicate()
    return dict(json.loads(out))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("script", ["openai_sdk.py", AGENTS])
async def test_a_stock_client_works_in_every_tier(service: Stack, script: str, tier: str) -> None:
    service.heal()
    if tier != "A":
        service.force(tier)
    # What the Agents SDK does to interrupt depends on the provider; once is enough for it.
    scenarios = ("audio_turn", "tool") if script == "agents_sdk.py" and tier != "A" else ()
    report = await run(service, script, *scenarios)
    failed = {name: facts["reason"] for name, facts in report["scenarios"].items() if not facts["ok"]}
    assert failed == {}

"""Clients that know nothing of this product hold calls through it, in every tier."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Stack

CLIENTS = Path(__file__).parents[1] / "clients"
VENV = Path(os.environ.get("CLIENTS_VENV", CLIENTS.parents[1] / ".venv-clients")) / "bin" / "python"
AGENTS = pytest.param("agents_sdk.py", marks=pytest.mark.skipif(not VENV.exists(), reason="make clients"))


async def run(live: Stack, script: str, wav: Path) -> dict[str, Any]:
    python = str(VENV) if script == "agents_sdk.py" else sys.executable
    url = f"{live.service.ws}/v1/realtime"
    options = ["--url", url, "--api-key", "any", "--wav", str(wav), "--timeout", "60"]
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    process = await asyncio.create_subprocess_exec(
        python, str(CLIENTS / script), *options, stdout=asyncio.subprocess.PIPE, env=environment
    )
    out, _ = await process.communicate()
    return dict(json.loads(out))


@pytest.mark.parametrize("tier", ["A", "B", "C"])
@pytest.mark.parametrize("script", ["openai_sdk.py", AGENTS])
async def test_a_stock_client_works_in_every_tier(
    live: Stack, question_wav: Path, script: str, tier: str
) -> None:
    if tier != "A":
        live.force(tier)
    report = await run(live, script, question_wav)
    failed = {name: facts["reason"] for name, facts in report["scenarios"].items() if not facts["ok"]}
    assert failed == {}

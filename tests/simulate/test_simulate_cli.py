"""The simulators as processes of their own: an address when ready, a clean end on SIGTERM."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from orchestrator.simulate.cli import simulate
from tests.simulate.simulated import plain_http

STARTUP_SECONDS = 30.0


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A simulator's process and its origin, once it is ready."""
    command = (sys.executable, "-m", "orchestrator.simulate.cli", *arguments)
    running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert running.stdout is not None
    try:
        async with asyncio.timeout(STARTUP_SECONDS):
            line = (await running.stdout.readline()).decode()
        match = re.fullmatch(rf"simulate {arguments[0]}: ready on (http://127\.0\.0\.1:\d+)\n", line)
        assert match, line
        yield running, match[1]
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def ended(running: asyncio.subprocess.Process) -> int:
    """Ask it to end; gives its status. It has printed nothing more."""
    running.terminate()
    assert running.stdout is not None
    async with asyncio.timeout(STARTUP_SECONDS):
        assert await running.stdout.read() == b""
        return await running.wait()


@pytest.mark.parametrize("name", ["cartesia", "llm", "speech", "tools"])
async def test_ready_and_ended(name: str) -> None:
    async with process(name) as (running, origin):
        async with plain_http(base_url=origin) as http:
            assert (await http.get("/healthz")).json() == {"status": "ok"}
            assert (await http.get("/control/state")).json()["faults"] == []
        assert await ended(running) == 0


async def test_realtime_with_options_and_an_open_call() -> None:
    options = ("--fault", "http_5xx@connecting*1", "--model", "gpt-realtime-2.1", "--answer-seconds", "60")
    async with process("realtime", *options) as (running, origin):
        url = origin.replace("http", "ws", 1) + "/v1/realtime?model=gpt-realtime-2.1"
        key = {"Authorization": "Bearer x"}
        with pytest.raises(InvalidStatus):
            await connect(url, additional_headers=key)
        async with connect(url, additional_headers=key) as socket:
            assert "session.created" in str(await socket.recv())
            await socket.send('{"type": "response.create"}')
            assert "response.created" in str(await socket.recv())
            stopping = asyncio.create_task(ended(running))
            async for _ in socket:
                pass
            assert socket.close_code == 1001
            assert await stopping == 0


async def test_a_port_in_use_is_explained() -> None:
    async with process("llm") as (_, origin):
        port = origin.rsplit(":", 1)[1]
        failed = await asyncio.to_thread(CliRunner().invoke, simulate, ["llm", "--port", port])
    assert failed.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in failed.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["realtime", "--fault", "explode"], "expected one of refused"),
        (["realtime", "--fault", "hang@idle"], "hang strikes at connecting"),
        (["cartesia", "--fault", "x y"], "FAULT[@MOMENT][+AFTER_MS][*COUNT]"),
        (["speech", "--slots", "0"], "0 is not in the range"),
        (["llm", "--manners", "rude"], "is not one of 'well', 'eager'"),
        (["tools", "--secret", "whsec_?"], "expected a secret of the form whsec_<base64>"),
    ],
)
def test_bad_options_are_explained(arguments: list[str], told: str) -> None:
    failed = CliRunner().invoke(simulate, arguments, terminal_width=200)
    assert failed.exit_code == 2
    assert told in " ".join(failed.output.split())


def test_bad_rules_are_explained(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[[rule]]\nwhen = 'x'")
    failed = CliRunner().invoke(simulate, ["llm", "--rules", str(tmp_path / "rules.toml")])
    assert failed.exit_code == 2
    assert "either `say` or `tool`" in " ".join(failed.output.split())


def test_missing_models_name_the_command_that_fetches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_MODELS", str(tmp_path))
    failed = CliRunner().invoke(simulate, ["realtime", "--speech", "kokoro"])
    assert failed.exit_code == 1
    assert "orchestrator models fetch" in failed.output


def test_help_lists_every_simulator_and_every_fault() -> None:
    text = CliRunner().invoke(simulate, ["--help"]).output
    assert all(name in text for name in ("realtime", "cartesia", "llm", "speech", "tools", "faults"))
    listed = CliRunner().invoke(simulate, ["faults"]).output
    assert all(
        fault in listed for fault in ("silent_turn", "error_without_context", "half_open", "garbage", "fails")
    )

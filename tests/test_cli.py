"""The command line against a real server on a free port."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result
from pydantic import SecretStr

from orchestrator.cli import main
from orchestrator.core.health import Cause
from orchestrator.server.http import build_api
from tests.server.test_http import Server, make_server


class RunningApi:
    """`build_api` on a loopback port, in a thread of its own."""

    def __init__(self, **sections: Any) -> None:
        self._sections = sections
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._started.wait(20)

    async def _run(self) -> None:
        self.server: Server = make_server(**self._sections)
        self.loop = asyncio.get_running_loop()
        await self.server.fleet.start()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            self._uvicorn = uvicorn.Server(uvicorn.Config(build_api(self.server), log_level="error"))
            self._started.set()
            await self._uvicorn.serve([listening])
        await self.server.fleet.close()

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    api = RunningApi(budget={"buckets": {"acme": {"usd_per_day": 5}}})
    yield api
    api.stop()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ORCHESTRATOR_", "OPENAI_", "CARTESIA_", "REDIS_")):
            monkeypatch.delenv(name)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_help_teaches_with_examples() -> None:
    text = run("--help").output
    for command in ("serve", "status", "force", "clear", "models", "simulate", "demo"):
        assert re.search(rf"^  {command} ", text, re.MULTILINE)
    assert "orchestrator force C --for 15m" in text
    for command in ("serve", "status", "force"):
        assert "Examples:" in run(command, "--help").output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from orchestrator.cli import main;"
        "CliRunner().invoke(main, ['--help']);"
        "print(sorted({'litellm', 'faster_whisper', 'onnxruntime', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_force_status_clear(api: RunningApi) -> None:
    forced = run(
        "force", "c", "--scope", "user:42", "--for", "2h", "--reason", "[bold]drill", "--url", api.url
    )
    assert forced.exit_code == 0, forced.output
    assert forced.output.startswith("Tier C is forced on user:42 for 2h.")
    override_id = forced.output.strip().rpartition(" ")[2]

    shown = run("status", "--url", api.url)
    assert shown.exit_code == 0, shown.output
    assert "A new call gets tier A gpt-realtime-2.1 (default, decided by default)" in shown.output
    row = next(line for line in shown.output.splitlines() if override_id in line)
    assert "user:42" in row
    assert "[bold]drill" in row
    assert re.search(r"1h 59m|2h 0m", row)
    assert "acme" in shown.output

    cleared = run("clear", override_id, "--url", api.url)
    assert cleared.output == f"Override {override_id} is cleared.\n"
    assert override_id not in run("status", "--url", api.url).output
    again = run("clear", override_id, "--url", api.url)
    assert again.exit_code == 1
    assert "there is no override" in again.output


def test_status_shows_an_open_breaker(api: RunningApi) -> None:
    api.server.fleet.breakers["kokoro"].trip(Cause.REFUSED, 0.0)
    row = next(line for line in run("status", "--url", api.url).output.splitlines() if "kokoro" in line)
    assert re.search(r"B\s+kokoro\s+open\s+refused", row)


def test_status_as_json(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", api.url)
    shown = run("status", "--json")
    assert json.loads(shown.output)["next_call"]["tier"] == "A"


@pytest.mark.parametrize(
    ("arguments", "teaches"),
    [
        (["force", "D", "--reason", "x"], "expected tier A, B or C"),
        (["force", "C"], "--reason"),
        (["force", "C", "--reason", "x", "--for", "soon"], "expected a duration like 90s, 15m"),
        (["force", "C", "--reason", "x", "--scope", "everybody"], "all, call:ID"),
    ],
)
def test_wrong_orders_teach(api: RunningApi, arguments: list[str], teaches: str) -> None:
    done = run(*arguments, "--url", api.url)
    assert done.exit_code != 0
    assert teaches in done.output


def test_nobody_there_says_how_to_start_the_server() -> None:
    done = run("status", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.exit_code == 1
    assert "`orchestrator serve`" in done.output


def test_an_address_that_is_none() -> None:
    done = run("status", "--url", "127.0.0.1:8080")
    assert done.exit_code == 1
    assert "http://127.0.0.1:8080" in done.output


def test_somebody_else_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            peer, _ = other.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        done = run("status", "--url", f"http://127.0.0.1:{other.getsockname()[1]}")
        thread.join(10)
    assert done.exit_code == 1
    assert "is no orchestrator" in done.output


def test_the_key_is_taken_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = RunningApi(server={"api_key": SecretStr("right")})
    try:
        refused = run("status", "--url", guarded.url)
        assert refused.exit_code == 1
        assert "Authorization: Bearer" in refused.output
        monkeypatch.setenv("ORCHESTRATOR_API_KEY", "right")
        assert run("status", "--url", guarded.url).exit_code == 0
    finally:
        guarded.stop()


def test_serve_refuses_settings_that_cannot_work() -> None:
    done = run("serve", "--host", "0.0.0.0")
    assert done.exit_code == 1
    assert "server.host (--host)" in done.output
    assert "ORCHESTRATOR_API_KEY" in done.output
    done = run("serve", "--config", "/nowhere/orchestrator.toml")
    assert done.exit_code == 1
    assert "no such configuration file" in done.output

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
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result
from pydantic import SecretStr

from orchestrator.cli import main
from orchestrator.core.health import Cause
from orchestrator.core.overrides import Tier
from orchestrator.server.http import build_api
from tests import planted
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
        self.loop.call_soon_threadsafe(self.server.events.end_followers)
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
    for command in ("serve", "status", "route", "events", "force", "clear", "models", "simulate", "demo"):
        assert re.search(rf"^  {command} ", text, re.MULTILINE)
    assert "orchestrator force C --for 15m" in text
    assert "Exit codes" in text
    for command in ("serve", "status", "route", "events", "force"):
        assert "Examples:" in run(command, "--help").output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from orchestrator.cli import main;"
        "CliRunner().invoke(main, ['--help']);"
        "print(sorted({'litellm', 'faster_whisper', 'onnxruntime', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_ceiling_for_a_share_at_once(api: RunningApi) -> None:
    forced = run(
        *("force", "B", "--scope", "bucket:acme", "--share", "20", "--limit", "ceiling", "--when", "now"),
        *("--reason", "a fifth of acme", "--url", api.url),
    )
    assert forced.exit_code == 0, forced.output
    assert "Nothing better than tier B is used on bucket:acme for 20% of the calls" in forced.output
    run("clear", forced.output.strip().rpartition(" ")[2], "--url", api.url)


def test_force_status_clear(api: RunningApi) -> None:
    forced = run(
        "force", "c", "--scope", "user:42", "--for", "2h", "--reason", "[bold]drill", "--url", api.url
    )
    assert forced.exit_code == 0, forced.output
    assert forced.output.startswith("Tier C is forced on user:42 for 2h.")
    override_id = forced.output.strip().rpartition(" ")[2]

    shown = run("status", "--url", api.url)
    assert shown.exit_code == 0, shown.output
    assert "A new call gets tier A gpt-realtime-2.1 (default)\n" in shown.output
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
    for _ in range(api.server.settings.breaker.failures):
        soon(api, lambda: api.server.fleet.failed("kokoro", Cause.REFUSED))
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
    assert done.exit_code == 3
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
    assert done.exit_code == 3
    assert "is no orchestrator" in done.output


def test_the_key_is_taken_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = RunningApi(server={"api_key": SecretStr(planted.SERVER)})
    try:
        refused = run("status", "--url", guarded.url)
        assert refused.exit_code == 4
        assert "Authorization: Bearer" in refused.output
        monkeypatch.setenv("ORCHESTRATOR_API_KEY", planted.SERVER)
        assert run("status", "--url", guarded.url).exit_code == 0
    finally:
        guarded.stop()


def test_what_is_ordered_is_told_as_json(api: RunningApi) -> None:
    arguments = ("--scope", "user:7", "--limit", "ceiling", "--share", "20", "--reason", "x", "--json")
    made = json.loads(run("force", "b", *arguments, "--url", api.url).output)
    assert (made["tier"], made["limit"], made["share"]) == ("B", "ceiling", 20)
    longer = json.loads(run("extend", made["id"], "--for", "2h", "--json", "--url", api.url).output)
    assert longer["until"] > made["until"] + 3600
    cleared = json.loads(run("clear", made["id"], "--json", "--url", api.url).output)
    assert cleared == {"cleared": made["id"]}


def test_limits_are_told_in_words(api: RunningApi) -> None:
    told = run("force", "A/gpt-realtime-2.1", "--limit", "floor", "--reason", "x", "--url", api.url).output
    assert told.startswith("Nothing worse than rung gpt-realtime-2.1 is used on all for 15m.")
    run("clear", told.strip().rpartition(" ")[2], "--url", api.url)


# --- route ---


def test_route_explains_itself(api: RunningApi) -> None:
    forced = api.server.fleet.force
    made = soon(api, lambda: forced(tier="C", scope="user:9", duration="15m", reason="[red]drill", who="ann"))
    shown = run("route", "--user", "9", "--bucket", "acme", "--tool", "refund", "--url", api.url)
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0] == "Tier C prompts (override), about $0.0000 a minute"
    text = " ".join(shown.output.split())
    assert "ann forces tier C on user:9 until" in text
    assert f"({made.id}: [red]drill)" in text
    assert re.search(rf"A +gpt-realtime-2.1 +once override {made.id} is cleared or expires at", shown.output)
    assert lines[-1].startswith("Connect: GET ws://127.0.0.1:")
    assert lines[-1].endswith("&user=9&bucket=acme&tools=refund")
    run("clear", made.id, "--url", api.url)


def soon(api: RunningApi, work: Callable[[], Any]) -> Any:
    """Done in the server's own thread."""
    return asyncio.run_coroutine_threadsafe(_later(work), api.loop).result(10)


async def _later(work: Callable[[], Any]) -> Any:
    return work()


def test_route_as_json(api: RunningApi) -> None:
    found = json.loads(run("route", "--purpose", "queue_update", "--json", "--url", api.url).output)
    assert (found["tier"], found["connect"]["kind"]) == ("C", "prompt")
    assert found["would_change"][0]["change"] == "purpose_two_way"


def test_where_no_tier_is_ready_the_exit_code_says_so() -> None:
    closed = RunningApi()
    try:
        for tier in Tier:
            soon(closed, partial(closed.server.fleet.set_missing, tier))
        done = run("route", "--url", closed.url)
        assert done.exit_code == 5
        assert "kokoro: what it needs is not loaded yet" in " ".join(done.output.split())
    finally:
        closed.stop()


# --- events ---


def follow(api: RunningApi, *arguments: str) -> tuple[threading.Thread, list[Result]]:
    """`orchestrator events` in a thread of its own, from when the server knows of it."""
    done: list[Result] = []
    before = list(api.server.events.followers)  # those of an earlier test may not have gone yet
    thread = threading.Thread(
        target=lambda: done.append(run("events", *arguments, "--url", api.url)), daemon=True
    )
    thread.start()
    pause = threading.Event()
    for _ in range(4000):
        if any(each not in before for each in api.server.events.followers):
            break
        pause.wait(0.005)
    return thread, done


def add(api: RunningApi, type: str, **fields: Any) -> None:
    row = {"tier": "A", "call_id": "call_1f2e3d", **fields}
    soon(api, lambda: api.server.events.add(type, **row))


def test_events_as_lines(api: RunningApi) -> None:
    thread, done = follow(api, "--type", "handover", "--type", "caller_said", "--text", "--count", "2")
    add(api, "state", state="local")
    add(api, "handover", from_tier="A", to_tier="B", cause="refused")
    add(api, "caller_said", call_id="", tier="", text="my \x1b[2J order")
    thread.join(20)
    first, second = done[0].output.splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d\d\d call_1f2e3d A handover from_tier=A to_tier=B cause=refused", first
    )
    # What callers say moves no cursor.
    assert second.endswith('- - caller_said text="my \\u001b[2J order"')
    assert done[0].exit_code == 0


def test_events_as_json(api: RunningApi) -> None:
    thread, done = follow(api, "--json", "--call", "call_1f2e3d", "--count", "1")
    add(api, "caller_said", call_id="call_2", text="no")
    add(api, "caller_said", text="my order", item_id="item_1")
    thread.join(20)
    found = json.loads(done[0].output)
    assert found["id"].startswith(api.server.events.epoch)
    assert (found["type"], found["item_id"]) == ("caller_said", "item_1")
    assert "text" not in found


def test_events_of_nobody() -> None:
    assert run("events", "--url", f"http://127.0.0.1:{free_port()}").exit_code == 3


def test_a_command_that_there_is_not() -> None:
    done = run("statsu")
    assert done.exit_code == 2
    assert "there is no command 'statsu'; did you mean status?" in done.output


def test_serve_refuses_settings_that_cannot_work() -> None:
    done = run("serve", "--host", "0.0.0.0")
    assert done.exit_code == 1
    assert "server.host (--host)" in done.output
    assert "ORCHESTRATOR_API_KEY" in done.output
    done = run("serve", "--config", "/nowhere/orchestrator.toml")
    assert done.exit_code == 1
    assert "no such configuration file" in done.output

"""`orchestrator watch`: a screen of any size, lines for programs, and what ends it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import termios
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from orchestrator.cli import main
from orchestrator.client import Event, Status, Unreachable
from orchestrator.watch_cli import Happened, view
from tests.test_cli import RunningApi, free_port

# Whoever is started in the background of a shell has interrupts ignored, and so has what it starts.
CODE = """
import signal
from orchestrator.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
COMMAND = [sys.executable, "-c", CODE, "watch"]


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    api = RunningApi(budget={"buckets": {"acme": {"usd_per_day": 5}}})
    yield api
    api.stop()


@pytest.fixture
def found(api: RunningApi) -> dict[str, Any]:
    env = {"ORCHESTRATOR_API_KEY": ""}
    told = json.loads(CliRunner().invoke(main, ["status", "--json", "--url", api.url], env=env).output)
    assert isinstance(told, dict)
    call = {
        "tier": "A", "rung": "gpt-realtime-2.1", "reason": "default", "state": "relaying", "user": "[42]",
        "purpose": "support", "bucket": "acme", "spent_usd": 0.5, "reserved_usd": 0.1, "cap_usd": 2.0,
        "budget_step": None,
    }  # fmt: skip
    told["calls"] = [
        {**call, "call_id": f"call_{number:04}", "started_at": told["now"] - number} for number in range(1000)
    ]
    return told


def screen(found: Status | Unreachable, height: int, width: int, events: int) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), highlight=False)
    recent: deque[Happened] = deque(
        Event(f"x-{n}", 1e9 + n, "gap", "B", f"call_{n:04}", {"gap_ms": 420.0}) for n in range(events)
    )
    console.print(view(console, found, recent))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("height", "width"), [(24, 80), (30, 100), (60, 200)])
@pytest.mark.parametrize("events", [0, 2, 100])
def test_a_thousand_calls_leave_room_for_what_happens(
    found: dict[str, Any], height: int, width: int, events: int
) -> None:
    lines = screen(Status.model_validate(found), height, width, events)
    assert len(lines) <= height
    assert "1000 calls: 1000 in tier A" in lines[0]
    calls = [line for line in lines if line.startswith("call_") and "[42]" in line]
    shown = [line for line in lines if "gap_ms=420" in line]
    assert calls[0].startswith("call_0000")
    assert len(calls) >= 3
    # The latest first, as many as there is room for.
    assert len(shown) == min(events, max(3, len(shown)))
    if events:
        assert f"call_{events - 1:04}" in shown[0]
    if events == 0:
        assert len(lines) == height  # the calls have it


def test_a_server_that_is_away_is_told_of_where_the_screen_goes_on() -> None:
    lines = screen(Unreachable("nothing answers at http://127.0.0.1:1"), 24, 80, 2)
    assert lines[0].rstrip() == "nothing answers at http://127.0.0.1:1"
    assert len([line for line in lines if "gap_ms=420" in line]) == 2


def test_watch_writes_plain_lines_to_a_pipe_and_ends_with_ctrl_c(api: RunningApi) -> None:
    env: dict[str, Any] = {**os.environ, "ORCHESTRATOR_API_KEY": ""}
    with subprocess.Popen(
        [*COMMAND, "--url", api.url], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not api.server.events.followers:
            assert process.poll() is None
        api.loop.call_soon_threadsafe(
            lambda: api.server.events.add("gap", tier="B", call_id="call_0", gap_ms=420.0, cause="closed")
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "call_0 B gap gap_ms=420 cause=closed" in line
        assert "\x1b" not in line
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_for_programs_it_tells_how_things_stand_and_what_happens(api: RunningApi) -> None:
    env: dict[str, Any] = {**os.environ, "ORCHESTRATOR_API_KEY": ""}
    with subprocess.Popen(
        [*COMMAND, "--json", "--url", api.url],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["status"]["next_call"]["tier"] == "A"
        while not api.server.events.followers:
            assert process.poll() is None
        api.loop.call_soon_threadsafe(
            lambda: api.server.events.add("gap", tier="B", call_id="call_0", gap_ms=420.0, cause="closed")
        )
        for line in process.stdout:
            told = json.loads(line)
            assert len(told) == 1
            if "event" in told:
                break
        assert (told["event"]["type"], told["event"]["call_id"], told["event"]["gap_ms"]) == (
            "gap", "call_0", 420.0,
        )  # fmt: skip
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_gets_a_screen_and_gets_itself_back(api: RunningApi, end: signal.Signals) -> None:
    terminal, theirs = os.openpty()
    termios.tcsetwinsize(terminal, (30, 100))
    env: dict[str, Any] = {**os.environ, "ORCHESTRATOR_API_KEY": "", "TERM": "xterm-256color"}
    env.pop("COLUMNS", None)
    with subprocess.Popen([*COMMAND, "--url", api.url], env=env, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while b"What happens" not in seen:
            seen += os.read(terminal, 65_536)
        assert b"gpt-realtime-2.1" in seen
        process.send_signal(end)
        with suppress(OSError):  # the other end is closed when the process has ended
            while piece := os.read(terminal, 65_536):
                seen += piece
        assert process.wait(20) == 0
    os.close(terminal)
    assert seen.rindex(b"\x1b[?1049l") > seen.rindex(b"\x1b[?1049h")


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_nobody_there_ends_it(how: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = CliRunner().invoke(main, ["watch", *how, "--url", url], env={"ORCHESTRATOR_API_KEY": ""})
    assert (done.exit_code, "nothing answers" in done.output) == (3, True)

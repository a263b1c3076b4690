"""The whole demo: the command as it is, with the real service, the simulated provider and real speech."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from orchestrator.cli import main
from orchestrator.demo.processes import orchestrator_command
from tests.conformance.checker import Checker, Frame, explain

pytestmark = pytest.mark.long

SEED = 7
NUMBERS = ("3960", "9475")
"""What that seed draws."""


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """Every frame of the client's connection, both ways, audio that was sent left out."""
    log: list[Frame] = []
    receive, send = AsyncRealtimeConnection.recv_bytes, AsyncRealtimeConnection.send

    async def recv_bytes(self: AsyncRealtimeConnection) -> bytes:
        data = await receive(self)
        log.append(Frame(data.decode()))
        return data

    async def note_send(self: AsyncRealtimeConnection, event: object) -> None:
        assert isinstance(event, dict)
        if event["type"] != "input_audio_buffer.append":
            log.append(
                Frame(json.dumps({k: v for k, v in event.items() if isinstance(v, str | dict)}), sent=True)
            )
        await send(self, event)  # type: ignore[arg-type]

    monkeypatch.setattr(AsyncRealtimeConnection, "recv_bytes", recv_bytes)
    monkeypatch.setattr(AsyncRealtimeConnection, "send", note_send)
    return log


def test_the_call_survives_and_everything_is_written_down(tmp_path: Path, frames: list[Frame]) -> None:
    result = CliRunner().invoke(main, ["demo", "--seed", str(SEED), "--out", str(tmp_path), "--keep-logs"])
    assert result.exit_code == 0, result.output

    assert all(f"get_order_status({number})" in result.output for number in NUMBERS)
    assert "FAILED" not in result.output
    check_conformance(frames)
    check_sound(tmp_path / "call.wav")
    check_events(tmp_path / "events.jsonl")
    assert (tmp_path / "timeline.png").stat().st_size > 50_000
    assert (tmp_path / "logs" / "service.log").read_text().startswith("orchestrator serving on")


def test_the_demo_takes_its_processes_with_it(tmp_path: Path) -> None:
    command = orchestrator_command(
        "demo", "--seed", str(SEED), "--out", str(tmp_path), "--keep-logs", "--no-plot"
    )
    demo = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = int(wait_for_text(tmp_path / "logs" / "service.log", r"serving on http://127\.0\.0\.1:(\d+)"))
        demo.terminate()
        assert demo.wait(30) == 1
    finally:
        demo.kill()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass


def wait_for_text(path: Path, pattern: str, seconds: float = 60.0) -> str:
    """The first group of `pattern`, once the file has it."""
    deadline, never = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < deadline:
        if path.exists() and (found := re.search(pattern, path.read_text())):
            return found[1]
        never.wait(0.05)
    raise TimeoutError(f"{path} has no {pattern!r} after {seconds:g} s")


def check_conformance(frames: list[Frame]) -> None:
    checker = Checker(orchestrator=True)
    for frame in frames:
        checker.feed(frame)
    violations = checker.finish()
    assert not violations, explain(frames, violations)


def check_sound(path: Path) -> None:
    """Both sides on their own channel, and neither talks into the other for long."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 24_000)
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)
    second = samples[: len(samples) // 24_000 * 24_000].astype(np.float32).reshape(-1, 24_000, 2)
    loud = np.sqrt(np.mean(np.square(second), axis=1)) > 300
    caller, heard = loud[:, 0].sum(), loud[:, 1].sum()
    assert caller > 8
    assert heard > 15
    assert (loud[:, 0] & loud[:, 1]).sum() <= 3


def check_events(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all({"time", "type", "tier", "source"} <= row.keys() for row in rows)
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    moves = [
        (r["from_tier"], r["to_tier"], r["trigger"], r["cause"]) for r in rows if r["type"] == "handover"
    ]
    assert moves == [("A", "B", "fault", "closed"), ("B", "A", "recovery", "promoted")]
    assert {row["source"] for row in rows} == {"client", "service"}

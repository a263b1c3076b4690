"""What the demo sets up and writes down."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import load_settings
from orchestrator.demo.recording import WIRE, Recording
from orchestrator.demo.stage import CONFIG, channels, following, wav
from tests.demo.invented import whole_call


def test_the_configuration_is_one_that_the_service_takes(tmp_path: Path) -> None:
    config = tmp_path / "orchestrator.toml"
    config.write_text(CONFIG.format(events=json.dumps(str(tmp_path / "events.jsonl"))))
    settings = load_settings(config)
    assert settings.server.events_path == tmp_path / "events.jsonl"
    assert settings.server.port == 0
    assert settings.promotion.mode == "next_turn"


def test_both_channels_are_on_one_clock(tmp_path: Path) -> None:
    recording = whole_call()
    sides = channels(recording)
    assert len(sides["caller"]) == len(sides["heard"])
    began = recording.sent[0].at
    for name, moment in (("caller", recording.sent[0].at), ("heard", recording.heard[0].at)):
        first = int(np.flatnonzero(sides[name])[0])
        assert first / WIRE.rate == pytest.approx(moment - began, abs=0.01)
    wav(sides["caller"], sides["heard"], tmp_path / "call.wav")
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, WIRE.rate)
        frames = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)
    assert np.array_equal(frames[:, 0], sides["caller"])
    assert np.array_equal(frames[:, 1], sides["heard"])


async def test_rows_are_followed_line_by_line_until_the_call_has_ended(tmp_path: Path) -> None:
    path, recording = tmp_path / "events.jsonl", Recording(wall=100.0)
    row = {"time": 101.0, "type": "call_started", "tier": "A", "call_id": "call_1"}
    async with following(path, recording):
        half = len(json.dumps(row)) // 2
        with path.open("w") as file:
            file.write(json.dumps(row)[:half])
            file.flush()
            file.write(json.dumps(row)[half:] + "\n")
        started = await recording.wait("a row", lambda row: row.type == "call_started", seconds=5.0)
        assert (started.at, started.tier) == (1.0, "A")
        with path.open("a") as file:
            file.write(json.dumps({**row, "type": "call_ended", "spent_usd": 0.5}) + "\n")
    assert recording.first("call_ended") is not None


async def test_waiting_says_what_did_not_come() -> None:
    with pytest.raises(TimeoutError, match="the answer did not come"):
        await Recording().wait("the answer", lambda row: True, seconds=0.01)


async def test_waiting_looks_at_what_came_before_and_at_what_comes() -> None:
    recording = Recording()
    recording.add(1.0, "one")
    assert (await recording.wait("one", lambda row: row.type == "one", seconds=1.0)).at == 1.0
    with pytest.raises(TimeoutError):
        await recording.wait("one", lambda row: row.type == "one", since=1, seconds=0.01)

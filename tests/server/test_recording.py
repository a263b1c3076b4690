"""Recordings with a real thread, real files and a real decoder; the disk's troubles made by hand."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import orjson
import pytest

from orchestrator.config import Settings
from orchestrator.core.redaction import Redactor
from orchestrator.operations_sections import Recording as RecordingSettings
from orchestrator.protocol.audio import AudioFormat, from_pcm16
from orchestrator.server import recording as module
from orchestrator.server.calls import CallInfo
from orchestrator.server.events import EventLog, Row
from orchestrator.server.metrics import Metrics
from orchestrator.server.recording import Recorder, State

RATE = 24_000


def frame(value: int, ms: int = 20, fmt: AudioFormat = AudioFormat.PCM) -> bytes:
    """The caller's sound: a square wave, which codecs keep the level of."""
    samples = np.resize(np.array([value] * 24 + [-value] * 24, np.int16), fmt.rate * ms // 1000)
    audio = b64encode(from_pcm16(samples, fmt)).decode()
    return orjson.dumps({"type": "input_audio_buffer.append", "audio": audio})


def delta(value: int, ms: int = 20) -> str:
    return str(orjson.loads(frame(value, ms))["audio"])


def info(id: str = "call_1", *, consent: bool = True, **more: str) -> CallInfo:
    return CallInfo(id, "gpt-realtime", who="key_1", recording_consent=consent, **more)  # type: ignore[arg-type]


class Bench:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.free = 10_000 * module.MB
        self.now, self.wall = 100.0, 1_772_000_000.0
        self.expired: list[int] = []
        self.events = EventLog(None)
        self.recorder = Recorder(
            RecordingSettings(**{"enabled": True, "dir": folder, **settings}),
            self.events,
            Redactor(),
            expired=self.expired.append,
            free_bytes=lambda folder: self.free,
            clock=lambda: self.now,
            wall=lambda: self.wall,
        )
        self.recorder.start()

    def rows(self) -> list[Row]:
        return [row for row in self.events.recent if row["type"] == "recording"]

    async def settled(self) -> None:
        """The thread has done all that it was given, and has told of it."""
        done = threading.Event()
        self.recorder._queue.put(done.set)
        assert await asyncio.to_thread(done.wait, 15)

    async def state(self, state: State) -> Row:
        await self.settled()
        return next(row for row in self.rows() if row["state"] == state)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*/*"))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.recorder.close()


def decoded(path: Path) -> tuple[Any, Any]:
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
        rate = frames[0].sample_rate
        pieces = [f.to_ndarray() for f in frames]
    if pieces[0].shape[0] == 1:  # packed
        both = np.concatenate([p.reshape(-1, 2) for p in pieces]).T
    else:
        both = np.concatenate(pieces, axis=1)
    both = both / (1.0 if both.dtype.kind == "f" else 32768.0)
    step = rate // 10
    levels = [np.abs(side[: len(side) // step * step]).reshape(-1, step).mean(axis=1) for side in both]
    return levels[0], levels[1]


def converse(bench: Bench, seconds: int = 6) -> None:
    """The caller speaks in the first two seconds; the answer, of three, comes at the third and is cut at the fifth."""
    recording = bench.recorder.began(info())
    assert recording is not None
    for number in range(seconds * 50):
        bench.now = 100.0 + (number + 1) * 0.02
        recording.caller(frame(8000 if number < 100 else 0), AudioFormat.PCM, bench.now)
        if number == 149:
            recording.told(delta(12000, 1000), AudioFormat.PCM, bench.now)
            for _ in range(2):
                wire = {"type": "response.output_audio.delta", "delta": delta(12000, 1000)}
                recording.told_frame(orjson.dumps(wire), AudioFormat.PCM, bench.now)
        if number == 249:
            recording.barge_in(bench.now)
    bench.events.add(
        "caller_said", tier="A", call_id="call_1", item_id="i", text="my card is 4111 1111 1111 1111"
    )
    recording.hang_up(bench.now)
    bench.recorder.ended("call_1")


@pytest.mark.parametrize("format", ["opus", "flac"])
async def test_both_directions_are_where_they_were_heard(tmp_path: Path, format: str) -> None:
    bench = Bench(tmp_path, format=format)
    converse(bench)
    kept = await bench.state(State.KEPT)
    assert (kept["seconds"], kept["frames_lost"]) == (6.0, 0)
    await bench.recorder.close()
    found = bench.recorder.library.find("call_1")
    assert found is not None
    assert found.sound.suffix == {"opus": ".ogg", "flac": ".flac"}[format]
    left, right = decoded(found.sound)
    loud = 0.15
    assert (left[:19] > loud).all()
    assert (left[21:59] < 0.02).all()
    assert (right[:29] < 0.02).all()
    assert (right[31:49] > loud).all()
    assert (right[51:59] < 0.02).all()
    assert {oct(path.stat().st_mode & 0o777) for path in (found.sound, found.about)} == {"0o600"}
    assert bench.files() == sorted(["call_1.json", found.sound.name])


async def test_the_timeline_lies_beside_it_without_card_numbers(bench: Bench) -> None:
    bench.wall = time.time()
    converse(bench)
    await bench.state(State.KEPT)
    about = bench.recorder.library.read("call_1")
    assert about is not None
    assert (about["call_id"], about["seconds"], about["consent_from"]) == ("call_1", 6.0, "key_1")
    said = next(row for row in about["rows"] if row["type"] == "caller_said")
    assert said["text"] == "my card is [redacted]"
    assert 0 <= said["at_ms"] < 60_000


@pytest.mark.parametrize(("transcript", "there"), [("none", False), ("full", True)])
async def test_the_transcript_is_as_the_settings_want_it(
    tmp_path: Path, transcript: str, there: bool
) -> None:
    bench = Bench(tmp_path, transcript=transcript)
    converse(bench)
    await bench.state(State.KEPT)
    await bench.recorder.close()
    assert ("4111 1111" in str(bench.recorder.library.read("call_1"))) is there


@pytest.mark.parametrize(
    ("settings", "call", "reason"),
    [
        ({}, {"consent": False}, "no_consent"),
        ({"purposes": ("support",)}, {}, "purpose"),
        ({"buckets": ("acme",)}, {"bucket": "other"}, "bucket"),
    ],
)
async def test_what_is_not_recorded_says_why(
    tmp_path: Path, settings: dict[str, Any], call: dict[str, Any], reason: str
) -> None:
    bench = Bench(tmp_path, **settings)
    assert bench.recorder.began(info(**call)) is None
    assert [(row["state"], row["reason"]) for row in bench.rows()] == [("off", reason)]
    assert bench.recorder.state("call_1") == (State.OFF, reason)
    bench.recorder.ended("call_1")
    await bench.recorder.close()
    assert bench.files() == []


async def test_consent_may_come_in_the_middle_of_a_call(bench: Bench) -> None:
    call = info(consent=False)
    assert bench.recorder.began(call) is None
    call.recording_consent = True
    recording = bench.recorder.began(call, "key_2")
    assert recording is not None
    assert bench.recorder.state("call_1") == (State.RECORDING, "")
    recording.caller(frame(8000, 1000), AudioFormat.PCM, bench.now + 1)
    recording.hang_up(bench.now + 1)
    bench.recorder.ended("call_1")
    assert (await bench.state(State.KEPT))["seconds"] == 1.0
    about = bench.recorder.library.read("call_1")
    assert about is not None
    assert about["consent_from"] == "key_2"


async def test_where_recording_is_off_nothing_is_said_or_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path, enabled=False)
    assert bench.recorder.began(info()) is None
    assert bench.rows() == []
    await bench.recorder.close()


async def test_a_full_disk_ends_the_recording_and_leaves_nothing(bench: Bench) -> None:
    bench.free = 10 * module.MB
    recording = bench.recorder.began(info())
    assert recording is not None
    assert (await bench.state(State.FAILED))["reason"] == "disk_full"
    recording.caller(frame(5), AudioFormat.PCM, bench.now)
    bench.recorder.ended("call_1")
    await bench.recorder.close()
    assert bench.files() == []


async def test_a_disk_that_fills_up_meanwhile_is_noticed(bench: Bench) -> None:
    recording = bench.recorder.began(info())
    assert recording is not None
    await bench.state(State.RECORDING)
    bench.free = 0
    second = frame(5, 1000)
    for number in range(1, 36):
        recording.caller(second, AudioFormat.PCM, bench.now + number)
    assert (await bench.state(State.FAILED))["reason"] == "disk_full"
    assert bench.files() == []


async def test_a_folder_that_cannot_be_made_costs_the_recording(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    bench = Bench(tmp_path / "file")
    bench.recorder.began(info())
    assert (await bench.state(State.FAILED))["reason"] == "disk"
    await bench.recorder.close()


async def test_a_slow_disk_costs_frames_and_no_time(tmp_path: Path) -> None:
    """Nothing is taken from the queue for as long as the disk hangs; whoever puts does not wait for it."""
    bench, hangs, metrics = Bench(tmp_path, queue_mb=1), threading.Event(), Metrics(Settings())
    bench.events.listeners.append(metrics.row)
    bench.recorder._queue.put(lambda: (hangs.wait(30), None)[1])
    recording = bench.recorder.began(info())
    assert recording is not None
    second = frame(5, 1000)
    for number in range(1, 31):
        recording.caller(second, AudioFormat.PCM, bench.now + number)
    kept = module.MB // len(second)
    assert recording.lost == 30 - kept
    hangs.set()
    await bench.settled()
    assert bench.recorder._came == bench.recorder._gone
    recording.caller(frame(9000, 1000), AudioFormat.PCM, bench.now + 31)
    recording.hang_up(bench.now + 31)
    bench.recorder.ended("call_1")
    told = await bench.state(State.KEPT)
    assert (told["seconds"], told["frames_lost"]) == (31.0, 30 - kept)
    counted = metrics.expose().decode()
    assert f"orchestrator_recording_frames_lost_total {30 - kept}.0\n" in counted
    for state, count in ((State.RECORDING, 1), (State.KEPT, 1), (State.FAILED, 0)):
        assert f'orchestrator_recordings_total{{state="{state}"}} {count}.0\n' in counted
    await bench.recorder.close()
    found = bench.recorder.library.find("call_1")
    assert found is not None
    left, _ = decoded(found.sound)
    assert left[305] > 0.15  # what came later is still where it was said


async def test_withdrawn_consent_leaves_nothing(bench: Bench) -> None:
    recording = bench.recorder.began(info())
    assert recording is not None
    recording.caller(frame(5000), AudioFormat.PCM, bench.now)
    await bench.settled()
    assert bench.files() == ["call_1.part"]
    assert bench.recorder.stop_recording("call_1")
    assert not bench.recorder.stop_recording("call_1")
    await bench.settled()
    assert bench.files() == []
    recording.caller(frame(5000), AudioFormat.PCM, bench.now)
    bench.recorder.ended("call_1")
    assert [row["state"] for row in bench.rows()][-1] == "deleted"


async def test_they_are_deleted_when_their_time_is_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path, retention_days=2.0)
    day = tmp_path / "2026-01-01"
    day.mkdir()
    for name, age_days in (
        ("call_old.ogg", 3),
        ("call_old.json", 3),
        ("call_dead.part", 3),
        ("call_new.ogg", 1),
    ):
        (day / name).write_bytes(b"x")
        os.utime(day / name, (bench.wall - age_days * 86_400,) * 2)
    (tmp_path / "2026-01-02").mkdir()
    bench.recorder._queue.put(bench.recorder._sweep)
    await bench.settled()
    assert bench.expired == [1]
    await bench.recorder.close()
    assert bench.files() == ["call_new.ogg"]


async def test_calls_in_telephone_formats_and_broken_frames(bench: Bench) -> None:
    recording = bench.recorder.began(info())
    assert recording is not None
    for _ in range(100):
        bench.now += 0.02
        recording.caller(frame(8000, fmt=AudioFormat.PCMU), AudioFormat.PCMU, bench.now)
        recording.told_frame(b'{"delta": "????"}', AudioFormat.PCMA, bench.now)
        recording.told_frame(b"no json", AudioFormat.PCMA, bench.now)
        recording.told("!", AudioFormat.PCMA, bench.now)
    recording.hang_up(bench.now)
    bench.recorder.ended("call_1")
    kept = await bench.state(State.KEPT)
    assert kept["seconds"] == pytest.approx(2.0, abs=0.05)
    found = bench.recorder.library.find("call_1")
    assert found is not None
    left, right = decoded(found.sound)
    assert (left[1:18] > 0.15).all()
    assert (right < 0.001).all()


async def test_calls_that_are_live_at_the_end_are_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    recording = bench.recorder.began(info())
    assert recording is not None
    recording.caller(frame(8000, 1000), AudioFormat.PCM, bench.now + 1)
    bench.now += 1
    await bench.recorder.close()
    assert bench.files() == ["call_1.json", "call_1.ogg"]

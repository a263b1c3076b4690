"""A caller's lines: what they note of a call, when a caller asks again, and when it is over."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from base64 import b64encode
from pathlib import Path

import pytest

from benchmarks.peers import lines, livekit_line
from benchmarks.peers.contenders import litellm_config
from benchmarks.peers.figures import FORMAT, Outcome, Piece, Stream, figures
from benchmarks.peers.lines import Line, place
from benchmarks.peers.livekit_line import driver
from benchmarks.peers.wire import WireLine, take
from benchmarks.processes import BenchmarkError
from orchestrator.simulate.brain import Brain
from orchestrator.simulate.ears import ToneEars
from orchestrator.simulate.faults import parse_fault
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.session import Options
from orchestrator.simulate.voices import ToneVoice, tone

WORDS = tone(0.3, FORMAT)
SOUND = tone(0.2, FORMAT)


async def no_fault() -> float | None:
    return None


class ScriptedLine(Line):
    """Answers the asking of that number, or hangs up on it."""

    def __init__(self, answers: int | None = None, closes: int | None = None) -> None:
        super().__init__()
        self.asked, self._answers, self._closes = 0, answers, closes
        self._over = asyncio.Event()

    async def run(self, pause: float) -> None:
        self.say_again()
        await self._over.wait()

    def say_again(self) -> None:
        self.asked += 1
        self.stream.turn_ends.append(time.monotonic())
        if self.asked == self._closes:
            self.stream.closed = "gone"
        if self.asked == self._answers:
            self.stream.pieces.append(Piece(time.monotonic() + 0.001, SOUND, "a"))
            self.stream.complete.append("a")
        self.changed.set()

    def hang_up(self) -> None:
        self._over.set()


@pytest.mark.parametrize(
    ("line", "asked", "outcome"),
    [
        (ScriptedLine(answers=1), 1, Outcome.ANSWERED),
        (ScriptedLine(answers=2), 2, Outcome.AGAIN),
        (ScriptedLine(), 2, Outcome.UNANSWERED),
        (ScriptedLine(closes=1), 1, Outcome.LOST),
        (ScriptedLine(closes=2), 2, Outcome.LOST),
    ],
    ids=["answered", "answered when asked again", "never answered", "lost", "lost when asked again"],
)
async def test_a_caller_asks_again_where_it_makes_sense(
    line: ScriptedLine, asked: int, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "AGAIN_S", 0.05)
    stream = await place(line, 0.0, 0.05, 0.0, no_fault)
    assert line.asked == asked
    assert figures(stream, None).outcome is outcome


async def test_what_breaks_a_line_reaches_whoever_placed_the_call() -> None:
    class Broken(ScriptedLine):
        async def run(self, pause: float) -> None:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await place(Broken(), 0.0, 0.02, 0.0, no_fault)


@pytest.fixture
def provider() -> RealtimeSimulator:
    options = Options(ToneEars(), ToneVoice(0.5), Brain(), first_audio_ms=20, transcript_ms=5, pace=50.0)
    return RealtimeSimulator(options)


def wire_line(origin: str, notes: Path) -> WireLine:
    url = origin.replace("http", "ws", 1) + "/v1/realtime?model=gpt-realtime-2.1"
    return WireLine(url, "key", WORDS, frozenset({""}), notes)


async def test_a_wire_line_hears_the_provider(provider: RealtimeSimulator, tmp_path: Path) -> None:
    notes = tmp_path / "notes.jsonl"
    async with provider.start() as origin:
        stream = await place(wire_line(origin, notes), 0.02, 5.0, 0.3, no_fault)
    found = figures(stream, None)
    assert found.outcome is Outcome.ANSWERED
    assert found.sound_ms is not None
    assert found.sound_ms > 500  # the provider waits half a second until a turn is over
    assert stream.closed == ""
    types = [json.loads(line)["type"] for line in notes.read_text().splitlines()]
    assert types[0] == "session.created"
    assert "response.output_audio.delta" in types


async def test_a_wire_line_asks_again(
    provider: RealtimeSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "AGAIN_S", 5.0)
    provider.faults.arm(parse_fault({"fault": "silent_turn"}))
    async with provider.start() as origin:
        stream = await place(wire_line(origin, tmp_path / "notes.jsonl"), 0.02, 1.0, 0.3, no_fault)
    assert figures(stream, None).outcome is Outcome.AGAIN


@pytest.mark.parametrize("fault", ["refused", "hang"])
async def test_a_wire_line_without_a_connection(
    fault: str, provider: RealtimeSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "AGAIN_S", 0.1)
    provider.faults.arm(parse_fault({"fault": fault}))
    async with provider.start() as origin:
        stream = await place(wire_line(origin, tmp_path / "notes.jsonl"), 0.0, 0.1, 0.0, no_fault)
    expected = Outcome.LOST if fault == "refused" else Outcome.UNANSWERED
    assert figures(stream, None).outcome is expected


def test_a_bridge_is_sound_and_no_answer() -> None:
    stream = Stream(0.0)
    for item, words in (("bridge", "One moment, please."), ("answer", "Here I am.")):
        delta = {"type": "response.output_audio.delta", "item_id": item, "delta": b64encode(SOUND).decode()}
        take(stream, delta, 1.0, {"One moment, please."})
        message = {"id": item, "type": "message", "content": [{"transcript": words}]}
        response = {"status": "completed", "output": [message]}
        take(stream, {"type": "response.done", "response": response}, 2.0, {"One moment, please."})
    take(stream, {"type": "response.done", "response": {"status": "failed", "output": []}}, 3.0, set())
    assert [piece.unit for piece in stream.pieces] == ["bridge", "answer"]
    assert stream.complete == ["answer"]


FAKE_DRIVER = """
import base64, json, sys
def say(**line): print(json.dumps(line), flush=True)
say(ready={})
for line in sys.stdin:
    command = json.loads(line)
    if "call" in command:
        call = command["call"]
        say(call=call, connect=1.0)
        say(call=call, turn_end=4.0)
        say(call=call, piece=base64.b64encode(bytes(960)).decode(), at=5.0, segment=1)
        say(call=call, flush=5.5)
        say(call=call, piece=base64.b64encode(bytes(960)).decode(), at=6.0, segment=2)
        say(call=call, note="state", text="listening", at=7.0)
        say(call=call, played_out=2)
    else:
        say(call=command["hangup"], over=True)
"""


async def test_a_line_to_a_driver_notes_what_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, notes = tmp_path / "driver.py", tmp_path / "notes.jsonl"
    script.write_text(FAKE_DRIVER)
    monkeypatch.setattr(livekit_line, "DRIVER", script)
    async with driver(Path(sys.executable), "fast", tmp_path / "log", tmp_path / "words") as found:
        stream = await place(found.line(notes), 0.0, 5.0, 0.0, no_fault)
    assert (stream.connect_at, stream.turn_ends, stream.flushes) == (1.0, [4.0], [5.5])
    assert [(piece.at, len(piece.data), piece.unit) for piece in stream.pieces] == [
        (5.0, 960, "1"),
        (6.0, 960, "2"),
    ]
    assert stream.complete == ["2"]
    assert '"listening"' in notes.read_text()
    assert "piece" not in notes.read_text()


async def test_a_driver_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "driver.py"
    script.write_text("raise SystemExit('no such package')")
    monkeypatch.setattr(livekit_line, "DRIVER", script)
    with pytest.raises(BenchmarkError, match="no such package"):
        async with driver(Path(sys.executable), "fast", tmp_path / "log", tmp_path / "words"):
            pass


def test_the_proxy_is_given_a_healthy_second_provider() -> None:
    usual = litellm_config("litellm", "http://a", "http://b")
    fast = litellm_config("litellm-fast", "http://a", "http://b")
    origins = [
        [(each["model_name"], each["litellm_params"]["api_base"]) for each in config["model_list"]]
        for config in (usual, fast)
    ]
    model = "gpt-realtime-2.1"
    assert origins[0] == [(model, "http://a"), ("backup", "http://b")]
    assert origins[1] == [(model, "http://a"), (model, "http://b"), ("backup", "http://b")]
    assert usual["router_settings"] == {"fallbacks": [{model: ["backup"]}]}
    assert fast["router_settings"]["timeout"] == 1

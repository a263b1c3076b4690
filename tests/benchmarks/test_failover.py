"""The failover benchmark: its plan, its command, and one small run of it, processes and all."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import failover
from benchmarks.caller import FORMAT, Caller, Recorded, Utterance
from benchmarks.failover import CASES, measure, schedule
from benchmarks.processes import BenchmarkError, process
from benchmarks.report import Row
from benchmarks.services import Service
from benchmarks.timeline import NOTHING, Figures, Outcome, Struck
from orchestrator.simulate.brain import Brain
from orchestrator.simulate.ears import ToneEars
from orchestrator.simulate.faults import parse_fault
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.session import Options
from orchestrator.simulate.voices import ToneVoice, tone

AUDIO = Path(__file__).parents[1] / "fixtures" / "audio"


def test_every_round_has_every_fault_once() -> None:
    planned = list(schedule(tuple(CASES), 30, random.Random(1)))
    orders = [[plan.case.name for plan in planned if plan.round == number] for number in range(30)]
    assert all(sorted(order) == sorted(CASES) for order in orders)
    assert len({tuple(order) for order in orders}) > 20
    for plan in planned:
        assert plan.case.after_ms[0] <= plan.after_ms <= plan.case.after_ms[1]


def test_a_seed_repeats_a_plan() -> None:
    plans = [list(schedule(("abort", "failed"), 10, random.Random(seed))) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_the_simulator_knows_every_fault(case: failover.Case) -> None:
    if case.moment is not None:
        assert parse_fault(case.fault(case.after_ms[1])).moment == case.moment


def test_words_are_cut_to_where_they_are_heard() -> None:
    found = Utterance.load(AUDIO / "cards-001.wav", "ten of clubs")
    assert 300 < FORMAT.ms(len(found.audio)) < 1095


@pytest.fixture
def provider() -> RealtimeSimulator:
    options = Options(ToneEars(), ToneVoice(1.0), Brain(), first_audio_ms=20, transcript_ms=5, pace=50.0)
    return RealtimeSimulator(options)


def caller(origin: str, patience: float) -> Caller:
    url = origin.replace("http", "ws", 1) + "/v1/realtime?model=gpt-realtime-2.1"
    return Caller(url, tone(0.3, FORMAT), pause=0.02, patience=patience, answered=lambda event: True)


async def test_a_caller_notes_what_came_and_when(provider: RealtimeSimulator) -> None:
    async with provider.start() as origin:
        call = await caller(origin, 5.0).place()
    stopped, done = call.first("input_audio_buffer.speech_stopped"), call.first("response.done")
    assert call.turn_end_at is not None
    assert stopped is not None
    assert done is not None
    assert call.connect_at < call.turn_end_at < stopped - 0.4 < stopped < done <= call.ended_at
    assert call.first("response.output_audio.delta", after=stopped) is not None
    assert [received.at for received in call.received] == sorted(received.at for received in call.received)
    assert call.lost == ""


async def test_a_caller_hangs_up_when_nothing_comes(provider: RealtimeSimulator) -> None:
    provider.faults.arm(parse_fault({"fault": "silent_turn"}))
    async with provider.start() as origin:
        call = await caller(origin, 0.7).place()
    assert call.turn_end_at is not None
    assert call.ended_at - call.turn_end_at == pytest.approx(0.7, abs=0.2)
    assert call.first("response.done") is None
    assert call.lost == ""


@pytest.mark.parametrize(
    ("fault", "lost"), [("refused", "no connection"), ("close_1011", "closed with 1011"), ("abort", "1006")]
)
async def test_a_caller_says_how_it_was_cut_off(provider: RealtimeSimulator, fault: str, lost: str) -> None:
    provider.faults.arm(parse_fault({"fault": fault}))
    async with provider.start() as origin:
        call = await caller(origin, 5.0).place()
    assert lost in call.lost


async def test_a_call_can_be_kept_to_look_into(provider: RealtimeSimulator, tmp_path: Path) -> None:
    async with provider.start() as origin:
        call = await caller(origin, 5.0).place()
    call.save(tmp_path / "call.jsonl")
    kept = [json.loads(line) for line in (tmp_path / "call.jsonl").read_text().splitlines()]
    assert [event["type"] for event in kept] == [received.event["type"] for received in call.received]
    assert 0 < kept[0]["at"] < kept[-1]["at"] < 5.0


def state(*sent_ms: float, struck: float | None = None) -> dict[str, Any]:
    """A provider's state after sessions that sent so much audio, and a refused connection."""
    sessions = [{"session": {"audio_out_bytes": round(ms * FORMAT.bytes_per_ms)}} for ms in sent_ms]
    strikes = [{"fault": "abort", "at": 5.0}, *([{"fault": "abort", "at": struck}] if struck else [])]
    return {"connections": [*sessions, {"session": None}], "struck": strikes}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("abort", Struck(12.5, 12.5, 700.0)),
        ("silent_turn", Struck(12.5, 12.5 + CASES["silent_turn"].deadline_s, 700.0)),
        ("refused", Struck(12.5, None, 700.0)),
    ],
)
def test_what_the_provider_knows_of_a_fault(name: str, expected: Struck) -> None:
    # The call had a session of its own and, when it was promoted, a second one.
    call = Recorded(connect_at=10.0)
    assert failover._struck(call, CASES[name], state(900.0, 600.0, 100.0, struck=12.5), 900.0) == expected


def test_a_fault_of_an_earlier_call_is_none_of_this_one() -> None:
    call = Recorded(connect_at=10.0)
    assert failover._struck(call, CASES["abort"], state(900.0), 0.0) is None
    assert failover._struck(call, CASES["none"], state(900.0), 0.0) == NOTHING


def run(monkeypatch: pytest.MonkeyPatch, outcome: Outcome, output: Path, *options: str) -> tuple[Any, Any]:
    """The command with its calls made up; gives what it was asked for, and its result."""
    asked: dict[str, Any] = {}

    def make_up(counts: Any, faults: Any, seed: int, *_: Any) -> list[Row]:
        asked.update(counts=counts, faults=faults, seed=seed)
        return [Row("simulated", "abort", 0, 0, Figures(outcome, bridge_ms=1e5, gap_ms=1e5))]

    monkeypatch.setattr(failover, "_run", make_up)
    return asked, CliRunner().invoke(failover.main, ["--output", str(output), *options])


def test_a_lost_call_fails_the_run_and_slowness_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, result = run(monkeypatch, Outcome.ANSWERED, tmp_path, "--seed", "5")
    assert result.exit_code == 0, result.output
    assert asked["seed"] == json.loads((tmp_path / "failover.json").read_text())["seed"] == 5
    _, result = run(monkeypatch, Outcome.UNANSWERED, tmp_path)
    assert result.exit_code == 1
    assert "simulated abort, round 0: unanswered" in result.output


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ([], {Service.SIMULATED: 20, Service.REAL: 5, Service.DIRECT: 2}),
        (["--engines", "simulated", "--calls", "3"], {Service.SIMULATED: 3, Service.DIRECT: 2}),
        (["--engines", "real", "--direct-calls", "0"], {Service.REAL: 5}),
    ],
)
def test_how_many_calls_are_placed(
    options: list[str], counts: dict[Service, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, _ = run(monkeypatch, Outcome.ANSWERED, tmp_path, *options)
    assert asked["counts"] == counts
    assert asked["faults"] == tuple(CASES)


def test_no_calls_at_all_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = ["--engines", "real", "--real-calls", "0", "--direct-calls", "0"]
    asked, result = run(monkeypatch, Outcome.ANSWERED, tmp_path, *options)
    assert (result.exit_code, asked) == (2, {})
    assert "nothing to measure" in result.output


async def test_a_process_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"did not start:\n(.|\n)*hologram"):
        async with process(tmp_path / "log", "simulate", "realtime", "--fault", "hologram"):
            pass


async def test_a_call_for_every_fault_on_real_processes(tmp_path: Path) -> None:
    utterance = Utterance.load(AUDIO / "cards-001.wav", "Ten of clubs.")
    rows: list[Row] = []
    planned = list(schedule(tuple(CASES), 1, random.Random(3)))
    await measure(Service.SIMULATED, planned, utterance, tmp_path, rows.append)
    found = {row.fault: row.figures for row in rows}
    assert set(found) == set(CASES)
    assert {figures.outcome for figures in found.values()} == {Outcome.ANSWERED}, rows
    assert {name: figures.answered_by for name, figures in found.items()} == {
        **dict.fromkeys(CASES, "B"),
        "none": "A",
    }
    for name in ("abort", "close_1011", "failed", "silent_turn"):
        bridge, answer = found[name].bridge_ms, found[name].answer_ms
        assert bridge is not None, name
        assert answer is not None, name
        assert 0 < bridge < answer, name
    assert found["refused"].session_ms is not None
    assert (found["none"].bridge_ms, found["refused"].bridge_ms) == (None, None)
    assert not any(figures.repeated for figures in found.values())

"""The failover benchmark: its plan, its command, and one small run of it, processes and all."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from benchmarks import failover, lanes
from benchmarks.caller import FORMAT, Caller, Utterance
from benchmarks.lanes import Listener, measure
from benchmarks.matrix import CELLS, HEADLINES, MAIN, NONE, Moment, possible
from benchmarks.plan import Planned, deal, schedule
from benchmarks.processes import BenchmarkError, Simulator, process
from benchmarks.report import Row
from benchmarks.scenes import after_ms
from benchmarks.services import Bench, Service
from benchmarks.timeline import Figures, Outcome, Struck
from orchestrator.simulate.brain import Brain
from orchestrator.simulate.ears import ToneEars
from orchestrator.simulate.faults import parse_fault
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.session import Options
from orchestrator.simulate.voices import ToneVoice, tone

pytestmark = pytest.mark.long

AUDIO = Path(__file__).parents[1] / "fixtures" / "audio"


def test_every_cell_gets_its_calls_spread_over_the_run() -> None:
    wanted = {cell: 20 if cell in HEADLINES else 4 for cell in possible()}
    planned = list(schedule(wanted, random.Random(1)))
    assert Counter(plan.cell for plan in planned) == Counter(wanted)
    orders = [[plan.cell for plan in planned if plan.round == number] for number in range(20)]
    assert all(len(set(order)) == len(order) for order in orders)
    assert all(set(HEADLINES) < set(order) for order in orders)
    assert len({tuple(order) for order in orders}) == 20
    assert [plan.round for plan in planned] == sorted(plan.round for plan in planned)
    for plan in planned:
        low, high = after_ms(plan.cell)
        assert low <= plan.after_ms <= high
        assert plan.outage


@pytest.mark.parametrize(("calls", "sizes"), [(8, [3, 3, 2]), (3, [1, 1, 1]), (2, [1, 1]), (0, [])])
def test_calls_are_dealt_to_lanes_in_turn(calls: int, sizes: list[int]) -> None:
    planned = list(schedule({CELLS[NONE, Moment.MID_ANSWER]: calls}, random.Random(1)))
    dealt = deal(planned, 3)
    assert [len(lane) for lane in dealt] == sizes
    together = sorted((plan for lane in dealt for plan in lane), key=lambda plan: plan.round)
    assert together == planned
    assert all(plan.round % 3 == lane for lane, found in enumerate(dealt) for plan in found)


def test_a_seed_repeats_a_plan() -> None:
    wanted = dict.fromkeys(HEADLINES, 10)
    plans = [list(schedule(wanted, random.Random(seed))) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


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
    ours = [event["type"] for event in kept if event.get("sent")]
    theirs = [event["type"] for event in kept if not event.get("sent")]
    assert ours == ["session.update"]
    assert theirs == [received.event["type"] for received in call.received]
    assert [event["at"] for event in kept] == sorted(event["at"] for event in kept)
    assert 0 < kept[0]["at"] < kept[-1]["at"] < 5.0


def state(*sent_ms: float, struck: float | None = None) -> dict[str, Any]:
    """A provider's state after sessions that sent so much audio, and a refused connection."""
    sessions = [{"session": {"audio_out_bytes": round(ms * FORMAT.bytes_per_ms)}} for ms in sent_ms]
    strikes = [5.0, *([struck] if struck else [])]
    return {
        "connections": [*sessions, {"session": None}],
        "struck": [{"fault": "abort", "moment": "mid_answer", "at": at} for at in strikes],
    }


def test_what_the_provider_knows_of_a_fault() -> None:
    # The call had a session of its own and, when it was promoted, a second one.
    cell = CELLS["abort", Moment.MID_ANSWER]
    found = lanes.struck(10.0, cell, state(900.0, 600.0, 100.0, struck=12.5), 900.0)
    assert found == Struck(12.5, 700.0)


def test_a_fault_of_an_earlier_call_is_none_of_this_one() -> None:
    assert lanes.struck(10.0, CELLS["abort", Moment.MID_ANSWER], state(900.0), 0.0) is None
    none = lanes.struck(10.0, CELLS[NONE, Moment.MID_ANSWER], state(900.0), 0.0)
    assert none == Struck(None, 900.0)


def run(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, output: Path, *options: str
) -> tuple[dict[Service, list[Planned]], Any]:
    """The command with its calls made up; gives what it planned, and its result."""
    asked: dict[Service, list[Planned]] = {}

    def make_up(plans: dict[Service, list[Planned]], *_: Any) -> list[Row]:
        asked.update(plans)
        return [
            Row("simulated", "abort", Moment.MID_ANSWER, 0, 0, Figures(outcome, sound_ms=1e5, gap_ms=1e5))
        ]

    monkeypatch.setattr(failover, "_run", make_up)
    return asked, CliRunner().invoke(failover.main, ["--output", str(output), *options])


def test_a_lost_call_fails_the_run_and_slowness_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, result = run(monkeypatch, Outcome.ANSWERED, tmp_path, "--seed", "5")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "failover.json").read_text())["seed"] == 5
    assert "missed" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "failover.json", "failover.md", "failover.png", "failover-matrix.png",
    }  # fmt: skip
    _, result = run(monkeypatch, Outcome.UNANSWERED, tmp_path)
    assert result.exit_code == 1
    assert "simulated abort mid_answer, round 0: unanswered" in result.output


@pytest.mark.parametrize(
    ("options", "frequent", "main", "other", "real", "direct"),
    [
        ([], 20, 5, 2, 5, 2),
        (
            ["--engines", "simulated", "--calls", "4", "--main-calls", "3", "--other-calls", "1"],
            4,
            3,
            1,
            0,
            2,
        ),
        (["--engines", "real", "--direct-calls", "0"], 0, 0, 0, 5, 0),
        (["--quick"], 1, 1, 1, 0, 0),
    ],
)
def test_how_many_calls_are_placed(
    options: list[str],
    frequent: int,
    main: int,
    other: int,
    real: int,
    direct: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    asked, _ = run(monkeypatch, Outcome.ANSWERED, tmp_path, *options)
    placed = Counter(plan.cell for plan in asked.get(Service.SIMULATED, []))
    owed = {
        ("refused", "connecting"),
        ("abort", "answer_owed"), ("abort", "mid_answer"),
        ("close_1011", "answer_owed"), ("close_1011", "mid_answer"),
        ("failed", "answer_owed"), ("failed", "mid_answer"),
        ("silent_turn", "answer_owed"),
        (NONE, "mid_answer"),
    }  # fmt: skip
    wanted = {
        cell: frequent if (cell.fault, cell.moment.value) in owed else main if cell.fault in MAIN else other
        for cell in possible()
    }
    assert placed == Counter(wanted)
    for service, calls in ((Service.REAL, real), (Service.DIRECT, direct)):
        assert Counter(plan.cell for plan in asked.get(service, [])) == Counter(
            dict.fromkeys(HEADLINES, calls)
        )


def test_lanes_are_of_the_simulated_engines_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, result = run(monkeypatch, Outcome.ANSWERED, tmp_path, "--lanes", "4")
    assert json.loads((tmp_path / "failover.json").read_text())["lanes"] == {
        "simulated": 4,
        "real": 1,
        "direct": 1,
    }
    told = "simulated engines of stated latency in Tier B; 4 stacks side by side"
    assert told in result.output
    assert told in (tmp_path / "failover.md").read_text()
    assert run(monkeypatch, Outcome.ANSWERED, tmp_path, "--lanes", "0")[1].exit_code == 2


def test_a_blip_is_of_the_main_faults_and_over_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, _ = run(monkeypatch, Outcome.ANSWERED, tmp_path, "--blip", "--quick")
    planned = asked[Service.SIMULATED]
    assert {plan.cell for plan in planned} == set(possible((*MAIN, NONE)))
    assert not any(plan.outage for plan in planned)


@pytest.mark.parametrize(
    "options",
    [
        ["--engines", "real", "--real-calls", "0", "--direct-calls", "0"],
        ["--fault", "refused", "--moment", "idle"],
    ],
)
def test_no_calls_at_all_are_refused(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, result = run(monkeypatch, Outcome.ANSWERED, tmp_path, *options)
    assert (result.exit_code, asked) == (2, {})
    assert "nothing to measure" in result.output


async def test_a_process_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"did not start:\n(.|\n)*hologram"):
        async with process(tmp_path / "log", "simulate", "realtime", "--fault", "hologram"):
            pass


async def test_one_call_of_a_kind_on_real_processes(tmp_path: Path) -> None:
    cells = [
        CELLS["refused", Moment.CONNECTING],
        CELLS["failed", Moment.ANSWER_OWED],
        CELLS["silent_turn", Moment.ANSWER_OWED],
        CELLS["abort", Moment.MID_ANSWER],
        CELLS["unknown", Moment.MID_ANSWER],
        CELLS["close_1011", Moment.TOOL_RESULT_SENT],
        CELLS["abort", Moment.HANDOVER],
        CELLS["close_1011", Moment.HANDOVER],
        CELLS[NONE, Moment.MID_ANSWER],
    ]
    rows: list[Row] = []
    started: list[tuple[int, int]] = []
    listener = Listener(rows.append, lambda *told: started.append(told))
    planned = list(schedule(dict.fromkeys(cells, 1), random.Random(3)))
    await measure(Service.SIMULATED, planned, Utterance.load(*failover.SHORT), tmp_path, listener, lanes=2)
    assert started == [(0, 2), (1, 2), (2, 2)] * 2
    assert {(row.lane, row.moment is Moment.HANDOVER) for row in rows} == {
        (0, False), (1, False), (0, True), (1, True),
    }  # fmt: skip
    found = {row.cell: row.figures for row in rows}
    assert set(found) == set(cells)
    assert [str(row.cell) for row in rows if row.failures] == []
    for cell in (CELLS["unknown", Moment.MID_ANSWER], CELLS[NONE, Moment.MID_ANSWER]):
        assert (found[cell].answered_by, found[cell].moved) == ("A", False)
        assert found[cell].decided_ms is None
    for cell in cells[:4]:
        assert found[cell].moved, cell
        assert found[cell].decided_ms is not None, cell
        assert found[cell].answer_ms is not None, cell
    assert found[CELLS["abort", Moment.MID_ANSWER]].received_ms > 0
    assert found[CELLS["close_1011", Moment.TOOL_RESULT_SENT]].tool_runs == 1


async def test_a_lane_that_fails_ends_the_run_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The others wait for it to be ready, and are not left behind."""
    left: list[str] = []

    @asynccontextmanager
    async def broken(service: Service, heard: str, folder: Path, *_: Any) -> AsyncIterator[Bench]:
        if folder.name == "lane-1":
            raise BenchmarkError("lane 1 did not start")
        try:
            yield Bench(service, Simulator("", httpx.AsyncClient()))
        finally:
            left.append(folder.name)

    monkeypatch.setattr(lanes, "serving", broken)
    planned = list(schedule({CELLS[NONE, Moment.MID_ANSWER]: 3}, random.Random(1)))
    with pytest.raises(BenchmarkError, match="lane 1 did not start"):
        await measure(Service.SIMULATED, planned, Utterance(b"", ""), tmp_path, Listener(lambda row: None), 3)
    assert set(left) <= {"lane-0", "lane-2"}

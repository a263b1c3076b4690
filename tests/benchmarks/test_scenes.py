"""What is armed for a cell and when, and what its caller does: against a simulated provider in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from benchmarks.caller import FORMAT, Caller, Line, Recorded
from benchmarks.matrix import CELLS, NONE, Cell, Moment, possible
from benchmarks.processes import Orchestrator, Simulator, http_client
from benchmarks.scenes import Scene, after_ms, measured_strike, second_strike
from benchmarks.services import MODEL, RULES, SECOND_MODEL
from orchestrator.simulate.brain import Brain, Rule, load_rules
from orchestrator.simulate.ears import ToneEars
from orchestrator.simulate.faults import parse_fault
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.session import Options
from orchestrator.simulate.voices import ToneVoice, tone

WORDS = tone(0.3, FORMAT)


class Provider(Simulator):
    """Takes faults and never strikes."""

    def __init__(self) -> None:
        self.armed: list[Mapping[str, Any]] = []

    async def arm(self, fault: Mapping[str, Any]) -> None:
        parse_fault(dict(fault))
        self.armed.append(fault)


def scene(cell: Cell, provider: Simulator, *, outage: bool = True, after_ms: int = 100) -> Scene:
    return Scene(cell, after_ms, outage, WORDS, 0.02, {"", "One moment, please."}, provider)


def short(fault: Mapping[str, Any]) -> str:
    """``fault@moment+after*count``, the model's last letters and a mark for new sessions alone."""
    after = f"+{fault['after_ms']}" if fault.get("after_ms") else ""
    model = {MODEL: " first", SECOND_MODEL: " second"}.get(fault.get("model", ""), "")
    fresh = " new" if fault.get("new_sessions") else ""
    return f"{fault['fault']}@{fault['moment']}{after}*{fault['count']}{model}{fresh}"


@pytest.mark.parametrize(
    ("fault", "moment", "before", "after"),
    [
        ("refused", Moment.CONNECTING, ["refused@connecting+100*forever", "refused@connecting*forever"], []),
        ("mute", Moment.CONNECTING, ["mute@connecting+100*1", "refused@connecting*forever"], []),
        ("abort", Moment.IDLE, ["abort@idle+100*1"], ["refused@connecting*forever"]),
        ("failed", Moment.ANSWER_OWED, ["failed@answer_owed+100*forever"], ["refused@connecting*forever"]),
        ("duplicate", Moment.MID_ANSWER, ["duplicate@mid_answer+100*1"], []),
        (NONE, Moment.MID_ANSWER, [], []),
        (
            "abort",
            Moment.HANDOVER,
            ["abort@mid_answer+100*1 first", "abort@idle*forever second new"],
            ["refused@connecting*forever first"],
        ),
        (
            "orphan",
            Moment.HANDOVER,
            ["abort@mid_answer+100*1 first", "orphan@idle*1 second new"],
            ["refused@connecting*forever first"],
        ),
        ("hang", Moment.PROMOTION, ["abort@idle+100*1 first"], []),
    ],
)
async def test_a_dead_provider_stays_dead(
    fault: str, moment: Moment, before: list[str], after: list[str]
) -> None:
    provider = Provider()
    acted = scene(CELLS[fault, moment], provider)
    await acted.arm()
    assert [short(each) for each in provider.armed] == before
    await acted.session_is_open()
    assert [short(each) for each in provider.armed] == before + after


@pytest.mark.parametrize(
    ("moment", "armed"),
    [
        (Moment.CONNECTING, ["abort@connecting+100*1"]),
        (Moment.IDLE, ["abort@idle+100*1"]),
        (Moment.HANDOVER, ["abort@mid_answer+100*1 first", "abort@idle*1 second new"]),
    ],
)
async def test_a_blip_strikes_once(moment: Moment, armed: list[str]) -> None:
    provider = Provider()
    acted = scene(CELLS["abort", moment], provider, outage=False)
    await acted.arm()
    await acted.session_is_open()
    assert [short(each) for each in provider.armed] == armed


@pytest.mark.parametrize("cell", possible(), ids=str)
async def test_the_simulator_takes_whatever_a_cell_arms(cell: Cell) -> None:
    for outage in (True, False):
        provider = Provider()
        acted = scene(cell, provider, outage=outage, after_ms=after_ms(cell)[1])
        await acted.arm()
        await acted.session_is_open()
        # For a promotion the cell's own fault waits until the call is ready to be promoted.
        own = bool(cell.strikes_at) and cell.moment is not Moment.PROMOTION
        assert any(fault["fault"] == cell.fault for fault in provider.armed) is own or cell.fault == "abort"


@pytest.fixture
def rules(tmp_path: Any) -> list[Rule]:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return load_rules(path)


@pytest.fixture
def provider(rules: list[Rule]) -> RealtimeSimulator:
    options = Options(ToneEars(), ToneVoice(1.0), Brain(rules), first_audio_ms=20, transcript_ms=5, pace=50.0)
    return RealtimeSimulator(options)


async def place(origin: str, acted: Scene) -> Recorded:
    url = f"{origin.replace('http', 'ws', 1)}/v1/realtime?model={MODEL}"
    await acted.arm()
    caller = Caller(url, WORDS, pause=0.02, patience=3.0, answered=lambda event: False, script=acted.play)
    return await caller.place()


async def test_a_question_is_asked_and_answered(provider: RealtimeSimulator) -> None:
    async with http_client() as http, provider.start() as origin:
        call = await place(origin, scene(CELLS[NONE, Moment.MID_ANSWER], Simulator(origin, http)))
    kinds = [received.event["type"] for received in call.received]
    assert kinds.count("response.done") == 1
    assert (call.lost, call.tools_run, call.asked_at) == ("", [], None)
    assert [sent.event["type"] for sent in call.sent] == ["session.update"]
    assert call.ended_at - call.received[-1].at < 1.0


async def test_a_function_is_run_and_its_output_answered(provider: RealtimeSimulator) -> None:
    async with http_client() as http, provider.start() as origin:
        acted = scene(CELLS[NONE, Moment.TOOL_RESULT_SENT], Simulator(origin, http))
        call = await place(origin, acted)
    assert call.tools_run == ['order_status {"order_id": "4172"}']
    kinds = ["session.update", "conversation.item.create", "response.create"]
    assert [sent.event["type"] for sent in call.sent] == kinds
    assert call.asked_at is not None
    assert call.owed_at == call.waits_since == call.asked_at
    said = [r.event for r in call.received if r.event["type"] == "response.output_audio_transcript.done"]
    assert "Order 4 1 7 2 is on its way." in said[0]["transcript"]


async def test_while_a_function_runs_its_fault_strikes(provider: RealtimeSimulator) -> None:
    async with http_client() as http, provider.start() as origin:
        simulator = Simulator(origin, http)
        acted = scene(CELLS["unknown", Moment.TOOL_PENDING], simulator)
        call = await place(origin, acted)
        struck = await simulator.struck()
    assert [strike["moment"] for strike in struck] == ["tool_pending"]
    assert call.asked_at is not None
    assert acted.armed_at < struck[0]["at"] < call.asked_at


async def test_a_caller_whose_call_is_cut_off_does_not_wait(provider: RealtimeSimulator) -> None:
    began = time.monotonic()
    async with http_client() as http, provider.start() as origin:
        call = await place(origin, scene(CELLS["close_1011", Moment.IDLE], Simulator(origin, http)))
    assert call.lost == "closed with 1011"
    assert time.monotonic() - began < 2.5


class Armed(Simulator):
    """Says when something was armed in it."""

    def __init__(self, origin: str, http: httpx.AsyncClient) -> None:
        super().__init__(origin, http)
        self.now = asyncio.Event()

    async def arm(self, fault: Mapping[str, Any]) -> None:
        await super().arm(fault)
        self.now.set()


class Proved(Orchestrator):
    def __init__(self) -> None:
        self.asked = 0

    async def until_proved(self) -> None:
        self.asked += 1


async def test_a_promotion_is_struck_between_two_questions(provider: RealtimeSimulator) -> None:
    """Without an orchestrator: the session that is struck is one that this test opens."""
    cell, proved = CELLS["close_1011", Moment.PROMOTION], Proved()
    async with http_client() as http, provider.start() as origin:
        simulator = Armed(origin, http)
        acted = Scene(cell, 0, True, WORDS, 0.02, {""}, simulator, proved)
        url = f"{origin.replace('http', 'ws', 1)}/v1/realtime?model={MODEL}"

        async def prepare_another() -> Recorded:
            await simulator.now.wait()
            return await Caller(url, WORDS, pause=0.0, patience=3.0, answered=bool, script=replay).place()

        async def replay(line: Line) -> None:
            await line.open(audio={"input": {"turn_detection": None}})
            await line.until(lambda event: False)

        async def both(line: Line) -> None:
            _, other = await asyncio.gather(acted.play(line), prepare_another())
            assert other.lost == "closed with 1011"

        call = await Caller(url, WORDS, pause=0.0, patience=3.0, answered=bool, script=both).place()
        strikes = await simulator.struck()
    assert proved.asked == 1
    assert [received.event["type"] for received in call.received].count("response.done") == 2
    at = measured_strike(cell, strikes, acted.armed_at)
    assert at is not None
    assert call.turn_end_at is not None
    assert acted.armed_at < at < call.turn_end_at


def strike(fault: str, moment: str, at: float) -> dict[str, Any]:
    return {"fault": fault, "moment": moment, "at": at}


def test_which_strike_a_call_is_measured_from() -> None:
    strikes = [
        strike("abort", "mid_answer", 1.0),
        strike("abort", "idle", 5.0),
        strike("refused", "connecting", 6.0),
        strike("abort", "mid_answer", 7.0),
    ]
    assert measured_strike(CELLS["abort", Moment.MID_ANSWER], strikes, 0.5) == 1.0
    assert measured_strike(CELLS["abort", Moment.MID_ANSWER], strikes, 2.0) == 7.0
    assert measured_strike(CELLS["abort", Moment.MID_ANSWER], strikes, 8.0) is None
    assert measured_strike(CELLS[NONE, Moment.MID_ANSWER], strikes, 0.5) is None


def test_a_handover_is_measured_from_its_first_fault() -> None:
    cell = CELLS["abort", Moment.HANDOVER]
    strikes = [strike("abort", "mid_answer", 1.0), strike("abort", "idle", 1.1)]
    assert measured_strike(cell, strikes, 0.5) == 1.0
    assert second_strike(cell, strikes, 0.5) == 1.1
    assert second_strike(cell, strikes[:1], 0.5) is None
    assert second_strike(CELLS["abort", Moment.IDLE], strikes, 0.5) is None

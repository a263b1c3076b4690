"""The callers of a soak against a simulated provider: what they ask, and that they notice what goes wrong."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import soak_caller
from benchmarks.soak_caller import Call
from benchmarks.soak_run import HEARD, RULES
from benchmarks.soak_turns import Ending, Kind, Manner, Tally
from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate.brain import load_rules
from orchestrator.simulate.faults import parse_fault
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.voices import tone
from tests.simulate.simulated import fast_options

WORDS = tone(0.3, AudioFormat.PCM)
WAITS_S = {
    "PAUSE_S": (0.0, 0.0),
    "HANG_UP_S": (0.0, 0.0),
    "CLOSED_S": 0.1,
    "PATIENCE_S": 5.0,
    "SETTLE_S": 5.0,
}

Place = Callable[..., Awaitable[Call]]


@pytest.fixture
def provider(tmp_path: Path) -> RealtimeSimulator:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return RealtimeSimulator(fast_options(rules=load_rules(path), heard=HEARD))


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
async def place(
    provider: RealtimeSimulator, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """Place one call that is held in this manner."""
    for name, seconds in WAITS_S.items():
        monkeypatch.setattr(soak_caller, name, seconds)
    async with provider.start() as origin:

        async def placed(*kinds: Kind, **manner: Any) -> Call:
            call = Call(
                3, random.Random(1), WORDS, 20, tally, manner=Manner(kinds, **manner), orchestrator=False
            )
            await call.hold(f"{origin.replace('http', 'ws', 1)}/v1/realtime?model=gpt-realtime-2.1")
            return call

        yield placed


def arm(provider: RealtimeSimulator, fault: str, **fields: Any) -> None:
    provider.faults.arm(parse_fault({"fault": fault, **fields}))


async def test_turns_of_every_kind_are_answered(place: Place, tally: Tally) -> None:
    spoken = await place(Kind.VOICE, Kind.TEXT, Kind.TOOL, Kind.VOICE, vad=True, tools=True, transcripts=True)
    written = await place(Kind.MANUAL, Kind.TEXT)
    assert spoken.wrong == written.wrong == []
    assert (tally.asked, tally.endings) == (6, {Ending.ANSWERED: 6})
    assert tally.kinds == {"voice": 2, "text": 2, "tool": 1, "manual": 1}
    assert tally.up == 0


async def test_a_function_is_run_and_its_result_is_told(place: Place, provider: RealtimeSimulator) -> None:
    call = await place(Kind.TOOL, tools=True)
    sent = [event["item"]["type"] for event in call.log if event["type"] == "conversation.item.create"]
    assert sent == ["message", "function_call_output"]
    assert call.wrong == []


async def test_an_answer_that_is_talked_over_is_stopped(place: Place, provider: RealtimeSimulator) -> None:
    provider.options = fast_options(answer_seconds=30.0, pace=4.0)
    call = await place(Kind.VOICE, Kind.VOICE, vad=True, talks_over=frozenset({0}), hang_up=True)
    assert [turn.ending for turn in call.turns] == [Ending.STOPPED, Ending.HUNG_UP]
    assert call.wrong == []


async def test_a_failed_response_closes_its_turn(place: Place, provider: RealtimeSimulator) -> None:
    arm(provider, "failed", moment="answer_owed")
    call = await place(Kind.TEXT, Kind.TEXT)
    assert [turn.ending for turn in call.turns] == [Ending.CLOSED, Ending.ANSWERED]
    assert (call.closed, call.lost, call.wrong) == (1, [], [])


async def test_a_turn_that_gets_nothing_is_lost(
    place: Place, provider: RealtimeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak_caller, "PATIENCE_S", 0.2)
    arm(provider, "silent_turn")
    call = await place(Kind.VOICE, vad=True)
    assert call.lost == ["turn 0 (voice)"]


@pytest.mark.parametrize("fault", ["abort", "close_1011"])
async def test_a_lost_connection_is_told(place: Place, provider: RealtimeSimulator, fault: str) -> None:
    arm(provider, fault, moment="mid_answer")
    call = await place(Kind.TEXT, Kind.TEXT)
    assert [turn.ending for turn in call.turns] == [Ending.LOST]
    assert call.wrong[0].startswith("the connection was lost: 10")


async def test_a_connection_that_is_not_made_is_told(place: Place, provider: RealtimeSimulator) -> None:
    arm(provider, "http_5xx")
    assert (await place(Kind.TEXT)).wrong[0].startswith("no connection (InvalidStatus")


@pytest.mark.parametrize(
    ("fault", "told"),
    [("duplicate", "[event-id]"), ("orphan", "[response-unknown]"), ("unknown", "[type-unknown]")],
)
async def test_events_that_break_the_protocol_are_told(
    place: Place, provider: RealtimeSimulator, fault: str, told: str
) -> None:
    arm(provider, fault, moment="mid_answer")
    call = await place(Kind.TEXT)
    assert any(sentence.startswith(f"protocol: {told}") for sentence in call.wrong), call.wrong


@pytest.mark.parametrize(
    ("kind", "expected"), [(Kind.TEXT, "Answer 0 for caller 3"), (Kind.MANUAL, "noted your words|4 ?1 ?7 ?2")]
)
async def test_another_answer_than_the_one_asked_for_is_told(
    place: Place, provider: RealtimeSimulator, kind: Kind, expected: str
) -> None:
    """A provider tells no tier, and Tier C may use its own words: only where A or B answered, they are known."""
    provider.options = fast_options()
    call = await place(kind)
    assert call.wrong == []
    call.turns[0].answers = ["A"]
    call.judge()
    assert any(f"expected {expected!r}" in sentence for sentence in call.wrong)


async def test_what_is_saved_of_a_call_has_no_audio(place: Place) -> None:
    call = await place(Kind.TEXT)
    deltas = [event["delta"] for event in call.log if event["type"] == "response.output_audio.delta"]
    assert deltas
    assert all(delta.endswith("base64 characters>") for delta in deltas)
    assert [event["at"] for event in call.log] == sorted(event["at"] for event in call.log)


def test_manners_are_drawn_from_the_seed() -> None:
    first, again = ([Manner.draw(random.Random(seed)) for seed in range(200)] for _ in range(2))
    assert first == again
    kinds = {kind for manner in first for kind in manner.kinds}
    assert kinds == set(Kind)
    for manner in first:
        assert manner.vad is (Kind.MANUAL not in manner.kinds) or Kind.VOICE not in manner.kinds
        assert manner.tools or Kind.TOOL not in manner.kinds
        assert all(manner.kinds[number + 1] is Kind.VOICE for number in manner.talks_over)

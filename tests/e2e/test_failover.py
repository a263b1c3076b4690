"""What a caller hears of a provider that is late, silent, dying or at its limit: hedges, races, renewal, bridges."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.clients.recorder import Recorder
from tests.e2e.judging import Facts, answers, bridges, ended, told
from tests.e2e.stack import STAND_IN, Engines, Stack, speech, stack

FIRST, SPARE = "gpt-realtime-2.1", "gpt-realtime-2.1-mini"
SHORT = "cards-001.wav"
"""A second of speech."""
SESSION_S = 5.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, tier_b: Engines) -> Iterator[Stack]:
    """A service with two rungs, at a provider whose sessions are short."""
    provider = ("--speech", "tone", "--answer-seconds", "1", "--first-audio-ms", "50")
    settings = {
        "tier_a__rungs": f"{FIRST},{SPARE}",
        "breaker__failures": "1000",
        "promotion__quiet_s": "0.2",
        "promotion__min_interval_s": "0.2",
    }
    limit = ("--session-limit", str(SESSION_S))
    with stack(tmp_path_factory.mktemp("pair"), *provider, *limit, **tier_b.settings, **settings) as running:
        yield running


@asynccontextmanager
async def calling(live: Stack) -> AsyncIterator[Recorder]:
    """A caller on an open line, of a service that is healthy."""
    live.heal()
    async with Recorder(live.realtime, orchestrator=True) as caller:
        await caller.update()
        assert caller.session["orchestrator"]["tier"] == "A"
        async with caller.microphone():
            yield caller


def arm_alone(live: Stack, fault: str, moment: str, after_ms: int = 0) -> None:
    """A fault for the call under way, and its rung is not to be had again at once: Tier B answers, without a race."""
    live.arm("refused", "connecting")
    live.arm(fault, moment, after_ms)


async def answered(caller: Recorder) -> Facts:
    """The next completed response that is more than a bridge."""
    while True:
        done = await caller.wait_for("response.done", _completed, timeout=20)
        response = ended(caller, done["response"]["id"])
        if answers([response]):
            return response


def _completed(event: dict[str, Any]) -> bool:
    return bool(event["response"]["status"] == "completed")


async def thanked(caller: Recorder) -> list[Facts]:
    """All responses before a word of thanks that is answered: none of them can still be on its way."""
    await caller.write("Thank you.")
    await caller.send({"type": "response.create", "response": {"metadata": {"topic": "thanks"}}})
    await caller.wait_for("response.done", _thanks, timeout=20)
    return [each for each in told(caller) if each["metadata"].get("topic") != "thanks"]


def _thanks(event: dict[str, Any]) -> bool:
    return (event["response"]["metadata"] or {}).get("topic") == "thanks"


def rows(live: Stack, caller: Recorder, type: str) -> list[dict[str, Any]]:
    return live.rows(caller.session["orchestrator"]["call_id"], type)


def moves(live: Stack, caller: Recorder) -> list[tuple[str, str, str]]:
    """Where the call went and why, in order."""
    return [(row["to_tier"], row["trigger"], row["cause"]) for row in rows(live, caller, "handover")]


def bridged(live: Stack, caller: Recorder) -> list[str]:
    """The kinds of the bridges that were sent; each was heard by the caller, in the words of the catalogue."""
    sent = rows(live, caller, "bridge")
    assert [row["text"] for row in sent] == [item["words"] for item in bridges(told(caller))]
    return [row["kind"] for row in sent]


# Hedging


async def test_tier_b_answers_before_the_deadline_of_a_provider_that_says_nothing(quick: Stack) -> None:
    async with calling(quick) as caller:
        quick.arm("silent_turn", "answer_owed")
        await caller.say(speech(SHORT))
        response = await answered(caller)
        assert response["metadata"]["tier"] == "B"
        assert [item["words"] for item in answers(await thanked(caller))] == [STAND_IN]
    assert moves(quick, caller) == [("B", "hedge", "late_audio")]
    (hedge,) = rows(quick, caller, "hedge")
    assert hedge["result"] == "adopted"
    assert hedge["after_ms"] < 1500, "the deadline is 1.5 s after the hedge began"
    assert bridged(quick, caller) == [], "the answer was there"


async def test_a_provider_that_is_merely_late_is_the_one_that_is_heard(quick: Stack, tier_b: Engines) -> None:
    async with calling(quick) as caller:
        # The provider's audio is held back until long after the hedge began, whose model never says a word.
        quick.arm("unknown", "answer_owed", after_ms=1000)
        tier_b.arm("hang")
        before = len(tier_b.llm.get("/control/state")["requests"])
        await caller.say(speech(SHORT))
        response = await answered(caller)
        assert len(tier_b.llm.get("/control/state")["requests"]) == before + 1, "the hedge had asked"
        assert response["metadata"]["tier"] == "A"
        responses = await thanked(caller)
        assert len(responses) == len(answers(responses)) == 1
    assert moves(quick, caller) == []
    (hedge,) = rows(quick, caller, "hedge")
    assert (hedge["result"], hedge["reason"]) == ("lost", "tier A answered")


# Bridges


async def test_a_caller_who_waited_is_told_sorry_before_an_answer_that_is_slow(
    quick: Stack, tier_b: Engines
) -> None:
    async with calling(quick) as caller:
        arm_alone(quick, "silent_turn", "answer_owed")
        tier_b.arm("slow")
        await caller.say(speech(SHORT))
        response = await answered(caller)
        assert [item["words"] for item in response["items"]][1:] == [STAND_IN], "a bridge, then the answer"
        assert len(answers(await thanked(caller))) == 1
    assert moves(quick, caller) == [("B", "deadline", "response_timeout")]
    assert [row["result"] for row in rows(quick, caller, "hedge")] == ["adopted"]
    assert bridged(quick, caller) == ["late"]


async def test_a_caller_who_was_cut_off_is_told_so_when_the_rest_is_slow(
    quick: Stack, tier_b: Engines
) -> None:
    async with calling(quick) as caller:
        arm_alone(quick, "abort", "mid_answer", after_ms=400)
        tier_b.arm("slow")
        await caller.say(speech(SHORT))
        await answered(caller)
        broken, _ = await thanked(caller)
        assert broken["status"] == "incomplete"
    assert bridged(quick, caller) == ["interrupted"]


async def test_no_bridge_where_the_rest_is_there_before_the_audio_runs_out(quick: Stack) -> None:
    async with calling(quick) as caller:
        arm_alone(quick, "abort", "mid_answer", after_ms=3000)
        await caller.say(speech(SHORT))
        response = await answered(caller)
        assert [item["words"] for item in response["items"]] == [STAND_IN]
    assert moves(quick, caller) == [("B", "fault", "closed")]
    assert bridged(quick, caller) == []


# A provider that dies without a word


async def test_a_connection_that_dies_while_nobody_speaks_is_noticed_and_costs_nothing(quick: Stack) -> None:
    async with calling(quick) as caller:
        quick.arm("half_open", "idle")
        await caller.wait_for("session.updated", _serves("B"), timeout=10)
        assert told(caller) == [], "nobody asked anything, nothing is said"
        await caller.say(speech(SHORT))
        await answered(caller)
        assert [item["words"] for item in answers(await thanked(caller))] == [STAND_IN]
    assert moves(quick, caller) == [("B", "fault", "closed")]
    assert bridged(quick, caller) == []


def _serves(tier: str) -> Any:
    return lambda event: event["session"]["orchestrator"]["tier"] == tier


@pytest.mark.parametrize("moment", ["idle", "caller_speaking"])
async def test_a_provider_that_hears_no_more_is_noticed_by_the_callers_voice(
    quick: Stack, moment: str
) -> None:
    async with calling(quick) as caller:
        quick.arm("mute", moment)
        await caller.say(speech("cards-004.wav"))
        response = await answered(caller)
        assert response["metadata"]["tier"] == "B"
        assert [item["words"] for item in answers(await thanked(caller))] == [STAND_IN]
        turns = caller.events("input_audio_buffer.committed")
        assert len(turns) == 1, "the caller has spoken once"
    assert moves(quick, caller) == [("B", "deadline", "deaf")]


# The second rung


async def test_the_next_rung_answers_first_where_tier_b_is_slow(pair: Stack, tier_b: Engines) -> None:
    async with calling(pair) as caller:
        pair.arm("failed", "answer_owed", model=FIRST)
        tier_b.arm("hang")
        await caller.say(speech(SHORT))
        response = await answered(caller)
        assert response["metadata"] == {"tier": "A", "rung": SPARE}
        assert len(answers(await thanked(caller))) == 1
    assert moves(pair, caller)[:2] == [("B", "fault", "response_failed"), ("A", "recovery", "answered_first")]
    assert bridged(pair, caller) == ["default"]


async def test_tier_b_answers_first_where_the_next_rung_hangs(pair: Stack) -> None:
    async with calling(pair) as caller:
        pair.arm("failed", "answer_owed", model=FIRST)
        pair.arm("hang", "connecting", model=SPARE)
        await caller.say(speech(SHORT))
        response = await answered(caller)
        assert [item["words"] for item in answers([response])] == [STAND_IN]
        assert len(answers(await thanked(caller))) == 1
    given_up = rows(pair, caller, "preparation_abandoned")[0]
    assert (given_up["purpose"], given_up["rung"]) == ("race", SPARE)
    assert given_up["reason"] == "tier B answered first"


# The limit of a session


@pytest.mark.long
async def test_a_call_that_outlives_three_sessions_is_one_call(pair: Stack) -> None:
    rooms = ["kitchen", "cellar", "garden", "attic"]
    async with calling(pair) as caller:
        for number, room in enumerate(rooms):
            if number:
                await caller.wait_for("session.updated", timeout=SESSION_S)
            response = await caller.ask(f"I am in the {room}.")
            assert response["metadata"] == {"tier": "A", "rung": FIRST}
        await caller.say(speech(SHORT))
        await answered(caller)
        heard = answers(told(caller))
        assert len(heard) == len(rooms) + 1
        assert all(item["audio_ms"] == heard[0]["audio_ms"] for item in heard), "each is whole"
    assert moves(pair, caller)[:3] == [("A", "expiry", "renewed")] * 3
    assert {trigger for _, trigger, _ in moves(pair, caller)} == {"expiry"}
    assert len(caller.events("session.created")) == 1
    connections = pair.provider.get("/control/state")["connections"]
    sessions = [json.dumps((each["session"] or {}).get("received")) for each in connections]
    for number in range(len(rooms)):
        told_of = [session for session in sessions if all(room in session for room in rooms[: number + 1])]
        assert len(told_of) >= len(rooms) - number, "each session was told what came before it"

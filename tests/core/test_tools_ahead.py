"""Tools while the turn is not over: what changes nothing runs at a pause, what changes something waits for the turn."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.actions import RunTool, StartAnswer
from orchestrator.core.tools import Result, ToolOutcome
from orchestrator.protocol.answers import AudioDelta, Finished, TextDelta, ToolCallReady
from orchestrator.protocol.audio import AudioFormat
from tests.core.bench import Bench, local
from tests.core.talk import toolset


@pytest.fixture
def bench() -> Bench:
    bench = Bench(tools=toolset())
    local(bench)
    return bench


def pauses(bench: Bench, words: str = "Where is order 4172?") -> None:
    """The caller says something and is quiet for the length of a pause."""
    bench.live(0.9, 960)
    bench.live(0.0, 192)
    bench.words(words)


def tells(bench: Bench, *events: Any, answer: int = -1) -> None:
    answer_id = bench.all(StartAnswer)[answer].request.answer_id
    for event in events:
        bench.call.answer_event(answer_id, event, bench.now)
    bench.settle()


def asks(bench: Bench, name: str = "get_order_status") -> None:
    tells(bench, ToolCallReady("call_1", name, '{"order_id": "4172"}'), Finished(rung="kokoro"))


def done(bench: Bench, output: Any) -> None:
    run = bench.last(RunTool)
    bench.call.tool_done(run.tool_call_id, ToolOutcome(Result.DONE, output), bench.now)
    bench.settle()


def test_a_tool_that_changes_nothing_has_run_and_is_answered_when_the_turn_ends(bench: Bench) -> None:
    pauses(bench)
    asks(bench)
    done(bench, {"status": "shipped"})
    assert len(bench.all(StartAnswer)) == 2
    assert len(bench.ctx.conversation) == 0
    tells(
        bench,
        TextDelta("It has been shipped."),
        AudioDelta(AudioFormat.PCM.silence(400)),
        Finished(rung="kokoro"),
    )
    assert not bench.of("response.created")
    bench.live(0.0, 384)
    (response,) = bench.of("response.done")
    assert response["response"]["output"][0]["content"][0]["transcript"] == "It has been shipped."
    assert (len(bench.all(StartAnswer)), len(bench.all(RunTool))) == (2, 1)
    assert [row["result"] for row in bench.rows("speculation")] == ["used", "used"]
    assert [item.kind for item in bench.ctx.conversation] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert bench.ctx.outcomes.open == []
    bench.check()


def test_a_tool_that_is_still_at_work_when_the_turn_ends_is_not_run_again(bench: Bench) -> None:
    pauses(bench)
    asks(bench)
    bench.live(0.0, 384)
    assert len(bench.all(RunTool)) == 1
    done(bench, {"status": "shipped"})
    tells(bench, TextDelta("Shipped."), AudioDelta(AudioFormat.PCM.silence(400)), Finished(rung="kokoro"))
    assert len(bench.of("response.done")) == 1
    assert bench.ctx.outcomes.open == []
    bench.check()


def test_a_caller_who_goes_on_makes_nothing_of_it(bench: Bench) -> None:
    pauses(bench)
    asks(bench)
    bench.live(0.9, 640)
    done(bench, {"status": "shipped"})
    bench.live(0.0, 192)
    bench.words("Where is order 4172? No, 4173.")
    assert len(bench.ctx.conversation) == 0
    assert "shipped" not in str(bench.request.history)
    assert bench.rows("tool_result")[0]["output"] == {"status": "shipped"}, (
        "it did run, and that is on record"
    )


def test_a_tool_that_changes_something_waits_for_the_turn(bench: Bench) -> None:
    pauses(bench, "Cancel order 4172.")
    asks(bench, "cancel_order")
    assert not bench.all(RunTool)
    assert not bench.rows("tool_call")
    bench.live(0.0, 384)
    assert bench.rows("tool_call")[0]["status"] == "proposed"
    assert (bench.request.say or "").endswith("?")
    assert not bench.all(RunTool)


def test_nothing_is_begun_ahead_while_a_yes_may_come(bench: Bench) -> None:
    pauses(bench, "Cancel order 4172.")
    asks(bench, "cancel_order")
    bench.live(0.0, 384)
    begun = len(bench.all(StartAnswer))
    tells(
        bench,
        TextDelta(bench.request.say or ""),
        AudioDelta(AudioFormat.PCM.silence(400)),
        Finished(rung="kokoro"),
    )
    bench.wait(2.0)
    pauses(bench, "Yes.")
    assert len(bench.all(StartAnswer)) == begun
    bench.live(0.0, 384)
    assert [run.tool for run in bench.all(RunTool)] == ["cancel_order"]

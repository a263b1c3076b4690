"""The scripted support call: the simulated model, a desk that does as it should, and the business agree on it."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from orchestrator.simulate.brain import Brain
from orchestrator.simulate.dialogue import Call, Called, Entry, Heard, Question, Returned, Say, Told
from orchestrator.simulate.errands import agrees
from orchestrator.simulate.fault_board import parse
from orchestrator.simulate.faults import CATALOGUE
from orchestrator.simulate.records import Records
from orchestrator.simulate.support_call import (
    NEVER,
    SUPPORT_CALL,
    Turn,
    deaths,
    expected_changes,
)

BUSINESS = Records()
TOOLS = BUSINESS.tools()
OFFERED = [{"type": "function", "name": tool.name, "parameters": tool.schema} for tool in TOOLS.values()]
OFFERED.append(
    {"type": "function", "name": "wait_for_user", "parameters": {"type": "object", "properties": {}}}
)


class Telephone:
    """A call with a desk that lets what changes something run after a yes to its read-back, and not sooner."""

    def __init__(self) -> None:
        self.past: list[Entry] = []
        self.ran: list[Call] = []
        self._open: Call | None = None
        self._brain = Brain()

    def turn(self, turn: Turn) -> None:
        self.past.append(Heard(turn.words))
        heard: str | None = turn.words
        output: str | None = None
        while True:
            answer = self._brain.reply(Question(heard, output, OFFERED, past=self.past))
            if isinstance(answer, Say):
                self.past.append(Told(" ".join(answer.sentences)))
                return
            self.past.append(Called(f"call_{len(self.past)}", answer))
            if answer.name == "wait_for_user":
                assert turn.silent
                return
            heard, output = None, json.dumps(self._decide(answer, turn))
            self.past.append(Returned(f"call_{len(self.past) - 1}", output))

    def _decide(self, call: Call, turn: Turn) -> dict[str, object]:
        tool = TOOLS[call.name]
        agreed = call == self._open and agrees(turn.words) and not turn.over
        if tool.mutating and not agreed:
            self._open = call
            return {"status": "confirmation_needed", "say": f"{call.name} {call.arguments}, is that right?"}
        self.ran.append(call)
        return {"status": "done", "result": {"number": len(self.ran), **tool.run(call.arguments)}}


def test_the_call_goes_as_it_is_written() -> None:
    assert len(SUPPORT_CALL) == 20
    line = Telephone()
    for turn in SUPPORT_CALL:
        before = len(line.ran)
        line.turn(turn)
        wanted = [call for call in (turn.reads, turn.changes) if call is not None]
        assert line.ran[before:] == wanted, turn.words
    changes = [call for call in line.ran if TOOLS[call.name].mutating]
    assert changes == expected_changes()
    assert len(changes) == 5
    assert not any(call in changes for call in NEVER)


@pytest.mark.parametrize("seed", range(50))
def test_deaths_are_six_different_turns_and_possible(seed: int) -> None:
    plan = deaths(seed)
    assert plan == deaths(seed)
    assert len({death.turn for death in plan}) == 6
    assert [death.turn for death in plan] == sorted(death.turn for death in plan)
    for death in plan:
        assert not SUPPORT_CALL[death.turn].silent
        parse({"fault": death.fault, "moment": death.moment, "after_ms": death.after_ms}, CATALOGUE)


def test_every_kind_of_moment_comes_up() -> None:
    moments = Counter(death.moment for seed in range(50) for death in deaths(seed))
    assert set(moments) == {"answer_owed", "mid_answer", "tool_pending", "tool_result_sent"}

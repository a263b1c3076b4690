"""Every turn ends once."""

from __future__ import annotations

import pytest

from orchestrator.core.outcomes import Outcome, Outcomes
from tests.core.bench import Bench, lose


def test_turns_are_counted_from_their_question_to_their_end() -> None:
    outcomes = Outcomes()
    first, second = outcomes.ask(), outcomes.ask()
    assert outcomes.open == [first, second]
    assert outcomes.end(first, Outcome.ANSWERED)
    assert outcomes.open == [second]
    assert outcomes.count(Outcome.ANSWERED) == 1


def test_a_turn_cannot_end_twice() -> None:
    outcomes = Outcomes()
    turn = outcomes.ask()
    outcomes.end(turn, Outcome.CLOSED)
    with pytest.raises(RuntimeError, match="ended twice"):
        outcomes.end(turn, Outcome.ANSWERED)


def test_an_out_of_band_response_is_nobodys_turn() -> None:
    assert not Outcomes().end(0, Outcome.ANSWERED)


def test_a_turn_keeps_its_number_through_a_handover(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    lose(bench)
    assert bench.ctx.outcomes.open == [1]
    bench.answer("The rest.")
    assert [(row["turn"], row["outcome"]) for row in bench.rows("turn_ended")] == [(1, "answered")]


def test_a_caller_who_hangs_up_is_told_apart_from_one_who_was_not_answered(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.call.client_closed(bench.now)
    bench.settle()
    assert bench.rows("call_ended")[0]["turns"] == {"answered": 0, "stopped": 0, "closed": 0, "hung_up": 1}

"""The table of states: closed, and every move of it leads somewhere a call can leave again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.core import states
from orchestrator.core.states import PREPARED, RELAYED, SERVED_LOCALLY, TABLE, Move, State, after


def test_every_state_but_the_last_can_be_ended() -> None:
    ending = {state for state, move in TABLE if move is Move.END}
    assert ending == set(State) - {State.ENDED} == {state for state, _ in TABLE}


def test_every_state_can_be_reached_and_every_move_is_made_somewhere() -> None:
    assert set(TABLE.values()) | {State.NEW} == set(State)
    assert {move for _, move in TABLE} == set(Move)


def test_only_tier_a_is_degraded_and_only_a_prepared_session_takes_up() -> None:
    assert {state for state, move in TABLE if move is Move.DEGRADE} <= RELAYED
    assert {state for state, move in TABLE if move is Move.TAKE_UP} == PREPARED
    assert RELAYED.isdisjoint(SERVED_LOCALLY)
    assert PREPARED < RELAYED | SERVED_LOCALLY


def test_a_preparation_that_is_abandoned_leaves_the_call_where_it_was() -> None:
    for (state, move), target in TABLE.items():
        if move is Move.ABANDON:
            assert (state in RELAYED) == (target in RELAYED)


def test_a_move_that_cannot_be_made_says_so() -> None:
    with pytest.raises(RuntimeError, match="a call that is ended cannot hedge"):
        after(State.ENDED, Move.HEDGE)


def test_the_description_names_every_state() -> None:
    assert all(state.name in (states.__doc__ or "") for state in State)


def test_the_documented_table_is_the_one_in_force() -> None:
    text = (Path(__file__).parents[2] / "docs" / "failover.md").read_text()
    rows = re.findall(r"^\| ([A-Z]+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    documented = {
        (State[name], Move(move)): State[target]
        for name, moves in rows
        for move, target in re.findall(r"(\w+) → ([A-Z]+)", moves)
    }
    assert documented == {key: target for key, target in TABLE.items() if key[1] is not Move.END}
    described = set(re.findall(r"^\| (\w+) \| [^|]+ \|$", text, re.MULTILINE))
    assert {move.value for move in Move} - {"end"} <= described

"""The matrix of faults and moments, held against the simulator that has to produce every cell of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import matrix
from benchmarks.matrix import CELLS, FAULTS, HEADLINES, KINDS, MAIN, NONE, Cell, Kind, Moment, possible
from orchestrator.simulate.faults import CATALOGUE, FaultId

STRIKES_AT = {moment: {moment.value} for moment in Moment} | {
    Moment.HANDOVER: {"connecting", "idle", "answer_owed"},
    Moment.PROMOTION: {"connecting", "replaying"},
}
"""Where the simulator strikes for a moment of the matrix. The session that is being prepared is first opened; in a
handover it is then just created and asked for an answer, for a promotion it is given the conversation."""


def test_every_fault_of_the_simulator_is_in_the_matrix_and_no_other() -> None:
    assert sorted(FAULTS) == sorted([*(fault.value for fault in FaultId), NONE])
    assert len(CELLS) == len(FAULTS) * len(Moment)


@pytest.mark.parametrize("cell", [cell for cell in CELLS.values() if cell.fault != NONE], ids=str)
def test_a_cell_can_occur_exactly_where_the_simulator_can_strike(cell: Cell) -> None:
    strikes = {moment.value for moment in CATALOGUE[FaultId(cell.fault)].moments} & STRIKES_AT[cell.moment]
    assert cell.possible is bool(strikes)
    if cell.possible:
        assert cell.strikes_at in strikes
        assert cell.reason == ""
    else:
        assert cell.strikes_at == ""


def test_every_other_cell_says_why_in_a_few_words() -> None:
    for cell in CELLS.values():
        assert cell.possible or 1 < len(cell.reason.split()) < 7, cell


def test_what_a_fault_is_told_by() -> None:
    assert {KINDS[fault] for fault in MAIN} == {Kind.HARD, Kind.SILENT}
    assert KINDS["half_open"] is KINDS["hang"] is Kind.SILENT
    assert KINDS["duplicate"] is Kind.HARMLESS
    assert [fault for fault, kind in KINDS.items() if kind is Kind.NONE] == [NONE]


def test_each_main_fault_has_its_headline() -> None:
    assert [cell.fault for cell in HEADLINES] == [*MAIN, NONE]
    assert all(cell.possible for cell in HEADLINES)


def test_cells_are_chosen_by_fault_and_moment() -> None:
    found = possible(["stall", "abort"], [Moment.MID_ANSWER, Moment.IDLE])
    assert [str(cell) for cell in found] == ["stall mid_answer", "abort idle", "abort mid_answer"]
    assert possible(["stall"], [Moment.IDLE]) == []


def test_the_documentation_shows_this_matrix() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    assert matrix.markdown() in text

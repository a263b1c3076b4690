"""The demo's verdict: a call with every step passes, and what is missing is named with its step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.demo.checks import heard_number, not_done, run_checks
from orchestrator.demo.measure import failover
from orchestrator.demo.recording import Recording, Row
from tests.demo.invented import BRIDGE, SCRIPT, whole_call, without_bridge


def failing_steps(recording: Recording) -> set[int]:
    return {check.step for check in run_checks(recording, SCRIPT) if not check.ok}


def test_a_whole_call_passes() -> None:
    checks = run_checks(whole_call(), SCRIPT)
    assert not_done(checks) == []
    assert {check.step for check in checks} == set(range(8))


def test_nothing_passes_where_nothing_happened() -> None:
    missing = not_done(run_checks(Recording(), SCRIPT))
    assert [line for line in missing if line.startswith("step 3 (Bridge, then Tier B")]
    assert failing_steps(Recording()) == set(range(8))


def without(*types: str, step: int | None = None) -> Callable[[Recording], None]:
    def remove(recording: Recording) -> None:
        recording.rows = [
            row for row in recording.rows if row.type not in types or step not in (None, row.get("step"))
        ]

    return remove


def changed(type: str, change: Callable[[Row], Row], step: int | None = None) -> Callable[[Recording], None]:
    """Every row of that type (and step) as `change` makes it."""

    def apply(recording: Recording) -> None:
        recording.rows = [
            change(row) if row.type == type and step in (None, row.get("step")) else row
            for row in recording.rows
        ]

    return apply


def fields(**changes: object) -> Callable[[Row], Row]:
    return lambda row: replace(row, fields={**row.fields, **changes})


def add(type: str, tier: str = "", **values: object) -> Callable[[Recording], None]:
    return lambda recording: recording.add(1.0, type, tier, **values) and None


def said_for_bridge(words: str) -> Callable[[Recording], None]:
    def say(recording: Recording) -> None:
        for type in ("said", "bridge"):
            changed(type, lambda row: fields(text=words)(row) if row["text"] == BRIDGE else row)(recording)

    return say


BROKEN = {
    "another session": (add("session.created", "A", session_id="sess_2", call_id="call_1"), {0}),
    "lost connection": (add("connection_lost", why="1006"), {0}),
    "error event": (add("error", message="no"), {0}),
    "never in tier A": (changed("session.created", lambda row: replace(row, tier="B")), {1}),
    "first answer cut off": (changed("said", fields(status="incomplete"), step=1), {1}),
    "first answer by tier B": (changed("response.done", lambda row: replace(row, tier="B"), step=1), {1}),
    "killed before it spoke": (without("first_audio", step=2), {2}),
    "lost answer was complete": (
        changed(
            "response.done", lambda row: fields(status="completed")(row) if row.tier == "A" else row, step=3
        ),
        {2},
    ),
    "words that are no bridge's": (said_for_bridge("Hold on."), {3}),
    "session stays in tier A": (
        changed("session.updated", lambda row: replace(row, tier="A"), step=3),
        {3, 6},
    ),
    "no tool call": (without("tool", step=3), {3}),
    "tool asked for another order": (changed("tool", fields(order_id="1111"), step=3), {3}),
    "another number in the words": (changed("said", fields(text="Your order number 4173."), step=3), {3}),
    "another number in the audio": (changed("transcribed", fields(text="Your order number 4 1 7 3.")), {3}),
    "nothing in the audio": (without("transcribed"), {3}),
    "small talk by tier C": (changed("response.done", lambda row: replace(row, tier="C"), step=4), {4}),
    "second answer by tier B": (changed("response.done", lambda row: replace(row, tier="B"), step=5), {5}),
    "no second answer": (without("said", step=5), {5}),
    "provider not started": (without("provider_started"), {6}),
    "no promotion": (without("session.updated", step=6), {6}),
    "one last turn": (without("said", step=7), {7}),
    "no hang-up": (without("hung_up"), {7}),
    "server hung up": (changed("hung_up", fields(by="server")), {7}),
}


@pytest.mark.parametrize("defect", BROKEN)
def test_what_is_missing_is_found(defect: str) -> None:
    breaking, steps = BROKEN[defect]
    recording = whole_call()
    breaking(recording)
    assert failing_steps(recording) == steps


@pytest.mark.parametrize(
    "words", ["", "One moment, please.", "Un instant. Je passe à un service plus simple."]
)
def test_any_bridge_will_do(words: str) -> None:
    recording = whole_call()
    said_for_bridge(words)(recording)
    assert failing_steps(recording) == set()


def test_a_bridge_is_missed_only_where_the_answer_is_late() -> None:
    recording = without_bridge()
    assert failing_steps(recording) == set()
    figures = failover(recording)
    assert figures is not None
    assert figures.answer is not None
    late = figures.buffered_until - figures.answer + 1.0

    def later(row: Row) -> Row:
        return replace(row, at=row.at + late) if row.at == figures.answer else row

    changed("first_audio", later)(recording)
    assert failing_steps(recording) == {3}


def test_a_promotion_in_the_middle_of_speech_is_found() -> None:
    recording = whole_call()
    spoken = recording.of("caller_speaks", step=7)[0]
    changed("session.updated", lambda row: replace(row, at=spoken.at + 0.5), step=6)(recording)
    assert failing_steps(recording) == {6}


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("Your order number 4172 has been shipped.", "4172"),
        ("Your order number four one, seven two has been shipped.", "4172"),
        ("Your order number 4-1 7 2 is out for delivery.", "4172"),
        ("Your order number eight nine for three has been shipped.", "8943"),
        ("Your order number 3 1566 is out for delivery.", "31566"),
        ("Your order has been shipped to 4172.", ""),
        ("", ""),
    ],
)
def test_numbers_are_heard_however_they_are_written(words: str, number: str) -> None:
    assert heard_number(words) == number

"""Who spoke when, and how long the caller waited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.demo.measure import (
    answer_to_open_question,
    cost_usd,
    failover,
    latency_ms,
    speeches,
    spent_usd,
)
from orchestrator.demo.recording import WIRE, Heard, Recording, playing_times
from orchestrator.listening import Arrival, play
from tests.demo.invented import whole_call


def test_speeches_are_in_the_order_of_hearing_and_know_their_tier() -> None:
    heard = [(s.who, s.bridge) for s in speeches(whole_call()) if s.who != "caller"]
    assert heard == [
        ("A", False),
        ("A", False),
        ("B", True),
        ("C", False),
        ("B", False),
        ("C", False),
        ("A", False),
        ("A", False),
    ]


def test_the_answer_to_the_open_question_is_not_the_bridge() -> None:
    answer = answer_to_open_question(whole_call())
    assert answer is not None
    assert answer.text.startswith("Your order number 4172")


def test_failover_counts_from_the_kill_to_the_arrivals() -> None:
    figures = failover(whole_call())
    assert figures is not None
    assert figures.since_kill_ms(figures.bridge) == pytest.approx(20.0)
    assert figures.since_kill_ms(figures.answer) == pytest.approx(1520.0)
    # Four seconds came at once, and one of them was heard before the kill.
    assert figures.buffered_until - figures.killed == pytest.approx(3.0)
    # The bridge and the answer were there before the client had played that out.
    assert figures.longest_silence_ms == 0.0


def test_a_late_answer_is_a_silence() -> None:
    recording = whole_call()
    answer = answer_to_open_question(recording)
    assert answer is not None
    late = [
        Heard(piece.at + (5.0 if piece.item_id == answer.item_id else 0.0), *_rest(piece))
        for piece in recording.heard
    ]
    recording.heard = sorted(late, key=lambda piece: piece.at)
    figures = failover(recording)
    assert figures is not None
    # 1.52 s + 5 s after the kill; 3 s of the lost answer and 1.2 s of the bridge were to be heard.
    assert figures.longest_silence_ms == pytest.approx(2320.0, abs=20)


def _rest(piece: Heard) -> tuple[str, str, bytes]:
    return piece.response_id, piece.item_id, piece.data


def test_nothing_is_measured_without_a_kill() -> None:
    assert failover(Recording()) is None


def test_latency_counts_from_the_end_of_the_callers_words() -> None:
    recording = whole_call()
    begun = recording.of("first_audio")[0]
    assert latency_ms(recording, begun.at) == pytest.approx(1000.0)
    assert latency_ms(recording, recording.rows[0].at) is None


def test_costs_are_the_published_prices() -> None:
    recording = whole_call()
    done = recording.of("response.done")
    assert cost_usd(done[0]) == pytest.approx(100 * 64e-6)
    assert cost_usd(next(row for row in done if row["status"] == "incomplete")) is None
    assert cost_usd(next(row for row in done if row.tier == "C")) == 0.0
    assert spent_usd(recording) == 0.0123
    assert spent_usd(Recording()) is None


pieces = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 400)), min_size=1, max_size=12)


@given(pieces, st.lists(st.integers(0, 4000), max_size=2))
def test_playing_times_agree_with_the_playing_itself(
    parts: list[tuple[int, int]], flushes: list[int]
) -> None:
    moments = sorted(at for at, _ in parts)
    heard = [
        Heard(at / 1000, "resp", f"item_{index}", WIRE.silence(ms))
        for index, (at, (_, ms)) in enumerate(zip(moments, parts, strict=True))
    ]
    at_seconds = [at / 1000 + 0.0005 for at in flushes]
    played = play([Arrival(piece.at, piece.data) for piece in heard], WIRE, at_seconds)
    spans = playing_times(heard, at_seconds)
    assert max(span.end for span in spans.values()) == pytest.approx(played.end, abs=0.001)
    kept = sum(span.ms for span in spans.values())
    total = sum(WIRE.ms(len(piece.data)) for piece in heard)
    assert kept == pytest.approx(total - played.dropped_ms, abs=0.5)

"""Figures of calls that were made up, so that every one of them is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peers.figures import FORMAT, Figures, Outcome, Piece, Stream, answer, figures, since
from orchestrator.protocol.audio import from_pcm16

TURN_END = 100.0
"""In these calls the caller's words end at second 100."""


def sound(ms: int, amplitude: float = 4000.0) -> bytes:
    samples = np.random.default_rng(ms).normal(0, amplitude, ms * FORMAT.rate // 1000)
    return from_pcm16(samples.clip(-32768, 32767).astype(np.int16), FORMAT)


def call(*pieces: tuple[float, str, int], complete: tuple[str, ...] = (), closed: str = "") -> Stream:
    """Pieces as seconds after the caller's last word, unit, milliseconds of sound."""
    stream = Stream(TURN_END - 3.0, turn_ends=[TURN_END], complete=list(complete), closed=closed)
    stream.pieces = [Piece(TURN_END + at, sound(ms), unit) for at, unit, ms in pieces]
    return stream


CUT = [(0.8, "a", 500), (0.9, "a", 1000)]
"""An answer of which 1.5 s came by second 0.9; a player is done with it at 2.3."""


def test_without_a_fault_a_call_is_timed_from_the_callers_last_word() -> None:
    found = figures(call((0.8, "a", 1000), complete=("a",)), None)
    assert found.outcome is Outcome.ANSWERED
    assert found.sound_ms == found.answer_ms == pytest.approx(800)
    assert found.silence_ms == pytest.approx(800, abs=11)


def test_a_fault_in_mid_answer_is_timed_from_where_it_struck() -> None:
    stream = call(*CUT, (1.5, "bridge", 300), (3.0, "b", 800), complete=("b",))
    found = figures(stream, TURN_END + 1.0)
    assert found.outcome is Outcome.ANSWERED
    assert found.sound_ms == pytest.approx(500)
    assert found.answer_ms == pytest.approx(2000)
    # What was cut plays until 2.3 and the bridge behind it until 2.6; then nothing until 3.0.
    assert found.silence_ms == pytest.approx(400, abs=21)


def test_audio_thrown_away_unplayed_is_not_heard() -> None:
    stream = call(*CUT, (1.5, "b", 800), complete=("b",))
    assert figures(stream, TURN_END + 1.0).silence_ms == 0.0
    stream.flushes.append(TURN_END + 1.0)
    assert figures(stream, TURN_END + 1.0).silence_ms == pytest.approx(500, abs=21)


def test_the_rest_of_the_answer_that_was_cut_is_neither_new_sound_nor_an_answer() -> None:
    stream = call(*CUT, (1.01, "a", 200), complete=("a",))
    assert figures(stream, TURN_END + 1.0) == Figures(Outcome.UNANSWERED)


def test_a_fault_before_any_audio_is_timed_from_the_callers_last_word() -> None:
    stream = call((1.6, "b", 500), complete=("b",))
    assert since(stream, TURN_END + 0.6) == TURN_END
    assert since(stream, TURN_END - 3.0) == TURN_END
    assert figures(stream, TURN_END + 0.6).answer_ms == pytest.approx(1600)


def test_silence_is_no_first_sound() -> None:
    stream = call((0.5, "b", 100), (2.0, "b", 500), complete=("b",))
    stream.pieces[0] = Piece(stream.pieces[0].at, sound(100, amplitude=10.0), "b")
    found = figures(stream, None)
    assert found.sound_ms == pytest.approx(2000)
    assert found.answer_ms == pytest.approx(500)
    assert found.silence_ms == pytest.approx(2000, abs=11)


def test_an_utterance_that_was_not_brought_to_its_end_is_no_answer() -> None:
    stream = call((0.8, "a", 500), (2.0, "b", 500), complete=("b",))
    assert answer(stream, TURN_END) == "b"
    assert figures(stream, None).answer_ms == pytest.approx(2000)


@pytest.mark.parametrize(
    ("closed", "outcome"), [("", Outcome.UNANSWERED), ("closed with 1011", Outcome.LOST)]
)
def test_a_call_without_an_answer_has_no_times(closed: str, outcome: Outcome) -> None:
    assert figures(call(*CUT, closed=closed), TURN_END + 1.0) == Figures(outcome)
    assert figures(Stream(1.0, closed=closed), None) == Figures(outcome)


def test_an_answer_to_the_second_asking_is_told_apart() -> None:
    stream = call(*CUT, (25.0, "b", 500), complete=("b",))
    stream.turn_ends.append(TURN_END + 24.0)
    assert figures(stream, TURN_END + 1.0) == Figures(Outcome.AGAIN)


def test_a_bridge_before_the_second_asking_is_still_a_first_sound() -> None:
    stream = call((0.9, "bridge", 300), (25.0, "b", 500), complete=("b",))
    stream.turn_ends.append(TURN_END + 24.0)
    found = figures(stream, TURN_END + 0.6)
    assert found.outcome is Outcome.AGAIN
    assert found.sound_ms == pytest.approx(900)
    assert (found.answer_ms, found.silence_ms) == (None, None)

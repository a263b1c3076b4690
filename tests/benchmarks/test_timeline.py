"""Figures of calls that were made up, so that every one of them is known."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np
import pytest

from benchmarks.caller import FORMAT, Received, Recorded
from benchmarks.timeline import NOTHING, Figures, Outcome, Part, Struck, answers, figures, pieces
from orchestrator.protocol.audio import from_pcm16

BRIDGES = frozenset({"", "One moment, please."})
TURN_END = 100.0
"""In these calls the caller's words end at second 100."""


def noise(ms: int, seed: int) -> bytes:
    """Sound that is like no other."""
    samples = np.random.default_rng(seed).normal(0, 4000, ms * FORMAT.rate // 1000)
    return from_pcm16(samples.clip(-32768, 32767).astype(np.int16), FORMAT)


class Script:
    """Writes a call down, in seconds after the end of the caller's words."""

    def __init__(self) -> None:
        self.call = Recorded(connect_at=TURN_END - 3.0, turn_end_at=TURN_END, ended_at=TURN_END + 10.0)
        self.at(-2.95, "session.created", session={})
        self.items = 0

    def at(self, second: float, kind: str, **fields: Any) -> None:
        self.call.received.append(Received(TURN_END + second, {"type": kind, **fields}))

    def opens(self, second: float, response: str, tier: str) -> None:
        self.at(second, "response.created", response={"id": response, "metadata": {"tier": tier}})

    def says(self, second: float, response: str, words: str, ms: int, seed: int | None = None) -> None:
        """An item that comes whole at one moment."""
        self.items += 1
        item = f"item_{self.items}"
        where = {"response_id": response, "item_id": item}
        audio = b64encode(noise(ms, self.items if seed is None else seed)).decode()
        self.at(second, "response.output_audio.delta", **where, delta=audio)
        self.at(second, "response.output_audio_transcript.done", **where, transcript=words)

    def closes(self, second: float, response: str, tier: str, status: str, *words: str) -> None:
        output = [{"type": "message", "content": [{"transcript": said}]} for said in words]
        about = {"id": response, "status": status, "output": output, "metadata": {"tier": tier}}
        self.at(second, "response.done", response=about)

    def figures(self, struck: Struck | None, *, voices: bool = True) -> Figures:
        return figures(self.call, struck, BRIDGES, voices=voices)


def cut_and_answered() -> Script:
    """Tier A breaks off at 1.0 with 500 ms said; a bridge of 400 ms comes 20 ms later, the answer 900 ms later."""
    script = Script()
    script.opens(0.7, "a", "A")
    script.says(0.8, "a", "Your order", 500)
    script.closes(1.01, "a", "A", "incomplete", "Your order")
    script.opens(1.02, "b", "B")
    script.says(1.02, "b", "One moment, please.", 400)
    script.says(1.9, "b", "It is on its way.", 600)
    script.closes(2.0, "b", "B", "completed", "One moment, please.", "It is on its way.")
    return script


def fault_at(second: float, *, deadline: float = 0.0, sent_ms: float | None = 500.0) -> Struck:
    return Struck(TURN_END + second, TURN_END + second + deadline, sent_ms)


def test_a_hard_fault_is_timed_from_where_it_struck() -> None:
    found = cut_and_answered().figures(fault_at(1.0))
    assert found.outcome is Outcome.ANSWERED
    assert found.answered_by == "B"
    assert found.session_ms == pytest.approx(50)
    assert found.bridge_ms == pytest.approx(20)
    assert found.answer_ms == pytest.approx(900)
    assert found.turn_bridge_ms == pytest.approx(1020)
    assert found.turn_answer_ms == pytest.approx(1900)
    assert found.received_ms == 500
    assert not found.repeated


def test_silence_is_measured_in_what_is_played() -> None:
    # Tier A's audio plays until 1.3, the bridge joins behind it until 1.7, the answer comes at 1.9.
    found = cut_and_answered().figures(fault_at(1.0))
    assert found.gap_ms == pytest.approx(200, abs=11)


def test_a_silent_provider_is_timed_from_the_deadline_and_its_silence_from_the_callers_last_word() -> None:
    script = Script()
    script.opens(1.53, "b", "B")
    script.says(1.53, "b", "One moment, please.", 1000)
    script.says(2.3, "b", "Here I am.", 500)
    script.closes(2.4, "b", "B", "completed", "One moment, please.", "Here I am.")
    found = script.figures(fault_at(0.5, deadline=1.0, sent_ms=0.0))
    assert found.bridge_ms == pytest.approx(30)
    assert found.answer_ms == pytest.approx(800)
    assert found.turn_bridge_ms == pytest.approx(1530)
    assert found.gap_ms == pytest.approx(1530, abs=11)


def test_a_call_without_a_fault_has_no_handover_to_time() -> None:
    script = Script()
    script.opens(0.7, "a", "A")
    script.says(0.8, "a", "Hello.", 500)
    script.closes(0.9, "a", "A", "completed", "Hello.")
    found = script.figures(NOTHING)
    assert (found.outcome, found.answered_by) == (Outcome.ANSWERED, "A")
    assert (found.bridge_ms, found.answer_ms) == (None, None)
    assert found.turn_answer_ms == pytest.approx(800)
    assert found.gap_ms == pytest.approx(800, abs=11)


def test_a_bridge_alone_is_no_answer() -> None:
    script = cut_and_answered()
    del script.call.received[-3:]
    script.closes(2.0, "b", "B", "completed", "One moment, please.")
    found = script.figures(fault_at(1.0))
    assert found.outcome is Outcome.UNANSWERED
    assert found.bridge_ms == pytest.approx(20)
    assert (found.answer_ms, found.gap_ms) == (None, None)


def test_a_closed_connection_is_a_lost_call() -> None:
    script = Script()
    script.opens(0.7, "a", "A")
    script.says(0.8, "a", "Your order", 500)
    script.call.lost = "closed with 1011"
    assert script.figures(fault_at(1.0)).outcome is Outcome.LOST


def test_a_call_that_its_fault_missed_says_so() -> None:
    assert cut_and_answered().figures(None).outcome is Outcome.NO_FAULT


def test_a_call_that_never_began_has_no_figures() -> None:
    call = Recorded(connect_at=1.0, ended_at=2.0, lost="no connection (InvalidMessage)")
    found = figures(call, Struck(1.1, None), BRIDGES, voices=True)
    assert found == Figures(Outcome.LOST)


@pytest.mark.parametrize(
    ("sent_ms", "repeated"), [(500.0, False), (700.0, False), (499.5, False), (300.0, True)]
)
def test_more_audio_than_the_provider_sent_is_a_repetition(sent_ms: float, repeated: bool) -> None:
    assert cut_and_answered().figures(fault_at(1.0, sent_ms=sent_ms)).repeated is repeated


def test_a_second_bridge_is_a_repetition() -> None:
    script = cut_and_answered()
    script.opens(2.1, "c", "B")
    script.says(2.1, "c", "One moment, please.", 400)
    assert script.figures(fault_at(1.0), voices=False).repeated


@pytest.mark.parametrize("voices", [True, False])
def test_the_same_sound_twice_is_a_repetition_where_voices_are_real(voices: bool) -> None:
    script = cut_and_answered()
    script.opens(2.1, "c", "B")
    script.says(2.7, "c", "It is on its way now.", 600, seed=3)
    assert script.figures(fault_at(1.0), voices=voices).repeated is voices


def test_barging_in_throws_away_what_was_not_played() -> None:
    script = cut_and_answered()
    script.call.received.insert(4, Received(TURN_END + 1.01, {"type": "input_audio_buffer.speech_started"}))
    # Tier A's audio stops at 1.01, so the bridge at 1.02 plays until 1.42.
    assert script.figures(fault_at(1.0)).gap_ms == pytest.approx(480, abs=21)


def test_whose_audio_a_piece_is() -> None:
    found = pieces(cut_and_answered().call, BRIDGES)
    assert [(piece.part, piece.tier) for piece in found] == [
        (Part.CUT, "A"),
        (Part.BRIDGE, "B"),
        (Part.ANSWER, "B"),
    ]


@pytest.mark.parametrize(
    ("status", "words", "answered"),
    [
        ("completed", ["Here I am."], True),
        ("completed", ["One moment, please.", "Here I am."], True),
        ("completed", ["One moment, please."], False),
        ("completed", [], False),
        ("incomplete", ["Here I am."], False),
        ("failed", [], False),
    ],
)
def test_what_counts_as_an_answer(status: str, words: list[str], answered: bool) -> None:
    script = Script()
    script.closes(1.0, "b", "B", status, *words)
    assert answers(script.call.received[-1].event, BRIDGES) is answered

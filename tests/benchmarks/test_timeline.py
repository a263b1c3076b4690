"""Figures of calls that were made up, so that every one of them is known."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np
import pytest

from benchmarks.caller import FORMAT, Received, Recorded
from benchmarks.heard import Leg, Part, Playback, answers, legs, pieces
from benchmarks.timeline import NOTHING, Figures, Outcome, Struck, figures, passed_on
from orchestrator.protocol.audio import from_pcm16

BRIDGES = frozenset({"", "One moment, please."})
RUNGS = {"A": "gpt-realtime-2.1", "B": "kokoro", "C": "prompts"}
TURN_END = 100.0
"""In these calls the caller's words end at second 100."""


def noise(ms: int, seed: int) -> bytes:
    """Sound that is like no other."""
    samples = np.random.default_rng(seed).normal(0, 4000, ms * FORMAT.rate // 1000)
    return from_pcm16(samples.clip(-32768, 32767).astype(np.int16), FORMAT)


class Script:
    """Writes a call down, in seconds after the end of the caller's words. The turn is over at 0.5."""

    def __init__(self, tier: str = "A") -> None:
        self.call = Recorded(connect_at=TURN_END - 3.0, turn_end_at=TURN_END, ended_at=TURN_END + 10.0)
        self.served_by(-2.95, tier, kind="session.created")
        self.items: list[str] = []

    def at(self, second: float, kind: str, **fields: Any) -> None:
        self.call.received.append(Received(TURN_END + second, {"type": kind, **fields}))

    def served_by(self, second: float, tier: str, rung: str = "", kind: str = "session.updated") -> None:
        self.at(second, kind, session={"orchestrator": {"tier": tier, "rung": rung or RUNGS[tier]}})

    def opens(self, second: float, response: str) -> None:
        self.at(second, "response.created", response={"id": response})

    def says(self, second: float, response: str, words: str, ms: int, seed: int | None = None) -> str:
        """An item that comes whole at one moment; its id."""
        item = f"item_{len(self.items)}"
        self.items.append(words)
        where = {"response_id": response, "item_id": item}
        audio = b64encode(noise(ms, len(self.items) if seed is None else seed)).decode()
        self.at(second, "response.output_audio.delta", **where, delta=audio)
        self.at(second, "response.output_audio_transcript.done", **where, transcript=words)
        return item

    def closes(self, second: float, response: str, status: str, *words: str, cut: str = "") -> None:
        """With items of these words, which were said; `cut`: the one that did not reach its end."""
        output = [
            {
                "id": f"item_{self.items.index(said) if said in self.items else 99}",
                "type": "message",
                "status": "incomplete" if said == cut else "completed",
                "content": [{"transcript": said}],
            }
            for said in words
        ]
        self.at(second, "response.done", response={"id": response, "status": status, "output": output})

    def figures(self, struck: Struck | None, *, voices: bool = True) -> Figures:
        return figures(self.call, struck, BRIDGES, voices=voices)


def cut_and_answered() -> Script:
    """Tier A breaks off at 1.0 with 500 ms said; a bridge of 400 ms comes 20 ms later, the answer 900 ms later."""
    script = Script()
    script.opens(0.7, "a")
    script.says(0.8, "a", "Your order", 500)
    script.closes(1.01, "a", "incomplete", "Your order", cut="Your order")
    script.served_by(1.015, "B")
    script.opens(1.02, "b")
    script.says(1.02, "b", "One moment, please.", 400)
    script.says(1.9, "b", "It is on its way.", 600)
    script.closes(2.0, "b", "completed", "One moment, please.", "It is on its way.")
    return script


def fault_at(second: float, *, sent_ms: float | None = 500.0) -> Struck:
    return Struck(TURN_END + second, sent_ms)


def test_a_hard_fault_is_timed_from_where_it_struck() -> None:
    found = cut_and_answered().figures(fault_at(1.0))
    assert found.outcome is Outcome.ANSWERED
    assert (found.answered_by, found.rung, found.moved, found.bridges) == ("B", "kokoro", True, 1)
    assert found.session_ms == pytest.approx(50)
    assert found.decided_ms == pytest.approx(15)
    assert found.answer_ms == pytest.approx(900, abs=11)
    assert found.answer_decided_ms == pytest.approx(885, abs=11)
    assert found.turn_answer_ms == pytest.approx(1900, abs=11)
    assert found.received_ms == 500
    assert (found.repeated, found.passed_on, found.tool_runs) == (False, (), 0)


def test_sound_and_silence_are_measured_in_what_is_played() -> None:
    # Tier A's audio plays until 1.3, the bridge joins behind it until 1.7, the answer comes at 1.9.
    found = cut_and_answered().figures(fault_at(1.0))
    assert found.sound_ms == 0
    assert found.waited_ms == 0
    assert found.bridge_ms == pytest.approx(300, abs=11)
    assert found.gap_ms == pytest.approx(200, abs=11)


def test_a_silent_provider_keeps_the_caller_waiting_until_it_is_given_up() -> None:
    script = Script()
    script.served_by(1.5, "B")
    script.opens(1.53, "b")
    script.says(1.53, "b", "One moment, please.", 1000)
    script.says(2.3, "b", "Here I am.", 500)
    script.closes(2.4, "b", "completed", "One moment, please.", "Here I am.")
    found = script.figures(fault_at(0.6, sent_ms=0.0))
    assert found.decided_ms == pytest.approx(900)
    assert found.waited_ms == pytest.approx(900)
    assert found.sound_ms == found.bridge_ms == pytest.approx(930, abs=11)
    assert found.sound_decided_ms == pytest.approx(30, abs=11)
    # The answer joins behind the bridge, at 2.53.
    assert found.answer_ms == pytest.approx(1930, abs=11)
    assert found.answer_decided_ms == pytest.approx(1030, abs=11)
    assert found.gap_ms == pytest.approx(1530, abs=11)


def test_before_an_answer_is_owed_nobody_waits_for_one() -> None:
    # The fault strikes a second before the words end; the turn is over at 0.5.
    script = Script()
    script.served_by(-0.9, "B")
    script.opens(0.5, "b")
    script.says(1.25, "b", "Here I am.", 500)
    script.closes(1.3, "b", "completed", "Here I am.")
    found = script.figures(fault_at(-1.0, sent_ms=0.0))
    assert found.decided_ms == pytest.approx(100)
    assert found.waited_ms == 0
    assert found.sound_ms == found.answer_ms == found.answer_decided_ms == pytest.approx(750, abs=11)


def test_a_server_may_hear_the_end_of_a_turn_sooner() -> None:
    script = Script()
    script.at(0.3, "input_audio_buffer.speech_stopped")
    script.opens(0.3, "a")
    script.says(0.6, "a", "Hello.", 500)
    script.closes(0.7, "a", "completed", "Hello.")
    assert script.figures(NOTHING).sound_ms == pytest.approx(300, abs=11)


def test_what_the_client_asks_for_is_owed_at_once() -> None:
    script = Script()
    script.call.asked_at = TURN_END + 1.0
    script.call.tools_run += ["order_status {}", "order_status {}", "order_status {1}"]
    script.opens(1.2, "a")
    script.says(1.25, "a", "It is on its way.", 500)
    script.closes(1.3, "a", "completed", "It is on its way.")
    found = script.figures(NOTHING)
    assert found.sound_ms == found.turn_answer_ms == found.gap_ms == pytest.approx(250, abs=11)
    assert found.tool_runs == 2


def test_a_call_without_a_fault_has_no_handover_to_time() -> None:
    script = Script()
    script.opens(0.7, "a")
    script.says(0.8, "a", "Hello.", 500)
    script.closes(0.9, "a", "completed", "Hello.")
    found = script.figures(NOTHING)
    assert (found.outcome, found.answered_by, found.moved) == (Outcome.ANSWERED, "A", False)
    assert (found.decided_ms, found.waited_ms, found.bridge_ms) == (None, None, None)
    assert found.turn_answer_ms == found.gap_ms == pytest.approx(800, abs=11)


def test_an_answer_that_goes_on_unharmed_is_no_wait() -> None:
    script = Script()
    script.opens(0.7, "a")
    script.says(0.8, "a", "Hello.", 500)
    script.closes(0.9, "a", "completed", "Hello.")
    found = script.figures(fault_at(1.0))
    assert (found.sound_ms, found.answer_ms, found.gap_ms, found.moved) == (0, 0, 0, False)


def test_an_answer_that_goes_on_in_the_same_response_counts_from_its_new_item() -> None:
    script = Script()
    script.opens(0.7, "a")
    script.says(0.8, "a", "Your order", 500)
    script.served_by(1.0, "B")
    script.says(1.9, "a", "It is on its way.", 600)
    script.closes(2.0, "a", "completed", "Your order", "It is on its way.", cut="Your order")
    found = script.figures(fault_at(1.0))
    assert found.answered_by == "B"
    assert found.received_ms == 500
    assert found.answer_ms == pytest.approx(900, abs=11)


def test_the_second_fault_of_a_handover_is_told() -> None:
    struck = Struck(TURN_END + 1.0, 500.0, TURN_END + 1.05)
    assert cut_and_answered().figures(struck).second_ms == pytest.approx(50)


def test_a_bridge_alone_is_no_answer() -> None:
    script = cut_and_answered()
    del script.call.received[-3:]
    script.closes(2.0, "b", "completed", "One moment, please.")
    found = script.figures(fault_at(1.0))
    assert found.outcome is Outcome.CLOSED
    assert found.bridge_ms == pytest.approx(300, abs=11)
    assert (found.answer_ms, found.gap_ms) == (None, None)


def test_what_was_cut_is_no_answer_either() -> None:
    script = Script()
    script.opens(0.7, "a")
    script.says(0.8, "a", "Your order", 500)
    script.closes(1.0, "a", "completed", "Your order", cut="Your order")
    assert script.figures(fault_at(0.9)).outcome is Outcome.CLOSED


def test_waiting_in_vain_is_not_the_same_as_being_turned_away() -> None:
    script = cut_and_answered()
    del script.call.received[-1]
    assert script.figures(fault_at(1.0)).outcome is Outcome.UNANSWERED
    assert Script().figures(fault_at(1.0)).outcome is Outcome.UNANSWERED


def test_an_answer_to_an_earlier_turn_answers_nothing_now() -> None:
    script = cut_and_answered()
    script.call.turn_end_at = TURN_END + 5.0
    assert script.figures(fault_at(1.0)).outcome is Outcome.UNANSWERED


def test_a_closed_connection_is_a_lost_call() -> None:
    script = Script()
    script.opens(0.7, "a")
    script.says(0.8, "a", "Your order", 500)
    script.call.lost = "closed with 1011"
    assert script.figures(fault_at(1.0)).outcome is Outcome.LOST


def test_a_call_that_its_fault_missed_says_so() -> None:
    assert cut_and_answered().figures(None).outcome is Outcome.NO_FAULT


def test_a_call_that_never_began_has_no_figures() -> None:
    call = Recorded(connect_at=1.0, ended_at=2.0, lost="no connection (InvalidMessage)")
    assert figures(call, Struck(1.1), BRIDGES, voices=True) == Figures(Outcome.LOST)


@pytest.mark.parametrize(
    ("sent_ms", "repeated"), [(500.0, False), (700.0, False), (499.5, False), (300.0, True)]
)
def test_more_audio_than_the_provider_sent_is_a_repetition(sent_ms: float, repeated: bool) -> None:
    assert cut_and_answered().figures(fault_at(1.0, sent_ms=sent_ms)).repeated is repeated


def test_a_second_bridge_is_a_repetition() -> None:
    script = cut_and_answered()
    script.opens(2.1, "c")
    script.says(2.1, "c", "One moment, please.", 400)
    found = script.figures(fault_at(1.0), voices=False)
    assert (found.repeated, found.bridges) == (True, 2)


def test_the_same_answer_to_another_turn_is_none() -> None:
    script = cut_and_answered()
    script.call.turn_end_at = TURN_END + 5.0
    script.opens(6.0, "c")
    script.says(6.0, "c", "It is on its way.", 600)
    assert not script.figures(fault_at(1.0)).repeated


@pytest.mark.parametrize("voices", [True, False])
def test_the_same_sound_twice_is_a_repetition_where_voices_are_real(voices: bool) -> None:
    script = cut_and_answered()
    script.opens(2.1, "c")
    script.says(2.7, "c", "It is on its way now.", 600, seed=3)
    assert script.figures(fault_at(1.0), voices=voices).repeated is voices


def test_barging_in_throws_away_what_was_not_played() -> None:
    script = cut_and_answered()
    script.call.received.insert(4, Received(TURN_END + 1.01, {"type": "input_audio_buffer.speech_started"}))
    # Tier A's audio stops at 1.01, so the bridge at 1.02 plays until 1.42.
    found = script.figures(fault_at(1.0))
    assert found.gap_ms == pytest.approx(480, abs=21)
    assert found.bridge_ms == pytest.approx(20, abs=11)


def test_whose_audio_a_piece_is() -> None:
    found = pieces(cut_and_answered().call, BRIDGES)
    assert [(piece.part, piece.tier) for piece in found] == [
        (Part.CUT, "A"),
        (Part.BRIDGE, "B"),
        (Part.ANSWER, "B"),
    ]


def test_who_serves_is_what_the_session_says_and_a_repeated_word_is_no_move() -> None:
    script = cut_and_answered()
    script.served_by(3.0, "B")
    script.served_by(4.0, "A", "gpt-realtime-2.1-mini")
    assert legs(script.call) == [
        Leg(TURN_END - 2.95, "A", "gpt-realtime-2.1"),
        Leg(TURN_END + 1.015, "B", "kokoro"),
        Leg(TURN_END + 4.0, "A", "gpt-realtime-2.1-mini"),
    ]
    call = Recorded(connect_at=1.0)
    call.received.append(Received(1.1, {"type": "session.created", "session": {}}))
    assert legs(call) == []


def test_when_there_is_nothing_left_to_play() -> None:
    script = cut_and_answered()
    playback = Playback(script.call, pieces(script.call, BRIDGES))
    ends = [playback.dry_at(TURN_END + second) - TURN_END for second in (0.9, 1.1, 5.0)]
    assert ends == pytest.approx([1.3, 1.7, 2.5])
    assert playback.dry_at(TURN_END) == 0.0


@pytest.mark.parametrize(
    ("status", "words", "answered"),
    [
        ("completed", ["Here I am."], True),
        ("completed", ["One moment, please.", "Here I am."], True),
        ("completed", ["One moment, please."], False),
        ("completed", ["I am"], False),
        ("completed", [], False),
        ("incomplete", ["Here I am."], False),
        ("failed", [], False),
    ],
)
def test_what_counts_as_an_answer(status: str, words: list[str], answered: bool) -> None:
    script = Script()
    script.closes(1.0, "b", status, *words, cut="I am")
    assert answers(script.call.received[-1].event, BRIDGES) is answered


def test_nothing_of_a_good_call_should_not_have_been_passed_on() -> None:
    assert passed_on(cut_and_answered().call) == ()


def test_what_should_not_have_been_passed_on() -> None:
    script = cut_and_answered()
    script.call.nonsense = 1
    script.at(3.0, "response.hologram.delta", response_id="b")
    script.at(3.1, "response.output_audio.delta", response_id="nobody", item_id="item_9", delta="")
    script.at(3.2, "rate_limits.updated", event_id="event_1")
    script.at(3.3, "rate_limits.updated", event_id="event_1")
    assert passed_on(script.call) == (
        "not JSON",
        "unknown event response.hologram.delta",
        "response.output_audio.delta of an unknown response",
        "rate_limits.updated twice",
    )

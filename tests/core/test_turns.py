"""Turn taking: pauses, patience, and what it takes to interrupt the assistant."""

from __future__ import annotations

import pytest

from orchestrator.core.endings import Ending
from orchestrator.core.turns import (
    LOOK_BACK_MS,
    Found,
    Guard,
    Paused,
    Resumed,
    SpeechStarted,
    SpeechStopped,
    TurnDetector,
    Uttered,
)

SERVER_VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
SEMANTIC_VAD = {"type": "semantic_vad", "eagerness": "auto"}


def feed(detector: TurnDetector, *windows: tuple[float, int]) -> list[Found]:
    found = [detector.feed(p) for probability, count in windows for p in [probability] * count]
    return [event for event in found if event is not None]


def in_a_turn(detection: dict[str, object]) -> TurnDetector:
    return TurnDetector(detection, 0.0, speaking_since=0.0)


# --- pauses ---


def test_a_pause_is_told_once_and_before_the_turn_ends() -> None:
    detector = in_a_turn(SERVER_VAD)
    assert feed(detector, (0.9, 10), (0.0, 16)) == [Paused(15 * 32), SpeechStopped(0.0, 26 * 32)]
    assert not detector.paused


def test_a_silence_no_longer_than_a_pause_ends_the_turn_at_once() -> None:
    assert feed(in_a_turn({**SERVER_VAD, "silence_duration_ms": 150}), (0.0, 5)) == [
        SpeechStopped(0.0, 160.0)
    ]


def test_a_blip_lengthens_the_silence_and_is_no_speech() -> None:
    detector = in_a_turn(SERVER_VAD)
    found = feed(detector, (0.9, 10), (0.0, 10), (0.9, 2), (0.0, 16))
    assert [type(event) for event in found] == [Paused, SpeechStopped]


def test_a_caller_who_goes_on_has_resumed_and_may_pause_again() -> None:
    detector = in_a_turn(SERVER_VAD)
    found = feed(detector, (0.9, 10), (0.0, 10), (0.9, 5), (0.0, 8))
    assert [type(event) for event in found] == [Paused, Resumed, Paused]


# --- patience ---


@pytest.mark.parametrize(
    ("detection", "ending", "windows"),
    [
        (SERVER_VAD, Ending.FINISHED, 16),
        (SERVER_VAD, Ending.UNKNOWN, 16),
        (SERVER_VAD, Ending.UNFINISHED, 32),
        ({**SERVER_VAD, "silence_duration_ms": 3000}, Ending.UNFINISHED, 141),
        (SEMANTIC_VAD, Ending.FINISHED, 15),
        (SEMANTIC_VAD, Ending.UNKNOWN, 22),
        (SEMANTIC_VAD, Ending.UNFINISHED, 79),
        ({**SEMANTIC_VAD, "eagerness": "high"}, Ending.FINISHED, 10),
        ({**SEMANTIC_VAD, "eagerness": "low"}, Ending.UNFINISHED, 125),
    ],
)
def test_the_silence_follows_the_words(detection: dict[str, object], ending: Ending, windows: int) -> None:
    detector = in_a_turn(detection)
    feed(detector, (0.9, 10), (0.0, 8))
    assert detector.judge(ending) is None
    assert not [e for e in feed(detector, (0.0, windows - 9)) if isinstance(e, SpeechStopped)]
    assert detector.feed(0.0) == SpeechStopped(0.0, (10 + windows) * 32.0)


def test_a_turn_waits_a_little_for_its_words_and_ends_when_they_are_known() -> None:
    detector = in_a_turn(SERVER_VAD)
    feed(detector, (0.9, 10), (0.0, 8))
    detector.hold()
    assert feed(detector, (0.0, 12)) == []
    assert detector.left_ms == 1000 - 20 * 32
    assert detector.judge(Ending.FINISHED) == SpeechStopped(0.0, 30 * 32)


def test_words_that_do_not_come_do_not_hold_a_turn_for_long() -> None:
    detector = in_a_turn(SERVER_VAD)
    feed(detector, (0.9, 10), (0.0, 8))
    detector.hold()
    assert feed(detector, (0.0, 23)) == []
    assert feed(detector, (0.0, 1)) == [SpeechStopped(0.0, 42 * 32)]


def test_what_was_judged_counts_for_its_own_pause_only() -> None:
    detector = in_a_turn(SERVER_VAD)
    feed(detector, (0.9, 10), (0.0, 8))
    detector.judge(Ending.UNFINISHED)
    found = feed(detector, (0.9, 5), (0.0, 16))
    assert [type(event) for event in found] == [Resumed, Paused, SpeechStopped]


# --- barge-in ---


def guarded(detection: dict[str, object], guard: Guard) -> TurnDetector:
    detector = TurnDetector(detection, 0.0)
    detector.guard = guard
    return detector


@pytest.mark.parametrize("windows", [1, 4, 8])
def test_a_burst_does_not_interrupt(windows: int) -> None:
    assert feed(guarded(SERVER_VAD, Guard.BARGE_IN), (0.0, 10), (0.9, windows), (0.0, 20)) == []


def test_what_only_fades_after_a_burst_does_not_interrupt() -> None:
    assert feed(guarded(SERVER_VAD, Guard.BARGE_IN), (0.9, 8), (0.7, 1), (0.5, 1), (0.2, 1), (0.0, 9)) == []


@pytest.mark.parametrize(
    ("windows", "starts"),
    [
        ((0.9, 0.9, 0.9), 3),
        ((0.9, 0.4, 0.9, 0.3, 0.6), 5),
        ((0.9, 0.9, 0.1, 0.1, 0.9), 5),
        ((0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.9), None),
        ((0.9, 0.9, 0.1, 0.1, 0.1, 0.9), None),
        ((0.49, 0.49, 0.49, 0.49, 0.49, 0.49), None),
    ],
)
def test_a_turn_begins_with_three_windows_of_speech_in_five(
    windows: tuple[float, ...], starts: int | None
) -> None:
    detector = TurnDetector(SERVER_VAD, 0.0)
    found = [index for index, p in enumerate(windows, start=1) if detector.feed(p) is not None]
    assert found == ([starts] if starts else [])


def test_a_turn_begins_where_its_faint_beginning_does() -> None:
    """As on a telephone: a second of words that stay below the threshold."""
    detector = TurnDetector(SERVER_VAD, 0.0)
    assert feed(detector, (0.0, 50), (0.2, 10), (0.05, 5), (0.3, 10), (0.9, 2)) == []
    assert detector.feed(0.9) == SpeechStarted(50 * 32 - 300)


def test_sound_long_before_the_words_is_not_their_beginning() -> None:
    detector = TurnDetector(SERVER_VAD, 0.0)
    assert feed(detector, (0.0, 50), (0.2, 5), (0.05, 6), (0.9, 2)) == []
    assert detector.feed(0.9) == SpeechStarted(61 * 32 - 300)
    noisy = TurnDetector(SERVER_VAD, 0.0)
    assert feed(noisy, (0.2, 100), (0.9, 2)) == []
    assert noisy.feed(0.9) == SpeechStarted(103 * 32 - LOOK_BACK_MS - 300)


def test_an_interruption_begins_where_its_faint_beginning_does() -> None:
    detector = guarded(SERVER_VAD, Guard.BARGE_IN)
    assert feed(detector, (0.0, 20), (0.15, 10), (0.9, 8)) == []
    assert detector.feed(0.9) == SpeechStarted(20 * 32 - 300)


def test_what_was_in_the_last_turn_is_not_in_the_next() -> None:
    detector = TurnDetector(SERVER_VAD, 0.0)
    found = feed(detector, (0.9, 10), (0.15, 16), (0.9, 3))
    assert found[-1] == SpeechStarted(26 * 32 - 300)


def test_sustained_speech_interrupts_from_where_it_began() -> None:
    detector = guarded(SERVER_VAD, Guard.BARGE_IN)
    assert feed(detector, (0.0, 20), (0.3, 1), (0.9, 7)) == []
    assert detector.feed(0.9) == SpeechStarted(20 * 32 - 300)


def test_a_dip_in_a_word_does_not_begin_it_anew() -> None:
    found = feed(guarded(SERVER_VAD, Guard.BARGE_IN), (0.9, 4), (0.1, 3), (0.9, 2))
    assert found == [SpeechStarted(0.0)]


def test_noise_that_is_not_speech_never_interrupts() -> None:
    assert feed(guarded(SERVER_VAD, Guard.BARGE_IN), (0.45, 200)) == []


def test_something_short_is_uttered_and_no_turn_until_it_is_made_one() -> None:
    detector = guarded(SEMANTIC_VAD, Guard.BACKCHANNEL)
    (uttered,) = feed(detector, (0.0, 20), (0.9, 12), (0.0, 10))
    assert uttered == Uttered(20 * 32 - 300, (20 + 12) * 32, (20 + 12 + 6) * 32)
    assert not detector.speaking
    detector.start(20 * 32, quiet_since=32 * 32)
    assert detector.paused
    assert detector.judge(Ending.FINISHED) is None
    assert [type(event) for event in feed(detector, (0.0, 6))] == [SpeechStopped]


def test_long_speech_is_no_utterance() -> None:
    detector = guarded(SEMANTIC_VAD, Guard.BACKCHANNEL)
    assert feed(detector, (0.9, 19)) == []
    assert detector.feed(0.9) == SpeechStarted(0.0)


def test_a_burst_is_not_even_uttered() -> None:
    assert feed(guarded(SEMANTIC_VAD, Guard.BACKCHANNEL), (0.9, 8), (0.0, 20)) == []


def test_sound_that_outlasts_the_assistants_own_speech_is_a_turn() -> None:
    detector = guarded(SEMANTIC_VAD, Guard.BACKCHANNEL)
    assert feed(detector, (0.0, 20), (0.9, 6), (0.0, 2)) == []
    detector.guard = Guard.NONE
    assert detector.feed(0.0) == SpeechStarted(20 * 32 - 300)
    assert [type(event) for event in feed(detector, (0.0, 4))] == [Paused]


def test_a_click_at_the_end_of_the_assistants_speech_is_none() -> None:
    detector = guarded(SERVER_VAD, Guard.BARGE_IN)
    feed(detector, (0.0, 20), (0.9, 2))
    detector.guard = Guard.NONE
    assert feed(detector, (0.0, 20)) == []

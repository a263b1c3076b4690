"""The silence of a handover, as the estimate of what the client plays tells it."""

from __future__ import annotations

import pytest

from orchestrator.core.playback import Playback


def test_a_gap_begins_when_the_clients_audio_has_run_out() -> None:
    playback = Playback()
    playback.add("item_1", 500, now=10.0)  # plays until 10.5
    playback.miss(since=9.0, trigger="fault", cause="closed")
    playback.add("item_2", 100, now=10.8)
    assert playback.gap is not None
    trigger, cause, ms = playback.gap
    assert (trigger, cause) == ("fault", "closed")
    assert ms == pytest.approx(300)


def test_without_audio_it_begins_when_the_answer_was_owed() -> None:
    playback = Playback()
    playback.miss(since=20.0, trigger="deadline", cause="response_timeout")
    playback.add("item_1", 100, now=21.5)
    assert playback.gap == ("deadline", "response_timeout", pytest.approx(1500))


def test_audio_that_bridges_it_makes_it_nothing() -> None:
    playback = Playback()
    playback.add("item_1", 5000, now=10.0)
    playback.miss(since=9.0, trigger="fault", cause="closed")
    playback.add("item_2", 100, now=12.0)
    assert playback.gap == ("fault", "closed", 0.0)


def test_a_caller_who_speaks_meanwhile_waits_for_nothing() -> None:
    playback = Playback()
    playback.miss(since=20.0, trigger="fault", cause="closed")
    playback.interrupt(20.5)
    playback.add("item_1", 100, now=25.0)
    assert playback.gap is None

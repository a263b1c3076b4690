"""Streaming voice activity detection on human speech."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from faster_whisper.vad import get_vad_model

from orchestrator.protocol.audio import HEAR_RATE, Float32
from tiers.pipeline.vad import WINDOW, Vad, warm

Human = Callable[[str], Float32]


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    warm()


def test_it_gives_what_the_whole_recording_gives_however_it_is_cut(human: Human) -> None:
    audio = human("austen-0880.wav")
    whole = get_vad_model()(np.pad(audio, (0, -len(audio) % WINDOW))).ravel()[: len(audio) // WINDOW]
    for size in (160, WINDOW, 1000, len(audio)):
        vad = Vad()
        parts = [vad.feed(audio[start : start + size]) for start in range(0, len(audio), size)]
        heard = np.concatenate(parts).astype(np.float32)
        silent = heard == 0.0
        assert np.array_equal(heard[~silent], whole[~silent])
        assert silent.sum() <= 3


@pytest.mark.parametrize("offset", range(0, WINDOW, 64))
def test_a_sound_that_stops_is_over_at_once(human: Human, offset: int) -> None:
    """The model itself goes on for some windows."""
    room = np.random.default_rng(3).standard_normal(HEAR_RATE).astype(np.float32) * 0.0005
    word = human("austen-0870.wav")[HEAR_RATE : HEAR_RATE + 4000]
    probabilities = Vad().feed(np.concatenate((room[: HEAR_RATE // 2 + offset], word, room)))
    end = -(-(HEAR_RATE // 2 + offset + len(word)) // WINDOW)
    assert max(probabilities[: end - 1]) > 0.8
    assert max(probabilities[end:]) == 0.0 or max(probabilities[end + 3 :]) < 0.35
    assert probabilities[end] == 0.0


def test_speech_in_noise_is_left_to_the_model(human: Human) -> None:
    noise = np.random.default_rng(4).standard_normal(3 * HEAR_RATE).astype(np.float32) * 0.01
    word = human("cards-001.wav")
    noise[HEAR_RATE : HEAR_RATE + len(word)] += word
    assert min(Vad().feed(noise)) > 0.0


def test_speech_and_silence_are_far_apart(human: Human) -> None:
    second = np.zeros(HEAR_RATE, dtype=np.float32)
    speech = human("cards-001.wav")
    probabilities = Vad().feed(np.concatenate((second, speech, second)))
    border = HEAR_RATE // WINDOW
    assert max(probabilities[:border]) < 0.2
    assert max(probabilities[border:-border]) > 0.9
    assert max(probabilities[-border // 2 :]) < 0.2


def test_streams_do_not_disturb_each_other(human: Human) -> None:
    speech, silence = human("cards-004.wav"), np.zeros(WINDOW, dtype=np.float32)
    alone = Vad().feed(speech)
    vad, other = Vad(), Vad()
    together = []
    for start in range(0, len(speech), WINDOW):
        together += vad.feed(speech[start : start + WINDOW])
        other.feed(silence)
    assert together == alone


def test_reset_forgets(human: Human) -> None:
    vad, speech = Vad(), human("cards-001.wav")
    first = vad.feed(speech)
    vad.reset()
    assert vad.feed(speech) == first


def test_nothing_is_decided_before_a_window_is_full() -> None:
    vad = Vad()
    assert vad.feed(np.zeros(WINDOW - 1, dtype=np.float32)) == []
    assert len(vad.feed(np.zeros(1, dtype=np.float32))) == 1
    assert vad.feed(np.zeros(0, dtype=np.float32)) == []


def test_a_window_costs_little_enough_for_the_event_loop(human: Human) -> None:
    """CPU time, the best of some rounds: what else the machine does is not measured."""
    vad, speech = Vad(), human("austen-0880.wav")

    def round_() -> float:
        began = time.thread_time()
        return (len(vad.feed(speech)) and time.thread_time() - began) / (len(speech) // WINDOW)

    assert min(round_() for _ in range(20)) < 0.0002

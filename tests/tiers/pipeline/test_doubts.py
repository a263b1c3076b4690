"""What Whisper makes up where nobody spoke is dropped, and nothing that somebody said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from orchestrator.protocol.audio import HEAR_RATE, Float32
from tiers.pipeline.doubts import Heard, loudest_db, repeats
from tiers.pipeline.kokoro import KokoroSpeech
from tiers.pipeline.stt import WhisperTranscriber

CLIPS = ("austen-0870.wav", "austen-0880.wav", "cards-001.wav", "cards-004.wav", "jfk.flac")


def _times(seconds: float) -> Float32:
    return (np.arange(int(seconds * HEAR_RATE)) / HEAR_RATE).astype(np.float32)


def _noise(level: float, seconds: float, seed: int = 2) -> Float32:
    return np.random.default_rng(seed).normal(0, level, int(seconds * HEAR_RATE)).astype(np.float32)


def _band(sound: Float32, low: float, high: float) -> Float32:
    spectrum, hertz = np.fft.rfft(sound), np.fft.rfftfreq(len(sound), 1 / HEAR_RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


def _telephone(sound: Float32) -> Float32:
    """Through 8 bit mu-law and a telephone's band."""
    small = np.round(np.sign(sound) * np.log1p(255 * np.abs(sound)) / np.log(256) * 127) / 127
    return _band((np.sign(small) * (256 ** np.abs(small) - 1) / 255).astype(np.float32), 300, 3400)


def _music(level: float, seconds: float, seed: int, per_second: float = 2.5) -> Float32:
    """Plucked notes of one scale over a chord every fourth, as hold music goes."""
    random = np.random.default_rng(seed)
    mix = np.zeros(int(seconds * HEAR_RATE) + 2 * HEAR_RATE, dtype=np.float32)
    for note in range(int(seconds * per_second)):
        start = int(note / per_second * HEAR_RATE)
        times = _times(0.9)
        pitch = 220 * 2 ** (random.choice([0, 2, 4, 7, 9, 12]) / 12)
        tones = sum(np.sin(2 * np.pi * pitch * k * times) / k**1.5 for k in range(1, 6)) * np.exp(-3 * times)
        mix[start : start + len(times)] += tones
        if note % 4 == 0:
            long = _times(1.6)
            chord = sum(np.sin(2 * np.pi * 110 * 2 ** (third / 12) * long) for third in (0, 4, 7))
            mix[start : start + len(long)] += 0.6 * chord * np.exp(-1.2 * long)
    mix = mix[: int(seconds * HEAR_RATE)]
    return (mix / np.abs(mix).max() * level).astype(np.float32)


def _breath(level: float, seconds: float, seed: int) -> Float32:
    swelling = np.sin(np.pi * np.clip((_times(seconds) % 1.2) / 0.9, 0, 1)) ** 2
    sound = _band(_noise(1.0, seconds, seed), 300, 3000) * swelling
    return (sound / np.abs(sound).max() * level).astype(np.float32)


def _cough() -> Float32:
    sound = _noise(0.001, 1.5)
    burst = _band(_noise(0.6, 0.35), 200, 4000) * np.exp(-8 * _times(0.35))
    sound[8000 : 8000 + len(burst)] += burst
    return sound


NOTHING = {
    "silence": np.zeros(HEAR_RATE, dtype=np.float32),
    "longer silence": np.zeros(8 * HEAR_RATE, dtype=np.float32),
    "line noise": _noise(0.001, 2.0),
    "hiss": _noise(0.02, 1.0),
    "noise": _noise(0.1, 3.0),
    "hum": (0.1 * np.sin(_times(2.0) * 2 * np.pi * 50)).astype(np.float32),
    "a click": np.where(np.abs(np.arange(HEAR_RATE) - 8000) < 10, 0.9, 0).astype(np.float32),
    "soft breath": _breath(0.01, 1.3, 0),
    "breath": _breath(0.05, 2.1, 1),
    "breath on the microphone": _breath(0.2, 2.9, 2),
    "a cough": _cough(),
    "hold music": _music(0.3, 9.0, 0),
    "soft hold music": _music(0.01, 4.0, 9),
    **{f"hold music on the telephone {seed}": _telephone(_music(0.2, 4.0, seed, 1.7)) for seed in (7, 8, 9)},
    "long hold music on the telephone": _telephone(_music(0.2, 9.0, 7, 1.7)),
    "a busy tone": (0.3 * np.sin(2 * np.pi * 440 * _times(4.0)) * (_times(4.0) % 1.0 < 0.5)).astype(
        np.float32
    ),
    "too short": np.ones(100, dtype=np.float32),
    "empty": np.zeros(0, dtype=np.float32),
}


@pytest.mark.parametrize("name", NOTHING)
async def test_nothing_is_made_up_where_nothing_was_said(whisper: WhisperTranscriber, name: str) -> None:
    assert (await whisper.transcribe(NOTHING[name])).text == ""


async def test_nothing_is_made_up_over_more_than_a_window_of_music(whisper: WhisperTranscriber) -> None:
    assert (await whisper.transcribe(_telephone(_music(0.2, 32.0, 7, 1.7)))).text == ""


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("how", ["telephone", "quiet", "noisy"])
async def test_human_speech_is_never_dropped(
    whisper: WhisperTranscriber, human: Callable[[str], Float32], name: str, how: str
) -> None:
    speech = human(name)
    if how == "quiet":
        speech = 0.05 * speech
    if how == "noisy":  # 15 dB below the voice
        speech = speech + _noise(float(speech.std()) / 10**0.75, 12.0)[: len(speech)]
    if how == "telephone":
        speech = _telephone(speech)
    assert (await whisper.transcribe(speech)).text


@pytest.mark.parametrize("said", ["Thank you.", "Bye.", "You.", "No, no, no, no.", "Five five five five."])
async def test_what_is_often_made_up_is_heard_where_somebody_says_it(
    whisper: WhisperTranscriber, kokoro: KokoroSpeech, heard: Callable[[Any], Float32], said: str
) -> None:
    pcm = np.concatenate([piece async for piece in kokoro.speak(said, voice="bf_emma")])
    assert (await whisper.transcribe(_telephone(0.3 * heard(pcm)))).text


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("5 5", False),
        ("No, no.", False),
        ("Yes. I said yes.", False),
        ("5 5 5", True),
        ("Hang on a second. Hang on a second.", True),
        ("10 of clubs 10 of clubs 10", True),
        ("", False),
    ],
)
def test_a_phrase_over_and_over_is_a_loop(text: str, loops: bool) -> None:
    assert repeats(text) is loops


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (Heard("Where is my order?"), "Where is my order?"),
        (Heard("Where is my order?", level_db=-55.0), "Where is my order?"),
        (Heard("Thank you.", 0.04, -0.1), "Thank you."),
        (Heard("Thank you.", 0.84, -0.6), ""),
        (Heard("Thank you.", level_db=-55.0), ""),
        (Heard("Thank you for 4172.", level_db=-55.0), "Thank you for 4172."),
        (Heard("5", 0.69, -0.75), "5"),
        (Heard("No, no, no, no.", 0.24, -0.2), "No, no, no, no."),
        (Heard("No, no, no, no.", 0.24, -0.9), ""),
        (Heard("la la la", compression=3.0), "la la la"),
        (Heard("la la la la", -0.1, compression=3.0, cut=True), ""),
        (Heard("la di " * 8, compression=3.0), ""),
        (Heard("[Music]"), ""),
        (Heard("(upbeat music) ♪ la"), "la"),
        (Heard("*sighs* Yes."), "Yes."),
        (Heard(". . ."), ""),
    ],
)
def test_what_counts_as_said(heard: Heard, words: str) -> None:
    assert heard.words == words


def test_the_loudest_tenth_of_a_second_is_what_counts() -> None:
    assert loudest_db(np.zeros(0, dtype=np.float32)) == -120.0
    assert loudest_db(np.zeros(HEAR_RATE, dtype=np.float32)) == -120.0
    one = np.zeros(HEAR_RATE + 7, dtype=np.float32)
    one[1600:3200] = 0.1
    assert loudest_db(one) == pytest.approx(-20.0, abs=0.1)

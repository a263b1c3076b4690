"""What interrupts the assistant, by real voice activity detection: human speech, cut-off bursts of it, and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from statistics import median

import numpy as np
import pytest
import soxr

from orchestrator.core.turns import Found, Guard, SpeechStarted, SpeechStopped, TurnDetector, Uttered
from orchestrator.protocol.audio import HEAR_RATE, AudioFormat, Float32, float_to_pcm16, from_pcm16, hear
from tiers.pipeline.vad import Vad

pytestmark = pytest.mark.long

Human = Callable[[str], Float32]
RECORDINGS = ("jfk.flac", "austen-0870.wav", "austen-0880.wav", "cards-001.wav", "cards-004.wav")
LEAD_MS = 500
FRAME = HEAR_RATE // 100


def telephone(audio: Float32) -> Float32:
    """Through 8 kHz mu-law and back."""
    narrow = np.asarray(soxr.resample(audio, HEAR_RATE, AudioFormat.PCMU.rate), dtype=np.float32)
    return hear(from_pcm16(float_to_pcm16(narrow), AudioFormat.PCMU), AudioFormat.PCMU)


def ms(length: float) -> int:
    return int(length * HEAR_RATE / 1000)


def room(length_ms: float) -> Float32:
    """A quiet room."""
    return (np.random.default_rng(1).standard_normal(ms(length_ms)) * 0.0005).astype(np.float32)


def heard(audio: Float32, guard: Guard, kind: str = "server_vad") -> list[tuple[float, Found]]:
    """What is found in it, each with the ms of audio that had been heard by then."""
    detector = TurnDetector({"type": kind}, 0.0)
    detector.guard = guard
    found = [(detector.feed(probability), detector.at_ms) for probability in Vad().feed(audio)]
    return [(at, event) for event, at in found if event is not None]


def levels(audio: Float32) -> Float32:
    """RMS of each 10 ms."""
    frames = audio[: len(audio) - len(audio) % FRAME].reshape(-1, FRAME)
    return np.asarray(np.sqrt((frames**2).mean(axis=1)), dtype=np.float32)


def onsets(audio: Float32) -> Iterator[int]:
    """Where it becomes loud after at least 300 ms of quiet, in ms."""
    level = levels(audio)
    threshold, quiet = max(0.01, float(level.max()) * 0.08), 30
    for index, loud in enumerate(level > threshold):
        if loud and quiet >= 30:
            yield index * 10
        quiet = 0 if loud else quiet + 1


def bursts(audio: Float32, length_ms: int, late_ms: int = 0) -> Iterator[Float32]:
    """Loud pieces of a recording, of that length, in a quiet room; `late_ms` shifts them against the windows."""
    level = levels(audio)
    for start in range(0, len(level) - 50, 20):
        if level[start : start + 10].mean() > 0.03:
            piece = audio[start * FRAME : start * FRAME + ms(length_ms)]
            yield np.concatenate([room(LEAD_MS + late_ms), piece, room(LEAD_MS)])


@pytest.mark.parametrize(
    ("length_ms", "late_ms"), [(100, 0), (200, 0), (240, 0), (240, 8), (240, 16), (240, 24)]
)
@pytest.mark.parametrize("guard", [Guard.BARGE_IN, Guard.BACKCHANNEL])
def test_voiced_bursts_never_interrupt(human: Human, length_ms: int, late_ms: int, guard: Guard) -> None:
    pieces = [piece for name in RECORDINGS for piece in bursts(human(name), length_ms, late_ms)]
    assert len(pieces) > 50
    assert not [e for piece in pieces for _, e in heard(piece, guard) if isinstance(e, SpeechStarted)]


@pytest.mark.parametrize("late_ms", [0, 8, 16, 24])
def test_no_beginning_is_lost_on_a_telephone(human: Human, late_ms: int) -> None:
    """What is audible in a recording is in a turn, its audio included."""
    for name in RECORDINGS:
        audio = np.concatenate(
            [np.zeros(ms(500 + late_ms), np.float32), human(name), np.zeros(ms(1500), np.float32)]
        )
        turns = [event for _, event in heard(telephone(audio), Guard.NONE)]
        spans = [(event.from_ms, event.at_ms) for event in turns if isinstance(event, SpeechStopped)]
        level = levels(audio)
        loud = np.flatnonzero(level > max(0.01, float(level.max()) * 0.08)) * 10
        lost = [at for at in loud if not any(start <= at < end for start, end in spans)]
        assert len(lost) <= 2, (name, lost)


def test_sustained_speech_usually_interrupts_within_400_ms_of_its_onset(human: Human) -> None:
    took = []
    for name in RECORDINGS:
        audio = human(name)
        for onset, late_ms in product(onsets(audio), (0, 8, 16, 24)):
            lead = min(onset, 300)
            found = heard(
                np.concatenate([room(LEAD_MS + late_ms), audio[ms(onset - lead) :]]), Guard.BARGE_IN
            )
            at = next(at for at, event in found if isinstance(event, SpeechStarted))
            took.append(at - LEAD_MS - late_ms - lead)
    assert len(took) >= 40
    assert median(took) <= 300
    assert sum(each <= 400 for each in took) / len(took) >= 0.8
    slow = [each for each in took if each > 600]
    assert len(slow) <= 2, "a single word that is over sooner than it counts"


def noises() -> dict[str, Float32]:
    random, time = np.random.default_rng(2), np.arange(6 * HEAR_RATE) / HEAR_RATE
    click = np.exp(-np.arange(400) / 60) * random.standard_normal(400) * 0.7
    clicks, bang = np.zeros(len(time)), np.zeros(len(time))
    for start in range(HEAR_RATE // 2, len(time) - 400, HEAR_RATE // 2):
        clicks[start : start + 400] = click
    bang[HEAR_RATE : HEAR_RATE + 4000] = random.standard_normal(4000) * np.exp(-np.arange(4000) / 900) * 0.8
    pitch = np.repeat([262.0, 330.0, 392.0, 523.0, 440.0, 349.0], HEAR_RATE)
    music = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3)) * 0.2
    tones = {"tone": 0.3 * np.sin(2 * np.pi * 440 * time), "hum": 0.2 * np.sin(2 * np.pi * 50 * time)}
    white = random.standard_normal(len(time)) * 0.1
    made = {"white": white, "clicks": clicks, "bang": bang, "music": music, **tones}
    return {name: np.asarray(audio, dtype=np.float32) for name, audio in made.items()}


@pytest.mark.parametrize("name", sorted(noises()))
@pytest.mark.parametrize("guard", [Guard.BARGE_IN, Guard.BACKCHANNEL])
def test_what_is_no_speech_never_interrupts(name: str, guard: Guard) -> None:
    assert heard(noises()[name], guard) == []


def test_a_short_word_is_uttered_under_semantic_vad(human: Human) -> None:
    """Half of "five five": a word of its own."""
    word = human("cards-004.wav")[: ms(700)]
    (found,) = heard(np.concatenate([room(LEAD_MS), word, room(1000)]), Guard.BACKCHANNEL, "semantic_vad")
    assert isinstance(found[1], Uttered)

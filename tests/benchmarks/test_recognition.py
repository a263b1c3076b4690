"""Counting wrong words, and what is sent to be recognised."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import recognition
from benchmarks.recognition_calls import AFTER_S, BEFORE_S, LOUD, SNR_DB, Clip, Condition, Heard, noisy, wire
from benchmarks.recognition_words import errors, sentences, words
from orchestrator.protocol.audio import AudioFormat, to_pcm16


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("My order number is four one seven two.", "my order number is 4172"),
        ("four one seven two", "4,172"),
        ("twenty five dollars", "$25"),
        ("ten of clubs", "10 of clubs"),
        ("thirty minutes", "30 minutes"),
        ("five five", "55."),
        ("Mr. Young can't come", "mister Young cannot come"),
        ("It\u2019s one o'clock", "it's 1 o'clock"),
        ("twenty oh five", "20 05"),
    ],
)
def test_the_same_said_in_two_ways_is_the_same(one: str, other: str) -> None:
    assert words(one) == words(other)


def test_wrong_words_are_counted() -> None:
    said = words("He was not an ill disposed young man.")
    assert errors(said, said) == 0
    assert errors(said, words("He was not an old-sposed young man.")) == 2
    assert errors(said, []) == len(said) == 8
    assert errors([], words("thank you")) == 2
    assert errors(words("one two three four"), words("one two four")) == 1
    assert errors(words("one two four"), words("one two three four")) == 1


def test_wrong_words_are_a_distance() -> None:
    dice = random.Random(2)
    lists = [[dice.choice("abc") for _ in range(dice.randrange(6))] for _ in range(20)]
    for a in lists:
        for b in lists:
            assert errors(a, b) == errors(b, a) >= abs(len(a) - len(b))
            assert (errors(a, b) == 0) is (a == b)
            assert all(errors(a, b) <= errors(a, c) + errors(c, b) for c in lists)


def test_sentences_differ_and_a_seed_repeats_them() -> None:
    found = [list(sentences(100, ["a", "b", "c"], random.Random(seed))) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert len({(each.text, each.voice) for each in found[0]}) == 100
    assert {each.voice for each in found[0]} == {"a", "b", "c"}
    assert all("{" not in each.text and words(each.text) for each in found[0])


def clip(seconds: float = 1.0) -> Clip:
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(24_000 * seconds)) / 24_000)
    return Clip("tone", recognition.PEOPLE, tone.astype(np.float32), "ten of clubs")


def test_noise_is_as_loud_as_stated() -> None:
    audio = clip().audio
    added = noisy(audio, np.random.default_rng(1)) - audio
    loud = audio[np.abs(audio) > LOUD]
    ratio = 10 * np.log10(np.mean(np.square(loud)) / np.mean(np.square(added)))
    assert ratio == pytest.approx(SNR_DB, abs=0.2)


def test_a_telephone_is_sent_as_one() -> None:
    dice = np.random.default_rng(1)
    seconds = 1.0 + BEFORE_S + AFTER_S
    clean = wire(clip(), Condition.CLEAN, dice)
    telephone = wire(clip(), Condition.TELEPHONE, dice)
    noise = wire(clip(), Condition.NOISE, dice)
    assert clean[0] is noise[0] is AudioFormat.PCM
    assert telephone[0] is AudioFormat.PCMU
    assert len(clean[1]) == pytest.approx(48_000 * seconds, abs=200)
    assert len(telephone[1]) == pytest.approx(8_000 * seconds, abs=50)
    before = to_pcm16(noise[1], AudioFormat.PCM)[: round(24_000 * BEFORE_S) // 2]
    assert np.std(before) > 100  # the noise is there before the words
    assert not to_pcm16(clean[1], AudioFormat.PCM)[: len(before)].any()


def test_tables_and_json_tell_of_all_clips(tmp_path: Path) -> None:
    heard = [
        Heard.of(clip(), Condition.CLEAN, "10 of clubs"),
        Heard.of(clip(), Condition.NOISE, "10 of close"),
        Heard.of(clip(), Condition.TELEPHONE, ""),
    ]
    clean, telephone, noise = recognition.totals(heard)
    assert (clean["percent"], clean["faultless"], clean["nothing"]) == (0.0, 1, 0)
    assert (telephone["percent"], telephone["wrong"], telephone["nothing"]) == (100.0, 4, 1)
    assert (noise["percent"], noise["wrong"]) == (25.0, 1)
    console = Console(file=io.StringIO(), width=60)
    recognition.show(heard, console)
    assert isinstance(console.file, io.StringIO)
    assert "10 of close" in console.file.getvalue()
    recognition.write(tmp_path / "recognition.json", {"seed": 1}, heard)
    content = json.loads((tmp_path / "recognition.json").read_text())
    assert [each["condition"] for each in content["clips"]] == ["clean", "noise", "telephone"]
